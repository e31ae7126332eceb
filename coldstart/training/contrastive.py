"""Losses that draw an image and its text together and apart from the others of the batch; knows no data, no models.

Two pairs of one group (one product, one title, one picture twice) are not each other's negatives: `same` says which.
"""

from __future__ import annotations

import torch
from torch.nn import functional

MAX_SCALE = 100.0
"""Cosines are never multiplied by more (Radford et al. 2021, section 2.5)."""


def info_nce(
    image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, same: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018, formula 4; both ways as in Radford et al. 2021, figure 3).

    The mean over pairs of `-log(exp(scale c_ii) / sum_j exp(scale c_ij))`, `c` the cosines, once over texts j and once
    over images j, halved; j runs over i itself and all that are not `same` as i.

    Args:
        image, text: `[B, D]` floats of length one; row i of both is one pair.
        scale: a number; what cosines are multiplied by (one over the temperature).
        same: bool `[B, B]`, symmetric; its diagonal is not read.
        smoothing: this share of each target is spread evenly over all that j runs over.

    Returns:
        A number; 0 for one pair alone.
    """
    logits = scale * image @ text.T
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    left_out = same & ~own
    kept = ~left_out
    loss = logits.new_zeros(())
    for scores in (logits, logits.T):
        log_share = scores.masked_fill(left_out, -torch.inf).log_softmax(1)
        loss = loss - (1 - smoothing) * log_share.diagonal().mean()
        if smoothing:
            loss = loss - smoothing * (log_share.masked_fill(left_out, 0.0).sum(1) / kept.sum(1)).mean()
    return loss / 2


def sigmoid_loss(
    image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """The sigmoid loss of SigLIP (Zhai et al. 2023, section 3.2): each image with each text is a yes or no of its own.

    `-log sigmoid(z (scale c_ij + bias))` with z = 1 for i = j and -1 otherwise, summed over all i and j of which
    i = j or j is not `same` as i, over B.

    Args:
        image, text, scale, same: as for `info_nce`.
        bias: a number; below 0 where most pairs are no pairs (the paper starts at -10).
    """
    logits = scale * image @ text.T + bias
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    losses = -functional.logsigmoid(torch.where(own, logits, -logits))
    return losses.masked_fill(same & ~own, 0.0).sum() / len(logits)

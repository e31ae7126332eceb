"""Contrastive losses, and gradient caching for batches larger than memory. Knows no models and no data.

Gradient caching (Gao et al. 2021, section 3): vectors of the whole batch are computed piece by piece without keeping
what a backward pass needs; the loss is taken on them and its gradient kept; then each piece is computed again, from the
same random state, and sent its part of the gradient. The result is that of one pass over the whole batch. A batch of
one piece is computed once.

Two pairs of one group (one product, one title, one picture twice) are not each other's negatives: `same` masks them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

Encode = Callable[[slice], torch.Tensor]
"""Rows of the batch -> their unit vectors, float32 [len(rows), D]."""


MAX_SCALE = 100.0
"""Cosines are never multiplied by more (Radford et al. 2021, section 2.5)."""


@dataclass
class _Piece:
    side: int
    rows: slice
    random: list[torch.Tensor]
    vectors: torch.Tensor


class CachedBatch:
    """Vectors of one batch of one process, computed in pieces.

    Args:
        sides: what computes each side (image, text) of the batch.
        count: rows of the batch; `micro_batch`: rows in memory at a time.
        device: where they are computed; its random state is kept, and that of the CPU.

    Attributes:
        vectors: float32 [count, D] of each side, without history; none where there are no rows.
    """

    def __init__(self, sides: Sequence[Encode], count: int, micro_batch: int, device: torch.device) -> None:
        self._sides = sides
        self._device = device
        self._whole = count <= micro_batch
        self._pieces: list[_Piece] = []
        for side, encode in enumerate(sides):
            for start in range(0, count, micro_batch):
                rows = slice(start, min(count, start + micro_batch))
                random = random_state(device)
                with torch.set_grad_enabled(self._whole):
                    self._pieces.append(_Piece(side, rows, random, encode(rows)))
        self.vectors = [
            torch.cat([piece.vectors.detach() for piece in self._pieces if piece.side == side])
            for side in range(len(sides))
            if count
        ]

    def backward(self, gradients: Sequence[torch.Tensor]) -> None:
        """Add to the gradients of all parameters, given those of `vectors`."""
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            for piece in self._pieces:
                vectors = piece.vectors
                if not self._whole:
                    set_random_state(piece.random, self._device)
                    vectors = self._sides[piece.side](piece.rows)
                torch.autograd.backward(vectors, gradients[piece.side][piece.rows])


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Return the random state of the CPU, and of a CUDA device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(state: Sequence[torch.Tensor], device: torch.device) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


def info_nce(
    image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, same: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Compute symmetric InfoNCE (van den Oord et al. 2018, formula 4; both ways as in Radford et al. 2021, figure 3).

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
    """Compute the sigmoid loss of SigLIP (Zhai et al. 2023, section 3.2): one yes or no for each image with each text.

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

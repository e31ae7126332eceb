"""InfoNCE over pairs that were drawn unevenly: the loss of `mappers/contrastive.py`. Tensors in, a number out."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True)
class Drawn:
    """What a batch of B pairs was drawn with, r further negatives for all of them, and h for each.

    Attributes:
        log_q_first: [B], log of how often a draw gives this first. log_q_second: [B + r], the same of the seconds.
        known: bool [B, B + r]: first i and second j are known to belong together; its diagonal is not read.
        log_q_hard: [B, h], log of how often it is drawn, in draws for each pair.
        known_hard: bool [B, h]: the negative is known to belong to the pair's first.
    """

    log_q_first: torch.Tensor
    log_q_second: torch.Tensor
    known: torch.Tensor
    log_q_hard: torch.Tensor
    known_hard: torch.Tensor

    def to(self, device: torch.device) -> Drawn:
        """On that device."""
        return Drawn(*(getattr(self, part.name).to(device) for part in fields(self)))


def pair_loss(
    first: torch.Tensor, second: torch.Tensor, hard: torch.Tensor, drawn: Drawn, temperature: float
) -> torch.Tensor:
    """Symmetric InfoNCE with logQ correction (Bengio & Senécal 2003; Yi et al., RecSys 2019, for two towers).

    The mean over pairs i of `-log(e_ii / sum_j e_ij)`, where `e_ij = exp(s_ij / temperature - log q_j)`, s the dot
    products and q how often j is drawn: popular items are drawn more often and would be pushed away as often. Once
    over all seconds j and the hard negatives of i, once over all firsts j; then halved. j runs over i itself and all
    that are not `known`.

    Args:
        first: floats [B, D]; second: [B + r, D], of which row i, below B, goes with row i of the first. hard:
            [B, h, D]; r and h may be 0.

    Returns:
        A number.
    """
    size = len(first)
    out = drawn.known & torch.eye(size, len(second), dtype=torch.bool, device=first.device).logical_not()
    scores = first @ second.T / temperature
    near = torch.einsum("bd,bhd->bh", first, hard) / temperature - drawn.log_q_hard
    forth = (scores - drawn.log_q_second).masked_fill(out, -torch.inf)
    forth = torch.cat([forth, near.masked_fill(drawn.known_hard, -torch.inf)], dim=1)
    back = (scores[:, :size].T - drawn.log_q_first).masked_fill(out[:, :size].T, -torch.inf)
    losses = [-side.log_softmax(1).diagonal().mean() for side in (forth, back)]
    return (losses[0] + losses[1]) / 2

"""Where the projector of `starter-vlm` starts: pictures standardised, and its straight part solved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from coldstart.generators._vision import Projector

PARTS = 4
"""Of the examples, where the straight part is solved for each without its own."""
_BLOCK = 512
_LEAST = 0.05  # of the mean deviation: what varies less is taken to vary so much


@torch.no_grad()
def standardise(projector: Projector, rows: NDArray[np.float16]) -> None:
    """Set mean and deviation from float16 `[N, dim]`; all cells share those of each of their numbers."""
    shape = projector.shape
    total = torch.zeros(shape.dim, dtype=torch.float64)
    square = torch.zeros_like(total)
    for start in range(0, len(rows), _BLOCK):
        block = torch.from_numpy(rows[start : start + _BLOCK]).double()
        total += block.sum(0)
        square += block.square().sum(0)
    mean, square = total / len(rows), square / len(rows)
    cells = shape.cells * shape.cell_dim
    for values in (mean, square):
        values[:cells] = values[:cells].view(shape.cells, shape.cell_dim).mean(0).repeat(shape.cells)
    spread = (square - mean.square()).clamp(min=0).sqrt()
    for part in (spread[:cells], spread[cells:]):
        part.clamp_(min=_LEAST * float(part.mean()) or 1.0)
    projector.mean.copy_(mean)
    projector.deviation.copy_(spread)


@torch.no_grad()
def solve(
    projector: Projector,
    rows: NDArray[np.float16],
    completions: Sequence[Sequence[int]],
    table: torch.Tensor,
    penalty: float,
    seed: int,
) -> torch.Tensor:
    """Set the straight part to the ridge regression from a picture's whole to the words of its completion.

    A completion is cut into as many parts of one length as the whole has tokens; the goal of a token is the mean vector
    of its part, what all completions share taken away, brought to a root mean square of one. What a regression says of
    the pictures that it was solved on is too good, and who learns from that trusts it too much on new ones: so what is
    returned comes from solutions on the other examples, as in stacking (Wolpert 1992).

    Args:
        rows: float16 `[N, dim]`; completions: the tokens of each.
        table: float32 `[vocabulary, width]`, the vectors of words, of a root mean square of one.
        penalty: on the squared weights, for each example.
        seed: of the parts that examples fall into.

    Returns:
        float32 `[N, whole_tokens * width]`: what the straight part is to give for each, solved without its part.
    """
    shape = projector.shape
    goals = torch.stack([_parts(table[torch.tensor(words)], shape.whole_tokens) for words in completions])
    goals = goals - goals.mean(0)
    goals = (goals / goals.square().mean(dim=(0, 2), keepdim=True).sqrt().clamp(min=1e-6)).flatten(1)
    seen = torch.cat(
        [
            projector.standardised(torch.from_numpy(rows[start : start + _BLOCK]))[:, -shape.whole_dim :]
            for start in range(0, len(rows), _BLOCK)
        ]
    )
    parts = torch.from_numpy(np.random.default_rng(seed).permutation(len(rows)) % PARTS)
    given = torch.empty_like(goals)
    for part in range(PARTS):
        own, others = parts == part, parts != part
        given[own] = seen[own] @ _ridge(seen[others], goals[others], penalty)
    projector.straight.weight.copy_(_ridge(seen, goals, penalty).T)
    return given


def _ridge(seen: torch.Tensor, goals: torch.Tensor, penalty: float) -> torch.Tensor:
    """Weights `[D, G]` for `[N, D]` and `[N, G]`, solved on the shorter side: both ways give the same."""
    strength = penalty * len(seen)
    weights: torch.Tensor
    if len(seen) < seen.shape[1]:
        weights = seen.T @ torch.linalg.solve(seen @ seen.T + strength * torch.eye(len(seen)), goals)
    else:
        weights = torch.linalg.solve(seen.T @ seen + strength * torch.eye(seen.shape[1]), seen.T @ goals)
    return weights


def _parts(vectors: torch.Tensor, parts: int) -> torch.Tensor:
    """Means `[parts, width]` of as many stretches of `[T, width]`, in order."""
    ends = torch.linspace(0, len(vectors), parts + 1).round().long().tolist()
    means = [vectors[min(a, len(vectors) - 1) : max(b, a + 1)].mean(0) for a, b in pairwise(ends)]
    return torch.stack(means)

"""Heads over standardised vectors, as the same heads over the vectors themselves.

Numbers of a vector differ in spread, and one that hardly varies is learnt late. So training sees each number less its
mean and by its deviation, both of the training part alone; a head's first step is linear, and takes both in again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from coldstart.heads import Head, Heads
from coldstart.training.pairs import Floats, Places

_BLOCK = 8192
_LEAST = 1e-2  # of the mean deviation: what varies less is taken to vary so much


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each number of some vectors, float32 `[D]`; deviations are times the root of D, so that a
    standardised vector has a length of about one."""

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, vectors: Floats, rows: Places) -> Standard:
        """Over the chosen rows of `[N, D]`."""
        total = torch.zeros(vectors.shape[1], dtype=torch.float64)
        square = torch.zeros_like(total)
        for start in range(0, len(rows), _BLOCK):
            block = torch.from_numpy(vectors[rows[start : start + _BLOCK]]).double()
            total += block.sum(0)
            square += block.square().sum(0)
        mean = total / len(rows)
        spread = (square / len(rows) - mean.square()).clamp(min=0).sqrt()
        least = _LEAST * float(spread.mean()) or 1.0
        return cls(mean.float(), (spread.clamp(min=least) * vectors.shape[1] ** 0.5).float())

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        return (vectors - self.mean.to(vectors.device)) / self.deviation.to(vectors.device)


def over_standardised(heads: Heads, image: Standard, text: Standard) -> Heads:
    """A copy that gives for a standardised vector what `heads` give for the vector."""
    made = copy.deepcopy(heads)
    for head, standard in ((made.image, image), (made.text, text)):
        _shift(head, standard.mean)
        _stretch(head, standard.deviation)
    return made


def over_plain(heads: Heads, image: Standard, text: Standard) -> Heads:
    """The way back: a copy that gives for a vector what `heads` give for the standardised one."""
    made = copy.deepcopy(heads)
    for head, standard in ((made.image, image), (made.text, text)):
        _stretch(head, 1 / standard.deviation)
        _shift(head, -standard.mean)
    return made


@torch.no_grad()
def _stretch(head: Head, by: torch.Tensor) -> None:
    for layer in (head.direct, head.inner):
        if layer is not None:
            layer.weight.mul_(by.to(layer.weight.device))


@torch.no_grad()
def _shift(head: Head, by: torch.Tensor) -> None:
    """Take a fixed part of the vector into the biases."""
    if head.direct is not None:
        head.bias.add_(head.direct.weight @ by.to(head.bias.device))
    if head.inner is not None:
        head.inner.bias.add_(head.inner.weight @ by.to(head.inner.bias.device))

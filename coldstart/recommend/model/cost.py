"""Estimate the processor time of fits from sizes alone, so that a budget selects the same candidates on every machine.

A wall clock would make a fit depend on what else runs. The rates are of one core with 512-bit vectors of 2025, whose
products of matrices run at 50 to 80 GFLOP a second in float32: a step of `contrastive` over 3,900 items took 92 ms, and
is estimated at 90.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_RATE = 5e10  # operations of a matrix product a second
_EPOCHS = 10  # of a training and its refit, together, where it stops early as most do
_FINAL = 0.5  # of a training, for the final one, which trains for the selected epochs alone
_TRAINED = {"contrastive": (256, 128), "clcrec": (256, 64), "dropoutnet": (200, 100)}  # widths of the tower


@dataclass(frozen=True)
class Size:
    """Size of a problem: items and users with an interaction, likes, and dimensions of an item's features."""

    items: int
    users: int
    likes: int
    features: int


def fit_seconds(mapper: str, settings: Mapping[str, Any], size: Size) -> float:
    """Estimate the processor seconds of one fit of a mapper."""
    if mapper == "blend":
        parts = settings.get("parts", {})
        return sum(fit_seconds(str(own.get("mapper", label)), own, size) for label, own in parts.items())
    if mapper in _TRAINED:
        return _training_seconds(mapper, settings, size)
    if mapper == "kernel":
        marks = min(size.items, int(settings.get("landmarks", 8000)))
        return _kernel_seconds(size.items, marks, size.features)
    square = size.features**2 * (size.items + size.features)
    if mapper in ("fease", "marec"):
        square += size.items**3
    return 0.1 + 2 * square / _RATE


def candidate_seconds(mapper: str, settings: Mapping[str, Any], size: Size, folds: int) -> float:
    """Estimate the processor seconds of a candidate: its fits of the folds, and the final one."""
    return (folds + (_FINAL if mapper in _TRAINED else 1)) * fit_seconds(mapper, settings, size)


def trial_seconds(size: Size, blocks: int, folds: int, most_items: int) -> float:
    """Estimate the processor seconds of one trial of the weights of blocks."""
    items = min(size.items, most_items)
    return folds * (items**2 * (1.5e-8 + 2e-9 * blocks) + items**3 / 3 / (_RATE / 2))


def _training_seconds(mapper: str, settings: Mapping[str, Any], size: Size) -> float:
    hidden, dim = _TRAINED[mapper]
    batch = int(settings.get("batch_size", 1024))
    if mapper == "contrastive":
        examples = min(int(settings.get("examples", 50_000)), size.likes, int(settings.get("cap", 50)) * size.items)
        rows = min(size.items, batch * (int(settings.get("bag", 8)) + 2) + 512)
    else:
        examples = min(int(settings.get("likes", 200_000)), size.likes)
        rows = min(size.items, batch + 512)
    weights = size.features * (hidden + dim) + hidden * dim
    epochs = min(_EPOCHS, 2 * int(settings.get("epochs", 30)))
    return epochs * max(8.0, examples / batch) * (6 * rows * weights / _RATE + 0.005)


def _kernel_seconds(items: int, marks: int, features: int) -> float:
    products = 2 * items * marks * features + marks**3 / 3 * 2 + (2 * items * marks**2 if items > marks else 0)
    return 0.1 + products / _RATE + 2e-8 * items * marks

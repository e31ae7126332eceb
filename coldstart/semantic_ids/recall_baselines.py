"""Baselines of recall without training, or with a closed form: scores of all items for histories. Plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core import neighbours
from coldstart.core.neighbours import MOST_EASE, RECENCY, cosine_neighbours, ease_weights, histories_matrix

__all__ = ["MOST_EASE", "choose_penalty", "content_neighbours", "ease", "item_knn", "popularity"]
Scores = NDArray[np.float32]
Scorer = Callable[[Sequence[NDArray[np.int64]]], Scores]


def popularity(train: Sequence[NDArray[np.int64]], count: int) -> Scorer:
    """Score items by the number of training rows."""
    counts = np.bincount(np.concatenate([np.empty(0, np.int64), *train]), minlength=count).astype(np.float32)
    return lambda histories: np.tile(counts, (len(histories), 1))


def content_neighbours(content: NDArray[np.float32]) -> Scorer:
    """Score items by their cosine with the items of a history, recent ones first."""
    unit = content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-9)

    def score(histories: Sequence[NDArray[np.int64]]) -> Scores:
        profile = histories_matrix(histories, len(unit), RECENCY) @ unit
        found: Scores = np.asarray(profile @ unit.T, np.float32)
        return found

    return score


def item_knn(train: Sequence[NDArray[np.int64]], count: int) -> Scorer:
    """Score items by the cosine of their users with those of the items of a history, recent ones first."""
    kept = cosine_neighbours(train, count)

    def score(histories: Sequence[NDArray[np.int64]]) -> Scores:
        return np.asarray((histories_matrix(histories, count, RECENCY) @ kept).todense(), np.float32)

    return score


def ease(train: Sequence[NDArray[np.int64]], count: int, penalty: float) -> Scorer:
    """Score items by EASE (Steck, WWW 2019)."""
    weights = ease_weights(train, count, penalty)

    def score(histories: Sequence[NDArray[np.int64]]) -> Scores:
        found: Scores = np.asarray(histories_matrix(histories, count) @ weights, np.float32)
        return found

    return score


def choose_penalty(train: Sequence[NDArray[np.int64]], count: int, gains: Callable[[Any, Any, Any], float]) -> float:
    """Choose the penalty of EASE by the last items of training histories.

    Args:
        gains: mean gain of a scorer, histories and targets.
    """
    return neighbours.choose_penalty(
        train, lambda inputs, penalty, before, targets: gains(ease(inputs, count, penalty), before, targets)
    )

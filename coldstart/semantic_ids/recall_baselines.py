"""Baselines of recall without training, or with a closed form: scores of all items for histories. Plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Scores = NDArray[np.float32]
Scorer = Callable[[Sequence[NDArray[np.int64]]], Scores]
RECENCY = 0.7
"""Weight of an item by the one after it."""
MOST_EASE = 15_000
"""Items above which EASE is left out: it inverts a matrix of all pairs."""
PENALTIES = (50.0, 200.0, 500.0)


def histories_matrix(histories: Sequence[NDArray[np.int64]], count: int, recency: float = 1.0) -> csr_matrix:
    """Build the matrix of histories, csr [U, N]; an item weighs `recency` to the power of its distance from the end."""
    lengths = [len(own) for own in histories]
    columns = np.concatenate([np.empty(0, np.int64), *histories])
    weights = np.concatenate([np.empty(0), *(recency ** np.arange(length - 1, -1, -1.0) for length in lengths)])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((weights.astype(np.float32), columns, starts), (len(histories), count))


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
    met = histories_matrix(train, count)
    norms = np.sqrt(np.maximum(np.asarray(met.multiply(met).sum(0)).ravel(), 1))
    scaled = met.multiply(1 / norms).tocsr()
    similar = (scaled.T @ scaled).tolil()
    similar.setdiag(0)
    kept = similar.tocsr()

    def score(histories: Sequence[NDArray[np.int64]]) -> Scores:
        return np.asarray((histories_matrix(histories, count, RECENCY) @ kept).todense(), np.float32)

    return score


def ease(train: Sequence[NDArray[np.int64]], count: int, penalty: float) -> Scorer:
    """Score items by EASE (Steck, WWW 2019)."""
    met = histories_matrix(train, count)
    gram = np.asarray((met.T @ met).todense(), np.float32)
    gram[np.diag_indices(count)] += penalty
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices(count)] = 0

    def score(histories: Sequence[NDArray[np.int64]]) -> Scores:
        found: Scores = np.asarray(histories_matrix(histories, count) @ weights, np.float32)
        return found

    return score


def choose_penalty(train: Sequence[NDArray[np.int64]], count: int, gains: Callable[[Any, Any, Any], float]) -> float:
    """Choose the penalty of EASE by the last items of training histories.

    Args:
        gains: mean gain of a scorer, histories and targets.
    """
    chosen = [own for own in train if len(own) >= 3][:3000]
    if not chosen:
        return PENALTIES[1]
    inputs = [own[:-1] if len(own) >= 3 else own for own in train]
    before, targets = [own[:-1] for own in chosen], np.array([own[-1] for own in chosen])
    return max(PENALTIES, key=lambda penalty: gains(ease(inputs, count, penalty), before, targets))

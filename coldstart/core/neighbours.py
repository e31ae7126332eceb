"""Compute weights from items to items by histories: neighbours by shared users, and EASE. Plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Histories = Sequence[NDArray[np.int64]]
RECENCY = 0.7
"""Weight of an item of a history relative to the next, more recent one."""
PENALTIES = (50.0, 200.0, 500.0)
"""Penalties of EASE that are tried."""
MOST_EASE = 15_000
"""Items above which EASE is left out: it inverts a matrix of all pairs."""
_ROWS = 2048


def histories_matrix(histories: Histories, count: int, recency: float = 1.0) -> csr_matrix:
    """Build the matrix of histories, csr [U, N]; an item weighs `recency` to the power of its distance from the end."""
    from scipy.sparse import csr_matrix

    lengths = [len(own) for own in histories]
    columns = np.concatenate([np.empty(0, np.int64), *histories])
    weights = np.concatenate([np.empty(0), *(recency ** np.arange(length - 1, -1, -1.0) for length in lengths)])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((weights.astype(np.float32), columns, starts), (len(histories), count))


def cosine_neighbours(histories: Histories, count: int, most: int | None = None) -> csr_matrix:
    """Compute cosines of the users of items, csr float32 [N, N], diagonal empty; of each item the `most` greatest."""
    from scipy.sparse import csr_matrix, vstack

    met = histories_matrix(histories, count)
    norms = np.sqrt(np.maximum(np.asarray(met.multiply(met).sum(0)).ravel(), 1))
    scaled = met.multiply(1 / norms).tocsr()
    users = scaled.T.tocsr()
    parts = []
    for start in range(0, count, _ROWS):
        rows = (users[start : start + _ROWS] @ scaled).tocoo()
        kept = rows.col != rows.row + start
        own = csr_matrix((rows.data[kept], (rows.row[kept], rows.col[kept])), rows.shape)
        parts.append(own if most is None else greatest(own, most))
    return vstack(parts, format="csr") if parts else csr_matrix((0, count), dtype=np.float32)


def greatest(rows: csr_matrix, most: int) -> csr_matrix:
    """Keep the `most` entries of greatest size of each row."""
    from scipy.sparse import csr_matrix

    owners = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((-np.abs(rows.data), owners))
    slots = np.arange(len(order)) - np.repeat(rows.indptr[:-1], np.diff(rows.indptr))
    kept = order[slots < most]
    found = csr_matrix((rows.data[kept], (owners[kept], rows.indices[kept])), rows.shape)
    found.sort_indices()
    return found


def ease_weights(histories: Histories, count: int, penalty: float) -> NDArray[np.float32]:
    """Compute the weights of EASE (Steck, WWW 2019), float32 [N, N], 0 on the diagonal."""
    met = histories_matrix(histories, count)
    gram = np.asarray((met.T @ met).todense(), np.float32)
    gram[np.diag_indices(count)] += penalty
    inverse = np.linalg.inv(gram)
    weights: NDArray[np.float32] = np.asarray(-inverse / np.diag(inverse), np.float32)
    weights[np.diag_indices(count)] = 0
    return weights


def choose_penalty(
    histories: Histories, gain: Callable[[Histories, float, Histories, NDArray[np.int64]], float]
) -> float:
    """Choose the penalty of EASE by the last items of histories.

    Args:
        gain: fits EASE on histories with a penalty, and returns its mean gain for held-out targets, int64 [R],
            given the R histories before them.
    """
    chosen = [own for own in histories if len(own) >= 3][:3000]
    if not chosen:
        return PENALTIES[1]
    inputs = [own[:-1] if len(own) >= 3 else own for own in histories]
    before, targets = [own[:-1] for own in chosen], np.array([own[-1] for own in chosen])
    return max(PENALTIES, key=lambda penalty: gain(inputs, penalty, before, targets))

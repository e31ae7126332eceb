"""Correct a warm item's content vector by its own users: a bounded step towards what their likes say.

The step is bounded, so that an item does not jump when it turns from cold to warm, and a burst of clicks, honest or
not, moves it only so far. It does not know how many users met an item without liking it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.recommend.model import Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK_BYTES = 1 << 27


def bounded_deltas(
    content: Vectors, users: Vectors, matrix: csr_matrix, *, max_delta: float = 0.3, prior_users: float = 10.0
) -> Vectors:
    """Compute steps `d_i` of at most `max_delta |f_i|` from content vectors `f_i` towards the items' own users.

    One line for all items predicts "liked or not" from scores, `p = s (u . v) + t`. Then each item with n users solves
    a ridge regression over its own users (target 1) and the same weight of all users (target 0):

        d_i = argmin  sum_{u likes i} (1 - p_u(f_i + d))^2  +  n mean_u p_u(f_i + d)^2  +  prior_users s^2 c |d|^2

    where c is the mean square of a user vector's entries; so a few users move an item by little, and popularity by
    nothing: likers and others weigh the same for each item. Cost: one system an item, with as many rows as it has users
    or a vector has dimensions, whichever is less (matrix inversion lemma).

    Args:
        content: float32 [I, D]; users: float32 [U, D], of the same space; matrix: csr [U, I], above 0 where liked.

    Returns:
        float32 [I, D]; zeros for an item without likes or without content, or where scores do not predict likes.
    """
    columns = matrix.tocsc()
    columns.eliminate_zeros()
    steps = np.zeros(content.shape, np.float32)
    some = np.any(users != 0, axis=1)
    counts = np.bincount(
        np.repeat(np.arange(columns.shape[1]), np.diff(columns.indptr))[some[columns.indices]],
        minlength=columns.shape[1],
    )
    chosen = np.flatnonzero((counts > 0) & np.any(content != 0, axis=1))
    if not len(chosen) or not max_delta:
        return steps
    everyone = users[some].astype(np.float64)
    second, mean = everyone.T @ everyone / len(everyone), everyone.mean(axis=0)
    slope, start = _score_line(content, users, columns, chosen, counts, second, mean)
    if slope <= 0:
        return steps
    weight = prior_users * np.trace(second) / content.shape[1]
    spread, axes = np.linalg.eigh(second)
    turned = np.append(users.astype(np.float64) @ axes, np.zeros((1, len(axes))), axis=0)  # the last: padding
    own_all, middle = content.astype(np.float64) @ axes, mean @ axes
    for items in _size_blocks(chosen, np.diff(columns.indptr), content.shape[1]):
        own, number = own_all[items], counts[items].astype(np.float64)[:, None]
        likers = turned[_likers_of(columns, items, len(users))]
        diagonal = number * np.maximum(spread, 0) + weight
        missing = 1 - slope * np.einsum("bnd,bd->bn", likers, own) - start
        wanted = np.einsum("bn,bnd->bd", missing, likers) - number * (slope * own * spread + start * middle)
        steps[items] = (_solved(diagonal, likers, wanted) / slope) @ axes.T
    lengths = np.linalg.norm(steps, axis=1)
    most = max_delta * np.linalg.norm(content, axis=1)
    steps *= np.minimum(1, most / np.maximum(lengths, 1e-12))[:, None]
    return steps


def _solved(
    diagonal: NDArray[np.float64], likers: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve (diag + likers' likers)^-1 wanted for each item: [B, D], [B, n, D], [B, D] -> [B, D]."""
    count, dim = likers.shape[1:]
    if count >= dim:
        systems = likers.swapaxes(1, 2) @ likers
        systems[:, np.arange(dim), np.arange(dim)] += diagonal
        return np.asarray(np.linalg.solve(systems, wanted[:, :, None])[:, :, 0], np.float64)
    first: NDArray[np.float64] = wanted / diagonal
    scaled: NDArray[np.float64] = likers / diagonal[:, None]
    small: NDArray[np.float64] = scaled @ likers.swapaxes(1, 2)
    small[:, np.arange(count), np.arange(count)] += 1
    inner = np.linalg.solve(small, np.einsum("bnd,bd->bn", likers, first)[:, :, None])[:, :, 0]
    return np.asarray(first - np.einsum("bn,bnd->bd", inner, scaled), np.float64)


def _size_blocks(chosen: NDArray[np.intp], lengths: NDArray[np.int64], dim: int) -> Iterator[NDArray[np.intp]]:
    """Split items into blocks of similar numbers of users, by falling number."""
    order = chosen[np.argsort(-lengths[chosen], kind="stable")]
    at = 0
    while at < len(order):
        longest = int(lengths[order[at]])
        most = max(1, _BLOCK_BYTES // (8 * (longest * dim * 2 + min(longest, dim) ** 2)))
        part = order[at : at + most]
        part = part[: max(1, int((lengths[part] > longest // 2).sum()))]  # at most half is padding
        yield part
        at += len(part)


def _likers_of(columns: csr_matrix, items: NDArray[np.intp], nobody: int) -> NDArray[np.int64]:
    """List the users of each item, int64 [B, n], padded with `nobody`."""
    starts, ends = columns.indptr[items].astype(np.int64), columns.indptr[items + 1].astype(np.int64)
    places = starts[:, None] + np.arange(int((ends - starts).max()))
    inside = places < ends[:, None]
    found: NDArray[np.int64] = np.where(inside, columns.indices[np.where(inside, places, 0)], nobody)
    return found


def _score_line(
    content: Vectors,
    users: Vectors,
    columns: csr_matrix,
    chosen: NDArray[np.intp],
    counts: NDArray[np.int64],
    second: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> tuple[float, float]:
    """Fit slope and intercept from scores to likes by least squares, likers and all users weighing half each."""
    share = counts[chosen] / counts[chosen].sum()
    own = content[chosen].astype(np.float64)
    scores = _scores(content, users, columns, chosen)
    first = (scores.mean() + share @ (own @ mean)) / 2
    squares = ((scores**2).mean() + share @ np.einsum("id,de,ie->i", own, second, own, optimize=True)) / 2
    spread = squares - first**2
    slope = (scores.mean() / 2 - first / 2) / spread if spread > 1e-12 else 0.0
    return float(slope), float(0.5 - slope * first)


def _scores(content: Vectors, users: Vectors, columns: csr_matrix, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    """Score every item for each of its users with a vector; in no particular order."""
    found, some = [], np.any(users != 0, axis=1)
    own = columns[:, chosen]
    items = chosen[np.repeat(np.arange(len(chosen)), np.diff(own.indptr))]
    step = max(1, _BLOCK_BYTES // (16 * content.shape[1]))
    for at in range(0, len(items), step):
        likers, liked = own.indices[at : at + step], items[at : at + step]
        scores = np.einsum("nd,nd->n", users[likers].astype(np.float64), content[liked].astype(np.float64))
        found.append(scores[some[likers]])
    return np.concatenate(found)

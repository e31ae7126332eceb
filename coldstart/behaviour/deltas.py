"""What a warm item's own users say beyond its content: a bounded step from the one towards the other.

The step is bounded, so that an item does not leap when it turns from cold to warm, and a burst of clicks, honest or
not, moves it only so far. What it does not know: how many met an item without liking it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK_BYTES = 1 << 27


def bounded_deltas(
    content: Vectors, users: Vectors, matrix: csr_matrix, *, max_delta: float = 0.3, prior_users: float = 10.0
) -> Vectors:
    """Steps `d_i` of at most `max_delta |f_i|` from the content vectors `f_i` towards what the items' users say.

    Scores become guesses of "liked or not" by one line for all items, `p = s (u . v) + t`. Then each item with n users
    solves a ridge over its own users (1 is to be guessed) and as much weight of all users (0 is to be guessed):

        d_i = argmin  sum_{u likes i} (1 - p_u(f_i + d))^2  +  n mean_u p_u(f_i + d)^2  +  prior_users s^2 c |d|^2

    where c is the mean square of a user's numbers; so a few users move an item by little, and popularity by nothing:
    likers and others weigh the same for each item. Cost: one D x D system an item and D^2 for each entry of the matrix.

    Args:
        content: float32 [I, D]; users: float32 [U, D], of the same space; matrix: csr [U, I], above 0 where liked.

    Returns:
        float32 [I, D]; zeros where nobody likes an item, its content is unknown, or scores tell nothing of likes.
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
    slope, start = _line(content, users, columns, chosen, counts, second, mean)
    if slope <= 0:
        return steps
    dim = content.shape[1]
    weight = prior_users * np.trace(second) / dim
    block = max(1, _BLOCK_BYTES // (8 * dim * dim))
    for at in range(0, len(chosen), block):
        items = chosen[at : at + block]
        own = content[items].astype(np.float64)
        number = counts[items].astype(np.float64)
        systems = number[:, None, None] * second + weight * np.eye(dim)
        # sums over all users, who should be guessed 0
        wanted = -number[:, None] * (slope * own @ second + start * mean)
        for place, item in enumerate(items):
            likers = _likers(columns, item, users)
            systems[place] += likers.T @ likers
            wanted[place] += (1 - slope * (likers @ own[place]) - start) @ likers
        steps[items] = np.linalg.solve(systems, wanted[:, :, None])[:, :, 0] / slope
    lengths = np.linalg.norm(steps, axis=1)
    most = max_delta * np.linalg.norm(content, axis=1)
    steps *= np.minimum(1, most / np.maximum(lengths, 1e-12))[:, None]
    return steps


def _line(
    content: Vectors,
    users: Vectors,
    columns: csr_matrix,
    chosen: NDArray[np.intp],
    counts: NDArray[np.int64],
    second: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> tuple[float, float]:
    """Slope and start of the line from scores to likes, least squares, all items' likers and all users half each."""
    share = counts[chosen] / counts[chosen].sum()
    own = content[chosen].astype(np.float64)
    scores = np.concatenate([_likers(columns, item, users) @ vector for item, vector in zip(chosen, own, strict=True)])
    first = (scores.mean() + share @ (own @ mean)) / 2
    squares = ((scores**2).mean() + share @ np.einsum("id,de,ie->i", own, second, own, optimize=True)) / 2
    spread = squares - first**2
    slope = (scores.mean() / 2 - first / 2) / spread if spread > 1e-12 else 0.0
    return float(slope), float(0.5 - slope * first)


def _likers(columns: csr_matrix, item: int, users: Vectors) -> NDArray[np.float64]:
    """Vectors of an item's users, without zero rows, which say nothing."""
    found = users[columns.indices[columns.indptr[item] : columns.indptr[item + 1]]].astype(np.float64)
    some: NDArray[np.float64] = found[np.any(found != 0, axis=1)]
    return some

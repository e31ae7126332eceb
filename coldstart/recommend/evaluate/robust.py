"""Measure how much of a figure rests on a few items that many like: without the most liked, and by popularity.

A handful of new items may carry most of the likes of a test, and whoever ranks these first for everybody scores well.
So the headline is repeated without them, as answers and as candidates; and the share of likes that lists hold is given
for groups of items by how many like them in the test. Plain arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics.intervals import FEWEST_COMPARED, widened
from coldstart.metrics.two_way import Floats, Lists, resampled_sums

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MOST_LIKED = 5
"""Items without which the headline is repeated."""
_GROUPS = 10

Places = NDArray[np.intp]


def most_liked(relevant: csr_matrix, count: int = MOST_LIKED) -> Places:
    """Find the items with the most relevant pairs, of equal ones the earlier: ascending places, at most `count`."""
    likes = np.diff(relevant.tocsc().indptr)
    found = np.argsort(-likes, kind="stable")[:count]
    return np.sort(found[likes[found] > 0])


def without_items(lists: Lists, dropped: Places, items: int) -> Lists:
    """Remove items from lists [B, K]; those behind move up, and empty slots come last, with -1."""
    out = np.zeros(items + 1, bool)
    out[dropped] = True
    kept = (lists >= 0) & ~out[lists]
    order = np.argsort(~kept, axis=1, kind="stable")
    found: Lists = np.where(np.take_along_axis(kept, order, 1), np.take_along_axis(lists, order, 1), -1)
    return found


def without_answers(relevant: csr_matrix, dropped: Places) -> csr_matrix:
    """Remove the relevant pairs of items, csr [B, I]."""
    kept = np.ones(relevant.shape[1], np.float32)
    kept[dropped] = 0
    found = relevant.multiply(kept[None, :]).tocsr()
    found.eliminate_zeros()
    return found


@dataclass(frozen=True)
class PopularityGroup:
    """Items with a like in the test, between two numbers of likes: `places` of them, and their likes together."""

    least: int
    most: int
    places: Places
    likes: int


def popularity_groups(likes: NDArray[np.int64]) -> list[PopularityGroup]:
    """Group the liked items into tenths by their likes, int64 [I], the least liked first.

    Items of equally many likes are in one group. Groups are of `FEWEST_COMPARED` items or more, and so may be fewer;
    none where there are not enough items for two.
    """
    liked = np.flatnonzero(likes > 0)
    if len(liked) < 2 * FEWEST_COMPARED:
        return []
    least = max(FEWEST_COMPARED, len(liked) // _GROUPS)
    ends: list[int] = []
    left = 0
    for value, items in zip(*np.unique(likes[liked], return_counts=True), strict=True):
        left += int(items)
        if left >= least:
            ends.append(int(value))
            left = 0
    ends[-1:] = [int(likes.max())]  # the most liked, where too few are left for a group
    groups = np.searchsorted(ends, likes[liked])
    found = []
    for place in range(len(ends)):
        own = liked[groups == place]
        found.append(PopularityGroup(int(likes[own].min()), int(likes[own].max()), own, int(likes[own].sum())))
    return found


@dataclass(frozen=True)
class FoundShare:
    """Share of the likes of a group that are in lists, with its interval over items."""

    value: float
    low: float
    high: float


def found_shares(
    found: Sequence[Floats], groups: Sequence[PopularityGroup], likes: NDArray[np.int64], *, draws: int, seed: int
) -> list[list[FoundShare]]:
    """Compute the share of the likes of each group that lists hold: for each of the methods one for each group.

    Args:
        found: of each method the users with the item in their list who like it, float64 [I].
    """
    shares: list[list[FoundShare]] = [[] for _ in found]
    for group in groups:
        columns = np.stack([*(own[group.places] for own in found), likes[group.places].astype(np.float64)], axis=1)
        sums = resampled_sums(columns, draws, np.random.default_rng(seed))
        total, drawn = columns.sum(axis=0), sums[:, :-1] / sums[:, -1:]
        for place, own in enumerate(shares):
            value = float(total[place] / total[-1])
            low, high = map(float, np.quantile(drawn[:, place], [0.025, 0.975]))
            own.append(FoundShare(value, *widened(value, low, high, len(columns))))
    return shares

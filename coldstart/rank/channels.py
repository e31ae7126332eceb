"""Channels of candidates that are cheap to fit on all rows before a time: neighbours, EASE, content, popularity.

Items are numbered by their place in one list. What a fit keeps is plain arrays, so that they can be stored with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.core.candidates import ChannelLists, Histories
from coldstart.core.neighbours import (
    MOST_EASE,
    RECENCY,
    choose_penalty,
    cosine_neighbours,
    ease_weights,
    histories_matrix,
)
from coldstart.core.vectors import unit

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

COOCCURRENCE, EASE, CONTENT, POPULAR = "cooccurrence", "ease", "content", "popular"
NEIGHBOURS = 200
"""Items that one item names at most, by co-occurrence and by EASE."""
WEEK_S = 7 * 86_400
"""Half-life of popularity."""
LATEST = 500
"""Latest items of a history that channels read."""
_BLOCK = 1 << 23


def best(scores: NDArray[np.float32], k: int) -> ChannelLists:
    """Take the k greatest scores of each row that are above -inf; equal ones of them by place."""
    width = min(k, scores.shape[1])
    if not width:
        return ChannelLists(np.empty((len(scores), 0), np.int64), np.empty((len(scores), 0), np.float32))
    chosen = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    values = np.take_along_axis(scores, chosen, 1)
    order = np.lexsort((chosen, -values), axis=1)
    values = np.take_along_axis(values, order, 1)
    return ChannelLists(np.where(np.isneginf(values), -1, np.take_along_axis(chosen, order, 1)), values)


class ScoringChannel:
    """Channel that scores all N items, in blocks of histories.

    Attributes:
        name: of the channel; count: N.
        least: scores from which on an item is listed, exclusive.
    """

    name: str
    count: int
    least: float = -np.inf

    def score_all(self, histories: Histories, before: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Score all items, float32 [R, N]; NaN where the channel knows no score."""
        raise NotImplementedError

    def candidates(
        self,
        histories: Histories,
        k: int,
        before: NDArray[np.int64] | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> ChannelLists:
        """List up to k items for each history, without those in it; `among`: the only ones, bool [N] or [R, N]."""
        parts = []
        for rows in self._blocks(histories):
            own = histories[rows]
            scores = self.score_all([one[-LATEST:] for one in own], None if before is None else before[rows])
            scores = np.where(scores > self.least, scores, np.float32(-np.inf))  # also where NaN
            for row, history in enumerate(own):
                scores[row, history] = -np.inf
            if among is not None:
                scores[np.broadcast_to(~among if among.ndim == 1 else ~among[rows], scores.shape)] = -np.inf
            parts.append(best(scores, k))
        return ChannelLists(*(np.concatenate([getattr(one, name) for one in parts]) for name in ("places", "scores")))

    def scores(
        self, histories: Histories, places: NDArray[np.int64], before: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Score some items of each history, float32 [R, M]; NaN at place -1, or where the channel knows no score."""
        found = np.full(places.shape, np.nan, np.float32)
        for rows in self._blocks(histories):
            own = [one[-LATEST:] for one in histories[rows]]
            scores = self.score_all(own, None if before is None else before[rows])
            chosen = places[rows]
            found[rows] = np.where(chosen < 0, np.nan, np.take_along_axis(scores, np.maximum(chosen, 0), 1))
        return found

    def _blocks(self, histories: Histories) -> Iterator[slice]:
        step = max(1, _BLOCK // max(1, self.count))
        return (slice(start, start + step) for start in range(0, max(1, len(histories)), step))


class ItemToItem(ScoringChannel):
    """Channel of weights from items to items: co-occurrence with recent items first, or EASE."""

    least = 0.0

    def __init__(self, name: str, weights: csr_matrix, recency: float, known: NDArray[np.bool_]) -> None:
        """`known`: items that rows of the fit have, bool [N]; of others it knows no score."""
        self.name, self.weights, self.recency, self.known = name, weights, recency, known
        self.count = weights.shape[0]

    def score_all(self, histories: Histories, before: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Score all items; see `ScoringChannel`."""
        profiles = histories_matrix(histories, self.count, self.recency)
        found = np.asarray((profiles @ self.weights).todense(), np.float32)
        found[:, ~self.known] = np.nan
        return found


class ContentNeighbours(ScoringChannel):
    """Channel of the cosine between an item's content and that of a history, recent items first; knows new items."""

    name = CONTENT

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """`vectors`: [N, D]; zero for an item without one."""
        self.unit = unit(vectors)
        self.count = len(vectors)
        self._without = ~np.any(self.unit != 0, axis=1)

    def score_all(self, histories: Histories, before: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Score all items; see `ScoringChannel`."""
        profiles = np.asarray(histories_matrix(histories, self.count, RECENCY) @ self.unit, np.float32)
        found = unit(profiles) @ self.unit.T
        found[:, self._without] = np.nan
        return found


class Popular(ScoringChannel):
    """Channel of the number of rows of an item before the request, halved each week; knows nothing of others."""

    name = POPULAR
    least = 0.0

    def __init__(self, items: NDArray[np.int64], times: NDArray[np.int64], count: int) -> None:
        """`items`: place of each row's item; `times`: seconds."""
        self.count = count
        order = np.argsort(times, kind="stable")
        self._items, self._weeks = items[order], times[order] // WEEK_S
        self.final = self._until(None)

    @classmethod
    def of_final(cls, final: NDArray[np.float32]) -> Popular:
        """Build the channel as of the end of its rows from `final`; it answers requests after them alone."""
        found = cls(np.empty(0, np.int64), np.empty(0, np.int64), len(final))
        found.final = final
        return found

    def _until(self, week: int | None) -> NDArray[np.float32]:
        """Sum the rows of the weeks before one, halved for each week that they are older than the last of them."""
        end = len(self._items) if week is None else int(np.searchsorted(self._weeks, week))
        if not end:
            return np.full(self.count, np.nan, np.float32)
        ages = self._weeks[end - 1] - self._weeks[:end]
        # all rows count a little, or the order among items of long ago would be lost
        weights = np.exp2(-np.minimum(ages, 60).astype(np.float64)) + 1e-3
        found = np.bincount(self._items[:end], weights, minlength=self.count).astype(np.float32)
        return np.where(found > 0, found, np.nan).astype(np.float32)

    def score_all(self, histories: Histories, before: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Score all items; see `ScoringChannel`."""
        if before is None:
            return np.tile(self.final, (len(histories), 1))
        weeks, rows = np.unique(before // WEEK_S, return_inverse=True)
        return np.stack([self._until(int(week)) for week in weeks])[rows]


def fit_channels(
    histories: Histories,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    content: NDArray[np.float32],
    *,
    most_ease: int = MOST_EASE,
) -> dict[str, ScoringChannel]:
    """Fit channels on what was known at one time: name -> channel.

    Args:
        histories: of users, oldest item first, as of that time; rows: place of the item and seconds of each row.
        content: vectors of N items; of no columns for none.
    """
    count = len(content)
    known = np.zeros(count, bool)
    for own in histories:
        known[own] = True
    found: list[ScoringChannel] = [
        ItemToItem(COOCCURRENCE, cosine_neighbours(histories, count, NEIGHBOURS), RECENCY, known)
    ]
    if count <= most_ease:
        penalty = choose_penalty(
            histories, lambda own, penalty, asked, targets: _gain_of_ease(own, penalty, asked, targets, count)
        )
        found.append(_ease(histories, count, penalty, known))
    if content.shape[1]:
        found.append(ContentNeighbours(content))
    found.append(Popular(*rows, count))
    return {one.name: one for one in found}


def _ease(histories: Histories, count: int, penalty: float, known: NDArray[np.bool_]) -> ItemToItem:
    from scipy.sparse import csr_matrix

    weights = ease_weights(histories, count, penalty)
    width = min(NEIGHBOURS, count)
    columns = np.argpartition(-np.abs(weights), width - 1, axis=1)[:, :width]
    values = np.take_along_axis(weights, columns, 1)
    starts = np.arange(count + 1) * width
    kept = csr_matrix((values.ravel(), columns.ravel(), starts), (count, count))
    kept.eliminate_zeros()
    return ItemToItem(EASE, kept, 1.0, known)


def _gain_of_ease(
    histories: Histories, penalty: float, asked: Histories, targets: NDArray[np.int64], count: int
) -> float:
    lists = _ease(histories, count, penalty, np.ones(count, bool)).candidates(asked, 10).places
    ranks = np.argmax(lists == targets[:, None], axis=1)
    return float(((lists == targets[:, None]).any(1) / np.log2(ranks + 2)).mean())

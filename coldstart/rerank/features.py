"""Features of the items of a list, as of the time of its request: popularity, likeness to the history. Plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.core.impressions import Impressions
from coldstart.core.interactions import Interactions
from coldstart.core.vectors import unit
from coldstart.rerank import MOST_ITEMS, RerankItems, codes_of
from coldstart.rerank.listwise import Lists

NAMES = ("popularity", "cosine", "nearest", "category_share", "creator_share")
LATEST = 50
"""Latest items of a history that are read; of them ten for `nearest`."""
_MICROS = 10**6


@dataclass(frozen=True)
class KnownItems:
    """N items: ids, unit vectors float32 [N, D], zero for none; codes of creators and categories, -1 for none."""

    item_ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    creators: NDArray[np.int64]
    categories: NDArray[np.int64]

    @classmethod
    def of(
        cls, item_ids: Sequence[str], vectors: NDArray[np.float32], records: Mapping[str, Mapping[str, object]]
    ) -> KnownItems:
        """Build it from vectors of any length and records with `creator` and `category`."""
        usable = np.where(np.isfinite(vectors).all(1, keepdims=True), vectors, 0)
        codes = [codes_of([records.get(item, {}).get(name) for item in item_ids]) for name in ("creator", "category")]
        return cls(tuple(item_ids), unit(usable).astype(np.float32), *codes)


class ListFeatures:
    """Features of items for histories, from the liked rows of a log.

    Args:
        liked: rows over the items of `known`, in their order.
    """

    def __init__(self, known: KnownItems, liked: Interactions) -> None:
        self.known, self._user_places = known, {user: place for place, user in enumerate(liked.user_ids)}
        order = np.lexsort((liked.times, liked.items))
        self._item_times = liked.times[order]
        self._item_starts = np.searchsorted(liked.items[order], np.arange(len(known.item_ids) + 1))
        self._all_times = np.sort(liked.times)
        order = np.lexsort((liked.times, liked.users))
        self._items, self._times = liked.items[order].astype(np.int64), liked.times[order]
        self._user_starts = np.searchsorted(liked.users[order], np.arange(len(liked.user_ids) + 1))

    def history(self, user: str, before: int) -> NDArray[np.int64]:
        """Read the latest items that a user liked strictly before a time in seconds, oldest first."""
        place = self._user_places.get(user)
        if place is None:
            return np.empty(0, np.int64)
        own = slice(self._user_starts[place], self._user_starts[place + 1])
        return self._items[own][: np.searchsorted(self._times[own], before)][-LATEST:]

    def of(self, places: NDArray[np.int64], history: NDArray[np.int64], before: int) -> NDArray[np.float32]:
        """Compute the features of items for a history, float32 [N, F]; NaN where nothing is known.

        Args:
            places: of items, int64 [N]; history: places, oldest first; before: seconds; later rows are not read.
        """
        known = self.known
        found = np.full((len(places), len(NAMES)), np.nan, np.float32)
        counts = np.array(
            [
                np.searchsorted(self._item_times[self._item_starts[place] : self._item_starts[place + 1]], before)
                for place in places.tolist()
            ]
        )
        total = int(np.searchsorted(self._all_times, before))
        found[:, 0] = np.log((counts + 1) / (total + len(known.item_ids)))
        past = history[-LATEST:]
        if not len(past):
            return found
        vectors = known.vectors[past]
        cosines = known.vectors[places] @ vectors.T
        there = np.any(known.vectors[places] != 0, axis=1)
        found[there, 1] = cosines.mean(1)[there]
        found[there, 2] = cosines[:, -10:].max(1)[there]
        for column, codes in ((3, known.categories), (4, known.creators)):
            has = codes[places] >= 0
            found[has, column] = (codes[past][None, :] == codes[places][:, None]).mean(1)[has]
        return found

    def items(
        self, places: NDArray[np.int64], titles: Sequence[str], history: NDArray[np.int64], before: int
    ) -> RerankItems:
        """Build the items of a request."""
        known = self.known
        return RerankItems(
            tuple(known.item_ids[place] for place in places),
            tuple(titles),
            known.vectors[places],
            known.creators[places],
            known.categories[places],
            self.of(places, history, before),
        )

    def lists(self, shown: Impressions, signal: str, min_items: int) -> tuple[Lists, NDArray[np.int64]]:
        """Build the shown lists of requests with at least so many known items and a known outcome, in order of time.

        Returns:
            The lists, and the seconds of each.
        """
        item_places = {item: place for place, item in enumerate(self.known.item_ids)}
        known = np.array([item_places.get(item, -1) for item in shown.item_ids], np.int64)
        outcomes = shown.signal(signal).astype(np.float64)
        stated = np.zeros(len(shown), bool)
        for values in shown.signals.values():
            stated |= ~np.isnan(values)
        outcomes[stated & np.isnan(outcomes)] = 0  # a row with other outcomes was not clicked
        rows = np.flatnonzero((shown.requests >= 0) & (shown.positions >= 0))
        rows = rows[np.lexsort((shown.positions[rows], shown.requests[rows]))]
        starts = np.flatnonzero(np.diff(shown.requests[rows], prepend=-1))
        requests = [own for own in np.split(rows, starts[1:]) if len(own)]
        requests.sort(key=lambda own: int(shown.times[own].min()))
        blocks, seconds = [], []
        for own in requests:
            usable = own[(known[shown.items[own]] >= 0) & ~np.isnan(outcomes[own])][:MOST_ITEMS]
            if len(usable) < min_items:
                continue
            at = int(shown.times[own].min() // _MICROS)
            history = self.history(shown.user_ids[shown.users[own[0]]], at)
            blocks.append((known[shown.items[usable]], _slots(own, usable),
                           outcomes[usable] > 0, history, at))  # fmt: skip
            seconds.append(at)
        return self._padded(blocks), np.array(seconds, np.int64)

    def _padded(
        self, blocks: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], int]]
    ) -> Lists:
        count, width = len(blocks), max((len(own[0]) for own in blocks), default=1)
        dim = self.known.vectors.shape[1]
        found = Lists(
            np.full((count, width, len(NAMES)), np.nan, np.float32),
            np.zeros((count, width), np.int64),
            np.zeros((count, width, dim), np.float32),
            np.full((count, width), -1, np.int64),
            np.full((count, width), -1, np.int64),
            np.full((count, width), np.nan, np.float32),
        )
        for row, (places, slots, clicks, history, at) in enumerate(blocks):
            own = slice(0, len(places))
            found.features[row, own] = self.of(places, history, at)
            found.slots[row, own] = slots
            found.vectors[row, own] = self.known.vectors[places]
            found.creators[row, own] = self.known.creators[places]
            found.categories[row, own] = self.known.categories[places]
            found.clicks[row, own] = clicks
        return found


def _slots(shown: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the slots of kept rows among all rows of a request, from 1."""
    slots = {row: slot for slot, row in enumerate(shown.tolist(), 1)}
    return np.array([min(slots[row], MOST_ITEMS) for row in kept.tolist()], np.int64)

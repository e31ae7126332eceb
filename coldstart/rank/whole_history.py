"""Make features of candidates by whole histories, and find the actions that target attention reads of them.

Histories of more actions than the other features read are compared with each candidate as a whole
(`coldstart.rank.history_search`). Of the actions found, those that are not among the latest go into target attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.rank.history_search import TOP_K, Compared, HistorySearch, tier_names
from coldstart.rank.model import FoundActions, WholeHistories

Places = NDArray[np.int64]
Floats = NDArray[np.float32]
ReadWhole = Callable[[Places, Places, int | None], WholeHistories]
"""Reads whole histories of users (numbers), each before its own second, perhaps their latest actions alone."""

SIMILAR = "similar."
"""Start of the names of features by vectors, the histogram of SimTier (arXiv 2407.19467) and the nearest actions."""
WHOLE = f"{SIMILAR}whole."
"""Start of the names of those by a whole history; they are NaN for shorter ones, of which the others say all."""
BESIDE_FOUND = 50
"""Latest actions that target attention reads beside those that search found."""
_EDGES = np.linspace(0, 1, 11)
"""Cosines that divide found actions into tiers."""
_AGES = 13
"""Ages of found actions that are told apart, by log2 of days."""
_DAY_S = 86_400


class WholeFeatures:
    """Features by whole histories.

    Args:
        search: over them; read: reads them; kinds: names of the kinds of actions.
        found: the actions found are kept for target attention.
    """

    def __init__(self, search: HistorySearch, read: ReadWhole, kinds: Sequence[str], *, found: bool) -> None:
        self._search, self._read, self._kinds, self._found = search, read, tuple(kinds), found

    def make(
        self, items: Places, groups: Places, requests: tuple[Places, Places], longer: Places
    ) -> tuple[dict[str, Floats], FoundActions | None]:
        """Make likeness of each candidate to the whole of a longer history: tiers, most and mean of the actions found;
        also these actions.

        Args:
            items, groups: candidate and history of each row, [N]; requests: user and second of each history.
            longer: histories that are read.
        """
        names = [*tier_names(self._kinds), *(f"most.{kind}" for kind in self._kinds)]
        names += [f"found.{kind}" for kind in self._kinds]
        values = np.full((len(items), len(names)), np.nan, np.float32)
        shape = (len(items), TOP_K if self._found else 0)
        nearest = FoundActions(np.full(shape, -1, np.int32), *(np.zeros(shape, np.uint8) for _ in range(3)))
        users, ends = requests
        order = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[order], np.arange(len(users) + 1))
        for group in longer:
            own, now = order[starts[group] : starts[group + 1]], int(ends[group])
            read = self._read(users[[group]], ends[[group]], None)
            compared = self._search.compare(
                items[own], read.items, read.events - 1, read.seconds, now, group_count=len(self._kinds)
            )
            similar = compared.found.similarities
            there = ~np.isnan(similar)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.where(there, similar, 0).sum(2) / there.sum(2)
            values[own] = np.concatenate([compared.tiers.reshape(len(own), -1), similar[:, :, 0], mean], 1)
            if self._found:
                some = _nearest(compared, read, now, len(read.items) - BESIDE_FOUND)
                nearest.items[own], nearest.events[own] = some.items, some.events
                nearest.tiers[own], nearest.ages[own] = some.tiers, some.ages
        columns = {f"{WHOLE}{name}": values[:, place] for place, name in enumerate(names)}
        return columns, nearest if self._found else None


def _nearest(compared: Compared, read: WholeHistories, now: int, end: int) -> FoundActions:
    """Pick the actions of all groups together that are most like each candidate, of those before a place."""
    positions = compared.found.positions.reshape(len(compared.found.positions), -1)
    similar = compared.found.similarities.reshape(positions.shape)
    there = (positions >= 0) & (positions < end)
    order = np.argsort(np.where(there, -similar, np.inf), axis=1, kind="stable")[:, :TOP_K]
    positions, similar = np.take_along_axis(positions, order, 1), np.take_along_axis(similar, order, 1)
    there = np.take_along_axis(there, order, 1)
    at = np.where(there, positions, 0)
    ages = np.log2(1 + np.maximum(now - read.seconds[at], 0) / _DAY_S) if len(read.seconds) else np.zeros(at.shape)
    tiers = np.digitize(np.where(there, similar, 0), _EDGES)
    items, events = (one[at] if len(one) else np.zeros(at.shape, np.int32) for one in (read.items, read.events))
    width = TOP_K - at.shape[1]

    def padded(values: NDArray[Any], nothing: int, kind: Any) -> NDArray[Any]:
        filled = np.where(there, values, nothing).astype(kind)
        return np.pad(filled, ((0, 0), (0, width)), constant_values=nothing)

    return FoundActions(
        padded(items, -1, np.int32), padded(events, 0, np.uint8), padded(tiers, 0, np.uint8),
        padded(np.minimum(ages, _AGES - 1), 0, np.uint8),
    )  # fmt: skip

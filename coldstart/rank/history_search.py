"""Search a user's history for actions that are like a candidate, and count them by similarity.

Both compare a candidate with every action by the ranker's own vectors of items, so that search and model agree on what
is alike (TWIN, Chang et al., KDD 2023). Search is exact up to `EXACT` actions. Above, where items have codes, it reads
only actions whose first code is among the candidate's nearest, and the histograms of similarities (SimTier, Alibaba,
2024) count the others by the means of their codes (clusters in place of items, as TWIN-V2, CIKM 2024);
`shortcut_recall` measures how much of the exact answer the search finds then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP_K = 50
"""Actions that are found for a candidate and a group of events."""
EXACT = 20_000
"""Actions up to which every one is compared."""
NEAREST_CODES = 8
"""Codes of a candidate whose actions are compared in a longer history."""
EDGES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Cosines that divide the tiers."""
WINDOWS_S = (7 * 86_400, 90 * 86_400, None)
"""Ages up to which actions are counted, in seconds; the last counts all."""

_COLUMNS = 8_192
"""Actions that are compared at once: 6.5 MB for 200 candidates."""

Places = NDArray[np.integer[Any]]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """Actions that are most like each of C candidates, for G groups of events, the most similar first.

    Of equal similarities the latest action comes first.

    Attributes:
        positions: in the history, int32 [C, G, K], -1 for none; similarities: cosines, float32 [C, G, K], NaN for none.
    """

    positions: NDArray[np.int32]
    similarities: Floats


@dataclass(frozen=True)
class Compared:
    """A history compared with C candidates.

    Attributes:
        found: the most similar actions.
        tiers: log(1 + actions) by group of events, window and tier of similarity, float32 [C, G, 3, 6].
        exact: every action was compared.
    """

    found: Found
    tiers: Floats
    exact: bool


class HistorySearch:
    """Compares histories with candidates.

    Holds the vectors in float16.

    Args:
        vectors: of items, [I, d], of any length; a row of zeros for an item without one.
        codes: first code of each item, int [I], -1 for none; None: longer histories are searched exactly, too.
    """

    def __init__(self, vectors: NDArray[Any], codes: Places | None = None) -> None:
        lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
        self.vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float16)
        self._known = lengths[:, 0] > 0
        self.codes, self._means = None, np.empty((0, vectors.shape[1]), np.float32)
        if codes is not None:
            self.codes = np.where(self._known, codes, -1).astype(np.int64)
            self._means = _means(self.vectors, self.codes)

    def compare(
        self,
        candidates: Places,
        items: Places,
        groups: Places,
        seconds: NDArray[np.integer[Any]],
        now: int,
        *,
        group_count: int,
        top_k: int = TOP_K,
        exact: bool | None = None,
    ) -> Compared:
        """Compare one history with candidates.

        Args:
            candidates: places of items, int [C], -1 for one without a vector, which is like nothing.
            items: place of the item of each action, oldest first, int [N], -1 for one without a vector.
            groups: group of the event of each action, int [N], -1 to leave it out; group_count: G of them.
            seconds: of each action, rising, [N]; now: of the request.
            exact: compare every action; by default up to `EXACT` actions, or without codes.
        """
        own = self.vectors[np.maximum(candidates, 0)].astype(np.float32)
        kept = np.flatnonzero((groups >= 0) & (items >= 0))
        kept = kept[self._known[items[kept]]]
        if exact is None:
            exact = self.codes is None or len(kept) <= EXACT
        history = _History(kept, items[kept], groups[kept], now - seconds[kept].astype(np.int64))
        positions, similar, counts = (self._exact if exact else self._by_codes)(own, history, group_count, top_k)
        absent = (candidates < 0) | ~self._known[candidates]
        positions[absent], similar[absent], counts[absent] = -1, np.nan, 0
        return Compared(Found(positions, similar), np.log1p(counts).astype(np.float32), exact)

    def _exact(self, own: Floats, history: _History, group_count: int, top_k: int) -> _Answer:
        """Compare every action."""
        order = np.argsort(history.groups, kind="stable")  # each group together, oldest first
        ends = np.searchsorted(history.groups[order], np.arange(group_count + 1))
        counts = np.zeros((len(own), group_count, len(WINDOWS_S), len(EDGES) + 1), np.int64)
        parts: list[_Picks] = []
        for group in range(group_count):
            actions = order[ends[group] : ends[group + 1]]
            least = np.full(len(own), -np.inf, np.float32)
            for first in range(0, len(actions), _COLUMNS):
                part = actions[first : first + _COLUMNS]
                similar = own @ self.vectors[history.items[part]].astype(np.float32).T
                counts[:, group] += _tiers(similar, history.ages[part])
                least = _least(similar, top_k, least)
                at, column = np.divmod(np.flatnonzero(similar >= least[:, None]), len(part))
                parts.append((at * group_count + group, history.positions[part[column]], similar[at, column]))
        return (*_first(parts, len(own), group_count, top_k), counts)

    def _by_codes(self, own: Floats, history: _History, group_count: int, top_k: int) -> _Answer:
        """Compare the actions whose code is among the nearest of each candidate, and those without a code; in the tiers
        all others count as if they were the mean of their code."""
        assert self.codes is not None, "the shortcut was chosen"
        codes, count = self.codes[history.items], len(self._means)
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(-1, count + 1))
        likeness = own @ self._means.T
        near = np.where(np.diff(edges)[1:] > 0, likeness, -np.inf)  # codes that an action has
        reads = np.zeros((len(own), count + 1), bool)
        reads[:, 0] = True
        if width := min(NEAREST_CODES, count):
            nearest = np.argpartition(near, count - width, axis=1)[:, count - width :]
            np.put_along_axis(reads[:, 1:], nearest, True, axis=1)
        bands = np.searchsorted([window for window in WINDOWS_S if window is not None], history.ages)
        shape = (group_count, len(WINDOWS_S))
        cells = history.groups * len(WINDOWS_S) + bands
        there = codes >= 0
        sums = np.bincount(codes[there] * shape[0] * shape[1] + cells[there], minlength=count * shape[0] * shape[1])
        of_mean = np.searchsorted(EDGES, likeness, "right")
        counts = np.stack(
            [
                ((of_mean == tier) & ~reads[:, 1:]).astype(np.float32)
                @ sums.reshape(count, shape[0] * shape[1]).astype(np.float32)
                for tier in range(len(EDGES) + 1)
            ],
            axis=2,
        ).reshape(len(own), *shape, len(EDGES) + 1)
        parts = []
        for code in np.flatnonzero(np.diff(edges)):
            whom, listed = np.flatnonzero(reads[:, code]), order[edges[code] : edges[code + 1]]
            if len(whom):
                similar = own[whom] @ self.vectors[history.items[listed]].astype(np.float32).T
                parts.append((whom.repeat(len(listed)), np.tile(listed, len(whom)), similar.ravel()))
        rows, listed, values = _joined(parts)
        key = (rows * shape[0] * shape[1] + cells[listed]) * (len(EDGES) + 1) + np.searchsorted(EDGES, values, "right")
        counts += np.bincount(key, minlength=counts.size).reshape(counts.shape)
        picks = _shortened(rows * group_count + history.groups[listed], history.positions[listed], values, top_k)
        found = _first([picks], len(own), group_count, top_k)
        return (*found, np.rint(counts.cumsum(axis=2)).astype(np.int64))

    def shortcut_recall(
        self, requests: Iterable[tuple[Places, Places, Places]], *, group_count: int, top_k: int = TOP_K
    ) -> tuple[float, int]:
        """Measure the share of the exact answer that the shortcut by codes finds.

        Args:
            requests: candidates, items and groups of some histories, as for `compare`.

        Returns:
            the share, NaN without any, and the number of actions that it is a share of.
        """
        met = wanted = 0
        for candidates, items, groups in requests:
            times = np.zeros(len(items), np.int64)
            answers = [
                self.compare(candidates, items, groups, times, 0, group_count=group_count, top_k=top_k, exact=exact)
                for exact in (True, False)
            ]
            # of actions alike, such as those with one item, any will do: so similarities are compared
            full, short = (answer.found.similarities for answer in answers)
            there = ~np.isnan(full)
            met += int((there & (np.nan_to_num(short, nan=-2.0) >= full - 1e-6)).sum())
            wanted += int(there.sum())
        return (met / wanted if wanted else float("nan")), wanted


@dataclass(frozen=True)
class _History:
    """Actions that are compared: position in the history, item, group and age of each, oldest first."""

    positions: NDArray[np.int64]
    items: Places
    groups: Places
    ages: NDArray[np.int64]


_Picks = tuple[NDArray[np.int64], NDArray[np.int64], Floats]
"""Row, position in the history and similarity of some actions; a row is one of a candidate and a group."""
_Answer = tuple[NDArray[np.int32], Floats, NDArray[np.int64]]
"""Positions and similarities [C, G, K], and counts [C, G, 3, 6]."""


def tier_names(groups: Sequence[str]) -> list[str]:
    """Name the tiers in the order of `Compared.tiers`, flattened for each candidate."""
    windows = [f"{window // 86_400}d" if window else "all" for window in WINDOWS_S]
    lows = ["below_0", *(f"{edge:.1f}" for edge in EDGES)]
    return [f"tier_{group}_{window}_{low}" for group in groups for window in windows for low in lows]


def _means(vectors: NDArray[np.float16], codes: NDArray[np.int64]) -> Floats:
    """Average the vectors of each code, float32 [codes, d]; zeros where no item has the code."""
    there = codes >= 0
    sums = np.zeros((int(codes.max(initial=-1)) + 1, vectors.shape[1]), np.float32)
    np.add.at(sums, codes[there], vectors[there].astype(np.float32))
    found: Floats = (sums / np.maximum(np.bincount(codes[there], minlength=len(sums)), 1)[:, None]).astype(np.float32)
    return found


def _tiers(similar: Floats, ages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count actions by window and tier, int64 [C, 3, 6]; ages fall from column to column."""
    count = similar.shape[1]
    firsts = [0 if window is None else int(np.searchsorted(-ages, -window)) for window in WINDOWS_S]
    cuts = sorted({first for first in firsts if first < count})
    above = np.zeros((len(EDGES) + 2, len(similar), len(WINDOWS_S)), np.int64)  # at least: anything, each edge, nothing
    for step, edge in enumerate((None, *EDGES)):
        sums = (
            np.diff([*cuts, count])[None]
            if edge is None
            else np.add.reduceat(similar >= edge, cuts, axis=1, dtype=np.int64)
        )
        later = np.cumsum(sums[:, ::-1], axis=1)[:, ::-1]
        for place, first in enumerate(firsts):
            if first < count:
                above[step, :, place] = later[:, cuts.index(first)]
    return (above[:-1] - above[1:]).transpose(1, 2, 0)


def _least(similar: Floats, top_k: int, known: Floats | None = None) -> Floats:
    """Bound the K-th largest value of each row from below, float32 [rows]; `known`: a bound from other columns.

    The K-th largest of the maxima of 2 K or more blocks is such a bound, and takes a tenth of the time of the value.
    """
    rows, columns = similar.shape
    bounds = np.full(rows, -np.inf, np.float32) if known is None else known
    if columns <= top_k:
        return bounds
    width = max(columns // (2 * top_k), 1)
    blocks = columns // width
    largest = similar[:, : width * blocks].reshape(rows, width, blocks).max(axis=1)
    return np.maximum(bounds, np.partition(largest, blocks - top_k, axis=1)[:, blocks - top_k])


def _shortened(rows: NDArray[np.int64], positions: NDArray[np.int64], values: Floats, top_k: int) -> _Picks:
    """Leave out actions that are not among the first K of their row."""
    order = np.argsort(rows, kind="stable")
    rows, positions, values = rows[order], positions[order], values[order]
    counts = np.bincount(rows)
    if not len(rows) or counts.max() <= top_k:
        return rows, positions, values
    column = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    table = np.full((len(counts), int(counts.max())), -np.inf, np.float32)
    table[rows, column] = values
    kept = values >= _least(table, top_k)[rows]
    return rows[kept], positions[kept], values[kept]


def _joined(parts: Sequence[_Picks]) -> _Picks:
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    rows, positions, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, positions, values


def _first(parts: Sequence[_Picks], candidates: int, group_count: int, top_k: int) -> tuple[NDArray[np.int32], Floats]:
    """Order picks by similarity, then the latest first, and keep the first K of each row: [C, G, K]."""
    rows, positions, values = _joined(parts)
    order = np.lexsort((-positions, rows))
    rows, positions, values = rows[order], positions[order], values[order]
    flat = candidates * group_count
    counts = np.bincount(rows, minlength=flat)
    column = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    shape = (flat, max(top_k, int(counts.max(initial=0))))
    found, similar = np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32)
    found[rows, column], similar[rows, column] = positions, values
    best = np.argsort(-similar, axis=1, kind="stable")[:, :top_k]  # of equal ones the first, which is the latest
    found, similar = np.take_along_axis(found, best, 1), np.take_along_axis(similar, best, 1)
    similar[found < 0] = np.nan
    own = (candidates, group_count, top_k)
    return found.reshape(own), similar.reshape(own)

"""Search a user's history for actions that are like a candidate, and count them by similarity.

Both compare a candidate with every action by the ranker's own vectors of items, so that search and model agree on what
is alike (TWIN, Chang et al., KDD 2023). Search is exact up to `EXACT` actions. Above, where items have codes, it reads
only actions whose first code is among the candidate's nearest (clusters in place of items, as TWIN-V2, CIKM 2024), and
`shortcut_recall` measures how much of the exact answer this finds. Histograms of similarities (SimTier, Alibaba, 2024)
are exact at any length.
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
        exact: search compared every action.
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
        self.codes, self._centroids = None, np.empty((0, vectors.shape[1]), np.float32)
        if codes is not None:
            self.codes = np.where(self._known, codes, -1).astype(np.int64)
            self._centroids = _centroids(self.vectors, self.codes)

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
            exact: compare every action in the search; by default up to `EXACT` actions, or without codes.
        """
        own = self._vectors_of(candidates)
        kept = np.flatnonzero((groups >= 0) & (items >= 0))
        kept = kept[self._known[items[kept]]]
        if exact is None:
            exact = self.codes is None or len(kept) <= EXACT
        kept = kept[np.argsort(groups[kept], kind="stable")]  # each group together, oldest first
        ends = np.searchsorted(groups[kept], np.arange(group_count + 1))
        counts = np.zeros((len(own), group_count, len(WINDOWS_S), len(EDGES) + 1), np.int64)
        ages = now - seconds.astype(np.int64)
        picks = []
        for group in range(group_count):
            actions = kept[ends[group] : ends[group + 1]]
            parts: list[_Picks] = []
            least = np.full(len(own), -np.inf, np.float32)
            for first in range(0, len(actions), _COLUMNS):
                part = actions[first : first + _COLUMNS]
                similar = own @ self.vectors[items[part]].astype(np.float32).T
                counts[:, group] += _tiers(similar, ages[part])
                if exact:
                    least = _least(similar, top_k, least)
                    parts.append(_at_least(similar, part, least))
            if not exact:
                parts.append(self._by_codes(own, actions, items, top_k))
            picks.append(_first(parts, len(own), top_k))
        found = Found(np.stack([one for one, _ in picks], 1), np.stack([one for _, one in picks], 1))
        absent = (candidates < 0) | ~self._known[candidates]
        found.positions[absent], found.similarities[absent], counts[absent] = -1, np.nan, 0
        return Compared(found, np.log1p(counts).astype(np.float32), exact)

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

    def _vectors_of(self, candidates: Places) -> Floats:
        return self.vectors[np.maximum(candidates, 0)].astype(np.float32)

    def _by_codes(self, own: Floats, actions: Places, items: Places, top_k: int) -> _Picks:
        """Search the actions whose code is among the nearest of each candidate."""
        assert self.codes is not None, "the shortcut was chosen"
        codes = self.codes[items[actions]]
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(self._centroids) + 1))
        near = own @ self._centroids.T
        near[:, np.diff(starts) == 0] = -np.inf  # no action has the code
        width = min(NEAREST_CODES, near.shape[1])
        nearest = np.argpartition(near, near.shape[1] - width, axis=1)[:, near.shape[1] - width :]
        rows, of = np.repeat(np.arange(len(own)), width), nearest.ravel()
        by_code = np.argsort(of, kind="stable")
        rows, of = rows[by_code], of[by_code]
        parts = []
        for code in np.unique(of):
            listed = actions[order[starts[code] : starts[code + 1]]]
            if len(listed):
                whom = rows[np.searchsorted(of, code) : np.searchsorted(of, code, "right")]
                similar = own[whom] @ self.vectors[items[listed]].astype(np.float32).T
                at, positions, values = _at_least(similar, listed, _least(similar, top_k))
                parts.append((whom[at], positions, values))
        return _joined(parts)


_Picks = tuple[NDArray[np.int64], NDArray[np.int64], Floats]
"""Candidate, position in the history and similarity of some actions."""


def tier_names(groups: Sequence[str]) -> list[str]:
    """Name the tiers in the order of `Compared.tiers`, flattened for each candidate."""
    windows = [f"{window // 86_400}d" if window else "all" for window in WINDOWS_S]
    lows = ["below_0", *(f"{edge:.1f}" for edge in EDGES)]
    return [f"tier_{group}_{window}_{low}" for group in groups for window in windows for low in lows]


def _centroids(vectors: NDArray[np.float16], codes: NDArray[np.int64]) -> Floats:
    """Average the vectors of each code, float32 [codes, d], of length 1; zeros where no item has the code."""
    there = codes >= 0
    sums = np.zeros((int(codes.max(initial=-1)) + 1, vectors.shape[1]), np.float32)
    np.add.at(sums, codes[there], vectors[there].astype(np.float32))
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


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


def _at_least(similar: Floats, positions: Places, least: Floats) -> _Picks:
    """Pick the actions of each row that are at least so similar."""
    at, column = np.divmod(np.flatnonzero(similar >= least[:, None]), similar.shape[1])
    return at, positions[column].astype(np.int64), similar[at, column]


def _joined(parts: Sequence[_Picks]) -> _Picks:
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    rows, positions, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, positions, values


def _first(parts: Sequence[_Picks], rows: int, top_k: int) -> tuple[NDArray[np.int32], Floats]:
    """Order picks by similarity, then the latest first, and keep the first K of each row."""
    at, positions, values = _joined(parts)
    order = np.lexsort((-positions, -values, at))
    at = at[order]
    rank = np.arange(len(at)) - np.searchsorted(at, at)
    kept = rank < top_k
    found = np.full((rows, top_k), -1, np.int32), np.full((rows, top_k), np.nan, np.float32)
    for target, column in zip(found, (positions, values), strict=True):
        target[at[kept], rank[kept]] = column[order][kept]
    return found

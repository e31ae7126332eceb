"""Compute intervals of measures of lists over users and over items, of which the wider is shown.

A few hundred new items carry an evaluation, and a handful of them most of the likes, so that resampling users alone
makes intervals too narrow. Users and items are each resampled; lists are fixed. Differences are of means, paired, by
bootstrap (Efron & Tibshirani 1993), and their p-values are corrected for the number of comparisons (Holm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics.intervals import resampled_rows, widened
from coldstart.metrics.ranking import Interval, hits_of, measure_lists

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
Lists = NDArray[np.int64]
_NUMBERS = 1 << 22  # row numbers drawn at a time


@dataclass(frozen=True)
class TwoWayInterval:
    """Value with intervals over users and over items; `low` and `high` are of the wider, which `over` names."""

    value: float
    users: Interval
    items: Interval

    @property
    def over(self) -> str:
        """Name of the wider interval: `users` or `items`."""
        return "users" if self.users.high - self.users.low >= self.items.high - self.items.low else "items"

    @property
    def low(self) -> float:
        """Lower bound of the wider interval."""
        return self.users.low if self.over == "users" else self.items.low

    @property
    def high(self) -> float:
        """Upper bound of the wider interval."""
        return self.users.high if self.over == "users" else self.items.high

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "over": self.over,
            "users": [self.users.low, self.users.high],
            "items": [self.items.low, self.items.high],
        }


@dataclass(frozen=True)
class Resampled:
    """Means of M columns, and of every resample: value float64 [M], by_users and by_items float64 [draws, M].

    Attributes:
        users, items: number of those that were drawn from.
    """

    value: Floats
    by_users: Floats
    by_items: Floats
    users: int
    items: int

    def interval(self, column: int, level: float = 0.95) -> TwoWayInterval:
        """Compute the intervals of a column. A resample of items is a ratio and is cut at 1."""
        items = np.minimum(self.by_items[:, column], 1)
        return self._sure(self.value[column], self.by_users[:, column], items, level)

    def difference(self, column: int, reference: int, level: float = 0.95) -> tuple[TwoWayInterval, float]:
        """Compute column less reference with its intervals, and the greater of its two-sided p-values.

        p is by the normal distribution of the difference over the deviation of its resamples: counting resamples beyond
        zero cannot give less than 1 / draws, too coarse for a correction over a long table.
        """
        users = self.by_users[:, column] - self.by_users[:, reference]
        items = self.by_items[:, column] - self.by_items[:, reference]
        value = float(self.value[column] - self.value[reference])
        return self._sure(value, users, items, level, paired=True), max(_p_value(value, users), _p_value(value, items))

    def _sure(
        self, value: float, users: Floats, items: Floats, level: float, *, paired: bool = False
    ) -> TwoWayInterval:
        own = []
        for draws, count in ((users, self.users), (items, self.items)):
            low, high = map(float, np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
            own.append(Interval(float(value), *widened(float(value), low, high, count, paired=paired, level=level)))
        return TwoWayInterval(float(value), *own)


def resample(values: Floats, parts: Floats, shares: Floats, *, draws: int = 2000, seed: int = 0) -> Resampled:
    """Resample users, and items, with replacement; the same resamples for all columns, so that columns compare.

    Lists are fixed: an item drawn twice contributes twice. A resample of items is the ratio of their contributions to
    their shares.

    Args:
        values: [U, M], a user's measure by each column; finite.
        parts: [I, M], contribution of each item to the sum of a column; shares: [I], share of each item in the users.

    Raises:
        ValueError: there are no users, or no item has a share.
    """
    if not len(values) or not shares.sum() > 0:
        raise ValueError("there is nothing to resample")
    kept = shares > 0
    parts, shares = parts[kept], shares[kept]
    rng = np.random.default_rng(seed)
    by_users = resampled_sums(values, draws, rng) / len(values)
    both = resampled_sums(np.concatenate([parts, shares[:, None]], axis=1), draws, rng)
    by_items = both[:, :-1] / both[:, -1:] * (shares.sum() / len(values))
    return Resampled(values.mean(axis=0), by_users, by_items, len(values), len(shares))


def list_intervals(
    folds: Sequence[tuple[Lists, csr_matrix]], measures: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> dict[str, TwoWayInterval]:
    """Compute measures of lists over all folds, each with its intervals over users and over items.

    Args:
        folds: lists int64 [B, K], -1 for an empty slot, and csr [B, H] of their relevant items; every fold has users'
            lists and items of its own.
        measures: such as `recall@20` and `ndcg@20`.

    Raises:
        ValueError: to no user anything is relevant.
    """
    cuts = sorted({int(measure.partition("@")[2]) for measure in measures})
    values, parts, shares = [], [], []
    for lists, relevant in folds:
        kept = np.diff(relevant.indptr) > 0
        found = measure_lists(lists, relevant, cuts)
        items: dict[str, Floats] = {}
        for k in cuts:
            items |= contributions_by_item(lists, relevant, k)
        values.append(np.stack([found[measure][kept] for measure in measures], axis=1))
        parts.append(np.stack([items[measure] for measure in measures], axis=1))
        shares.append(shares_by_item(relevant))
    drawn = resample(*map(np.concatenate, (values, parts, shares)), draws=draws, seed=seed)
    return {measure: drawn.interval(column) for column, measure in enumerate(measures)}


def contributions_by_item(lists: Lists, relevant: csr_matrix, k: int) -> dict[str, Floats]:
    """Split the users' measures at `k` into contributions of items, so that items can be resampled like users.

    Returns:
        `recall@k`, … -> float64 [I], whose sum is the sum over users; `found@k`: users with the item in their list.
    """
    hits, wanted = hits_of(lists, relevant)
    hits, listed = hits[:, :k], lists[:, :k]
    best = np.minimum(np.maximum(wanted, 1), k)[:, None]
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))
    first = hits & (np.cumsum(hits, axis=1) == 1)
    ranks = np.arange(1, hits.shape[1] + 1)
    gains = {
        "recall": hits / best,
        "ndcg": hits / np.log2(ranks + 1) / ideal[best - 1],
        "mrr": first / ranks,
        "hit": first.astype(np.float64),
        "found": hits.astype(np.float64),
    }
    size = relevant.shape[1]
    return {f"{name}@{k}": _sums_by_place(listed[hits], gain[hits], size) for name, gain in gains.items()}


def shares_by_item(relevant: csr_matrix) -> Floats:
    """Split users into shares of items, float64 [I]: a user counts 1, shared evenly by the relevant items."""
    wanted = np.maximum(np.diff(relevant.indptr), 1)
    weights = np.repeat(1 / wanted, np.diff(relevant.indptr))
    return _sums_by_place(relevant.indices, weights, relevant.shape[1])


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method (Scandinavian J. of Statistics, 1979)."""
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, np.float64)[order] * (len(order) - np.arange(len(order)))
    found = np.empty(len(order))
    found[order] = np.minimum(np.maximum.accumulate(raised), 1) if len(order) else raised
    return [float(value) for value in found]


def resampled_sums(rows: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Sum rows [N, M] over resamples of as many, [draws, M]."""
    count = len(rows)
    out = np.empty((draws, rows.shape[1]))
    for part, drawn in resampled_rows(count, draws, rng, block=_NUMBERS):
        size = len(drawn)
        places = drawn + count * np.arange(size)[:, None]
        counts = np.bincount(places.ravel(), minlength=size * count).reshape(size, count)
        out[part] = counts.astype(np.float64) @ rows
    return out


def _p_value(value: float, draws: Floats) -> float:
    """Compute a two-sided p-value; 1 for no difference, 1 / draws where all resamples are equal."""
    deviation = float(draws.std())
    if deviation <= 1e-12:
        return 1.0 if abs(value) <= 1e-12 else 1 / len(draws)
    return math.erfc(abs(value) / deviation / math.sqrt(2))


def _sums_by_place(places: NDArray[Any], weights: NDArray[Any], size: int) -> Floats:
    return np.bincount(places, weights=weights, minlength=size).astype(np.float64)

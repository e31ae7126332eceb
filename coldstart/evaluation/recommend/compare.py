"""How sure differences are: drawn anew over users and over items, paired, and corrected for how many were looked at.

A few hundred new items carry a test, so that drawing users alone makes intervals too narrow: both are drawn, and the
wider is shown. Differences are those of means, by bootstrap (Efron & Tibshirani 1993); rank tests are no test of means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics import Interval

Floats = NDArray[np.float64]
_NUMBERS = 1 << 22  # counts drawn at a time


@dataclass(frozen=True)
class Sure:
    """A value with both intervals; `low` and `high` are of the wider, `over` says which: `users` or `items`."""

    value: float
    users: Interval
    items: Interval

    @property
    def over(self) -> str:
        return "users" if self.users.high - self.users.low >= self.items.high - self.items.low else "items"

    @property
    def low(self) -> float:
        return self.users.low if self.over == "users" else self.items.low

    @property
    def high(self) -> float:
        return self.users.high if self.over == "users" else self.items.high


@dataclass(frozen=True)
class Resampled:
    """Means of M columns and the same in every draw: value float64 [M], by_users and by_items float64 [draws, M]."""

    value: Floats
    by_users: Floats
    by_items: Floats

    def sure(self, column: int, level: float = 0.95) -> Sure:
        """A column with its intervals. A draw of items is a ratio and may pass 1, which no mean can."""
        items = np.minimum(self.by_items[:, column], 1)
        return self._sure(self.value[column], self.by_users[:, column], items, level)

    def difference(self, column: int, reference: int, level: float = 0.95) -> tuple[Sure, float]:
        """Column less reference, with its intervals, and the greater of its two-sided p-values.

        p is that of the difference over the deviation of its draws, by the normal distribution: counting draws beyond
        zero could not say less than 1 / draws, which no correction for a long table would leave standing.
        """
        users = self.by_users[:, column] - self.by_users[:, reference]
        items = self.by_items[:, column] - self.by_items[:, reference]
        value = float(self.value[column] - self.value[reference])
        return self._sure(value, users, items, level), max(_p_value(value, users), _p_value(value, items))

    @staticmethod
    def _sure(value: float, users: Floats, items: Floats, level: float) -> Sure:
        bounds = [(1 - level) / 2, (1 + level) / 2]
        own = [Interval(float(value), *map(float, np.quantile(draws, bounds))) for draws in (users, items)]
        return Sure(float(value), *own)


def resample(values: Floats, parts: Floats, shares: Floats, *, draws: int = 2000, seed: int = 0) -> Resampled:
    """Draw users, and items, with replacement; the same draws for all columns, so that columns compare.

    Lists are taken as they are: where an item is drawn twice, what it adds to users' values counts twice. A draw of
    items is the ratio of what the drawn ones add to what they have of the users' whole.

    Args:
        values: [U, M], a user's measure by each column; finite.
        parts: [I, M], what each item adds to the sum of a column; shares: [I], each item's share of the users' whole.

    Raises:
        ValueError: there are no users, or no item has a share.
    """
    if not len(values) or not shares.sum() > 0:
        raise ValueError("there is nothing to resample")
    kept = shares > 0
    parts, shares = parts[kept], shares[kept]
    rng = np.random.default_rng(seed)
    by_users = _drawn(values, draws, rng) / len(values)
    both = _drawn(np.concatenate([parts, shares[:, None]], axis=1), draws, rng)
    by_items = both[:, :-1] / both[:, -1:] * (shares.sum() / len(values))
    return Resampled(values.mean(axis=0), by_users, by_items)


def holm(p_values: Sequence[float]) -> list[float]:
    """The same p-values corrected for their number by Holm's step-down method (Scandinavian J. of Statistics, 1979)."""
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, np.float64)[order] * (len(order) - np.arange(len(order)))
    found = np.empty(len(order))
    found[order] = np.minimum(np.maximum.accumulate(raised), 1) if len(order) else raised
    return [float(value) for value in found]


def _drawn(rows: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Sums of rows [N, M] over as many drawn with replacement, [draws, M]."""
    count = len(rows)
    out = np.empty((draws, rows.shape[1]))
    step = max(1, _NUMBERS // count)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        out[start : start + size] = counts.astype(np.float64) @ rows
    return out


def _p_value(value: float, draws: Floats) -> float:
    """Two-sided; 1 where nothing differs, and one over the draws where they are all alike."""
    deviation = float(draws.std())
    if deviation <= 1e-12:
        return 1.0 if abs(value) <= 1e-12 else 1 / len(draws)
    return math.erfc(abs(value) / deviation / math.sqrt(2))

"""Shares of many small counts (right of stated, cut of all), with intervals, n beside each. Knows no items."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_COMPARED = 30
"""Pairs or items from which on one value is called better than another; fewer are too few, whatever the interval."""
_EQUAL = 1e-12
_DRAWN = 1 << 24  # counts drawn at a time: 64 MiB


@dataclass(frozen=True)
class Measure:
    """Value with the bounds of its 95 % interval, and the number of counts behind it.

    Attributes:
        n: what the share is of: claims, texts, items. Of a difference the smaller of both.
    """

    value: float
    low: float
    high: float
    n: int


def share(
    parts: ArrayLike,
    wholes: ArrayLike | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Measure | None:
    """Divide the sum of the parts by that of the wholes, with a percentile bootstrap over items.

    The bootstrap is that of Efron & Tibshirani (1993). Where none or all are right it has no width, and the
    interval is that of Wilson for as many items (`widened`).

    Args:
        parts, wholes: one number an item, [N]; without wholes each counts one, and the share is a mean.
        groups: items drawn together, by default each alone.

    Returns:
        None where the wholes sum to nothing.
    """
    columns = _columns([(parts, wholes)], groups)
    if columns is None:
        return None
    draws = _drawn(columns, resamples, seed)
    total = columns.sum(0)
    some = int((columns[:, 1] > 0).sum())
    return _measure(float(total[0] / total[1]), _over(draws[:, 0], draws[:, 1]), round(float(total[1])), some)


def difference(
    before: tuple[ArrayLike, ArrayLike | None],
    after: tuple[ArrayLike, ArrayLike | None],
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Measure | None:
    """Subtract the share before from the share after, of the same items.

    Both are resampled alike; arguments as for `share`.

    Returns:
        None where either has no whole.

    Raises:
        ValueError: the two are not of the same items.
    """
    if np.shape(before[0]) != np.shape(after[0]):
        raise ValueError(f"{len(np.atleast_1d(before[0]))} items before and {len(np.atleast_1d(after[0]))} after")
    columns = _columns([before, after], groups)
    if columns is None:
        return None
    draws, total = _drawn(columns, resamples, seed), columns.sum(0)
    values = _over(draws[:, 2], draws[:, 3]) - _over(draws[:, 0], draws[:, 1])
    value = float(total[2] / total[3] - total[0] / total[1])
    some = int((columns[:, 1::2] > 0).all(1).sum())
    is_share = bool((columns[:, ::2] <= columns[:, 1::2]).all() and (columns >= 0).all())
    return _measure(value, values, round(float(min(total[1], total[3]))), some if is_share else 0, paired=True)


def wilson(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Compute the interval of Wilson (1927) around a share."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre, scale = (hits + z * z / 2) / (count + z * z), count + z * z
    half = z / scale * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, centre - half) if hits else 0.0, min(1.0, centre + half) if hits < count else 1.0


def widened(
    value: float, low: float, high: float, count: int, *, paired: bool = False, level: float = 0.95
) -> tuple[float, float]:
    """Widen the bounds of a share that a bootstrap leaves without width, as where all of 43 are right.

    A resample of equal values has no spread, but another 43 might have: the bounds are those of Wilson then. Of a
    paired difference of shares that is the same in all, none of `count` changed otherwise: the share of those that
    might is at most Wilson's upper bound for none.

    Args:
        count: items, or groups of them that are drawn together; 0 leaves the bounds as they are.
    """
    if not count or high - low > _EQUAL or min(abs(value), abs(abs(value) - 1)) > _EQUAL:
        return low, high
    if not paired:
        return (low, high) if value < -_EQUAL else wilson(count if value > 0.5 else 0, count, level)
    spread = wilson(0, count, level)[1]
    return max(-1.0, value - spread), min(1.0, value + spread)


def resampled_rows(
    count: int, resamples: int, rng: np.random.Generator, *, block: int
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Draw rows with replacement, for every bootstrap over plain rows.

    Args:
        count: rows to draw from, and rows of a resample; at least 1.
        block: row numbers in memory at a time. It does not change what is drawn.

    Yields:
        The resamples of a block as a slice of `resamples`, and their rows, int64 [b, count].
    """
    step = max(1, block // count)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        yield slice(start, stop), rng.integers(count, size=(stop - start, count))


def _columns(
    pairs: Sequence[tuple[ArrayLike, ArrayLike | None]], groups: Sequence[Hashable] | None
) -> NDArray[np.float64] | None:
    """Sum parts and wholes by turns over groups: float64 [G, 2 * pairs]; None where a whole is nothing."""
    stacked = []
    for parts, wholes in pairs:
        own = np.asarray(parts, np.float64)
        stacked += [own, np.ones(len(own)) if wholes is None else np.asarray(wholes, np.float64)]
    columns = np.stack(stacked, 1)
    if groups is not None:
        numbers: dict[Hashable, int] = {}
        places = np.asarray([numbers.setdefault(one, len(numbers)) for one in groups], np.intp)
        summed = np.zeros((len(numbers), columns.shape[1]))
        np.add.at(summed, places, columns)
        columns = summed
    return columns if len(columns) and (columns[:, 1::2].sum(0) > 0).all() else None


def _drawn(columns: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Sum every column in every resample, [resamples, C]."""
    count = len(columns)
    step = max(1, _DRAWN // count)
    own = columns.astype(np.float32)
    blocks = [
        _times_drawn(count, min(step, resamples - start), seed + start) @ own for start in range(0, resamples, step)
    ]
    return np.concatenate(blocks).astype(np.float64)


@lru_cache(maxsize=1)
def _times_drawn(count: int, resamples: int, seed: int) -> NDArray[np.float32]:
    """Count the times that each group is in each resample, float32 [resamples, count]; measures share it."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn.astype(np.float32)


def _over(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide; nan where a resample drew nothing of the whole."""
    out = np.full(len(parts), np.nan)
    np.divide(parts, wholes, out=out, where=wholes > 0)
    return out


def _measure(value: float, draws: NDArray[np.float64], n: int, items: int, *, paired: bool = False) -> Measure:
    finite = draws[~np.isnan(draws)]
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (value, value)
    return Measure(value, *widened(value, float(low), float(high), items, paired=paired), n)

"""Check logged propensities: what estimates of another policy may rest on.

The target is the plainest one, that shows every item equally often. Its weights are 1 / (A p) for A items; their mean
is 1 where the log could have shown every item and the propensities are right, since each item with a probability p
above 0 adds p / p. A mean below 1 is the share of that policy's choices that the log covers at all; one above 1 says
that propensities are stated too low. Effective rows are (sum w)^2 / sum w^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ABOVE = 1e-6
"""What a sum of propensities may be above 1 by rounding."""


@dataclass(frozen=True)
class SlotPropensities:
    """Propensities of one position.

    Attributes:
        position: -1 for rows that state none; rows: with a known propensity; items: that they show.
        least: the lowest propensity; median: the middle one.
        covered: mean weight of the uniform target: 1 where the log covers it.
        interval: 95 % of that mean, by the normal distribution; None of a single row.
        effective_rows: rows that an estimate of the uniform target rests on.
    """

    position: int
    rows: int
    items: int
    least: float
    median: float
    covered: float
    interval: tuple[float, float] | None
    effective_rows: float


@dataclass(frozen=True)
class PropensityChecks:
    """Checks of the propensities of a log.

    Attributes:
        rows: of the log; known: those with a propensity; items: of the log; covered_items: those that a row with a
            propensity shows.
        requests: named ones; doubled: pairs of request and position with several rows; above_one: those of them whose
            propensities sum to more than 1, which no policy has.
        slots: one a position, by rising position.
    """

    rows: int
    known: int
    items: int
    covered_items: int
    requests: int
    doubled: int
    above_one: int
    slots: Sequence[SlotPropensities]

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


def check_propensities(
    items: NDArray[np.int32],
    positions: NDArray[np.int32],
    requests: NDArray[np.int32],
    propensities: NDArray[np.float64],
) -> PropensityChecks:
    """Check the propensities of a log.

    Args:
        items: places of the items, [N]; positions: -1 for none; requests: numbers, -1 for none.
        propensities: in (0, 1], NaN where they are not known.
    """
    known = np.isfinite(propensities) & (propensities > 0)
    support = len(np.unique(items[known]))
    slots = [
        _slot(int(position), items[own], propensities[own], support)
        for position in np.unique(positions[known])
        if (own := known & (positions == position)).any()
    ]
    placed = known & (requests >= 0) & (positions >= 0)
    pairs = requests[placed].astype(np.int64) << 32 | positions[placed].astype(np.int64)
    _, inverse, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    sums = np.bincount(inverse, propensities[placed], len(counts))
    return PropensityChecks(
        rows=len(items),
        known=int(known.sum()),
        items=len(np.unique(items)),
        covered_items=support,
        requests=len(np.unique(requests[requests >= 0])),
        doubled=int((counts > 1).sum()),
        above_one=int(((counts > 1) & (sums > 1 + _ABOVE)).sum()),
        slots=slots,
    )


def _slot(position: int, items: NDArray[np.int32], propensities: NDArray[np.float64], support: int) -> SlotPropensities:
    weights = 1 / (support * propensities)
    mean = float(weights.mean())
    count = len(weights)
    error = 1.96 * float(weights.std(ddof=1)) / count**0.5 if count > 1 else 0.0
    return SlotPropensities(
        position=position,
        rows=count,
        items=len(np.unique(items)),
        least=float(propensities.min()),
        median=float(np.median(propensities)),
        covered=mean,
        interval=(max(0.0, mean - error), mean + error) if count > 1 else None,
        effective_rows=float(weights.sum() ** 2 / (weights**2).sum()),
    )

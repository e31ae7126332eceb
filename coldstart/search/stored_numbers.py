"""Write and read rows of numbers in the JSON of a calibration, which may come from a stranger's workspace."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 1e9
"""Greatest number that is read: what is stored are cosines, weights and deviations, and no product overflows."""


def rounded(values: NDArray[Any]) -> list[float]:
    """Round a row of numbers to six decimals, as plain values."""
    found: list[float] = np.round(values.astype(np.float64), 6).tolist()
    return found


def read_numbers(values: Any, count: int | None = None) -> NDArray[np.float64]:
    """Read a row of numbers, float64 [N].

    Args:
        count: how many there are; None for any number.

    Raises:
        ValueError, TypeError, OverflowError: it is no such row.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or len(found) != (len(found) if count is None else count) or not (np.abs(found) <= MOST).all():
        raise ValueError(f"no row of {'' if count is None else f'{count} '}numbers up to {MOST:g}")
    return found

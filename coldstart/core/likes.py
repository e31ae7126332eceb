"""Decide which rows of an interaction log count as likes: by a given least weight, or by the scale of its ratings.

A rating of 1 of 5 is not a like, though its weight is above 0. Weights are taken for ratings where they fill a scale
that ends at 5, 10 or 100 and most of them lie in its upper half, as people rate what they chose; counts, seconds and
weights of events lie mostly near their least. Of ratings those of at least `LIKED_SHARE` of the scale's end are likes:
one number for all users, since the mean of a user with few ratings says little. Plain arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIKED_SHARE = 0.7
"""Share of a scale's end from which on a rating is a like: 3.5 of 5, 7 of 10, 70 of 100."""
FEWEST_RATED = 20
"""Least rows with a weight above 0 from which a scale is recognised."""
_TOLERANCE = 1e-4  # of a level, for weights stored as float32


@dataclass(frozen=True)
class _Scale:
    """Scale of ratings: its end, the distance of its levels, and how many of them must occur."""

    end: float
    step: float
    levels: int


# A log of events has as many levels as it weighs kinds of events, seldom more than three.
_SCALES = (_Scale(5, 0.5, 4), _Scale(10, 0.5, 6), _Scale(100, 1, 10))


@dataclass(frozen=True)
class Likes:
    """Likes among the rows of a log.

    Attributes:
        min_weight: least weight of a like; None: above 0.
        scale: least and greatest rating of the recognised scale; None: the weights are no ratings, or
            `min_weight` was given.
        rows, likes: rows of the log, and those that count as likes.
        is_given: whether `min_weight` was given.
    """

    min_weight: float | None
    scale: tuple[float, float] | None
    rows: int
    likes: int
    is_given: bool

    @property
    def notes(self) -> list[str]:
        """Describe the likes in one note; none where every row is one."""
        return [str(self)] if self.likes < self.rows else []

    def __str__(self) -> str:
        """Describe the likes in one line, with their number and how to change it."""
        counted = f"{self.likes:,} of {self.rows:,} count as likes"
        if self.scale is not None:
            low, high = self.scale
            return (
                f"weights look like ratings from {low:g} to {high:g}: {counted} ({self.min_weight:g} or more); "
                "min_weight changes that"
            )
        bound = "a weight above 0" if self.min_weight is None else f"{self.min_weight:g} or more"
        return f"{counted} ({bound}{', as min_weight says' if self.is_given else ''})"


def find_likes(weights: NDArray[np.float32], min_weight: float | None = None) -> Likes:
    """Find the likes among rows by their weights, float32 [N].

    Args:
        min_weight: least weight of a like, which decides alone; None: by the scale of the ratings where there is one,
            else every weight above 0.

    Returns:
        likes whose `min_weight` is what fits and measures take, such as `SelectionSettings.min_weight`.
    """
    scale = rating_scale(weights) if min_weight is None else None
    least = round(LIKED_SHARE * scale[1], 6) if scale is not None else min_weight
    liked = weights > 0 if least is None else weights >= least
    return Likes(least, scale, len(weights), int(liked.sum()), min_weight is not None)


def rating_scale(weights: NDArray[np.float32]) -> tuple[float, float] | None:
    """Recognise ratings by their weights, float32 [N]: least and greatest rating, or None.

    A weight of 0 stands for no rating, as in logs that have both; one below 0 for a log of another kind.
    """
    rated = np.asarray(weights, np.float64)
    rated = rated[rated != 0]
    if len(rated) < FEWEST_RATED or not np.isfinite(rated).all() or rated.min() < 0:
        return None
    scale = next((one for one in _SCALES if one.end == rated.max()), None)
    if scale is None:
        return None
    levels, counts = np.unique(np.round(rated / scale.step, 4), return_counts=True)
    whole = np.abs(levels - np.round(levels)) <= _TOLERANCE
    if not whole.all() or len(levels) < scale.levels:
        return None
    if counts[levels * scale.step > scale.end / 2].sum() * 2 < len(rated):
        return None
    if scale.end == 100 and not _is_rounded(levels[:-1], counts[:-1]):
        return None
    return float(levels[0] * scale.step), scale.end


def _is_rounded(levels: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    """Tell whether most rows are at multiples of 5, as people rate of 100; percentages that were measured are not."""
    return bool(counts[levels % 5 == 0].sum() * 2 >= counts.sum() > 0)

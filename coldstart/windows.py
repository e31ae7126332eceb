"""Windows of time over interactions, and which items are warm in them. Knows no tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.interactions import Interactions


@dataclass(frozen=True)
class Window:
    """What may be learnt from: rows before `end`, and items that enough users met by then.

    Attributes:
        end: seconds since 1970 in UTC; rows at or after it lie outside. None: no end.
        warm_min: an item is warm from so many users on, and cold under it.

    Raises:
        ColdstartError: `warm_min` is under 1.
    """

    end: int | None = None
    warm_min: int = 5

    def __post_init__(self) -> None:
        if self.warm_min < 1:
            raise ColdstartError(f"warm_min {self.warm_min}: an item that nobody met is cold; give 1 or more")

    def inside(self, interactions: Interactions) -> Interactions:
        """The rows within, over the same names."""
        return interactions if self.end is None else interactions.where(interactions.times < self.end)

    def after(self, interactions: Interactions) -> Interactions:
        """The rows that lie outside, over the same names."""
        return interactions.where(
            np.zeros(len(interactions), bool) if self.end is None else interactions.times >= self.end
        )

    def counts(self, interactions: Interactions) -> NDArray[np.int64]:
        """How many users each item has within, int64 [items]."""
        return self.inside(interactions).counts()

    def warm(self, interactions: Interactions) -> NDArray[np.bool_]:
        """Which items are warm within, bool [items]."""
        return warm_items(self.inside(interactions), self.warm_min)


def warm_items(interactions: Interactions, warm_min: int) -> NDArray[np.bool_]:
    """Which items at least `warm_min` users met, bool [items]; a user counts once."""
    return interactions.counts() >= warm_min


def share_end(interactions: Interactions, share: float) -> int:
    """The time before which about `share` of the rows lie, in seconds: the end of a window for training.

    Raises:
        ColdstartError: no share, no rows, or rows that all have one time, so that nothing lies after it.
    """
    if not 0 < share < 1:
        raise ColdstartError(f"share {share:g} of interactions: give a number between 0 and 1")
    if not len(interactions):
        raise ColdstartError(
            "no interactions to split by time: ingest some with `coldstart ingest --interactions FILE`"
        )
    found = int(np.quantile(interactions.times, share, method="higher"))
    if found <= int(interactions.times.min()):
        raise ColdstartError(
            f"{share:.0%} of the interactions have the first time of all: there is nothing before it to learn from; "
            "give times that differ, or split by items"
        )
    return found

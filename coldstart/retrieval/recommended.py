"""What is asked for beside the rules of a list, and what a list for one user is: plain records. Knows no tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from coldstart.errors import ColdstartError
from coldstart.retrieval.reasons import Reason


@dataclass(frozen=True)
class Filters:
    """What may be listed.

    Attributes:
        where: an SQL condition over the columns of the catalog.
        fresh_days: created at most so many days ago; `now` is when that is counted from, by default now.
        seen: `drop` leaves out whatever a user has met, liked or not; `keep` lets it be listed again.
    """

    kind: str | None = None
    where: str | None = None
    fresh_days: float | None = None
    seen: str = "drop"
    now: datetime | None = None

    def __post_init__(self) -> None:
        """Raise `ColdstartError` for what cannot be meant."""
        if self.seen not in ("drop", "keep"):
            raise ColdstartError(f"seen {self.seen!r}: use drop or keep")
        if self.fresh_days is not None and self.fresh_days <= 0:
            raise ColdstartError(f"fresh_days {self.fresh_days:g}: give a number above 0")


@dataclass(frozen=True)
class Asking:
    """How a user's vector is made: of how many interests, and how fast what was liked fades (None: not)."""

    interests: int = 1
    half_life_days: float | None = None

    def __post_init__(self) -> None:
        """Raise `ColdstartError` for what cannot be meant."""
        if self.interests < 1:
            raise ColdstartError(f"interests {self.interests}: ask for 1 or more")
        if self.half_life_days is not None and self.half_life_days <= 0:
            raise ColdstartError(f"half_life_days {self.half_life_days:g}: give a number above 0")

    @property
    def half_life_s(self) -> float | None:
        """In seconds."""
        return None if self.half_life_days is None else self.half_life_days * 86_400


@dataclass(frozen=True)
class Recommendation:
    """One item of a list. Attributes are those of `Lists`, and what is shown of the item."""

    item_id: str
    rank: int
    score: float
    cold: bool
    explored: bool
    propensity: float
    kind: str | None
    title: str | None
    category: str | None
    price: float | None
    reason: Reason | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; `reason` and `evidence` where there are any."""
        own = {name: value for name, value in self.__dict__.items() if name != "reason"}
        return own | ({} if self.reason is None else self.reason.to_dict())


@dataclass(frozen=True)
class Recommended:
    """The list of one user.

    Attributes:
        scored_by: `behaviour`, or the spaces of content.
        history: how many liked items it comes from.
        notes: what a reader should know.
    """

    user_id: str | None
    scored_by: str
    history: int
    items: tuple[Recommendation, ...]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.__dict__ | {"items": [one.to_dict() for one in self.items], "notes": list(self.notes)}

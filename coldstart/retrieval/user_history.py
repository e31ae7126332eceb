"""What one user did, from the table of interactions or from JSON. Knows no vectors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.interactions import Interactions, interactions

SHAPE = '[{"item_id": …, "timestamp": …, "event": …, "weight": …}]'
_MICRO = 1_000_000


@dataclass(frozen=True)
class History:
    """Rows of one user, in no order.

    Attributes:
        item_ids: of each row; times: seconds since 1970, int64 [H]; weights: float32 [H]; events: empty for none.
    """

    item_ids: tuple[str, ...]
    times: NDArray[np.int64]
    weights: NDArray[np.float32]
    events: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.item_ids)

    def liked(self, min_weight: float | None) -> History:
        """Each item that was liked, once, by its latest such row; latest first."""
        speaks = self.weights > 0 if min_weight is None else self.weights >= min_weight
        order = [place for place in np.argsort(-self.times, kind="stable") if speaks[place]]
        latest: dict[str, int] = {}
        for place in order:
            latest.setdefault(self.item_ids[place], int(place))
        return self._take(list(latest.values()))

    def first(self, most: int) -> History:
        """The first so many rows."""
        return self._take(range(min(most, len(self))))

    def _take(self, places: Sequence[int]) -> History:
        chosen = np.array(places, np.intp)
        return History(
            tuple(self.item_ids[place] for place in chosen),
            self.times[chosen],
            self.weights[chosen],
            tuple(self.events[place] for place in chosen),
        )

    def rows(self, user_id: str) -> Interactions:
        """The same as rows of one user."""
        count = len(self)
        if not count:
            nothing = np.empty(0, np.int32)
            return Interactions((user_id,), (), nothing, nothing, self.times, self.weights)
        return interactions([user_id] * count, self.item_ids, self.times, self.weights)


def from_rows(rows: pa.Table) -> History:
    """Rows of the table of interactions."""
    times = rows["timestamp"].cast(pa.int64()).to_numpy() // _MICRO
    events = tuple(event or "" for event in rows["event"].to_pylist())
    return History(tuple(rows["item_id"].to_pylist()), times, rows["weight"].to_numpy().astype(np.float32), events)


def from_json(text: str | Sequence[Any], *, weight: float = 1.0) -> History:
    """A history as JSON text, or as the list that it holds: objects, or item ids alone.

    A row without `timestamp` (ISO 8601, or seconds) is as late as the last; one without `weight` has that of
    the argument, since what is named with no word against it is meant as liked.

    Raises:
        ColdstartError: it is none; with the number of the entry, from 1.
    """
    try:
        entries = json.loads(text) if isinstance(text, str) else list(text)
    except ValueError as error:
        raise ColdstartError(f"the history is not JSON ({error}): give {SHAPE}") from None
    if not isinstance(entries, list):
        raise ColdstartError(f"the history is no list: give {SHAPE}")
    rows = [_row(entry, number, weight) for number, entry in enumerate(entries, start=1)]
    last = max((time for _, time, _, _ in rows if time is not None), default=0)
    return History(
        tuple(item for item, _, _, _ in rows),
        np.array([last if time is None else time for _, time, _, _ in rows], np.int64),
        np.array([weight for _, _, weight, _ in rows], np.float32),
        tuple(event for _, _, _, event in rows),
    )


def _row(entry: Any, number: int, default: float) -> tuple[str, int | None, float, str]:
    if isinstance(entry, str):
        entry = {"item_id": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("item_id"), str | int) or entry["item_id"] == "":
        raise ColdstartError(f"entry {number} of the history has no item_id: give {SHAPE}")
    weight = entry.get("weight", default)
    if not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ColdstartError(f"entry {number} of the history: weight {weight!r} is no number")
    return str(entry["item_id"]), _seconds(entry.get("timestamp"), number), float(weight), str(entry.get("event") or "")


def _seconds(value: Any, number: int) -> int | None:
    if value is None:
        return None
    try:
        if isinstance(value, int | float):
            datetime.fromtimestamp(value, UTC)
            return int(value)
        moment = datetime.fromisoformat(value)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (TypeError, ValueError, OverflowError, OSError):
        raise ColdstartError(
            f"entry {number} of the history: timestamp {value!r} is neither ISO 8601 nor seconds since 1970"
        ) from None

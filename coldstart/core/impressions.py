"""Hold showings of items to users as plain arrays, and match those without an outcome with the interaction log.

Knows no tables and no files. A showing is one item at one place of one list that a user was given; its outcomes are
numbers by name, such as `click` or `dwell_s`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

WINDOW_S = 30 * 60.0
"""Seconds after a showing within which an interaction of its user with its item counts as its outcome."""
SIGNALS = ("click", "dwell_s", "like", "hide")
"""Outcomes that are recognised by name; a log may have others."""
SHOWN_FIELDS = ("user_id", "item_id", "timestamp", "position", "surface", "propensity", "request_id", "outcome_at")
"""Fields of a showing besides its outcomes."""
OUTCOME_FIELDS = ("request_id", "item_id", "user_id", "timestamp", "event", "value")
"""Fields of an outcome that comes after its showing, in a file of its own."""
UNEXPLAINED = "interaction"
"""Outcome of a showing that is matched with an interaction without an event."""
NONE, STATED, MATCHED = 0, 1, 2

_SIGNAL = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = frozenset((*SHOWN_FIELDS, *OUTCOME_FIELDS, "row_key", "attributes"))

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


def is_signal(name: str) -> bool:
    """Tell whether an outcome may have a name: small letters, digits and _, and no name of a field."""
    return _SIGNAL.fullmatch(name) is not None and name not in _RESERVED


def check_signal(name: str) -> str:
    """Return the name of an outcome.

    Raises:
        ValueError: no outcome can have it.
    """
    if not is_signal(name):
        raise ValueError("an outcome is named by small letters, digits and _, and not as another field")
    return name


def signal_name(event: str) -> str:
    """Spell an event as the name of an outcome: `Add to cart` is `add_to_cart`."""
    return re.sub(r"[^a-z0-9]+", "_", event.casefold()).strip("_")


@dataclass(frozen=True)
class Impressions:
    """Showings of items to users: N rows, in no order, over named users, items, surfaces and requests.

    Attributes:
        user_ids, item_ids, surface_ids: names, sorted, without repetition.
        users, items: places in those names, int32 [N]; surfaces: the same, -1 where a row has none.
        requests: number of the request that a row belongs to, int32 [N], -1 where it states none.
        times: microseconds since 1970 in UTC, int64 [N].
        positions: place in the list as the log counts it, int32 [N], -1 where a row has none.
        propensities: probability with which the item was shown there, float64 [N], NaN where it is not known.
        signals: name of an outcome -> its values, float32 [N], NaN where it is not known.
        source: where a row's outcomes are from, int8 [N]: `STATED` by a file, `MATCHED` with interactions, or `NONE`.
        early: showings without an outcome whose user met the item within the window before, and not after: a clock
            may be wrong.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    surface_ids: tuple[str, ...]
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    surfaces: NDArray[np.int32]
    requests: NDArray[np.int32]
    times: NDArray[np.int64]
    positions: NDArray[np.int32]
    propensities: NDArray[np.float64]
    signals: Mapping[str, Floats]
    source: NDArray[np.int8]
    early: int = 0

    def __len__(self) -> int:
        return len(self.users)

    def signal(self, name: str, missing: float = np.nan) -> Floats:
        """Read an outcome, float32 [N]; `missing` where it is not known. An outcome that no row has is all missing."""
        values = self.signals.get(name, np.full(len(self), np.nan, np.float32))
        return np.where(np.isnan(values), np.float32(missing), values)

    def with_matches(
        self,
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        times: NDArray[np.int64],
        events: NDArray[np.int32],
        names: tuple[str, ...],
        window_s: float = WINDOW_S,
        counted: NDArray[np.bool_] | None = None,
    ) -> Impressions:
        """Match showings without an outcome with interactions of the same user and item within a window after them.

        An interaction belongs to the last showing before it, whether that has outcomes or not. A matched showing has 1
        for the events that it was met with, and 0 for the others of the log.

        Args:
            users, items: places of interactions in the names of this object, -1 for others; [M] each.
            times: microseconds, int64 [M]; events: places in `names`, int32 [M].
            counted: rows that `early` is about, bool [N]; None: all.
        """
        known = (users >= 0) & (items >= 0)
        users, items, times, events = users[known], items[known], times[known], events[known]
        window = round(window_s * 1e6)
        pairs = len(self.item_ids) * self.users.astype(np.int64) + self.items
        met = len(self.item_ids) * users.astype(np.int64) + items
        order = np.lexsort((self.times, pairs))
        after = _last_before(pairs[order], self.times[order], met, times)
        row = order[np.maximum(after, 0)] if len(order) else np.zeros(len(met), np.int64)
        inside = (after >= 0) & (pairs[row] == met) & (times - self.times[row] <= window) if len(order) else after >= 0
        without = self.source == NONE
        matched = inside & without[row] if len(order) else inside
        signals = {name: values.copy() for name, values in self.signals.items()}
        source = self.source.copy()
        source[row[matched]] = MATCHED
        for place, name in enumerate(names):
            values = signals.setdefault(name, np.full(len(self), np.nan, np.float32))
            values[row[matched]] = 0
            values[row[matched & (events == place)]] = 1
        without = source == NONE if counted is None else (source == NONE) & counted
        early = self._early(met[~inside], times[~inside], np.flatnonzero(without), window)
        return replace(self, signals=signals, source=source, early=early)

    def _early(self, met: Places, times: Places, open_rows: NDArray[np.intp], window: int) -> int:
        """Count showings without an outcome that an interaction of no showing precedes within the window."""
        order = np.lexsort((times, met))
        if not len(order) or not len(open_rows):
            return 0
        pairs = len(self.item_ids) * self.users[open_rows].astype(np.int64) + self.items[open_rows]
        before = _last_before(met[order], times[order], pairs, self.times[open_rows])
        found = order[np.maximum(before, 0)]
        near = (before >= 0) & (met[found] == pairs) & (self.times[open_rows] - times[found] <= window)
        return int(near.sum())


def _last_before(groups: Places, times: Places, of: Places, at: Places) -> Places:
    """Find for each (group, time) the place of the last entry at or before it, -1 where there is none; entries are
    sorted by group and time. The entry found may be of an earlier group."""
    entries, wanted = len(groups), len(of)
    order = np.lexsort((np.repeat([0, 1], [entries, wanted]), np.r_[times, at], np.r_[groups, of]))
    is_entry = order < entries
    before = np.cumsum(is_entry) - 1
    found = np.empty(wanted, np.int64)
    found[order[~is_entry] - entries] = before[~is_entry]
    return found

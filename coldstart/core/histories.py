"""Hold histories of users as plain arrays, and check that they end before the requests they are read for.

Knows no files. Actions are numbered by item and by kind of event; each history is oldest first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import LeakError

Times = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class UserHistory:
    """Actions of one user, oldest first.

    Attributes:
        items, events: numbers, uint32 and uint8 [N]; seconds: since 1970 in UTC, uint32 [N].
    """

    items: NDArray[np.uint32]
    events: NDArray[np.uint8]
    seconds: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class HistoryRows:
    """Histories of R requests behind one another, each oldest first.

    Attributes:
        starts: where each starts, int64 [R + 1].
        items, events, seconds: as of `UserHistory`, [N].
    """

    starts: NDArray[np.int64]
    items: NDArray[np.uint32]
    events: NDArray[np.uint8]
    seconds: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, request: int) -> UserHistory:
        own = slice(int(self.starts[request]), int(self.starts[request + 1]))
        return UserHistory(self.items[own], self.events[own], self.seconds[own])


def check_before(rows: HistoryRows, before: Times, user: Callable[[int], str] = str) -> None:
    """Check that each history ends strictly before its request.

    Args:
        before: seconds of each request, [R]; user: request -> its user, for the message.

    Raises:
        LeakError: one does not; user and times are named.
    """
    late = np.flatnonzero(rows.seconds >= np.repeat(before, np.diff(rows.starts)))
    if len(late):
        request = int(np.searchsorted(rows.starts, late[0], "right") - 1)
        raise LeakError(
            f"history of user {user(request)!r} has an action at {rows.seconds[late[0]]}, which is not before the "
            f"request at {before[request]}: read histories with `before`"
        )


def ends_before(
    seconds: NDArray[np.uint32], starts: NDArray[np.int64], ends: NDArray[np.int64], before: Times
) -> NDArray[np.int64]:
    """Find where in each of many sorted runs the times strictly before one end, int64 [runs]."""
    low, high = starts.copy(), ends.copy()
    while (waiting := low < high).any():
        middle = (low + high) // 2
        earlier = np.zeros(len(low), bool)
        earlier[waiting] = seconds[middle[waiting]] < before[waiting]
        low = np.where(waiting & earlier, middle + 1, low)
        high = np.where(waiting & ~earlier, middle, high)
    return low

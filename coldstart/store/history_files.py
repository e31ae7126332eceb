"""Files of the histories: columns that are mapped into memory, names by number, segments, and their merge.

A stranger's workspace may hold them: columns are plain numbers of the kinds named here, and nothing is unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.store.interactions import hashed

MERGE_ACTIONS = 1 << 21
"""Actions that are sorted in memory at once."""

_NAMES = {"text": np.uint8, "ends": np.int64, "hashes": np.uint64, "order": np.uint32}
_SEGMENT = {"users": np.uint32, "starts": np.int64, "items": np.uint32, "events": np.uint8, "seconds": np.uint32}

Numbers = NDArray[np.uint32]


class DamagedHistories(ValueError):  # noqa: N818  (a state that a build mends)
    """Files that are not what they should be."""


def _read(folder: Path, columns: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Map the columns of a folder into memory.

    Raises:
        DamagedHistories: one is missing, or is no column of its kind.
        FileNotFoundError: the folder is not there.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    found = {}
    for name, kind in columns.items():
        try:
            column = np.asarray(np.lib.format.open_memmap(folder / f"{name}.npy", mode="r"))
        except Exception as error:  # numpy reads the header of a column as Python: a stranger's fails in many ways
            raise DamagedHistories(f"{folder.name}/{name}.npy cannot be read") from error
        if column.dtype != kind or column.ndim != 1:
            raise DamagedHistories(f"{folder.name}/{name}.npy is no column of {np.dtype(kind).name}")
        found[name] = column
    return found


def _write(path: Path, column: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, column, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class Names:
    """Names by number, mapped into memory: n of them. A number keeps its name for good, or has none left ("").

    Attributes:
        text: all names behind one another in UTF-8, uint8; ends: of each name in it, int64 [n].
        hashes: of the names that are left, sorted, uint64; order: their numbers, uint32.
    """

    text: NDArray[np.uint8]
    ends: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    order: Numbers

    def __len__(self) -> int:
        return len(self.ends)

    def ids(self, numbers: Sequence[int] | NDArray[Any]) -> list[str]:
        """Read the names of some numbers."""
        return [self._name(int(number)).decode("utf-8", "replace") for number in numbers]

    def numbers(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Find the number of each name, -1 where there is none: int64 [N]."""
        coded = [name.encode("utf-8", "surrogatepass") for name in ids]
        wanted = hashed(pa.array(coded, pa.binary()))
        places = np.searchsorted(self.hashes, wanted)
        found = np.full(len(wanted), -1, np.int64)
        for at in np.flatnonzero(places < len(self.hashes)):
            place, number = int(places[at]), int(self.order[places[at]])
            if self.hashes[place] == wanted[at] and number < len(self) and self._name(number) == coded[at]:
                found[at] = number
        return found

    def places(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Find the place of every name among some `ids`, -1 where it is none of them: int64 [n]."""
        numbers = self.numbers(ids)
        found = np.full(len(self), -1, np.int64)
        found[numbers[numbers >= 0]] = np.flatnonzero(numbers >= 0)
        return found

    def array(self) -> pa.Array:
        """Read all names, without a copy, in the order of their numbers; of whole files alone, see `fault`."""
        offsets = np.concatenate([np.zeros(1, np.int64), self.ends])
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(self.text))

    def _name(self, number: int) -> bytes:
        start = int(self.ends[number - 1]) if number else 0
        return self.text[start : int(self.ends[number])].tobytes()

    def fault(self) -> str | None:
        """Find what is wrong with the names."""
        edges = np.concatenate([np.zeros(1, np.int64), self.ends])
        if (np.diff(edges) < 0).any() or edges[-1] != len(self.text):
            return "names end where no text is"
        try:
            self.array().validate(full=True)
        except pa.ArrowInvalid:
            return "names are no text"
        if (len(self.order) and self.order.max() >= len(self)) or (np.diff(self.hashes.view(np.uint64)) == 0).any():
            return "names are numbered twice"
        return "names are not sorted" if (self.hashes[1:] < self.hashes[:-1]).any() else None

    @staticmethod
    def open(folder: Path) -> Names:
        """Map names into memory; raises as `_read`."""
        found = Names(**_read(folder, _NAMES))
        ends = found.ends
        sound = len(found.hashes) == len(found.order) <= len(found) and (ends[-1] if len(ends) else 0) == len(
            found.text
        )
        if not sound:
            raise DamagedHistories(f"{folder.name} has columns of different lengths")
        return found


NO_NAMES = Names(*(np.empty(0, kind) for kind in _NAMES.values()))


class NameWriter:
    """Numbers names, new ones in the order they come; those of `known` keep their numbers.

    Holds 12 bytes a name, and the text of the new ones.
    """

    def __init__(self, known: Names = NO_NAMES) -> None:
        self._known, self.count = known, len(known)
        self._hashes, self._order = np.array(known.hashes), np.array(known.order)
        self._new: list[pa.Array] = []

    def numbers(self, column: pa.Array) -> Numbers:
        """Number the names of a column without nulls, uint32 [N]."""
        coded = column.dictionary_encode()
        names = coded.dictionary.cast(pa.large_string())
        own = hashed(names)
        places = np.searchsorted(self._hashes, own)
        there = places < len(self._hashes)
        there[there] = self._hashes[places[there]] == own[there]
        found = np.empty(len(own), np.uint32)
        found[there] = self._order[places[there]]
        if not there.all():
            fresh, first, back = np.unique(own[~there], return_index=True, return_inverse=True)
            met = np.argsort(first)  # numbers in the order of names, not of hashes
            given = np.empty(len(fresh), np.uint32)
            given[met] = self.count + np.arange(len(fresh), dtype=np.uint32)
            found[~there] = given[back]
            at = np.searchsorted(self._hashes, fresh)
            self._hashes, self._order = np.insert(self._hashes, at, fresh), np.insert(self._order, at, given)
            self._new.append(names.take(pa.array(np.flatnonzero(~there)[np.sort(first)])))
            self.count += len(fresh)
        numbers: Numbers = found[coded.indices.to_numpy()]
        return numbers

    @property
    def grown(self) -> bool:
        return bool(self._new)

    def write(self, folder: Path, used: NDArray[np.bool_] | None = None) -> None:
        """Write all names.

        Args:
            used: bool [n]; the others are left out and keep their number.
        """
        folder.mkdir()
        every = pa.chunked_array([self._known.array(), *self._new], pa.large_string()).combine_chunks()
        hashes, order = self._hashes, self._order
        if used is not None and not used.all():
            every = pc.if_else(pa.array(used), every, pa.scalar("", pa.large_string()))
            left = used[order]
            hashes, order = hashes[left], order[left]
        _, offsets, text = every.buffers()
        ends = np.frombuffer(offsets, np.int64)[every.offset : every.offset + len(every) + 1]
        size = int(ends[-1]) if len(ends) else 0
        body = np.frombuffer(text, np.uint8)[int(ends[0]) : size] if size else np.empty(0, np.uint8)
        _write(folder / "text.npy", body)
        _write(folder / "ends.npy", ends[1:] - ends[0] if len(ends) else np.empty(0, np.int64))
        _write(folder / "hashes.npy", hashes)
        _write(folder / "order.npy", order)


@dataclass(frozen=True)
class Segment:
    """Actions of some users, those of a user together, by rising seconds; of equal ones by item, then event.

    Attributes:
        users: their numbers, rising, uint32 [U]; starts: where the actions of each start, int64 [U + 1].
        items, events, seconds: of each action, uint32, uint8 and uint32 [N].
    """

    users: Numbers
    starts: NDArray[np.int64]
    items: Numbers
    events: NDArray[np.uint8]
    seconds: Numbers

    def __len__(self) -> int:
        return len(self.items)

    def spans(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find where the actions of some users start and end, int64 [N] each.

        Raises:
            DamagedHistories: they start or end where no actions are.
        """
        places = np.searchsorted(self.users, users)
        there = places < len(self.users)
        there[there] = self.users[places[there]] == users[there]
        starts, ends = np.zeros(len(users), np.int64), np.zeros(len(users), np.int64)
        starts[there], ends[there] = self.starts[places[there]], self.starts[places[there] + 1]
        if not ((starts >= 0) & (starts <= ends) & (ends <= len(self))).all():
            raise DamagedHistories("histories end where no actions are")
        return starts, ends

    def fault(self, users: int, items: int, events: int) -> str | None:
        """Find what is wrong with the actions, of so many users, items and events."""
        if not (self.starts[0] == 0 and self.starts[-1] == len(self) and (np.diff(self.starts) > 0).all()):
            return "histories end where no actions are"
        if not (np.diff(self.users.astype(np.int64)) > 0).all():
            return "users are not sorted"
        if len(self.users) and self.users[-1] >= users:
            return "actions are of users that there are not"
        if len(self) and (self.items.max() >= items or self.events.max() >= events):
            return "actions name items or events that there are not"
        falls = np.flatnonzero(np.diff(self.seconds.astype(np.int64)) < 0) + 1
        return None if np.isin(falls, self.starts).all() else "actions are not sorted by time"

    @staticmethod
    def open(folder: Path) -> Segment:
        """Map a segment into memory; raises as `_read`."""
        found = Segment(**_read(folder, _SEGMENT))
        sound = len(found.starts) == len(found.users) + 1
        if not (sound and len(found.items) == len(found.events) == len(found.seconds)):
            raise DamagedHistories(f"{folder.name} has columns of different lengths")
        return found


def write_segment(folder: Path, users: Numbers, items: Numbers, events: NDArray[np.uint8], seconds: Numbers) -> None:
    """Sort actions and write them as a segment."""
    order = _order(users, items, events, seconds)
    own, counts = np.unique(users[order], return_counts=True)
    folder.mkdir()
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    columns: tuple[NDArray[Any], ...] = (own, starts, items[order], events[order], seconds[order])
    for name, column in zip(_SEGMENT, columns, strict=True):
        _write(folder / f"{name}.npy", column)


def _order(users: Numbers, items: Numbers, events: NDArray[np.uint8], seconds: Numbers) -> NDArray[np.intp]:
    """Sort by user and second, then by item and event."""
    key = users.astype(np.uint64) << np.uint64(32) | seconds
    order = np.argsort(key, kind="stable")  # of sorted runs this is a merge
    key = key[order]
    same = key[1:] == key[:-1]
    tied = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same])) if len(key) else order
    if len(tied):
        own = order[tied]
        order[tied] = own[np.lexsort((events[own], items[own], key[tied]))]
    return order


def merge_segments(folder: Path, segments: Sequence[Segment], cap: int) -> int:
    """Merge segments into a new one that keeps the newest `cap` actions of each user; returns how many are dropped.

    Holds `MERGE_ACTIONS` actions at once, or those of one user.
    """
    users = np.unique(np.concatenate([segment.users for segment in segments]))
    counts = np.zeros(len(users), np.int64)
    for segment in segments:
        counts[np.searchsorted(users, segment.users)] += np.diff(segment.starts)
    kept = np.minimum(counts, cap)
    starts = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    folder.mkdir()
    out = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.dtype(_SEGMENT[name]), (int(starts[-1]),))
        for name in ("items", "events", "seconds")
    }
    for first, last in _chunks(counts):
        edges = users[first], users[last - 1]
        parts = []
        for segment in segments:
            a, b = np.searchsorted(segment.users, edges[0]), np.searchsorted(segment.users, edges[1], "right")
            rows = slice(int(segment.starts[a]), int(segment.starts[b]))
            owners = np.repeat(segment.users[a:b], np.diff(segment.starts[a : b + 1]))
            parts.append((owners, segment.items[rows], segment.events[rows], segment.seconds[rows]))
        own, items, events, seconds = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = _order(own, items, events, seconds)
        if (over := counts[first:last] > cap).any():
            ends = np.cumsum(counts[first:last])
            of = np.repeat(np.arange(last - first), counts[first:last])
            from_end = ends[of] - np.arange(len(order))
            order = order[~over[of] | (from_end <= cap)]
        target = slice(int(starts[first]), int(starts[last]))
        for name, column in (("items", items), ("events", events), ("seconds", seconds)):
            out[name][target] = column[order]
    for column in out.values():
        column.flush()
    _write(folder / "users.npy", users)
    _write(folder / "starts.npy", starts)
    return int((counts - kept).sum())


def _chunks(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut users into runs of at most `MERGE_ACTIONS` actions, or one user."""
    sums, first = np.cumsum(counts), 0
    while first < len(counts):
        done = int(sums[first - 1]) if first else 0
        last = max(int(np.searchsorted(sums, done + MERGE_ACTIONS, "right")), first + 1)
        yield first, last
        first = last

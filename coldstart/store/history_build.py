"""Build the histories of a workspace from its interactions, and add rows to them as they come."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.store import Store
from coldstart.store.histories import (
    MANIFEST,
    MOST_COARSE,
    MOST_GENERATIONS,
    MOST_KINDS,
    Histories,
    Manifest,
    agrees,
    folder_of,
    open_files,
    row_sums,
    save_manifest,
    table_rows,
    table_version,
)
from coldstart.store.history_files import (
    MERGE_ACTIONS,
    NO_NAMES,
    Names,
    NameWriter,
    Segment,
    merge_segments,
    write_segment,
)
from coldstart.store.interactions import INTERACTIONS

_GENERATION = re.compile(r"(?:users|items|segment)-\d{1,18}")
_SECOND_US = 1_000_000
_LATEST_S = (1 << 32) - 1


@contextmanager
def follow(store: Store) -> Iterator[_Writer]:
    """Give a writer of rows that are added to the interactions table inside the block; the caller holds the lock.

    Histories that did not agree with the table before are built anew at the end.
    """
    opened = open_files(store)
    made = Manifest()
    if opened is not None:
        behind = not agrees(store, opened[0]) or opened[1].fault() is not None
        made = Manifest() if behind else opened[0]
    else:
        behind = store.count(INTERACTIONS) > 0
    writer = _Writer(store, made, closed=behind)
    yield writer
    if writer.closed:
        build(store)
    else:
        writer.commit(table_version(store))


def build(store: Store, cap: int | None = None) -> None:
    """Build the histories from the interactions table; items that they had keep their numbers.

    The caller holds the lock.

    Args:
        cap: actions that are kept of a user, by default as before.
    """
    opened = open_files(store)
    made, items = (Manifest(), NO_NAMES) if opened is None else (opened[0], opened[1].items)
    if items.fault():
        items = NO_NAMES
    version = table_version(store)
    for coarse in range(made.coarse, MOST_COARSE + 1):
        start = Manifest(generation=made.generation, cap=cap or made.cap, coarse=coarse)
        writer = _Writer(store, start, items=items)
        for rows in table_rows(store, ["row_key", "user_id", "item_id", "timestamp", "event", "weight"]):
            writer.add(rows)
            if writer.closed:
                break
        else:
            writer.commit(version, whole=True)
            return
    raise AssertionError("the last step tells few kinds apart")


def open_histories(store: Store, *, fresh: bool = True) -> Histories:
    """Open the histories of a workspace; builds them, under the lock, where they do not agree with the table.

    Args:
        fresh: false takes those there are, though interactions may have come since; without any they are built.

    Raises:
        ColdstartError: they have to be built, and another process writes to the workspace or nobody may.
    """
    opened = open_files(store)
    if opened is not None and (not fresh or agrees(store, opened[0])):
        return opened[1]
    if opened is None and not store.has(INTERACTIONS):
        return Histories(store.uri, Manifest(), NO_NAMES, NO_NAMES, ())
    with store.lock():
        opened = open_files(store)
        if opened is None or not agrees(store, opened[0]):  # another process may have built them
            build(store)
    opened = open_files(store)
    assert opened is not None, "they were built above"
    return opened[1]


def renew(store: Store) -> None:
    """Build the histories anew where rows were taken from the table, so that no byte of them stays; the caller holds
    the lock. A workspace without histories gets none."""
    if folder_of(store).is_dir():
        opened = open_files(store)
        if opened is None:
            drop_histories(store)
        elif not agrees(store, opened[0]):
            build(store)


def drop_histories(store: Store) -> None:
    """Remove all files; the caller holds the lock."""
    folder = folder_of(store)
    if folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)


class _Writer:
    """Adds rows of the interactions table to the histories; nothing of it counts before `commit`.

    Holds `MERGE_ACTIONS` actions, and 12 bytes for every user and item.

    Args:
        made: what it adds to; items: names whose numbers stay, by default those of `made`.
        closed: rows are not taken, because a build has to read them all anyway.

    Attributes:
        closed: as above; also once there are too many kinds of actions.
    """

    def __init__(self, store: Store, made: Manifest, *, items: Names | None = None, closed: bool = False) -> None:
        self._store, self._folder, self._made, self.closed = store, folder_of(store), made, closed
        if self._folder.exists() and not self._folder.is_dir():
            drop_histories(store)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (self._folder / MANIFEST).is_dir():
            shutil.rmtree(self._folder / MANIFEST)
        old = None if closed or made.users is None else open_files(store)
        before = [] if old is None else [old[1].users, old[1].items]
        self._users = NameWriter(before[0] if before else NO_NAMES)
        self._items = NameWriter(items if items is not None else before[1] if before else NO_NAMES)
        self._met = np.zeros(0, bool)
        self._kinds = {kind: number for number, kind in enumerate(made.kinds)}
        self._sums = np.array(made.sums, np.uint64)
        self._rows, self._left_out = made.rows, made.left_out
        names = [entry.name for entry in self._folder.iterdir()]
        present = [int(name.rpartition("-")[2]) for name in names if _GENERATION.fullmatch(name)]
        used = [number for number in (made.generation, *present) if number < MOST_GENERATIONS - (1 << 20)]
        self._next = max(used, default=0) + 1  # of a killed writer there may be some
        self._segments = list(made.segments)
        self._waiting: list[tuple[NDArray[Any], ...]] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows, in any order."""
        if self.closed or not rows.num_rows:
            return
        rows = rows.combine_chunks()
        self._sums += row_sums(rows)
        self._rows += rows.num_rows
        seconds = rows["timestamp"].cast(pa.int64()).to_numpy() // _SECOND_US
        fits = (seconds >= 0) & (seconds <= _LATEST_S)
        if not fits.all():
            self._left_out += int((~fits).sum())
            rows, seconds = rows.filter(pa.array(fits)).combine_chunks(), seconds[fits]
            if not rows.num_rows:
                return
        users, items, events = (rows[name].chunk(0) for name in ("user_id", "item_id", "event"))
        kinds = self._number_kinds(events, rows["weight"].to_numpy())
        if kinds is None:
            self.closed = True
            return
        numbers = self._items.numbers(items)
        self._met = np.concatenate([self._met, np.zeros(self._items.count - len(self._met), bool)])
        self._met[numbers] = True
        self._waiting.append((self._users.numbers(users), numbers, kinds, seconds.astype(np.uint32)))
        if sum(len(part[0]) for part in self._waiting) >= MERGE_ACTIONS:
            self._flush()

    def _number_kinds(self, events: pa.Array, weights: NDArray[np.float32]) -> NDArray[np.uint8] | None:
        """Number the event and weight of each row, uint8 [N]; None where there are too many."""
        coded, levels = events.dictionary_encode(), pa.array(_ROUNDINGS[self._made.coarse](weights)).dictionary_encode()
        names, values = coded.dictionary.to_pylist(), levels.dictionary.to_pylist()
        pairs = coded.indices.to_numpy().astype(np.int64) * len(values) + levels.indices.to_numpy()
        there = np.flatnonzero(np.bincount(pairs, minlength=len(names) * len(values)))
        found = np.zeros(len(names) * len(values), np.uint8)
        for pair in there.tolist():
            kind = (names[pair // len(values)] or "", float(values[pair % len(values)]))
            if kind not in self._kinds and len(self._kinds) >= MOST_KINDS - 3 * (self._made.coarse == MOST_COARSE):
                if self._made.coarse < MOST_COARSE:
                    return None
                kind = ("", kind[1])
            found[pair] = self._kinds.setdefault(kind, len(self._kinds))
        numbers: NDArray[np.uint8] = found[pairs]
        return numbers

    def _flush(self) -> None:
        if self._waiting:
            columns = [np.concatenate(column) for column in zip(*self._waiting, strict=True)]
            self._waiting = []
            write_segment(self._folder / f"segment-{self._next}", *columns)
            self._segments.append(self._next)
            self._next += 1

    def commit(self, table_version: int, *, whole: bool = False) -> None:
        """Write what was added, and put the new generation in force.

        Args:
            table_version: of the interactions table; whole: no name without an action stays.
        """
        self._flush()
        parts = [Segment.open(self._folder / f"segment-{number}") for number in self._segments]
        counts = np.zeros(self._users.count, np.int64)
        for part in parts:
            counts[part.users] += np.diff(part.starts)
        first = 0 if (counts > self._made.cap).any() else _first_to_merge(list(map(len, parts)))
        dropped = 0
        if len(parts) - first > 1 or (parts and (counts > self._made.cap).any()):
            name = self._folder / f"segment-{self._next}"
            dropped = merge_segments(name, parts[first:], self._made.cap)
            self._segments[first:], parts[first:] = [self._next], [Segment.open(name)]
            self._next += 1
        names = {}
        for what, writer in (("users", self._users), ("items", self._items)):
            before = getattr(self._made, what)
            if writer.grown or before is None:
                writer.write(self._folder / f"{what}-{self._next}", self._met if whole and what == "items" else None)
                before = self._next
            names[what] = before
        made = replace(
            self._made,
            generation=self._next,
            table_version=table_version,
            rows=self._rows,
            sums=(int(self._sums[0]), int(self._sums[1])),
            kinds=tuple(self._kinds),
            segments=tuple(self._segments),
            actions=tuple(map(len, parts)),
            dropped=self._made.dropped + dropped,
            left_out=self._left_out,
            longest=int(np.minimum(counts, self._made.cap).max(initial=0)),
            **names,
        )
        save_manifest(self._folder, made)
        kept = {MANIFEST, f"users-{made.users}", f"items-{made.items}", *(f"segment-{n}" for n in made.segments)}
        for entry in self._folder.iterdir():
            if entry.name not in kept:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def _first_to_merge(sizes: Sequence[int]) -> int:
    """Find the first of the last segments that are merged: each that stays has twice the actions of all behind it."""
    first, behind = len(sizes), 0
    for place in range(len(sizes) - 1, -1, -1):
        if sizes[place] < 2 * behind:
            first = place
        behind += sizes[place]
    return first


def _eighths(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round weights to eight steps between powers of two: half stars and whole numbers up to 16 stay what they are."""
    mantissa, exponent = np.frexp(np.nan_to_num(weights))
    found: NDArray[np.float32] = np.ldexp(np.rint(mantissa * 16) / 16, exponent).astype(np.float32)
    return found


def _signs(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sign(np.nan_to_num(weights)).astype(np.float32)


_ROUNDINGS = (_eighths, _signs, _signs)
"""Roundings of weights, tried in turn while kinds are too many; the last also takes the names of events together."""

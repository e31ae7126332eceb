"""Keep the history of each user beside the interactions table: item, event and time of every action, sorted by time.

9 bytes an action, in files that are mapped into memory. New interactions add a segment; segments are merged while they
grow. All of it is derived: it stands beside what it was read from (number of rows and sums of their hashes), and is
built anew from the table where that differs. A generation is written in full before the manifest names it, so that a
kill leaves the one before.

The files of a folder lie in it; those of a workspace elsewhere (`s3://…`, `db://…`) lie in the cache of this machine.
Names are told apart by 64 bits of a hash, as rows of the table are. Times are whole seconds, so that what happened in
the second of a request does not stand before it. Writers hold the store's lock.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from coldstart.core.histories import HistoryRows, UserHistory, check_before, ends_before
from coldstart.errors import ColdstartError
from coldstart.store import Store, tables
from coldstart.store.history_files import (
    MERGE_ACTIONS,
    NO_NAMES,
    DamagedHistories,
    Names,
    NameWriter,
    Segment,
    merge_segments,
    write_segment,
)
from coldstart.store.interactions import INTERACTIONS, mixed

FOLDER = ".coldstart.histories"
"""Folder in a workspace; the start of its name has its files checked for links when the workspace is opened."""
CAP = 100_000
"""Actions that are kept of a user: the newest."""
MOST_KINDS = 255
"""Kinds of actions that one byte tells apart."""

_MANIFEST = "manifest.json"
_SECOND_US = 1_000_000
_LATEST_S = (1 << 32) - 1
_READ_ROWS = 1 << 20
_TRIES = 5
_GENERATION = re.compile(r"(?:users|items|segment)-\d{1,18}")


@dataclass(frozen=True)
class _Manifest:
    """Generation of the files.

    Attributes:
        table_version: of the interactions table; rows: of it; sums: of two hashes of each row.
        coarse: how kinds of actions are told apart, see `_kinds`; kinds: event and weight of each.
        users, items: generation of their names; segments: of each; actions: of each.
        dropped: oldest actions above `cap`; left_out: rows whose time does not fit.
    """

    generation: int = 0
    table_version: int = 0
    rows: int = 0
    sums: tuple[int, int] = (0, 0)
    cap: int = CAP
    coarse: int = 0
    kinds: tuple[tuple[str, float], ...] = ()
    users: int | None = None
    items: int | None = None
    segments: tuple[int, ...] = ()
    actions: tuple[int, ...] = ()
    dropped: int = 0
    left_out: int = 0
    longest: int = 0
    format: int = 1


_PARSER = TypeAdapter(_Manifest)


@dataclass(frozen=True)
class HistorySummary:
    """Counts of the histories: `dropped`, oldest actions above the cap; `left_out`, rows whose time does not fit."""

    users: int
    actions: int
    longest: int
    dropped: int
    left_out: int
    cap: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        return asdict(self)


class Histories:
    """Reader of one generation.

    Attributes:
        users, items: names by number; numbers of items are stable, those of users until the next build.
        events: name of each kind of action, "" for none; weights: of each kind, float32. An event with several weights
            is several kinds, so that a rating of 1 and one of 5 differ.
    """

    def __init__(self, uri: str, manifest: _Manifest, users: Names, items: Names, segments: Sequence[Segment]) -> None:
        self._uri, self._manifest, self._segments = uri, manifest, tuple(segments)
        self.users, self.items = users, items
        self.events = tuple(name for name, _ in manifest.kinds)
        self.weights = np.array([weight for _, weight in manifest.kinds], np.float32)

    def of(self, user: str, before: int | None = None, last: int | None = None) -> UserHistory:
        """Read the actions of a user strictly before a time, in seconds; the `last` ones of them; none of a stranger.

        Raises:
            ColdstartError: the files are damaged.
        """
        return self.read([user], None if before is None else np.array([before]), last)[0]

    def read(
        self, users: Sequence[str], before: NDArray[np.integer[Any]] | None = None, last: int | None = None
    ) -> HistoryRows:
        """Read the actions of many users, each strictly before its own time; arguments as for `of`.

        Holds 9 bytes for every action that is read, and 30 while it reads.
        """
        return self.read_numbers(self.users.numbers(users), before, last)

    def read_numbers(
        self, numbers: NDArray[np.int64], before: NDArray[np.integer[Any]] | None = None, last: int | None = None
    ) -> HistoryRows:
        """Read the actions of users by their numbers, -1 for none; as `read`."""
        try:
            found = self._read(numbers, before, last)
        except DamagedHistories as error:
            raise self._damaged(str(error)) from error
        if before is not None:
            check_before(found, before, lambda row: self.users.ids([numbers[row]])[0])
        return found

    def _read(
        self, numbers: NDArray[np.int64], before: NDArray[np.integer[Any]] | None, last: int | None
    ) -> HistoryRows:
        parts = []
        for segment in self._segments:
            starts, ends = segment.spans(numbers)
            if before is not None:
                ends = ends_before(segment.seconds, starts, ends, before)
            if last is not None:
                starts = np.maximum(starts, ends - last)
            counts = ends - starts
            at = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            columns = segment.items[at], segment.events[at], segment.seconds[at]
            if len(at) and (columns[0].max() >= len(self.items) or columns[1].max() >= len(self.events)):
                raise DamagedHistories("actions name items or events that there are not")
            parts.append((counts, columns))
        if not parts:
            nothing = np.empty(0, np.uint32)
            return HistoryRows(np.zeros(len(numbers) + 1, np.int64), nothing, np.empty(0, np.uint8), nothing)
        counts = np.sum([own for own, _ in parts], axis=0)
        items, events, seconds = (
            np.concatenate(columns) for columns in zip(*(columns for _, columns in parts), strict=True)
        )
        if len(parts) > 1:
            of = np.concatenate([np.repeat(np.arange(len(numbers)), own) for own, _ in parts])
            order = np.lexsort((events, items, seconds, of))
            if last is not None:
                from_end = np.cumsum(counts)[of[order]] - np.arange(len(order))
                order, counts = order[from_end <= last], np.minimum(counts, last)
            items, events, seconds = items[order], events[order], seconds[order]
        return HistoryRows(np.concatenate([[0], np.cumsum(counts)]), items, events, seconds)

    def summary(self) -> HistorySummary:
        """Count users and actions."""
        made = self._manifest
        columns = [getattr(part, name) for part in (self.users, self.items, *self._segments) for name in vars(part)]
        return HistorySummary(
            users=len(self.users),
            actions=sum(made.actions),
            longest=made.longest,
            dropped=made.dropped,
            left_out=made.left_out,
            cap=made.cap,
            bytes=sum(column.nbytes for column in columns),
        )

    def fault(self) -> str | None:
        """Read everything, and find what is wrong."""
        faults = (segment.fault(len(self.items), len(self.events)) for segment in self._segments)
        return next((fault for fault in faults if fault), None)

    def _damaged(self, reason: str) -> ColdstartError:
        return ColdstartError(
            f"histories of workspace {self._uri} are damaged ({reason}): `coldstart check --workspace {self._uri} "
            "--repair` drops them, and they are built anew",
            kind="damaged",
        )


# -- files


def open_histories(store: Store, *, fresh: bool = True) -> Histories:
    """Open the histories of a workspace; builds them, under the lock, where they do not agree with the table.

    Args:
        fresh: false takes those there are, though interactions may have come since; without any they are built.

    Raises:
        ColdstartError: they have to be built, and another process writes to the workspace or nobody may.
    """
    opened = _open(store)
    if opened is not None and (not fresh or _agrees(store, opened[0])):
        return opened[1]
    if opened is None and not store.has(INTERACTIONS):
        return Histories(store.uri, _Manifest(), NO_NAMES, NO_NAMES, ())
    with store.lock():
        build(store)
    opened = _open(store)
    assert opened is not None, "they were built above"
    return opened[1]


def read_summary(store: Store) -> HistorySummary | None:
    """Count what the histories hold now; None where none were built."""
    opened = _open(store)
    return None if opened is None else opened[1].summary()


@contextmanager
def follow(store: Store) -> Iterator[_Writer]:
    """Give a writer of rows that are added to the interactions table inside the block; the caller holds the lock.

    Histories that did not agree with the table before are built anew at the end.
    """
    opened = _open(store)
    manifest = opened[0] if opened is not None else None if store.count(INTERACTIONS) else _Manifest()
    behind = manifest is None or not _agrees(store, manifest)
    writer = _Writer(store, _Manifest() if behind else manifest, closed=behind)
    yield writer
    if writer.closed:
        build(store)
    else:
        writer.commit(_version(store))


def build(store: Store, cap: int | None = None) -> None:
    """Build the histories from the interactions table; items that they had keep their numbers.

    The caller holds the lock.

    Args:
        cap: actions that are kept of a user, by default as before.
    """
    opened = _open(store)
    made, items = (_Manifest(), NO_NAMES) if opened is None else (opened[0], opened[1].items)
    version = _version(store)
    for coarse in range(made.coarse, len(_STEPS)):
        start = _Manifest(generation=made.generation, cap=cap or made.cap, coarse=coarse)
        writer = _Writer(store, start, items=items)
        for rows in _table_rows(store, ["row_key", "user_id", "item_id", "timestamp", "event", "weight"]):
            writer.add(rows)
            if writer.closed:
                break
        else:
            writer.commit(version, whole=True)
            return
    raise AssertionError("the last step tells few kinds apart")


def drop_histories(store: Store) -> None:
    """Remove all files; the caller holds the lock."""
    shutil.rmtree(_folder(store), ignore_errors=True)


def _folder(store: Store) -> Path:
    if store.folder is not None:
        return store.folder / FOLDER
    return store.cache / "histories" / sha256(store.uri.encode()).hexdigest()[:32]


def _open(store: Store) -> tuple[_Manifest, Histories] | None:
    """Open what is there; None where that is nothing, or damaged."""
    folder = _folder(store)
    for _ in range(_TRIES):  # a writer may remove a generation between the manifest and its files
        try:
            manifest = _PARSER.validate_json((folder / _MANIFEST).read_bytes())
            if not _sound(manifest):
                return None
            users = NO_NAMES if manifest.users is None else Names.open(folder / f"users-{manifest.users}")
            items = NO_NAMES if manifest.items is None else Names.open(folder / f"items-{manifest.items}")
            segments = [Segment.open(folder / f"segment-{number}") for number in manifest.segments]
            if tuple(map(len, segments)) != manifest.actions:
                return None
            return manifest, Histories(store.uri, manifest, users, items, segments)
        except FileNotFoundError:
            if not (folder / _MANIFEST).exists():
                return None
        except (DamagedHistories, ValidationError, OSError):
            return None
    return None


def _sound(manifest: _Manifest) -> bool:
    numbers = (manifest.generation, manifest.rows, manifest.dropped, manifest.left_out, manifest.longest)
    files = (manifest.users or 0, manifest.items or 0, *manifest.segments)
    return (
        manifest.format == 1
        and len(manifest.kinds) <= MOST_KINDS
        and manifest.cap > 0
        and all(number >= 0 for number in (*numbers, *files))
    )


def _version(store: Store) -> int:
    found = tables.open_table(store.reader, INTERACTIONS)
    return 0 if found is None else int(found.version)


def _agrees(store: Store, manifest: _Manifest) -> bool:
    """Tell whether the histories were read from the rows that the table has."""
    version = _version(store)
    if version == manifest.table_version:
        return True
    if store.count(INTERACTIONS) != manifest.rows:
        return False
    sums = np.zeros(2, np.uint64)
    for rows in _table_rows(store, ["row_key", "weight"]):
        sums += _sums(rows)
    same = tuple(sums.tolist()) == manifest.sums
    if same:  # rows were moved to other files; another time the version tells
        with suppress(ColdstartError, OSError):
            _save(_folder(store), replace(manifest, table_version=version), only_over=manifest)
    return same


def _table_rows(store: Store, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read the interactions in large pieces."""
    if not store.has(INTERACTIONS):
        return
    waiting: list[pa.RecordBatch] = []
    with tables.reading(store.reader, INTERACTIONS):
        found = tables.open_table(store.reader, INTERACTIONS)
        for batch in found.search().select(list(columns)).to_batches(batch_size=1 << 18):
            waiting.append(batch)
            if sum(one.num_rows for one in waiting) >= _READ_ROWS:
                yield pa.Table.from_batches(waiting)
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _sums(rows: pa.Table) -> NDArray[np.uint64]:
    """Add up two hashes of each row, whatever their order: uint64 [2]."""
    bits = rows["weight"].to_numpy().view(np.uint32).astype(np.uint64)
    first = mixed(rows["row_key"].to_numpy().view(np.uint64) + bits)
    found: NDArray[np.uint64] = np.array([first.sum(), mixed(first).sum()], np.uint64)
    return found


def _save(folder: Path, manifest: _Manifest, only_over: _Manifest | None = None) -> None:
    """Write the manifest in place of the one before; with `only_over`, if that is the one there is."""
    draft = folder / f"{_MANIFEST}.{os.getpid()}"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file)
        file.flush()
        os.fsync(file.fileno())
    if only_over is not None and _PARSER.validate_json((folder / _MANIFEST).read_bytes()) != only_over:
        draft.unlink()
        return
    draft.replace(folder / _MANIFEST)


# -- writing


class _Writer:
    """Adds rows of the interactions table to the histories; nothing of it counts before `commit`.

    Holds `MERGE_ACTIONS` actions, and 12 bytes for every user and item.

    Args:
        made: what it adds to; items: names whose numbers stay, by default those of `made`.
        closed: rows are not taken, because a build has to read them all anyway.

    Attributes:
        closed: as above; also once there are too many kinds of actions.
    """

    def __init__(self, store: Store, made: _Manifest, *, items: Names | None = None, closed: bool = False) -> None:
        self._store, self._folder, self._made, self.closed = store, _folder(store), made, closed
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        old = None if closed or made.users is None else _open(store)
        before = [] if old is None else [old[1].users, old[1].items]
        self._users = NameWriter(before[0] if before else NO_NAMES)
        self._items = NameWriter(items if items is not None else before[1] if before else NO_NAMES)
        self._met = np.zeros(0, bool)
        self._kinds = {kind: number for number, kind in enumerate(made.kinds)}
        self._sums = np.array(made.sums, np.uint64)
        self._rows, self._left_out = made.rows, made.left_out
        names = [entry.name for entry in self._folder.iterdir()]
        present = [int(name.rpartition("-")[2]) for name in names if _GENERATION.fullmatch(name)]
        self._next = max([made.generation, *present]) + 1  # of a killed writer there may be some
        self._segments = list(made.segments)
        self._waiting: list[tuple[NDArray[Any], ...]] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows, in any order."""
        if self.closed or not rows.num_rows:
            return
        rows = rows.combine_chunks()
        self._sums += _sums(rows)
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
        coded, levels = events.dictionary_encode(), pa.array(_STEPS[self._made.coarse](weights)).dictionary_encode()
        names, values = coded.dictionary.to_pylist(), levels.dictionary.to_pylist()
        pairs = coded.indices.to_numpy().astype(np.int64) * len(values) + levels.indices.to_numpy()
        there = np.flatnonzero(np.bincount(pairs, minlength=len(names) * len(values)))
        found = np.zeros(len(names) * len(values), np.uint8)
        for pair in there.tolist():
            kind = (names[pair // len(values)] or "", float(values[pair % len(values)]))
            if kind not in self._kinds and len(self._kinds) >= MOST_KINDS - 3 * (self._made.coarse == _LAST_STEP):
                if self._made.coarse < _LAST_STEP:
                    return None
                kind = ("", kind[1])
            found[pair] = self._kinds.setdefault(kind, len(self._kinds))
        return found[pairs]

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
        _save(self._folder, made)
        kept = {_MANIFEST, f"users-{made.users}", f"items-{made.items}", *(f"segment-{n}" for n in made.segments)}
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
    return np.ldexp(np.rint(mantissa * 16) / 16, exponent).astype(np.float32)


def _signs(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sign(np.nan_to_num(weights)).astype(np.float32)


_STEPS = (_eighths, _signs, _signs)
"""Roundings of weights, tried in turn while kinds are too many; the last also takes the names of events together."""
_LAST_STEP = len(_STEPS) - 1

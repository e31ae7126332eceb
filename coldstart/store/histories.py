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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import chain
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
    NO_NAMES,
    DamagedHistories,
    Names,
    Segment,
)
from coldstart.store.interactions import INTERACTIONS, mixed

FOLDER = ".coldstart.histories"
"""Folder in a workspace; the start of its name has its files checked for links when the workspace is opened."""
CAP = 100_000
"""Actions that are kept of a user: the newest."""
MOST_KINDS = 255
"""Kinds of actions that one byte tells apart."""

MOST_COARSE = 2
"""Last of the ways to round weights, of which each tells fewer kinds apart."""

MANIFEST = "manifest.json"
MOST_GENERATIONS = 1 << 52
"""Numbers of generations stay below this; larger ones in a manifest are refused."""
_READ_ROWS = 1 << 19
_TRIES = 5


@dataclass(frozen=True)
class Manifest:
    """Generation of the files.

    Attributes:
        table_version: of the interactions table; rows: of it; sums: of two hashes of each row.
        coarse: how kinds of actions are told apart, 0 to 2, see `history_build._ROUNDINGS`; kinds: event and
            weight of each.
        users, items: generation of their names; segments: of each; actions: of each.
        cap: actions that are kept of a user; dropped: oldest actions above it; left_out: rows whose time does not fit.
        longest: actions of the user with the most; format: of the files.
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


_PARSER = TypeAdapter(Manifest)


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

    def __init__(self, uri: str, manifest: Manifest, users: Names, items: Names, segments: Sequence[Segment]) -> None:
        self._uri, self._manifest, self._segments = uri, manifest, tuple(segments)
        self.users, self.items = users, items
        self.events = tuple(name for name, _ in manifest.kinds)
        self.weights = np.array([weight for _, weight in manifest.kinds], np.float32)

    def of(self, user: str, before: int | None = None, last: int | None = None) -> UserHistory:
        """Read the actions of a user strictly before a time in seconds, the `last` ones; none of an unknown user.

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

    def counts(self) -> NDArray[np.int64]:
        """Count the actions of each user by number, int64 [users]."""
        found = np.zeros(len(self.users), np.int64)
        for segment in self._segments:
            there = segment.users < len(found)
            found[segment.users[there]] += np.diff(segment.starts)[there]
        return found

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
        names = (one.fault() for one in (self.users, self.items))
        counts = len(self.users), len(self.items), len(self.events)
        actions = (segment.fault(*counts) for segment in self._segments)
        return next((fault for fault in chain(names, actions) if fault), None)

    def _damaged(self, reason: str) -> ColdstartError:
        return ColdstartError(
            f"histories of workspace {self._uri} are damaged ({reason}): `coldstart check --workspace {self._uri} "
            "--repair` drops them, and they are built anew",
            kind="damaged",
        )


# -- files


def read_summary(store: Store) -> HistorySummary | None:
    """Count what the histories hold now; None where none were built."""
    opened = open_files(store)
    return None if opened is None else opened[1].summary()


def folder_of(store: Store) -> Path:
    if store.folder is not None:
        return store.folder / FOLDER
    return store.cache / "histories" / sha256(store.uri.encode()).hexdigest()[:32]


def open_files(store: Store) -> tuple[Manifest, Histories] | None:
    """Open what is there; None where that is nothing, or damaged."""
    folder = folder_of(store)
    for _ in range(_TRIES):  # a writer may remove a generation between the manifest and its files
        try:
            manifest = _PARSER.validate_json((folder / MANIFEST).read_bytes())
            if not _sound(manifest):
                return None
            users = NO_NAMES if manifest.users is None else Names.open(folder / f"users-{manifest.users}")
            items = NO_NAMES if manifest.items is None else Names.open(folder / f"items-{manifest.items}")
            segments = [Segment.open(folder / f"segment-{number}") for number in manifest.segments]
            if tuple(map(len, segments)) != manifest.actions:
                return None
            return manifest, Histories(store.uri, manifest, users, items, segments)
        except FileNotFoundError:
            if not (folder / MANIFEST).exists():
                return None
        except (DamagedHistories, ValidationError, OSError):
            return None
    return None


def _sound(manifest: Manifest) -> bool:
    counts = (manifest.rows, manifest.dropped, manifest.left_out, manifest.longest, manifest.cap - 1)
    files = (manifest.generation, manifest.users or 0, manifest.items or 0, *manifest.segments)
    return (
        manifest.format == 1
        and 0 <= manifest.coarse <= MOST_COARSE
        and len(manifest.kinds) <= MOST_KINDS
        and all(0 <= number < 1 << 53 for number in counts)
        and all(0 <= number < MOST_GENERATIONS for number in files)
        and len(set(manifest.segments)) == len(manifest.segments)
        and all(0 <= number < 1 << 64 for number in manifest.sums)
    )


def table_version(store: Store) -> int:
    found = tables.open_table(store.reader, INTERACTIONS)
    return 0 if found is None else int(found.version)


def agrees(store: Store, manifest: Manifest) -> bool:
    """Tell whether the histories were read from the rows that the table has."""
    version = table_version(store)
    if version == manifest.table_version:
        return True
    if store.count(INTERACTIONS) != manifest.rows:
        return False
    sums = np.zeros(2, np.uint64)
    for rows in table_rows(store, ["row_key", "weight"]):
        sums += row_sums(rows)
    same = tuple(sums.tolist()) == manifest.sums
    if same:  # rows were moved to other files; another time the version tells
        with suppress(ColdstartError, OSError):
            save_manifest(folder_of(store), replace(manifest, table_version=version), only_over=manifest)
    return same


def table_rows(store: Store, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read the interactions in large pieces."""
    if not store.has(INTERACTIONS):
        return
    waiting: list[pa.RecordBatch] = []
    with tables.reading(store.reader, INTERACTIONS):
        found = tables.open_table(store.reader, INTERACTIONS)
        for batch in found.search().select(list(columns)).to_batches(batch_size=1 << 16):
            waiting.append(batch)
            if sum(one.num_rows for one in waiting) >= _READ_ROWS:
                yield pa.Table.from_batches(waiting)
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def row_sums(rows: pa.Table) -> NDArray[np.uint64]:
    """Add up two hashes of each row, whatever their order: uint64 [2]."""
    bits = rows["weight"].to_numpy().view(np.uint32).astype(np.uint64)
    first = mixed(rows["row_key"].to_numpy().view(np.uint64) + bits)
    found: NDArray[np.uint64] = np.array([first.sum(), mixed(first).sum()], np.uint64)
    return found


def save_manifest(folder: Path, manifest: Manifest, only_over: Manifest | None = None) -> None:
    """Write the manifest in place of the one before; with `only_over`, if that is the one there is."""
    draft = folder / f"{MANIFEST}.{os.getpid()}"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file)
        file.flush()
        os.fsync(file.fileno())
    if only_over is not None and _PARSER.validate_json((folder / MANIFEST).read_bytes()) != only_over:
        draft.unlink()
        return
    draft.replace(folder / MANIFEST)

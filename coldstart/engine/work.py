"""Read the work of one stage (stale rows in scope, with the rows they are made from) and commit its results.

Rows and verdicts are written every N rows or T seconds.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, islice
from types import TracebackType
from typing import Self

import pyarrow as pa

from coldstart.core.item_fields import columns_of, select_fields
from coldstart.core.stage import KnowsRows, LedgerRow, MapStage, Reject, Row, SourceStage, Work, is_map
from coldstart.store import ITEMS, Store
from coldstart.store.corrections import read_corrections
from coldstart.store.freshness import PipelineState
from coldstart.store.known_rows import KnownRows
from coldstart.store.tombstones import read_tombstones

_READ_CHUNK = 2000
_FEW = 2000
"""Rows of a source whose keys are looked up; of a longer one those of all items are read."""
_FEW_COMMITS = 2
"""Commits that look up what is there already; one that writes more often reads all of it."""


@dataclass(frozen=True)
class Scope:
    """Selection of the stale rows that a run does.

    Attributes:
        limit: at most so many a stage.
        retry: states (`failed`, …) whose verdicts are set aside.
        among: only these items; None for all.
        refit: let fit stages fit anew where rows came or changed since.
    """

    limit: int | None = None
    retry: frozenset[str] = frozenset()
    among: frozenset[str] | None = None
    refit: bool = False

    def choose(self, stale: Sequence[str]) -> Sequence[str]:
        """Select the part of `stale` that is in scope, in its order."""
        chosen = stale if self.among is None else [item for item in stale if item in self.among]
        return chosen[: self.limit]


@dataclass(frozen=True)
class Source:
    """Rows that a stage reads besides the items: the field they are put under, their table, and its fresh items."""

    field: str
    table: str
    fresh: frozenset[str]


def stale_work(
    workspace: Store,
    expected: Mapping[str, str],
    stale: Sequence[str],
    sources: Sequence[Source] = (),
    fields: Collection[str] | None = None,
) -> Iterator[Work]:
    """Read items of a map stage with their rows and those of the stages it reads, in chunks.

    Args:
        fields: of the item that the stage reads, so that it gets nothing that its keys do not cover; None for all.
    """
    columns = None
    if fields is not None:
        present = workspace.columns(ITEMS)
        columns = ["item_id", *(name for name in columns_of(fields) if name in present)]
    for start in range(0, len(stale), _READ_CHUNK):
        ids = stale[start : start + _READ_CHUNK]
        rows = _by_item(workspace, ITEMS, ids, columns)
        if fields is not None:
            rows = {item_id: select_fields(row, fields) for item_id, row in rows.items()}
        for source in sources:
            found = _by_item(workspace, source.table, [item for item in ids if item in source.fresh])
            for item_id in ids:
                rows[item_id][source.field] = found.get(item_id)
        for item_id in ids:
            yield Work(item_id, expected[item_id], rows[item_id])


def _by_item(workspace: Store, table: str, ids: Sequence[str], columns: Sequence[str] | None = None) -> dict[str, Row]:
    return {row["item_id"]: row for row in workspace.read(table, columns, ids=ids).to_pylist()} if ids else {}


def sources(stage: MapStage, pipeline_state: PipelineState) -> list[Source]:
    """List the tables that a stage reads besides the items."""
    found = []
    for field_name, name in stage.reads.items():
        upstream = pipeline_state.stage(name)
        assert is_map(upstream)
        found.append(Source(field_name, upstream.table, pipeline_state.of(name).fresh))
    return found


class SourceWork:
    """Rows of a source that are not settled and in scope; iterate once.

    Attributes:
        recorded: the ledger rows of the stage, by item.
        given: items that were yielded so far -> key of the row that each had before; None for new ones.
        pending: after the iteration, the items that are not settled and were left out.
        known: rows that earlier runs read, to be saved after those that were given are stored; None where the source
            reads every row in every run.
    """

    def __init__(self, workspace: Store, stage: SourceStage, scope: Scope) -> None:
        self.recorded = workspace.verdicts(stage.name)
        self.given: dict[str, str | None] = {}
        self.pending: set[str] = set()
        self.known = KnownRows(workspace) if isinstance(stage, KnowsRows) else None
        self._settled = {item: row.row_key for item, row in self.recorded.items() if row.state not in scope.retry}
        self._stage = stage
        self._scope = scope
        self._removed = read_tombstones(workspace)
        self._corrections = read_corrections(workspace)
        self._workspace = workspace

    def __iter__(self) -> Iterator[Work]:
        entries = self._entries()
        first = list(islice(entries, _FEW))
        table, column = self._stage.table, self._stage.key_column
        if len(first) < _FEW:
            present = self._workspace.keys_of(table, {entry.item_id for entry in first}, column)
        else:
            present = self._workspace.keys(table, column)
            if self.known is not None:
                decided = self._corrections.items  # laid over what the manifest says, which is read
                self.known.load({item: key for item, key in present.items() if item not in decided})
        for entry in chain(first, entries):
            if entry.key in (present.get(entry.item_id), self._settled.get(entry.item_id)):
                continue
            left_out = self._scope.among is not None and entry.item_id not in self._scope.among
            if left_out or (self._scope.limit is not None and len(self.given) >= self._scope.limit):
                if entry.item_id not in self._removed.items:  # it is no work that waits
                    self.pending.add(entry.item_id)
                continue
            self.given[entry.item_id] = present.get(entry.item_id)
            yield entry

    def _entries(self) -> Iterator[Work]:
        """Yield the rows of the source as people decided on them, then items that it lacks and that were decided on."""
        decided = self._corrections.touched(self._workspace)
        entries = self._stage.entries() if self.known is None else self._stage.entries_but(self.known)  # type: ignore[attr-defined]
        for entry in entries:
            decided.discard(entry.item_id)
            if self.known is not None and entry.item_id in self._removed.items:
                self.known.forget(entry.item_id)
            yield self._corrections.apply(self._removed.refuse(entry))
        yield from self._corrections.stored(self._workspace, decided)


class Writer:
    """Writer of a stage's results. Leaving the `with` block commits the rest, also after an error.

    Rows go first and verdicts second: a kill in between leaves work undone, never a row without its item.
    """

    def __init__(self, workspace: Store, stage: MapStage, *, commit_rows: int, commit_s: float) -> None:
        self._workspace = workspace
        self._stage = stage
        self._all_present: set[str] | None = None
        self._recorded = set(workspace.verdicts(stage.name))
        self._commit_rows = commit_rows
        self._commit_s = commit_s
        self._rows: list[Row] = []
        self._verdicts: list[LedgerRow] = []
        self._since = time.monotonic()
        self.commits = 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.commit()

    def add(self, work: Work, row: Row | Reject) -> None:
        """Take one result, and commit if it is time."""
        if isinstance(row, Reject):
            self._verdicts.append(
                LedgerRow(self._stage.name, work.item_id, work.key, row.state, row.reason, row.detail)
            )
        else:
            self._rows.append({**row, "item_id": work.item_id, self._stage.key_column: work.key})
        waiting = len(self._rows) + len(self._verdicts)
        if waiting >= self._commit_rows or time.monotonic() - self._since >= self._commit_s:
            self.commit()

    def _present(self, ids: Set[str]) -> Set[str]:
        """Find those of some items that have a row."""
        if self._all_present is None and self.commits < _FEW_COMMITS:
            return self._workspace.keys_of(self._stage.table, ids, self._stage.key_column).keys()
        if self._all_present is None:
            self._all_present = set(self._workspace.keys(self._stage.table, self._stage.key_column))
        return self._all_present & ids

    def commit(self) -> None:
        began = time.monotonic()
        if self._rows:
            made = {row["item_id"] for row in self._rows}
            rows = pa.Table.from_pylist(self._rows, schema=self._stage.schema)
            if not self._present(made) and len(made) == len(self._rows):
                self._workspace.append(self._stage.table, rows)  # nothing to look for in the rows that are there
            else:
                self._workspace.merge(self._stage.table, rows)
            self._workspace.delete_verdicts(self._stage.name, made & self._recorded)
            if self._all_present is not None:
                self._all_present |= made
            self._recorded -= made
        if self._verdicts:
            turned_away = {verdict.item_id for verdict in self._verdicts}
            self._workspace.delete(self._stage.table, self._present(turned_away))
            self._workspace.record(self._verdicts)
            if self._all_present is not None:
                self._all_present -= turned_away
            self._recorded |= turned_away
        if self._rows or self._verdicts:
            self.commits += 1
        self._rows, self._verdicts = [], []
        self._since = time.monotonic()
        self.seconds += self._since - began

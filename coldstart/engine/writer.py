"""Commits of one stage: rows and verdicts gather and are written every N rows or T seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import pyarrow as pa

from coldstart.stage import LedgerRow, MapStage, Reject, Row, Work
from coldstart.workspace import Store


class Writer:
    """Writes what a stage makes. Leaving the `with` block commits what is left, also after an error.

    Rows go first and verdicts second: a kill in between leaves work undone, never a row without its item.
    """

    def __init__(self, workspace: Store, stage: MapStage, *, commit_rows: int, commit_s: float) -> None:
        self._workspace = workspace
        self._stage = stage
        self._present = set(workspace.keys(stage.table, stage.key_column))
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

    def commit(self) -> None:
        began = time.monotonic()
        if self._rows:
            self._workspace.merge(self._stage.table, pa.Table.from_pylist(self._rows, schema=self._stage.schema))
            made = {row["item_id"] for row in self._rows}
            self._workspace.delete_verdicts(self._stage.name, made & self._recorded)
            self._present |= made
            self._recorded -= made
        if self._verdicts:
            turned_away = {verdict.item_id for verdict in self._verdicts}
            self._workspace.delete(self._stage.table, turned_away & self._present)
            self._workspace.record(self._verdicts)
            self._present -= turned_away
            self._recorded |= turned_away
        if self._rows or self._verdicts:
            self.commits += 1
        self._rows, self._verdicts = [], []
        self._since = time.monotonic()
        self.seconds += self._since - began

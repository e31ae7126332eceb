"""View a workspace through some of its items: what is read of a table of items are their rows alone.

A batch of new items costs what it holds and not what the catalogue holds: keys, verdicts and rows of all others are
never read. Writes go through as they are. What was read is kept until the view writes to its table: stages ask for the
same few rows again and again, and each question to the store takes milliseconds. Others may not write meanwhile to the
tables that are read here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from coldstart.core.stage import LedgerRow
from coldstart.store import Store
from coldstart.store.sql import one_of

_CHUNK = 500


class ItemsView(Store):
    """Store of which only the rows of some items are seen; tables without an `item_id` are seen whole.

    Args:
        store: the workspace; a lock that it holds is held here too.
        items: ids of those items.
    """

    def __init__(self, store: Store, items: Collection[str]) -> None:
        self.__dict__.update(store.__dict__)
        self._items = frozenset(items)
        self._ids = sorted(self._items)
        self._tables: dict[str, Any] = {}
        self._kept: dict[str, dict[Any, pa.Table]] = {}

    def _find(self, table: str) -> Any:
        if (found := self._tables.get(table)) is None and (found := super()._find(table)) is not None:
            self._tables[table] = found
        return found

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        where: str | None = None,
    ) -> pa.Table:
        """Read a table as `Store.read`, of the items in view alone."""
        if "item_id" not in self.columns(table):
            return super().read(table, columns, ids=ids, where=where)
        if ids is not None:
            return self._of(table, columns, [one for one in ids if one in self._items])
        return self._rows(table, columns, where)

    def keys(self, table: str, column: str = "row_key") -> dict[str, str]:
        """Read `item_id` -> key of the rows in view; empty where the table does not exist."""
        if not self.has(table):
            return {}
        rows = self._rows(table, ["item_id", column], None)
        return dict(zip(rows["item_id"].to_pylist(), rows[column].to_pylist(), strict=True))

    def count(self, table: str) -> int:
        """Count the rows in view; 0 where the table does not exist."""
        found = self._find(table)
        if found is None or "item_id" not in found.schema.names:
            return super().count(table)
        return int(self._rows(table, ["item_id"], None).num_rows)

    def batches(self, table: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read columns of the rows in view; nothing where the table does not exist."""
        if self.has(table):
            yield from self._rows(table, columns, None).to_batches()

    def ledger(self, stage: str | None = None) -> dict[str, dict[str, LedgerRow]]:
        """Read the ledger rows in view by stage, then by item."""
        every = super().ledger()  # read once, since each stage asks for its own
        return every if stage is None else {stage: every[stage]} if stage in every else {}

    def _rows(self, table: str, columns: Sequence[str] | None, where: str | None) -> pa.Table:
        kept = self._kept.setdefault(table, {})
        key = None if columns is None else tuple(columns), where
        if key not in kept:
            found = [
                super(ItemsView, self).read(table, columns, where=f"({where}) AND {condition}" if where else condition)
                for condition in self._conditions()
            ]
            kept[key] = pa.concat_tables(found)
        return kept[key]

    def _of(self, table: str, columns: Sequence[str] | None, ids: Sequence[str]) -> pa.Table:
        kept = self._kept.setdefault(table, {})
        key = None if columns is None else tuple(columns), tuple(ids)
        if key not in kept:
            kept[key] = super().read(table, columns, ids=ids)
        return kept[key]

    def open_or_create(self, table: str, schema: pa.Schema) -> Any:
        """Open a table to write to it, as `Store.open_or_create`; what was read of it is read anew."""
        self._forget(table)
        return super().open_or_create(table, schema)

    def drop(self, table: str, where: str) -> None:
        """Remove the rows that meet an SQL filter."""
        self._forget(table)
        super().drop(table, where)

    def _delete(self, table: str, ids: Iterable[str], condition: str) -> None:
        self._forget(table)
        super()._delete(table, ids, condition)

    def _forget(self, table: str) -> None:
        self._kept.pop(table, None)
        self._tables.pop(table, None)  # it may get columns

    def _conditions(self) -> list[str]:
        return [one_of("item_id", self._ids[start : start + _CHUNK]) for start in range(0, len(self._ids), _CHUNK)] or [
            "false"
        ]

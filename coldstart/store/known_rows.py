"""Keep which rows of manifests were read, so that a run need not check them anew while their items are as they were.

A row is known by its digest (fields, places, sizes and times of files) chained with the key of the item's stored row:
once that is another one, the row is read again. What is kept names no place and no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from coldstart.core.keys import chain
from coldstart.store import Store

KNOWN_ROWS = "manifest_rows"
"""Table of known rows, one an item."""
_SCHEMA = pa.schema([("item_id", pa.string()), ("known", pa.string())])


class KnownRows:
    """Rows that earlier runs read, by the items that they were read for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._present: Mapping[str, str] = {}
        self._known: dict[str, str] = {}
        self._read: dict[str, str] = {}

    def load(self, present: Mapping[str, str]) -> None:
        """Load all rows; before, none is known.

        Args:
            present: item -> key of its stored row.
        """
        self._present = present
        self._known = self._store.keys(KNOWN_ROWS, "known") if self._is_own() else {}

    def key_of(self, item_id: Any, row: str | None) -> str | None:
        """Return the key of the stored row of an item, where this row was read for it; None where it is to be read.

        Args:
            item_id: as the row has it; row: its digest, None where it has none.
        """
        item = str(item_id)
        key = self._present.get(item)
        return key if row is not None and key is not None and self._known.get(item) == chain(row, key) else None

    def add(self, item_id: str, row: str, key: str) -> None:
        """Add a row that was read: it is known while its item has this key."""
        self._read[item_id] = chain(row, key)

    def forget(self, item_id: str) -> None:
        """Leave out a row that was read: its item is removed, and no table names it."""
        self._read.pop(item_id, None)

    def save(self) -> None:
        """Store the rows that were read and not known; the caller holds the lock."""
        own = self._is_own()
        if not own and self._store.has(KNOWN_ROWS):
            self._store.db.drop_table(KNOWN_ROWS)
        known = self._store.keys_of(KNOWN_ROWS, self._read.keys(), "known") if own else {}
        new = {item: row for item, row in self._read.items() if known.get(item) != row}
        if new:
            rows = pa.table({"item_id": list(new), "known": list(new.values())}, schema=_SCHEMA)
            write = self._store.append if known.keys().isdisjoint(new) else self._store.merge
            write(KNOWN_ROWS, rows)

    def _is_own(self) -> bool:
        return bool(self._store.fields(KNOWN_ROWS).equals(_SCHEMA))

"""Read the tables of a folder by Lance alone: what needs no LanceDB answers without the second that its import takes.

`FolderReader` stands in for a LanceDB connection, and its tables for LanceDB's. Whatever they do not have themselves
(writes, vector search, words) is left to LanceDB, which is imported then; such a table uses it from there on.
Tables are read at the version they were opened at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from coldstart.store.folder import TABLE_SUFFIX

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
"""Names that LanceDB takes for tables; others it refuses itself."""


class FolderReader:
    """Reader of the tables in a folder, in place of a LanceDB connection.

    Args:
        uri: the folder, as LanceDB is given it.
        connect: opens the LanceDB connection.
    """

    def __init__(self, uri: str, connect: Callable[[], Any]) -> None:
        self.uri = uri
        self._connect = connect
        self._session = lance.Session()

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._connect(), attribute)

    def table_names(self) -> list[str]:
        """List the names of all tables, sorted."""
        return sorted(
            path.name.removesuffix(TABLE_SUFFIX) for path in Path(self.uri).iterdir() if path.suffix == TABLE_SUFFIX
        )

    def open_table(self, name: str) -> Any:
        """Open a table at its newest version.

        Raises:
            ValueError: there is no such table, or its name is none.
        """
        if not _NAME.fullmatch(name):
            return self._connect().open_table(name)
        path = f"{self.uri}/{name}{TABLE_SUFFIX}"
        return FolderTable(name, path, lance.dataset(path, session=self._session), self._connect)


class FolderTable:
    """Table of a folder at one version, in place of one of LanceDB."""

    def __init__(self, name: str, uri: str, dataset: Any, connect: Callable[[], Any]) -> None:
        self.name = name
        self.uri = uri
        self._dataset = dataset
        self._connect = connect
        self._checked_out: int | str | None = None
        self._full: Any = None

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.full(), attribute)

    def full(self) -> Any:
        """Open the same version by LanceDB."""
        if self._full is None:
            self._full = self._connect().open_table(self.name)
            if self._checked_out is not None:
                self._full.checkout(self._checked_out)
        return self._full

    @property
    def schema(self) -> pa.Schema:
        return self.to_lance().schema

    @property
    def version(self) -> int:
        return int(self.to_lance().version)

    @property
    def tags(self) -> Any:
        return self._dataset.tags if self._full is None else self._full.tags

    def to_lance(self) -> Any:
        return self._dataset if self._full is None else self._full.to_lance()

    def to_arrow(self) -> pa.Table:
        return self.search().to_arrow()

    def count_rows(self, filter: str | None = None) -> int:
        return int(self.to_lance().count_rows(filter))

    def checkout(self, version: int | str) -> None:
        if self._full is not None:
            self._full.checkout(version)
            return
        self._dataset = self._dataset.checkout_version(version)
        self._checked_out = version

    def search(self, *query: Any, **options: Any) -> Any:
        if query or options or self._full is not None:
            return self.full().search(*query, **options)
        return Scan(self)


class Scan:
    """Scan of a table in the order of its rows, built like a query of LanceDB."""

    def __init__(self, table: FolderTable) -> None:
        self._table = table
        self._columns: list[str] | None = None
        self._where: str | None = None
        self._limit: int | None = None
        self._with_row_id = False

    def select(self, columns: Sequence[str]) -> Scan:
        self._columns = list(columns)
        return self

    def where(self, condition: str) -> Scan:
        self._where = condition
        return self

    def limit(self, rows: int | None) -> Scan:
        self._limit = rows
        return self

    def with_row_id(self, wanted: bool) -> Scan:
        self._with_row_id = wanted
        return self

    def to_arrow(self, *, timeout: timedelta | None = None) -> pa.Table:
        if timeout is not None:  # which LanceDB alone keeps
            return self._by_lancedb().to_arrow(timeout=timeout)
        return self._scanner().to_table()

    def to_batches(self, batch_size: int | None = None) -> Iterator[pa.RecordBatch]:
        yield from self._scanner(batch_size).to_batches()

    def _scanner(self, batch_size: int | None = None) -> Any:
        return self._table.to_lance().scanner(
            columns=self._columns,
            filter=self._where,
            limit=self._limit,
            with_row_id=self._with_row_id,
            batch_size=batch_size,
        )

    def _by_lancedb(self) -> Any:
        query = self._table.full().search().limit(self._limit).with_row_id(self._with_row_id)
        if self._columns is not None:
            query = query.select(self._columns)
        return query if self._where is None else query.where(self._where)

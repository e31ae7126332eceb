"""Open a workspace: a LanceDB database that holds one catalogue.

Tables: `items` (written by ingest), `stage.*` (one a map stage and passport), `ledger` (items without a row, and the
reason), `runs` (reports), `pipelines` (the settings in force), `artifacts` and `artifact_files` (fits), `catalog` and
`publications` (served), `removed` (what was taken out), `layout` (its version) and `items_of_layout_1` (of an earlier
release, for keys).
Readers need no lock; writers take `lock()`. LanceDB is imported in this package alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import filelock
import platformdirs
import pyarrow as pa

from coldstart.core.stage import LedgerRow
from coldstart.core.uris import cannot_open, find_folder, plain_uri
from coldstart.errors import ColdstartError, MachineFault, redact_urls
from coldstart.models import install
from coldstart.store import item_keys, layout, tables, upkeep
from coldstart.store.artifacts import Artifacts
from coldstart.store.connection import connect
from coldstart.store.folder import check_folder, native_path
from coldstart.store.readers import FolderReader
from coldstart.store.sql import equals, one_of
from coldstart.store.upkeep import Maintenance as Maintenance

ITEMS = item_keys.ITEMS
LEDGER = "ledger"
RUNS = "runs"
PIPELINES = "pipelines"
EVALUATION = "evaluate all"
"""Name in the table `runs` of an evaluation, which stands among the runs of stages."""

_LEDGER_SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("item_id", pa.string()),
        ("row_key", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)
_RUN_SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("started_at", pa.timestamp("us", "UTC")),
        ("seconds", pa.float64()),
        ("report", pa.string()),
        ("seq", pa.int64()),
    ]
)
_PIPELINE_SCHEMA = pa.schema(
    [("saved_at", pa.timestamp("us", "UTC")), ("name", pa.string()), ("settings", pa.string()), ("seq", pa.int64())]
)
_DELETE_CHUNK = 500
_FEW_KEYS, _FEW_SHARE = 200, 50
"""Keys of so many items, or of one row in so many, are looked up by id."""
_READ_ROWS = 8192


class Store:
    """One catalogue in a LanceDB database.

    Args:
        uri: a folder, its `file://` URL, or any URI LanceDB takes (`s3://…`, `gs://…`, `db://…`).
        create: make the folder where it is missing.
        cache: folder for the files of fits; by default that of models.

    Raises:
        ColdstartError: there is no workspace at `uri` and `create` is false, or none can be opened there.
    """

    def __init__(self, uri: str | Path, *, create: bool = False, cache: Path | None = None) -> None:
        self.uri = plain_uri(str(uri))
        self._cache = cache
        self._locked: tuple[int, int] | None = None
        self.folder = find_folder(self.uri, create=create)
        try:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
                check_folder(self.folder)
            self._where = self.uri if self.folder is None else native_path(self.folder)
            self._connection = connect(self._where) if self.folder is None else None
        except (OSError, ValueError, RuntimeError) as error:
            raise cannot_open(self.uri, error) from error
        with suppress(tables.DamagedTable):  # `check` opens it
            self.layout_version()  # refuses that of a later release

    @property
    def db(self) -> Any:
        """Connection of LanceDB, which is imported when this is first used."""
        if self._connection is None:
            self._connection = connect(self._where)
        return self._connection

    @property
    def reader(self) -> Any:
        """Connection to read by: LanceDB once it is there, before that Lance alone, which answers a second sooner."""
        return self._reader if self._connection is None else self._connection

    @cached_property
    def _reader(self) -> FolderReader:
        return FolderReader(self._where, lambda: self.db)

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    # -- layout

    def layout_version(self) -> int:
        """Read the version of the workspace's layout; see `coldstart.store.layout`.

        Raises:
            ColdstartError: a later release of coldstart made it.
        """
        return layout.read_version(self)

    def set_layout_version(self, version: int = layout.CURRENT) -> None:
        """Record that the workspace was carried over to a layout version; the caller holds the lock."""
        layout.set_version(self, version)

    # -- tables

    def tables(self) -> list[str]:
        """List the names of all tables, sorted."""
        if self._connection is None:
            return self._reader.table_names()
        names: list[str] = []
        token = None
        while True:
            page = self.db.list_tables(page_token=token, limit=1000)
            names += page.tables
            token = page.page_token
            if not token:
                return sorted(names)

    def has(self, table: str) -> bool:
        return self._find(table) is not None

    def columns(self, table: str) -> list[str]:
        """List the columns of a table; none where it does not exist."""
        found = self._find(table)
        return [] if found is None else list(found.schema.names)

    def fields(self, table: str) -> pa.Schema:
        """Read the names and types of the columns of a table; none where it does not exist."""
        found = self._find(table)
        return pa.schema([]) if found is None else found.schema

    def count(self, table: str) -> int:
        """Count the rows of a table; 0 where it does not exist."""
        found = self._find(table)
        with tables.reading(self.reader, table):
            return 0 if found is None else int(found.count_rows())

    def parts(self, table: str) -> int:
        """Count the fragments that a table is stored in; 0 where it does not exist or its files are a server's."""
        found = self._find(table)
        if found is None or self.uri.startswith("db://"):
            return 0
        with tables.reading(self.reader, table):
            return len(found.to_lance().get_fragments())

    def metadata(self, table: str) -> dict[str, str]:
        """Read the string pairs stored when the table was created; none where it does not exist."""
        found = self._find(table)
        stored = {} if found is None else found.schema.metadata or {}
        return {key.decode(): value.decode() for key, value in stored.items()}

    def _find(self, table: str) -> Any:
        """Open a table; None where it does not exist."""
        return tables.open_table(self.reader, table)

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        ids: Sequence[str] | None = None,
        where: str | None = None,
    ) -> pa.Table:
        """Read a table as Arrow: some columns, the rows of some `ids`, or those that meet an SQL filter.

        Raises:
            ColdstartError: there is no such table.
        """
        found = self._find(table)
        if found is None:
            raise ColdstartError(
                f"workspace {self.uri} has no table {table!r}: it has {', '.join(self.tables()) or 'none'}"
            )
        if ids is not None:
            chunks = [
                self._query(found, columns, one_of("item_id", ids[start : start + _DELETE_CHUNK]))
                for start in range(0, len(ids), _DELETE_CHUNK)
            ]
            return pa.concat_tables(chunks) if chunks else self._query(found, columns, "false")
        return self._query(found, columns, where)

    def _query(self, table: Any, columns: Sequence[str] | None, where: str | None) -> pa.Table:
        missing = [column for column in columns or () if column not in table.schema.names]
        if missing:
            raise ColdstartError(
                f"table {table.name!r} of workspace {self.uri} has no column {missing[0]!r}: it has "
                f"{', '.join(table.schema.names)}"
            )
        with tables.reading(self.reader, table.name):
            query = table.search()
            if columns is not None:
                query = query.select(list(columns))
            if where is not None:
                query = query.where(where)
            return query.to_arrow()

    def batches(self, table: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read columns of a table piece by piece; nothing where it does not exist."""
        found = self._find(table)
        if found is not None:
            with tables.reading(self.reader, table):
                yield from found.search().select(list(columns)).to_batches(batch_size=_READ_ROWS)

    def keys(self, table: str, column: str = "row_key") -> dict[str, str]:
        """Read `item_id` -> key of every row; empty where the table does not exist."""
        found = self._find(table)
        if found is None:
            return {}
        rows = self._query(found, ["item_id", column], None)
        return dict(zip(rows["item_id"].to_pylist(), rows[column].to_pylist(), strict=True))

    def keys_of(self, table: str, ids: Collection[str], column: str = "row_key") -> dict[str, str]:
        """Read `item_id` -> key of the rows of some items: looked up where those are few, else by reading all."""
        if not ids or not self.has(table):
            return {}
        if len(ids) > max(_FEW_KEYS, self.count(table) // _FEW_SHARE):
            return {item: key for item, key in self.keys(table, column).items() if item in ids}
        rows = self.read(table, ["item_id", column], ids=list(ids))
        return dict(zip(rows["item_id"].to_pylist(), rows[column].to_pylist(), strict=True))

    def item_keys(self, fields: Collection[str] | None) -> dict[str, str]:
        """Compute item -> key of some fields of it (`coldstart.core.item_fields`); None for its whole record."""
        return item_keys.read_item_keys(self, fields)

    def merge(self, table: str, rows: pa.Table, on: Sequence[str] = ("item_id",)) -> None:
        """Insert rows, replacing those of equal `on` columns; makes the table (with the schema's metadata) if needed.

        Raises:
            ValueError: two rows of the batch are equal in `on` (LanceDB would store both).
        """
        distinct = rows.group_by(list(on)).aggregate([]).num_rows
        if distinct != rows.num_rows:
            raise ValueError(f"{rows.num_rows - distinct} repeated {'/'.join(on)} in one batch for table {table!r}")
        target = self.open_or_create(table, rows.schema)
        with tables.reading(self.db, table):
            target.merge_insert(list(on)).when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def next_in_sequence(self, table: str) -> int:
        """Return one more than the highest `seq` of a table; the caller holds the lock.

        A clock may go back, so that the order of rows is this number and no time. A table of an earlier release gets
        the column, empty in the rows it has.
        """
        found = self._find(table)
        if found is None:
            return 1
        if "seq" not in found.schema.names:
            with tables.reading(self.db, table):
                found.add_columns(pa.field("seq", pa.int64()))
            return 1
        return max((seq or 0 for seq in self.read(table, ["seq"])["seq"].to_pylist()), default=0) + 1

    def table_version(self, table: str) -> int:
        """Return the version of a table, which every write to it raises; 0 where there is none."""
        found = tables.open_table(self.db, table)
        return 0 if found is None else int(found.version)

    def in_sequence(self, table: str) -> list[dict[str, Any]]:
        """Read all rows of a table by rising `seq`; first those of earlier releases, in the order they were added."""
        found = self._find(table)
        if found is None:
            return []
        with tables.reading(self.reader, table):
            rows: list[dict[str, Any]] = found.search().with_row_id(True).to_arrow().to_pylist()
        rows.sort(key=lambda row: (row.get("seq") or 0, row.pop("_rowid")))
        return rows

    def append(self, table: str, rows: pa.Table) -> None:
        """Add rows at the end of a log table."""
        target = self.open_or_create(table, rows.schema)
        with tables.reading(self.db, table):
            target.add(rows)

    def _check_in_place(self) -> None:
        """Refuse to write once the locked folder is gone: LanceDB would begin a new one in its place.

        Raises:
            MachineFault: it was moved or removed.
        """
        if self.folder is not None and self._locked is not None and _identity(self.folder) != self._locked:
            raise MachineFault(
                f"workspace {self.uri} was moved or removed while it was written: put it back, or name its new place, "
                "and run the same command again to go on"
            )

    def open_or_create(self, table: str, schema: pa.Schema) -> Any:
        """Open a table that has every column of a schema; makes it, and adds columns, empty in the rows it has."""
        self._check_in_place()
        found = self._find(table)
        with tables.reading(self.db, table):
            if found is None:
                return self.db.create_table(table, schema=schema)
            if missing := [field for field in schema if field.name not in found.schema.names]:
                found.add_columns(missing)  # that a table of an earlier release lacks
            return found

    def delete(self, table: str, ids: Iterable[str]) -> None:
        """Remove the rows of some items."""
        self._delete(table, ids, "true")

    def _delete(self, table: str, ids: Iterable[str], condition: str) -> None:
        ids = sorted(ids)
        target = self._find(table) if ids else None
        if target is not None:
            self._check_in_place()
            with tables.reading(self.db, table):
                for start in range(0, len(ids), _DELETE_CHUNK):
                    target.delete(f"{one_of('item_id', ids[start : start + _DELETE_CHUNK])} AND {condition}")

    def drop(self, table: str, where: str) -> None:
        """Remove the rows that meet an SQL filter."""
        target = self._find(table)
        if target is not None:
            self._check_in_place()
            with tables.reading(self.db, table):
                target.delete(where)

    # -- artifacts

    @property
    def cache(self) -> Path:
        """Folder on this machine for the files of fits and for fits under way."""
        return self._cache or install.weights_dir()

    @property
    def artifacts(self) -> Artifacts:
        """Artifacts of fit stages."""
        return Artifacts(self)

    # -- ledger

    def ledger(self, stage: str | None = None) -> dict[str, dict[str, LedgerRow]]:
        """Read ledger rows by stage, then by item."""
        found: dict[str, dict[str, LedgerRow]] = {}
        if self.has(LEDGER):
            names = [name for name in _LEDGER_SCHEMA.names if name != "at"]
            for row in self.read(LEDGER, names, where=None if stage is None else equals("stage", stage)).to_pylist():
                row["detail"] = redact_urls(row["detail"] or "")  # one of an earlier release may hold secrets
                found.setdefault(row["stage"], {})[row["item_id"]] = LedgerRow(**row)
        return found

    def verdicts(self, stage: str) -> dict[str, LedgerRow]:
        """Read the ledger rows of one stage, by item."""
        return self.ledger(stage).get(stage, {})

    def record(self, rows: Sequence[LedgerRow]) -> None:
        """Write ledger rows, each replacing the one of its stage and item."""
        if rows:
            now = datetime.now(UTC)
            table = pa.Table.from_pylist([{**asdict(row), "at": now} for row in rows], schema=_LEDGER_SCHEMA)
            self.merge(LEDGER, table, on=("stage", "item_id"))

    def delete_verdicts(self, stage: str, ids: Iterable[str]) -> None:
        """Remove the ledger rows of some items in one stage."""
        self._delete(LEDGER, ids, equals("stage", stage))

    # -- pipelines and runs

    def save_pipeline(self, name: str, settings: Mapping[str, Any]) -> None:
        """Save the settings in force, so that later commands need not name them again."""
        with suppress(ColdstartError):  # settings that cannot be read are replaced
            if self.pipeline() == settings:
                return
        row = {
            "saved_at": datetime.now(UTC),
            "name": name,
            "settings": json.dumps(settings, ensure_ascii=False),
            "seq": self.next_in_sequence(PIPELINES),
        }
        self.append(PIPELINES, pa.Table.from_pylist([row], schema=_PIPELINE_SCHEMA))

    def pipeline(self) -> dict[str, Any] | None:
        """Read the settings saved last.

        Raises:
            ColdstartError: they cannot be read.
        """
        rows = self.in_sequence(PIPELINES)
        if not rows:
            return None
        with suppress(TypeError, ValueError, KeyError, RecursionError):
            settings = json.loads(rows[-1]["settings"])
            if isinstance(settings, dict):
                return settings
        raise ColdstartError(
            f"table {PIPELINES!r} of workspace {self.uri} is damaged (its last settings are no JSON object): name the "
            f"pipeline again, or `coldstart check --workspace {self.uri} --repair` for those before"
        )

    def save_run(self, stage: str, started_at: datetime, seconds: float, report: Mapping[str, Any]) -> None:
        row = {
            "stage": stage,
            "started_at": started_at,
            "seconds": seconds,
            "report": json.dumps(report, ensure_ascii=False),
            "seq": self.next_in_sequence(RUNS),
        }
        self.append(RUNS, pa.Table.from_pylist([row], schema=_RUN_SCHEMA))

    # -- one writer

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the right to write.

        Folders are locked in place, and the system frees the lock of a process that dies. A remote workspace is locked
        on this machine only: across machines, run one writer.

        Raises:
            ColdstartError: another process holds the lock; its process number is named.
        """
        if self.folder is not None:
            path = self.folder / ".coldstart.lock"
        else:
            path = (
                platformdirs.user_cache_path("coldstart")
                / "locks"
                / f"{sha256(self.uri.encode()).hexdigest()[:16]}.lock"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
        holder = path.with_suffix(".writer")
        try:
            held = filelock.FileLock(path).acquire(timeout=0)
        except filelock.Timeout:
            who = holder.read_text("utf-8") if holder.exists() else "another process"
            raise ColdstartError(
                f"workspace {self.uri} is being written by {who}: wait until it ends, or stop it", kind="busy"
            ) from None
        except OSError as error:
            raise ColdstartError(f"cannot write to workspace {self.uri}: {error.strerror or error}") from error
        with held:
            self._connection = self.db  # a writer reads by LanceDB, too: tables as they are after each write
            if not self.tables():
                self.set_layout_version()
            holder.write_text(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", "utf-8")
            self._locked = None if self.folder is None else _identity(self.folder)
            try:
                yield
            finally:
                self._locked = None

    # -- upkeep

    def size_bytes(self) -> int:
        """Measure the bytes on disk; 0 for a remote store."""
        return upkeep.size_bytes(self)

    def maintain(self, keep: timedelta = timedelta(hours=1), *, skip: Sequence[str] = ()) -> Maintenance:
        """Compact every table but those of `skip`, and sweep what is no longer needed; see `upkeep.maintain`."""
        return upkeep.maintain(self, keep, skip=skip)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Identify a folder by device and inode; None where there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino

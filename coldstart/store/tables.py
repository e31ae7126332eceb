"""Open the tables of a workspace, and tell what is wrong with one that cannot be read.

LanceDB stores no checksums: bytes that changed on the disk end in a parse error or a panic somewhere below. Here they
become one line that names the table. Faults of the machine (disk full, too many open files) stay what they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from coldstart.errors import ColdstartError, machine_fault

if TYPE_CHECKING:
    import lancedb

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_PANICS = ("PanicException", "RustPanic")
_LANCE = re.compile(r"lance error|LanceError|^Invalid input|^Dataset at path|panicked|\.rs:\d+")
"""Marks of an error that LanceDB's native part raised."""
WITHOUT_FILES = ("db://", "memory://", "shared-memory://")
"""Start of URIs of databases whose files Lance cannot open beside LanceDB: a server, and the memory of a process."""
_FAULTS_OF_A_CALL = (
    *("No field named", "different schema", "Schema error", "filter expression", "sql parser", "SQL error"),
    *("exhausted", "Execution error", "coerc", "cast", "not supported"),
)
"""Marks of errors about what a caller asked for, or about memory; the stored bytes are as they should be."""


class DamagedTable(ColdstartError):  # noqa: N818  (a state that a repair mends)
    """A table cannot be read, or holds what it never should.

    Attributes:
        reason: what is wrong, without the table and the next step.
    """

    kind = "damaged"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.reason)


def workspace_of(db: lancedb.DBConnection) -> str:
    """Return the folder or URI of a database, for messages and commands."""
    place = Path(str(db.uri))
    return str(place.readlink()) if place.is_symlink() else str(db.uri)  # a name that `native_path` gave


def open_table(db: lancedb.DBConnection, name: str) -> Any:
    """Open a table at its newest version; None where it does not exist.

    A kill while a table is made can leave a folder that LanceDB lists and cannot open: that is no table either, and
    making it again mends it.

    Raises:
        ColdstartError: it cannot be read, or takes rows from elsewhere.
    """
    with reading(db, name):
        try:
            table = db.open_table(name)
        except ValueError as error:
            if "was not found" not in str(error):
                raise
            error.__traceback__ = None  # LanceDB's thread keeps its last error, and so what all callers hold
            return None
        check_table(db, table)
        return table


def check_table(db: lancedb.DBConnection, table: Any) -> None:
    """Refuse a version of a table that takes rows from elsewhere, or lacks columns that it must have.

    Raises:
        ColdstartError: it does.
    """
    _check_place(db, table)
    if fault := column_fault(table.name, table.schema):
        raise damaged(db, table.name, fault)


def column_fault(name: str, schema: pa.Schema) -> str | None:
    """Find a column that every table of the name has had from the first release on, and this one lacks."""
    wanted = _COLUMNS.get(name, {})
    if name.startswith("stage."):
        wanted = _CACHED if "text_key" in schema.names else _ROWS
    for kind, columns in wanted.items():
        for column in columns.split():
            at = schema.get_field_index(column)
            if at < 0:
                return f"it has no column {column!r}"
            if not _KINDS[kind](schema.field(at).type):
                return f"its column {column!r} is of type {str(schema.field(at).type)[:40]}"
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_data(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


_KINDS = {
    "text": _is_text,
    "data": _is_data,
    "count": pa.types.is_integer,
    "number": pa.types.is_floating,
    "time": pa.types.is_timestamp,
}
_ROWS = {"text": "item_id row_key"}
_CACHED = {"text": "text_key"}
_COLUMNS: dict[str, dict[str, str]] = {
    "items": _ROWS,
    "items_of_layout_1": _ROWS,
    "ledger": {"text": "stage item_id row_key state reason detail"},
    "runs": {"text": "stage report"},
    "pipelines": {"text": "settings"},
    "artifacts": {"text": "digest name key report"},
    "artifact_files": {"text": "digest path", "data": "data"},
    "catalog": {"text": "item_id index_key"},
    "publications": {"count": "number version rows previous", "time": "published_at", "text": "passports indexes"},
    "interactions": {"count": "row_key", "text": "user_id item_id event", "time": "timestamp", "number": "weight"},
    "interactions_rejected": {"text": "file reason detail", "count": "row"},
    "impressions": {
        "count": "row_key position",
        "text": "user_id item_id surface request_id",
        "time": "timestamp outcome_at",
        "number": "propensity",
    },
    "impressions_early": {"count": "row_key", "text": "user_id item_id request_id", "time": "timestamp outcome_at"},
    "impressions_rejected": {"text": "file reason detail", "count": "row"},
    "layout": {"count": "version"},
    "removed": {"text": "what key", "time": "at"},
    "decisions": {"text": "decision_id item_id action subject reason by", "time": "at"},
}
"""Table -> kind of column -> names of those that code reads without looking whether they are there."""


def _check_place(db: lancedb.DBConnection, table: Any) -> None:
    """Refuse a version of a table that takes rows from elsewhere, as Lance's shallow clones do.

    A stranger's workspace could otherwise show what stands in another one, or make this machine ask a host.

    Raises:
        ColdstartError: it does; the place is named.
    """
    if str(db.uri).startswith(WITHOUT_FILES):
        return
    for base in table.to_lance().base_paths().values():
        raise ColdstartError(
            f"table {table.name!r} of workspace {workspace_of(db)} takes rows from {base.path!r}: a workspace holds "
            "its own rows; ask whoever made it for a full copy"
        )


@contextmanager
def reading(db: lancedb.DBConnection, name: str) -> Iterator[None]:
    """Turn what LanceDB raises over a table whose files are damaged into one line with the next step.

    Raises:
        ColdstartError: the table is damaged.
        OSError: the system refused, as for a full disk.
    """
    try:
        yield
    except ColdstartError:
        raise
    except BaseException as error:
        text = str(error)
        if not is_damage(error):
            raise
        where = workspace_of(db)
        number = _OS_ERROR.search(text)
        if number and int(number[1]) != 2:  # a file that is missing is damage
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(Path(where) / f"{name}.lance")) from error
        raise_if_not_damage(error)
        raise damaged(db, name, short(text)) from error


def is_damage(error: BaseException) -> bool:
    """Tell whether LanceDB raised an error over bytes that it cannot read."""
    if type(error).__name__ in _PANICS:
        return True
    text = str(error)
    return (
        isinstance(error, (OSError, RuntimeError, ValueError))
        and _LANCE.search(text) is not None
        and not any(mark in text for mark in _FAULTS_OF_A_CALL)
    )


def raise_if_not_damage(error: BaseException) -> None:
    """Let an interrupt and faults of the machine through: a check and a repair take anything else for damage."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)) or machine_fault(error):
        raise error


def damaged(db: lancedb.DBConnection, name: str, reason: str) -> DamagedTable:
    """Build the error about a table that cannot be read, with the next step."""
    where = workspace_of(db)
    return DamagedTable(
        f"table {name!r} of workspace {where} is damaged ({reason}): `coldstart check --workspace {where} --repair`",
        reason,
    )


class GuardedTable:
    """Table, its dataset in Lance, or a query of either, whose every call runs in `reading`."""

    def __init__(self, db: lancedb.DBConnection, name: str, inner: Any) -> None:
        self._db, self._name, self._inner = db, name, inner

    def __getattr__(self, attribute: str) -> Any:
        with reading(self._db, self._name):
            found = getattr(self._inner, attribute)
        if not callable(found):
            return found

        def call(*values: Any, **options: Any) -> Any:
            with reading(self._db, self._name):
                result = found(*values, **options)
                if attribute == "to_batches":
                    return self._batches(result)
            is_query = hasattr(result, "to_arrow") or hasattr(result, "to_table")  # of LanceDB, or of Lance
            return GuardedTable(self._db, self._name, result) if is_query else result

        return call

    def _batches(self, reader: Iterator[Any]) -> Iterator[Any]:
        with reading(self._db, self._name):
            yield from reader


def short(text: str) -> str:
    """Cut an error of Lance to its message: without sources of its own build and folders."""
    line = re.sub(r",? ?/\S+\.rs:\d+(:\d+)?.*", "", text.partition("\n")[0])
    line = re.sub(r"^(External error: )?(lance error: )?(LanceError\(\w+\): )?", "", line)
    return re.sub(r"^Invalid user input: ", "Invalid input, ", line)[:160]  # as LanceDB words what Lance says

"""Write a table into a file block by block, in the format that the end of its name states.

The file appears only once it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from coldstart.errors import ColdstartError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


class Writer(Protocol):
    """Writer of blocks of one table."""

    def write_table(self, table: pa.Table) -> Any: ...


def check_out_path(out: Path, option: str = "--out") -> None:
    """Check the end of the name of a file of rows.

    Raises:
        ColdstartError: it states no format that can be written.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ColdstartError(f"{option} {out}: give a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


@contextmanager
def table_writer(out: Path, schema: pa.Schema, option: str = "--out") -> Iterator[Writer]:
    """Open a writer of blocks of rows of one schema.

    Raises:
        ColdstartError: as for `check_out_path`, or the file cannot be written.
    """
    check_out_path(out, option)
    partial = out.with_name(f".{out.name}.partial")
    try:
        with ExitStack() as opened:
            yield _writer(partial, out.suffix.lower(), schema, opened)
        partial.replace(out)
    except OSError as error:
        raise ColdstartError(
            f"cannot write {out}: {error.strerror or error}; name another file with {option}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _writer(path: Path, suffix: str, schema: pa.Schema, opened: ExitStack) -> Writer:
    writer: Any
    if suffix == ".parquet":
        writer = pq.ParquetWriter(path, schema)
    elif suffix in (".json", ".jsonl"):
        writer = _JsonWriter(path, is_list=suffix == ".json")
    else:
        options = pa_csv.WriteOptions(delimiter="\t" if suffix == ".tsv" else ",")
        writer = pa_csv.CSVWriter(path, schema, write_options=options)
    return cast("Writer", opened.enter_context(writer))


class _JsonWriter:
    """Writer of an object a line, as a JSON array or without one."""

    def __init__(self, path: Path, is_list: bool) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._start, self._between, self._end = ("[\n", ",\n", "\n]\n") if is_list else ("", "\n", "\n")
        self._is_empty = True

    def __enter__(self) -> _JsonWriter:
        self._file.write(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.write(self._end if not self._is_empty or self._start else "")
        self._file.close()

    def write_table(self, table: pa.Table) -> None:
        """Append rows, float32 with the digits that it has."""
        for place, entry in enumerate(table.schema):
            if pa.types.is_float32(entry.type):
                digits = table.column(place).cast(pa.string()).cast(pa.float64())
                table = table.set_column(place, entry.name, digits)
        for row in table.to_pylist():
            line = json.dumps(row, ensure_ascii=False, default=_iso)
            self._file.write(line if self._is_empty else f"{self._between}{line}")
            self._is_empty = False


def _iso(value: datetime) -> str:
    """Write a time, which JSON has no type for, as other files of ours have it."""
    return value.isoformat()

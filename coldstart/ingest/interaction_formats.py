"""Read columns of CSV, TSV, JSON and Parquet files, block by block, with row numbers. Knows no meaning of columns.

CSV and Parquet are parsed by Arrow; JSONL line by line, some 150,000 a second. Rows of CSV and Parquet are counted from
1 without the header and without blank lines; of JSONL the lines are counted, of a JSON array its objects.
"""

from __future__ import annotations

import codecs
import io
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coldstart.core.values import EXACT
from coldstart.errors import ColdstartError
from coldstart.ingest.files import KNOWN, TableFile, find_delimiter, open_utf8, read_json_rows, table_file

_HEADER_BYTES, _BLOCK_BYTES, _BLOCK_ROWS, _BLOCK_LINES = 1 << 20, 1 << 25, 500_000, 100_000


@dataclass(frozen=True)
class RawBlock:
    """Rows of one block as the file has them.

    Attributes:
        columns: the requested ones, [N]: bytes of CSV, text of JSONL, any type of Parquet.
        rows: their numbers, int64 [N].
        broken: rows that could not be parsed: number and why.
    """

    columns: Mapping[str, pa.Array]
    rows: NDArray[np.int64]
    broken: list[tuple[int, str]] = field(default_factory=list)


Reader = Callable[[list[str]], Iterator[RawBlock]]
"""Names of columns -> their rows."""


def _open_csv(file: TableFile) -> tuple[list[str], Reader]:
    delimiter = find_delimiter(file)
    broken: deque[tuple[int, str]] = deque()

    def note(row: Any) -> str:
        broken.append((row.number - 1, f"{row.actual_columns} columns where the header has {row.expected_columns}"))
        return "skip"

    reading = pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)  # in threads rows have no numbers
    parsing = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note)
    first = pa_csv.ReadOptions(block_size=_HEADER_BYTES, use_threads=False)
    converting = pa_csv.ConvertOptions(check_utf8=False)
    with open_utf8(file) as stream, pa_csv.open_csv(_Marked(stream), first, parsing, converting) as opened:
        names = opened.schema.names
    if any(_MARK in name for name in names):
        raise ColdstartError(f"header of {file.path}: not UTF-8: save the file as UTF-8")

    def blocks(columns: list[str]) -> Iterator[RawBlock]:
        broken.clear()
        kinds = dict.fromkeys(columns, pa.binary())
        converting = pa_csv.ConvertOptions(include_columns=columns, column_types=kinds, strings_can_be_null=False)
        last = 0
        with (
            open_utf8(file) as stream,
            pa_csv.open_csv(marked := _Marked(stream), reading, parsing, converting) as batches,
        ):
            for batch in batches:
                stop = last + batch.num_rows
                own: list[tuple[int, str]] = []
                while broken and broken[0][0] <= stop + 1:
                    own.append(broken.popleft())
                    stop += 1
                rows = np.setdiff1d(np.arange(last + 1, stop + 1), [row for row, _ in own], assume_unique=True)
                found = [_unmarked(column) if marked.bad else column for column in batch.columns]
                yield RawBlock(dict(zip(columns, found, strict=True)), rows, own)
                last = stop
        yield RawBlock({name: pa.array([], pa.binary()) for name in columns}, np.empty(0, np.int64), list(broken))

    return names, blocks


_MARK = "\U0010ffff"
codecs.register_error("coldstart-mark", lambda error: (_MARK, getattr(error, "end")))  # noqa: B009  (of any subclass)


class _Marked(io.RawIOBase):
    """A stream in which a mark stands for bytes that are not UTF-8, with which Arrow reports no row.

    `bad` tells whether there were such bytes.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._rest, self.bad = source, memoryview(b""), False
        self._decoder = codecs.getincrementaldecoder("utf-8")("coldstart-mark")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            chunk = self._source.read(len(target))
            text = self._decoder.decode(chunk, final=not chunk)
            self.bad = self.bad or (not text.isascii() and _MARK in text)
            self._rest = memoryview(text.encode())
            if not chunk:
                break
        size = min(len(target), len(self._rest))
        target[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _unmarked(column: pa.Array) -> pa.Array:
    """Put a byte that is not UTF-8 in place of each mark, for its row to be turned away."""
    return pc.replace_substring(column, _MARK.encode(), b"\xff")


def _open_parquet(file: TableFile) -> tuple[list[str], Reader]:
    path = file.path
    names = pq.read_schema(path).names

    def blocks(columns: list[str]) -> Iterator[RawBlock]:
        last = 0
        with pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(_BLOCK_ROWS, columns=columns):
                rows = np.arange(last + 1, last + 1 + batch.num_rows)
                yield RawBlock({name: batch.column(name) for name in columns}, rows)
                last += batch.num_rows

    return names, blocks


def _open_json(file: TableFile) -> tuple[list[str], Reader]:
    def objects() -> Generator[tuple[int, dict[str, Any] | str], None, None]:
        yield from read_json_rows(file, doubled_keys=True)

    with closing(objects()) as lines:
        first = [found for _, found in islice(lines, 1000) if isinstance(found, dict)]
    if not first:
        raise ColdstartError(f"{file.path} has no JSON object in its first 1000 lines: give one interaction a line")

    def blocks(columns: list[str]) -> Iterator[RawBlock]:
        lines = objects()
        for start in lines:
            values: dict[str, list[str | None]] = {name: [] for name in columns}
            rows: list[int] = []
            broken: list[tuple[int, str]] = []
            for line, found in chain([start], islice(lines, _BLOCK_LINES - 1)):
                if isinstance(found, str):
                    broken.append((line, found))
                    continue
                rows.append(line)
                for name in columns:
                    values[name].append(_text(found.get(name)))
            try:
                arrays = {name: pa.array(column, pa.string()) for name, column in values.items()}
            except UnicodeEncodeError:
                good = _without_surrogates(values, rows, broken)
                arrays = {name: pa.array([column[place] for place in good]) for name, column in values.items()}
                rows = [rows[place] for place in good]
            yield RawBlock(arrays, np.array(rows, np.int64), broken)

    return list(dict.fromkeys(chain.from_iterable(first))), blocks


def _without_surrogates(
    values: Mapping[str, list[str | None]], rows: list[int], broken: list[tuple[int, str]]
) -> list[int]:
    """List the places of rows whose texts are Unicode, and note the others as broken."""
    faults: dict[int, str] = {}
    for name, column in values.items():
        for place, text in enumerate(column):
            if text and not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
                faults.setdefault(place, f"{name!r} is no Unicode text: it holds a lone surrogate")
    broken += [(rows[place], fault) for place, fault in faults.items()]
    return [place for place in range(len(rows)) if place not in faults]


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # NaN stands for none
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT else str(value)


_OPENERS: dict[str, Callable[[TableFile], tuple[list[str], Reader]]] = {
    "csv": _open_csv,
    "tsv": _open_csv,
    "jsonl": _open_json,
    "json": _open_json,
    "parquet": _open_parquet,
}


def open_table(path: Path) -> tuple[list[str], Reader]:
    """Open a table: the names of its columns, and what reads them.

    Raises:
        ColdstartError: its format is unknown, or it is damaged.
    """
    file = table_file(path)
    if file is None or (file.packed and file.kind == "parquet"):
        raise ColdstartError(f"unknown format {path.suffix or path.name!r} of {path}: give {KNOWN}")
    return _OPENERS[file.kind](file)

"""Read CSV, TSV and the like: row by row with Python's csv module, and block by block with Arrow. Knows no columns."""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from coldstart.errors import ColdstartError
from coldstart.ingest.files import MAX_LINE_BYTES, TableFile, find_delimiter, open_utf8
from coldstart.ingest.tables import RawBlock, Row, Table, distinct_names

_HEADER_BYTES, _BLOCK_BYTES = 1 << 20, 1 << 25


def open_csv(file: TableFile) -> Table:
    """Open a file of CSV, whatever separates its columns."""
    delimiter = find_delimiter(file)
    broken: deque[tuple[int, str]] = deque()

    def note(row: Any) -> str:
        broken.append((row.number - 1, f"{row.actual_columns} columns where the header has {row.expected_columns}"))
        return "skip"

    reading = pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)  # in threads rows have no numbers
    parsing = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note)
    first = pa_csv.ReadOptions(block_size=_HEADER_BYTES, use_threads=False)
    converting = pa_csv.ConvertOptions(check_utf8=False)
    written: list[str] = []
    try:
        with open_utf8(file) as stream, pa_csv.open_csv(_Marked(stream), first, parsing, converting) as opened:
            written = opened.schema.names
    except pa.ArrowInvalid as error:
        if "Empty CSV file" not in str(error):
            raise
    names, doubled = distinct_names([name.strip() for name in written])
    for place, name in enumerate(names, start=1):
        if _MARK in name:
            raise ColdstartError(f"header of {file.path}: column {place} is not UTF-8: save the file as UTF-8")

    def blocks(columns: list[str]) -> Iterator[RawBlock]:
        broken.clear()
        wanted = [written[names.index(column)] for column in columns]
        kinds = dict.fromkeys(wanted, pa.binary())
        converting = pa_csv.ConvertOptions(include_columns=wanted, column_types=kinds, strings_can_be_null=False)
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

    kind = "tsv" if delimiter == "\t" else "csv"
    return Table(file.path, kind, names, rows=lambda: _rows(file), blocks=blocks, doubled=doubled)


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


def _rows(file: TableFile) -> Iterator[Row]:
    path, delimiter = file.path, find_delimiter(file)
    with open_utf8(file) as stream, io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="") as text:
        rows = csv.reader(_lines(text, path), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            line = rows.line_num + 1  # where the row begins: text in quotes may run over several lines
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                if header is None:
                    raise ColdstartError(f"header of {path}: not CSV: {error}") from error
                yield line, f"not CSV: {error}"
                continue
            if not cells:
                continue
            if header is None:
                header = _header(path, cells)
                continue
            fields = dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=False))
            if len(cells) > len(header):
                yield line, f"{len(cells)} columns where the header has {len(header)}"
            elif bad := [name for name, value in fields.items() if _undecodable(value)]:
                yield line, f"not UTF-8 in {', '.join(bad)}: save the file as UTF-8"
            else:
                yield line, fields


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    while line := text.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ColdstartError(f"a line of {path} is longer than {MAX_LINE_BYTES} characters: shorten it")
        yield line


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    for place, name in enumerate(names, start=1):
        if not name:
            raise ColdstartError(f"header of {path}: column {place} has no name: name it or take it out")
        if _undecodable(name):
            raise ColdstartError(f"header of {path}: column {place} is not UTF-8: save the file as UTF-8")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise ColdstartError(f"header of {path}: one column {names[0]!r}: put commas between the columns")
    return distinct_names(names)[0]


def _undecodable(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)

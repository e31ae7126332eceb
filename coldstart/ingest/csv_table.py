"""Read CSV, TSV and the like: row by row with Python's csv module, and block by block with Arrow. Knows no columns.

Both follow one spelling, found on the first lines. A row that lacks its last cells is filled, as spreadsheets leave
them out; one with more cells than the header is rejected unless they are empty.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from coldstart.errors import ColdstartError
from coldstart.ingest.csv_dialect import DELIMITERS, DOUBLED, ESCAPED, PLAIN, Dialect, find_dialect
from coldstart.ingest.encodings import MARK
from coldstart.ingest.files import HEAD_BYTES, MAX_LINE_BYTES, READ_BYTES, TableFile, open_utf8, whole_lines
from coldstart.ingest.header import header_fault, name_columns
from coldstart.ingest.table import RawBlock, Row, Table

_BLOCK_BYTES, _PARSED_BYTES = 1 << 25, 1 << 23
"""Bytes of a block of rows, and of the parts that Arrow parses: it reads up to 32 of them ahead."""
_DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

_QUOTES = {
    ESCAPED: "quotes in its cells stand behind a backslash",
    PLAIN: "its quotes are letters, and enclose no cells",
}


@dataclass(frozen=True)
class _Layout:
    """Spelling of a file: `names` of all columns, `skipped` rows and `offset` bytes up to the end of its header.

    `carriage`: \\r alone ends its lines.
    """

    dialect: Dialect
    names: list[str]
    skipped: int
    offset: int
    carriage: bool

    @property
    def parsing(self) -> dict[str, Any]:
        """Arguments of `csv.reader`."""
        return {**self.dialect.arguments(), "strict": True}


def open_csv(file: TableFile) -> Table:
    """Open a file of CSV, whatever separates its columns.

    Raises:
        ColdstartError: its header cannot be read.
    """
    with open_utf8(file) as stream:
        head = stream.read(HEAD_BYTES).decode("utf-8", "surrogateescape")
    usual = "\t" if file.kind == "tsv" else ","
    dialect = find_dialect(whole_lines(head), usual)
    kind = "tsv" if dialect.delimiter == "\t" else "csv"
    header, skipped, size = _header(file, dialect)
    notes, doubts = [*file.notes], list[str]()
    if file.encoding.note:
        notes.append(file.encoding.note)
    if file.encoding.doubt:
        doubts.append(file.encoding.doubt)
    if not header:
        return Table(file.path, kind, [], rows=lambda: iter(()), blocks=lambda columns: iter(()), notes=notes)
    columns = name_columns(file.path, header, dialect.rows)
    names = columns.names
    if len(names) == 1 and any(mark in names[0] for mark in DELIMITERS):
        raise ColdstartError(f"header of {file.path}: one column {names[0]!r}: take the quotes off its lines")
    layout = _Layout(dialect, names, skipped, size, "\n" not in head and "\r" in head)
    if len(names) > 1 and dialect.delimiter != usual:
        notes.append(f"its columns are parted by {_DELIMITER_NAMES.get(dialect.delimiter, repr(dialect.delimiter))}")
    if dialect.quotes != DOUBLED:
        notes.append(_QUOTES[dialect.quotes])
    if dialect.titles:
        notes.append(f"its header stands below {dialect.titles[0][:60]!r}")
    notes += columns.notes
    if fault := header_fault(header):
        doubts.append(fault)
    return Table(
        file.path,
        kind,
        columns.shown,
        rows=lambda: _rows(file, layout, frozenset(names).difference(columns.shown)),
        blocks=lambda wanted: _blocks(file, layout, wanted),
        notes=notes,
        doubts=doubts,
        doubled=columns.doubled,
    )


def _header(file: TableFile, dialect: Dialect) -> tuple[list[str], int, int]:
    """Read the header strictly: its cells, and how many rows and bytes it and those before it are.

    Raises:
        ColdstartError: it is no CSV, or not in the file's encoding.
    """
    rows, place, size = 0, 0, 0

    def counted(lines: Iterator[str]) -> Iterator[str]:
        nonlocal size
        for line in lines:
            size += len(line.encode("utf-8", "surrogateescape"))
            yield line

    with open_utf8(file) as stream, io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="") as text:
        reader = csv.reader(counted(_lines(text, file.path)), **_Layout(dialect, [], 0, 0, False).parsing)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return [], rows, size
            except csv.Error as error:
                raise ColdstartError(f"header of {file.path}: not CSV: {error}") from error
            rows += 1
            if not cells:
                continue
            if place == dialect.first:
                for number, cell in enumerate(cells, start=1):
                    if undecodable(cell):
                        raise ColdstartError(
                            f"header of {file.path}: column {number} is not UTF-8: save the file as UTF-8"
                        )
                return cells, rows, size
            place += 1


def _rows(file: TableFile, layout: _Layout, nameless: frozenset[str]) -> Iterator[Row]:
    names = layout.names
    with open_utf8(file) as stream, io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="") as text:
        reader = csv.reader(_lines(text, file.path), **layout.parsing)
        for _ in range(layout.skipped):
            next(reader)
        while True:
            line = reader.line_num + 1  # where the row begins: text in quotes may run over several lines
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, f"not CSV: {error}"
                continue
            if not cells:
                continue
            if fault := _fill(cells, len(names)):
                yield line, fault
                continue
            fields = dict(zip(names, cells, strict=True))
            if bad := [name for name, value in fields.items() if undecodable(value)]:
                yield line, f"not UTF-8 in {', '.join(bad)}: save the file as UTF-8"
                continue
            for name in nameless:
                if not fields[name]:
                    del fields[name]
            yield line, fields


def _fill(cells: list[str], width: int) -> str:
    """Bring a row to its width; returns its fault, cells beyond the header that are not empty, or ""."""
    found = len(cells)
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    if len(cells) > width:
        return f"{found} columns where the header has {width}"
    cells += [""] * (width - len(cells))
    return ""


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    while line := text.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ColdstartError(f"a line of {path} is longer than {MAX_LINE_BYTES} characters: shorten it")
        yield line


def undecodable(text: str) -> bool:
    """Return True for a text with bytes that are no text, as `surrogateescape` keeps them."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def _blocks(file: TableFile, layout: _Layout, columns: list[str]) -> Iterator[RawBlock]:
    """Read columns as bytes, in blocks of about `_BLOCK_BYTES`; see `_parsed`."""
    waiting: list[RawBlock] = []
    size = 0
    for block in _parsed(file, layout, columns):
        waiting.append(block)
        size += sum(column.nbytes for column in block.columns.values())
        if size >= _BLOCK_BYTES:
            yield _joined(waiting)
            waiting, size = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[RawBlock]) -> RawBlock:
    if len(blocks) == 1:
        return blocks[0]
    columns = {name: pa.concat_arrays([block.columns[name] for block in blocks]) for name in blocks[0].columns}
    broken = [one for block in blocks for one in block.broken]
    return RawBlock(columns, np.concatenate([block.rows for block in blocks]), broken)


def _parsed(file: TableFile, layout: _Layout, columns: list[str]) -> Iterator[RawBlock]:
    """Read columns as bytes, as Arrow parses them; rows are counted from 1 below the header, without blank lines."""
    width, places = len(layout.names), [layout.names.index(column) for column in columns]
    odd: deque[tuple[int, str | list[str]]] = deque()

    def note(row: Any) -> str:
        try:
            cells: list[str] = next(csv.reader(io.StringIO(row.text, newline=""), **layout.parsing), [])
        except csv.Error as error:
            odd.append((row.number, f"not CSV: {error}"))
            return "skip"
        odd.append((row.number, _fill(cells, width) or cells))
        return "skip"

    reading = pa_csv.ReadOptions(
        block_size=min(_BLOCK_BYTES, _PARSED_BYTES),
        use_threads=False,  # in threads rows have no numbers
        column_names=layout.names,
    )
    parsing = pa_csv.ParseOptions(
        delimiter=layout.dialect.delimiter,
        quote_char=False if layout.dialect.quotes == PLAIN else '"',
        double_quote=layout.dialect.quotes == DOUBLED,
        escape_char="\\" if layout.dialect.quotes == ESCAPED else False,
        newlines_in_values=layout.dialect.quotes != PLAIN,
        invalid_row_handler=note,
    )
    converting = pa_csv.ConvertOptions(
        include_columns=columns, column_types=dict.fromkeys(columns, pa.binary()), strings_can_be_null=False
    )
    last = 0
    with open_utf8(file) as stream:
        stream.read(layout.offset)
        marked = _Marked(stream, layout.carriage)
        below = io.BufferedReader(marked, READ_BYTES)
        if not below.peek(1)[:1]:
            return
        try:
            opened = pa_csv.open_csv(below, reading, parsing, converting)
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):
                raise
            opened = None
        if opened is not None:
            with opened as batches:
                for batch in batches:
                    stop = last + batch.num_rows
                    own: list[tuple[int, str | list[str]]] = []
                    while odd and odd[0][0] <= stop + 1:
                        own.append(odd.popleft())
                        stop += 1
                    found = [_unmarked(column) if marked.bad else column for column in batch.columns]
                    numbers = np.setdiff1d(np.arange(last + 1, stop + 1), [row for row, _ in own], assume_unique=True)
                    yield _with_odd(dict(zip(columns, found, strict=True)), numbers, own, places)
                    last = stop
    if odd:
        yield _with_odd({name: pa.array([], pa.binary()) for name in columns}, np.empty(0, np.int64), [*odd], places)


def _with_odd(
    arrays: dict[str, pa.Array], numbers: Any, odd: list[tuple[int, str | list[str]]], places: list[int]
) -> RawBlock:
    """Put rows that were filled in their places among those of a block."""
    broken = [(number, fault) for number, fault in odd if isinstance(fault, str)]
    filled = [(number, cells) for number, cells in odd if not isinstance(cells, str)]
    if not filled:
        return RawBlock(arrays, numbers, broken)
    numbers = np.concatenate([numbers, [number for number, _ in filled]])
    order = np.argsort(numbers, kind="stable")
    whole = {
        name: pa.concat_arrays(
            [column, _unmarked(pa.array([cells[place].encode() for _, cells in filled], pa.binary()))]
        ).take(pa.array(order))
        for (name, column), place in zip(arrays.items(), places, strict=True)
    }
    return RawBlock(whole, numbers[order], broken)


class _Marked(io.RawIOBase):
    """A stream in which a mark stands for bytes that are not UTF-8, with which Arrow reports no row.

    `bad`: there were such bytes. Where `carriage` ends lines, a line feed takes its place.
    """

    def __init__(self, source: BinaryIO, carriage: bool) -> None:
        self._source, self._rest, self.bad = source, memoryview(b""), False
        self._carriage = carriage
        self._decoder = codecs.getincrementaldecoder("utf-8")("coldstart-mark")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            chunk = self._source.read(len(target))
            text = self._decoder.decode(chunk, final=not chunk)
            if self._carriage:
                text = text.replace("\r", "\n")
            self.bad = self.bad or (not text.isascii() and MARK in text)
            self._rest = memoryview(text.encode())
            if not chunk:
                break
        size = min(len(target), len(self._rest))
        target[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _unmarked(column: pa.Array) -> pa.Array:
    """Put a byte that is not UTF-8 in place of each mark, for its row to be rejected."""
    return pc.replace_substring(column, MARK.encode(), b"\xff")

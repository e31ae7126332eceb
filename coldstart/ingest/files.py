"""Open the files of tables, whatever their format: suffixes, gzip, encodings, delimiters. Knows no rows.

Files come from strangers: what a packed file unpacks to and the length of a line have limits.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from coldstart.core.values import delimiter_of
from coldstart.errors import ColdstartError

MAX_LINE_BYTES = 16 * 2**20
"""Bytes of one line, or of one object of a JSON array."""
MAX_UNPACKED_BYTES = 64 * 2**30
"""Bytes that a .gz file may unpack to."""

KNOWN = "a .jsonl, .json, .csv, .tsv, .txt or .parquet file"

_KINDS = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab", ".txt"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
HEAD_BYTES = 2**16
READ_BYTES = 2**20


@dataclass(frozen=True)
class TableFile:
    """A file of rows: `kind` is jsonl, json, csv, tsv or parquet; `packed` whether gzip wraps it."""

    path: Path
    kind: str
    packed: bool


def table_file(path: Path) -> TableFile | None:
    """Find the format of a file by its name, None where it is unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] in (".gz", ".gzip")
    inner = suffixes[:-1] if packed else suffixes
    kind = _KINDS.get(inner[-1]) if inner else None
    return None if kind is None else TableFile(path, kind, packed)


@contextmanager
def open_utf8(file: TableFile) -> Iterator[io.BufferedReader[Any]]:
    """Open a file of text as a stream of UTF-8 without a byte order mark, unpacked; UTF-16 is converted.

    Raises:
        ColdstartError: while it is read too: the file is damaged, or unpacks to too much.
    """
    with file.path.open("rb") as source:
        stream: io.BufferedReader[Any] = source
        if file.packed:
            stream = io.BufferedReader(_Unpacked(source, file.path), READ_BYTES)
        head = stream.peek(4)[:4]
        if head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            stream = io.BufferedReader(_FromUtf16(stream, file.path), READ_BYTES)
        yield stream


class _Unpacked(io.RawIOBase):
    """The bytes inside a gzip file, to a limit."""

    def __init__(self, source: BinaryIO, path: Path) -> None:
        self._inner, self._path, self._given = gzip.GzipFile(fileobj=source), path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        try:
            chunk = self._inner.read(len(target))
        except (OSError, EOFError, zlib.error) as error:
            raise ColdstartError(f"{self._path} is not a whole gzip file: {error}") from error
        self._given += len(chunk)
        if self._given > MAX_UNPACKED_BYTES:
            raise ColdstartError(f"{self._path} unpacks to more than {MAX_UNPACKED_BYTES} bytes: unpack and split it")
        target[: len(chunk)] = chunk
        return len(chunk)


class _FromUtf16(io.RawIOBase):
    """The UTF-8 bytes of a stream of UTF-16."""

    def __init__(self, source: BinaryIO, path: Path) -> None:
        self._source, self._path, self._rest = source, path, b""
        self._decoder = codecs.getincrementaldecoder("utf-16")()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            chunk = self._source.read(READ_BYTES)
            try:
                self._rest = self._decoder.decode(chunk, final=not chunk).encode("utf-8")
            except UnicodeError as error:
                raise ColdstartError(f"{self._path} is no whole UTF-16: {error}; save it as UTF-8") from error
            if not chunk:
                break
        size = min(len(target), len(self._rest))
        target[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def read_lines(file: TableFile) -> Iterator[bytes]:
    """Read the lines of a file of text.

    Raises:
        ColdstartError: as `open_utf8`, or a line is too long to be held in memory.
    """
    with open_utf8(file) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise ColdstartError(f"{file.path} line {number} is longer than {MAX_LINE_BYTES} bytes: shorten it")
            yield line


def find_delimiter(file: TableFile) -> str:
    """Find what separates the columns of a file, by its header; the usual one of its suffix where it has one column."""
    with open_utf8(file) as stream:
        head = stream.read(HEAD_BYTES).decode("utf-8", "replace")
    return delimiter_of(head, "\t" if file.kind == "tsv" else ",")

"""Open the files of tables, whatever their format: suffixes, gzip, encodings, delimiters, JSON rows. Knows no columns.

Files come from strangers: what a packed file unpacks to, the length of a line and the depth of JSON have limits.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
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

_TOO_DEEP = "JSON that cannot be read: nested too deep"

KNOWN = "a .jsonl, .json, .csv, .tsv, .txt or .parquet file"

_KINDS = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab", ".txt"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
_HEAD_BYTES = 2**16
_READ_BYTES = 2**20


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
            stream = io.BufferedReader(_Unpacked(source, file.path), _READ_BYTES)
        head = stream.peek(4)[:4]
        if head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            stream = io.BufferedReader(_FromUtf16(stream, file.path), _READ_BYTES)
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
            chunk = self._source.read(_READ_BYTES)
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
        head = stream.read(_HEAD_BYTES).decode("utf-8", "replace")
    return delimiter_of(head, "\t" if file.kind == "tsv" else ",")


def read_json_rows(file: TableFile, *, doubled_keys: bool = False) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read the objects of JSON lines (line number, object), or of an array (place, object); a text says what is wrong.

    Args:
        doubled_keys: of an object with a key twice the last value counts; otherwise it is at fault, which takes time.

    Raises:
        ColdstartError: as `read_lines`; or an array that is broken, of which no further object can be read.
    """
    if file.kind == "json":
        with open_utf8(file) as stream:
            if stream.peek(_HEAD_BYTES).lstrip()[:1] == b"[":
                yield from _array(stream, file.path, doubled_keys)
                return
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            yield number, _parse_object(line, doubled_keys)


def _parse_object(line: bytes, doubled_keys: bool) -> dict[str, Any] | str:
    doubled: list[str] = []
    try:
        found = json.loads(
            line.decode("utf-8").rstrip(), object_pairs_hook=None if doubled_keys else _key_checker(doubled)
        )
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}: save the file as UTF-8"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at column {error.colno}"
    except RecursionError:
        return _TOO_DEEP
    except ValueError as error:  # an integer of thousands of digits
        return f"JSON that cannot be read: {str(error).partition(';')[0]}"
    return _checked(found, doubled)


def _key_checker(doubled: list[str]) -> Any:
    """Build a hook that makes an object and notes the keys that stand twice in it; the outermost comes last."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        doubled.clear()
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            doubled.append(next(name for name in names if names.count(name) > 1))
        return found

    return build


def _checked(found: Any, doubled: list[str]) -> dict[str, Any] | str:
    if not isinstance(found, dict):
        return f"not a JSON object but {type(found).__name__}"
    return f"key {doubled[0]!r} stands twice" if doubled else found


def _array(stream: BinaryIO, path: Path, doubled_keys: bool) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read the elements of a JSON array one by one, with no more than one of them in memory."""
    doubled: list[str] = []
    decoder = json.JSONDecoder(object_pairs_hook=None if doubled_keys else _key_checker(doubled))
    text = codecs.getincrementaldecoder("utf-8")()
    buffer, place, number, ended = "", 0, 0, False

    def fill() -> bool:
        nonlocal buffer, place, ended
        chunk = b"" if ended else stream.read(max(_READ_BYTES, len(buffer) - place))
        try:
            buffer, place = buffer[place:] + text.decode(chunk, final=not chunk), 0
        except UnicodeDecodeError as error:
            raise ColdstartError(f"{path} is not UTF-8 after object {number}: save it as UTF-8") from error
        ended = ended or not chunk
        return bool(chunk)

    def skip() -> str:
        nonlocal place
        while True:
            place = _SPACE.match(buffer, place).end()  # type: ignore[union-attr]
            if place < len(buffer) or not fill():
                return buffer[place : place + 1]

    skip()
    place += 1  # [
    while True:
        mark = skip()
        if mark == "]" and not number:
            return
        while True:
            doubled.clear()
            fault: str | None = None
            try:
                found, end = decoder.raw_decode(buffer, place)
                if end < len(buffer) or ended:  # a number may go on in the next part
                    row = _checked(found, doubled)
                    break
            except json.JSONDecodeError as error:
                fault = f"not JSON: {error.msg}"
            except RecursionError:
                fault = _TOO_DEEP
            except ValueError as error:
                fault = f"JSON that cannot be read: {str(error).partition(';')[0]}"
            if fault and (end := _end_of_value(buffer, place)) > place:
                row = fault
                break
            if len(buffer) - place > MAX_LINE_BYTES:
                raise ColdstartError(f"{path}: object {number + 1} is broken, or longer than {MAX_LINE_BYTES} bytes")
            if not fill() and fault:
                raise ColdstartError(f"{path} is no whole JSON array: it breaks off after object {number}")
        number, place = number + 1, end
        yield number, row
        mark = skip()
        if mark == "]":
            return
        if mark != ",":
            raise ColdstartError(f"{path} is no whole JSON array: no comma after object {number}")
        place += 1


def _end_of_value(text: str, place: int) -> int:
    """Find the comma or bracket after a value that cannot be parsed, -1 where there is none yet."""
    depth = 0
    for token in _TOKEN.finditer(text, place):
        if token[0] == '"':  # a text that goes on
            return -1
        if token[0] in "[{":
            depth += 1
        elif depth == 0 and token[0] in ",]}":
            return token.start()
        elif token[0] in "]}":
            depth -= 1
    return -1


_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["\[\]{},]', re.DOTALL)

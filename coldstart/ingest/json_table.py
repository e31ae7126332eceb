"""Read the objects of JSON lines and of JSON arrays, one by one. Knows no meaning of keys.

Files come from strangers: the length of an object and the depth of JSON have limits.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from coldstart.errors import ColdstartError
from coldstart.ingest.files import MAX_LINE_BYTES, READ_BYTES, TableFile, open_utf8, read_lines
from coldstart.ingest.synonyms import normalise, ranks
from coldstart.ingest.table import Row, Table, blocks_of_rows

_TOO_DEEP = "JSON that cannot be read: nested too deep"
_PEEKED_ROWS, _LEVELS = 1000, 4
_USUAL_KEYS = ("products", "items", "data", "results", "rows", "records", "entries", "articles", "catalog", "catalogue")


def open_json(file: TableFile) -> Table:
    """Open a file of JSON: lines, an array, or one object that holds an array; columns are those of the first objects.

    Raises:
        ColdstartError: one object holds several arrays, none of which has a usual name.
    """
    key, others = _array_in_object(file)
    notes = [*file.notes, *([file.encoding.note] if file.encoding.note else [])]
    if key:
        notes.append(f"read its {key!r}" + (f", not {', '.join(map(repr, others[:5]))}" if others else ""))
    seen: dict[str, None] = {}
    with closing(read_json_rows(file, key, doubled_keys=True)) as lines:
        try:
            for _, found in islice(lines, _PEEKED_ROWS):
                if isinstance(found, dict):
                    seen.update(dict.fromkeys(found))
        except ColdstartError:  # raised again when the rows are read, after those before it
            pass
    return Table(
        file.path,
        file.kind,
        list(seen),
        rows=lambda: read_json_rows(file, key),
        blocks=lambda columns: blocks_of_rows(read_json_rows(file, key, doubled_keys=True), columns),
        notes=notes,
        doubts=[file.encoding.doubt] if file.encoding.doubt else [],
        same_columns=False,
    )


def read_json_rows(file: TableFile, key: str | None = "", *, doubled_keys: bool = False) -> Generator[Row]:
    """Read the objects of JSON lines (line number, object), or of an array (place, object); a text says what is wrong.

    Args:
        key: of the array in the one object that the file is, with "." between the objects around it; None where that
            object is the only row, "" else.
        doubled_keys: of an object with a key twice the last value counts; otherwise it is at fault, which takes time.

    Raises:
        ColdstartError: as `read_lines`; or an array that is broken, of which no further object can be read.
    """
    if file.kind == "json":
        with open_utf8(file) as stream:
            reader = _Reader(stream, file.path, doubled_keys)
            begins = reader.peek()
            if begins == "[":
                yield from reader.elements()
                return
            if begins == "{" and key is None:
                yield 1, reader.value()
                return
            if begins == "{" and key:
                for number, row in reader.elements_at(key):
                    yield number, _unwrapped(row)
                return
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            yield number, _parse_object(line, doubled_keys)


def _array_in_object(file: TableFile) -> tuple[str | None, list[str]]:
    """Find the array of objects in a file that is one object, and what else it has; see `key` of `read_json_rows`.

    Raises:
        ColdstartError: it has several.
    """
    if file.kind != "json":
        return "", []
    arrays: dict[str, int] = {}
    others: list[str] = []
    with open_utf8(file) as stream:
        reader = _Reader(stream, file.path, True)
        if reader.peek() != "{":
            return "", []
        try:
            _count_lists(reader, "", arrays, others)
            if reader.peek():  # objects line by line
                return "", []
        except ColdstartError:  # raised again when the rows are read
            return "", []
    own = {name: count for name, count in arrays.items() if name in others}
    arrays = own or arrays
    if not arrays or any(normalise(name) in ranks("item_id") for name in others):
        return None, []
    usual = [name for name in arrays if _last_name(name) in _USUAL_KEYS]
    if len(arrays) > 1 and not usual:
        listed = ", ".join(f"{name!r} ({count})" for name, count in arrays.items())
        raise ColdstartError(f"{file.path} holds several lists: {listed}; give a file with the list of items alone")
    key = min(usual, key=lambda name: _USUAL_KEYS.index(_last_name(name))) if usual else next(iter(arrays))
    return key, [name for name in others if name != key.partition(".")[0] and name != key]


def _count_lists(reader: _Reader, before: str, arrays: dict[str, int], names: list[str]) -> None:
    """Count the objects in the arrays of an object and of the objects inside it; lists the names of the outermost."""
    for name in reader.members():
        if not before:
            names.append(name)
        path = f"{before}{name}"
        begins = reader.peek()
        if begins == "[":
            objects = sum(not isinstance(found, str) for _, found in reader.elements())
            if objects:
                arrays[path] = objects
        elif begins == "{" and before.count(".") < _LEVELS:
            _count_lists(reader, f"{path}.", arrays, names)
        else:
            reader.value()


def _last_name(path: str) -> str:
    """Return what names a list: `products` of `data.products.edges`."""
    names = path.lower().split(".")
    return names[-2] if names[-1] in ("edges", "nodes") and len(names) > 1 else names[-1]


def _unwrapped(row: dict[str, Any] | str) -> dict[str, Any] | str:
    """Take an item out of the edge that a GraphQL server puts it into."""
    if isinstance(row, dict) and isinstance(row.get("node"), dict) and row.keys() <= {"node", "cursor", "__typename"}:
        found: dict[str, Any] = row["node"]
        return found
    return row


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


class _Reader:
    """Reads a text of JSON value by value, with no more than one element of an array in memory."""

    def __init__(self, stream: BinaryIO, path: Path, doubled_keys: bool) -> None:
        self._stream, self._path = stream, path
        self._doubled: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=None if doubled_keys else _key_checker(self._doubled))
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._buffer, self._place, self._number, self._ended = "", 0, 0, False

    def _fill(self) -> bool:
        rest = len(self._buffer) - self._place
        chunk = b"" if self._ended else self._stream.read(max(READ_BYTES, rest))
        try:
            self._buffer = self._buffer[self._place :] + self._text.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise ColdstartError(f"{self._path} is not UTF-8 after object {self._number}: save it as UTF-8") from error
        self._place, self._ended = 0, self._ended or not chunk
        return bool(chunk)

    def peek(self) -> str:
        """Return the next character that is no space, "" at the end."""
        while True:
            self._place = _SPACE.match(self._buffer, self._place).end()  # type: ignore[union-attr]
            if self._place < len(self._buffer) or not self._fill():
                return self._buffer[self._place : self._place + 1]

    def elements(self) -> Iterator[Row]:
        """Read the elements of an array: their place, and the object or what is wrong with it."""
        self._number, self._place = 0, self._place + 1  # [
        mark = self.peek()
        if mark == "]":
            self._place += 1
            return
        while True:
            self.peek()
            row = self._next()
            self._number += 1
            yield self._number, row if isinstance(row, str) else _checked(row[0], self._doubled)
            mark = self.peek()
            self._place += 1
            if mark == "]":
                return
            if mark != ",":
                raise ColdstartError(f"{self._path} is no whole JSON array: no comma after object {self._number}")

    def members(self) -> Iterator[str]:
        """Read the keys of an object; whoever iterates reads the value behind each."""
        self._place += 1  # {
        while self.peek() == '"':
            key = self.value()
            if self.peek() != ":":
                raise ColdstartError(f"{self._path} is no whole JSON object: no colon after {str(key)[:60]!r}")
            self._place += 1
            self.peek()
            yield str(key)
            if self.peek() != ",":
                break
            self._place += 1
        self._place += 1  # }

    def elements_at(self, path: str) -> Iterator[Row]:
        """Read the elements of the array at a path of names with "." between them."""
        for name in self.members():
            begins = self.peek()
            if name == path and begins == "[":
                yield from self.elements()
                return
            if path.startswith(f"{name}.") and begins == "{":
                yield from self.elements_at(path.removeprefix(f"{name}."))
                return
            self.value()

    def value(self) -> Any:
        """Read a value; raises `ColdstartError` where it is broken."""
        self.peek()
        found = self._next()
        if isinstance(found, str):
            raise ColdstartError(f"{self._path}: {found}")
        return found[0]

    def _next(self) -> tuple[Any] | str:
        """Read the next value, or what is wrong with it."""
        path, number = self._path, self._number
        while True:
            self._doubled.clear()
            fault: str | None = None
            try:
                found, end = self._decoder.raw_decode(self._buffer, self._place)
                if end < len(self._buffer) or self._ended:  # a number may go on in the next part
                    self._place = end
                    return (found,)
            except json.JSONDecodeError as error:
                fault = f"not JSON: {error.msg}"
            except RecursionError:
                fault = _TOO_DEEP
            except ValueError as error:
                fault = f"JSON that cannot be read: {str(error).partition(';')[0]}"
            if fault and (end := _end_of_value(self._buffer, self._place)) > self._place:
                self._place = end
                return fault
            if len(self._buffer) - self._place > MAX_LINE_BYTES:
                raise ColdstartError(f"{path}: object {number + 1} is broken, or longer than {MAX_LINE_BYTES} bytes")
            if not self._fill() and fault:
                raise ColdstartError(f"{path} is no whole JSON array: it breaks off after object {number}")


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

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
from coldstart.ingest.files import HEAD_BYTES, MAX_LINE_BYTES, READ_BYTES, TableFile, open_utf8, read_lines
from coldstart.ingest.tables import Row, Table, blocks_of_rows

_TOO_DEEP = "JSON that cannot be read: nested too deep"
_PEEKED_ROWS = 1000


def open_json(file: TableFile) -> Table:
    """Open a file of JSON; its columns are those that its first objects have."""
    seen: dict[str, None] = {}
    with closing(read_json_rows(file, doubled_keys=True)) as lines:
        try:
            for _, found in islice(lines, _PEEKED_ROWS):
                if isinstance(found, dict):
                    seen.update(dict.fromkeys(found))
        except ColdstartError:  # said when the rows are read, after those before it
            pass
    return Table(
        file.path,
        file.kind,
        list(seen),
        rows=lambda: read_json_rows(file),
        blocks=lambda columns: blocks_of_rows(read_json_rows(file, doubled_keys=True), columns),
        notes=[*file.notes, *([file.encoding.note] if file.encoding.note else [])],
        doubts=[file.encoding.doubt] if file.encoding.doubt else [],
        same_columns=False,
    )


def read_json_rows(file: TableFile, *, doubled_keys: bool = False) -> Generator[Row]:
    """Read the objects of JSON lines (line number, object), or of an array (place, object); a text says what is wrong.

    Args:
        doubled_keys: of an object with a key twice the last value counts; otherwise it is at fault, which takes time.

    Raises:
        ColdstartError: as `read_lines`; or an array that is broken, of which no further object can be read.
    """
    if file.kind == "json":
        with open_utf8(file) as stream:
            if stream.peek(HEAD_BYTES).lstrip()[:1] == b"[":
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


def _array(stream: BinaryIO, path: Path, doubled_keys: bool) -> Iterator[Row]:
    """Read the elements of a JSON array one by one, with no more than one of them in memory."""
    doubled: list[str] = []
    decoder = json.JSONDecoder(object_pairs_hook=None if doubled_keys else _key_checker(doubled))
    text = codecs.getincrementaldecoder("utf-8")()
    buffer, place, number, ended = "", 0, 0, False

    def fill() -> bool:
        nonlocal buffer, place, ended
        chunk = b"" if ended else stream.read(max(READ_BYTES, len(buffer) - place))
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

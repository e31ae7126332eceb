"""Open the files of tables: their format by content and name, gzip and zip, encodings. Knows no rows.

Files come from strangers: what a packed file unpacks to and the length of a line have limits.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from coldstart.errors import ColdstartError
from coldstart.ingest.csv_dialect import find_dialect
from coldstart.ingest.encodings import UTF8, AsUtf8, Encoding, find_encoding

MAX_LINE_BYTES = 16 * 2**20
"""Bytes of one line, or of one object of a JSON array."""
MAX_UNPACKED_BYTES = 64 * 2**30
"""Bytes that a packed file may unpack to."""

KNOWN = "a .csv, .tsv, .txt, .jsonl, .json, .parquet, .xlsx, .xls, .ods or .xml file, plain or in a .gz or .zip"

HEAD_BYTES = 2**16
READ_BYTES = 2**20
_MOST_MEMBERS = 10_000

_KINDS = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab", ".txt"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".xlsx", ".xlsm"), "xlsx"),
    **{f".{kind}": kind for kind in ("xlsb", "xls", "ods", "html")},
    ".htm": "html",
    **dict.fromkeys((".xml", ".rss", ".atom"), "xml"),
}
SHEETS = ("xlsx", "xlsb", "xls", "ods")
_JSON = ("json", "jsonl")
_TEXTS = ("csv", "tsv")
_MAGIC = {
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"RIFF": "a medium",
    b"SQLite format 3": "an SQLite database",
    b"ARROW1": "an Arrow file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"7z\xbc\xaf": "packed by 7-Zip",
    b"Rar!": "packed by RAR",
}
_GZIP, _ZIP, _OLE = b"\x1f\x8b", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@dataclass(frozen=True)
class TableFile:
    """A file of rows.

    Attributes:
        kind: csv, tsv, jsonl, json, parquet, xlsx, xlsb, xls, ods, html or xml, by its content.
        packed: "gzip", "zip" or "".
        member: the table's name in a zip.
        encoding: of text.
        notes: where its content is another kind than its name says, and what else was decided.
    """

    path: Path
    kind: str
    packed: str = ""
    member: str = ""
    encoding: Encoding = UTF8
    notes: tuple[str, ...] = ()


def table_file(path: Path) -> TableFile:
    """Find the format of a file by its content, and by its name where the content fits several.

    Raises:
        ColdstartError: it is no table, or it is damaged.
    """
    with path.open("rb") as source:
        magic = source.read(8)
    file = TableFile(path, _kind_of_name(path.name))
    if magic.startswith(_GZIP):
        file = replace(file, packed="gzip")
    elif magic.startswith(_ZIP):
        file = _zipped(file)
        if not file.packed:
            return file
    elif path.suffix.lower() in (".gz", ".gzip", ".zip"):
        file = replace(file, notes=(f"its name says {path.suffix[1:]}, but it is not packed",))
    with open_bytes(file) as stream:
        head = _whole_letters(stream.read(HEAD_BYTES))
    name = PurePosixPath(file.member or path.name)
    named = file.kind
    if file.packed and head.startswith((_GZIP, _ZIP)) and named not in SHEETS:
        raise ColdstartError(f"{path} is packed twice: unpack it")
    if not head.startswith(_ZIP) and (foreign := _foreign(head)):
        raise ColdstartError(f"{path} is {foreign}: give {KNOWN}")
    kind = named if file.packed and head.startswith(_ZIP) else _kind_of_content(head, named)
    if not kind:
        raise ColdstartError(f"unknown format {path.suffix or path.name!r} of {path}: give {KNOWN}")
    notes = list(file.notes)
    if named and _family(kind) != _family(named):
        notes.append(f"its name says {_suffix(name)[1:]}, but it is {_usual_name(kind)}")
    file = replace(file, kind=kind, notes=tuple(notes))
    if kind in (*_TEXTS, *_JSON):
        with open_bytes(file) as stream:
            file = replace(file, encoding=find_encoding(stream))
    return file


def _whole_letters(head: bytes) -> bytes:
    """Leave out the bytes of a letter of UTF-8 that is not whole at the end."""
    for back in range(1, min(4, len(head)) + 1):
        if head[-back] < 0x80:
            break
        if head[-back] >= 0xC0:
            return head[:-back] if back < {0xC0: 2, 0xD0: 2, 0xE0: 3, 0xF0: 4}[head[-back] & 0xF0] else head
    return head


def _suffix(name: PurePosixPath) -> str:
    suffixes = [one.lower() for one in name.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".gzip", ".zip"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _kind_of_name(name: str) -> str:
    return _KINDS.get(_suffix(PurePosixPath(name)), "")


def _family(kind: str) -> str:
    return "text" if kind in _TEXTS else "JSON" if kind in _JSON else kind


def _usual_name(kind: str) -> str:
    return {"jsonl": "JSON lines", "csv": "text with delimiters", "tsv": "text with delimiters"}.get(
        kind, kind.upper() if kind != "parquet" else "Parquet"
    )


def _kind_of_content(head: bytes, named: str) -> str:
    """Find the kind of a file by its beginning and by its name, "" where it is no table."""
    for magic, kind in ((b"PAR1", "parquet"), (_OLE, "xls")):
        if head.startswith(magic):
            return kind
    text = find_encoding(io.BytesIO(head)).decode(head).lstrip("\ufeff \t\r\n")
    if not text:
        return named or "csv"
    if re.match(r"<(?:\?xml|!--|!DOCTYPE|[A-Za-z][\w:.-]*[\s>/])", text, re.IGNORECASE):
        is_page = re.match(r"<(?:!doctype\s+html|html|table|head|body|meta|style)\b", text, re.IGNORECASE)
        return "html" if is_page else "xml"
    if text[0] in "{[" and _begins_json(text):
        return named if named in _JSON else "jsonl" if re.match(r"\{[^\n]*\}\s*(\n|$)", text) else "json"
    if named in _TEXTS:
        return named
    found = find_dialect(whole_lines(text))
    if len(found.header) > 1 and found.rows and not re.search(r"^\s*[\[{]", text, re.MULTILINE):
        return "csv"
    return named


def _foreign(head: bytes) -> str:
    """Name what a file is that is no table, "" for any other."""
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")
    if found or head.startswith((b"PAR1", _OLE)):
        return found
    text = find_encoding(io.BytesIO(head)).decode(head)[:4096]
    return "neither text nor a table" if len(re.findall(r"[\x00-\x08\x0e-\x1f\ufffd]", text)) > len(text) / 10 else ""


def _begins_json(text: str) -> bool:
    """Return True if a text begins with a JSON value, whole or only its beginning."""
    try:
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos > 1 or len(text) - error.pos < 20
    except (RecursionError, ValueError):
        return True
    return True


def whole_lines(text: str) -> str:
    """Return the beginning of a file up to the end of its last whole line."""
    if len(text) < HEAD_BYTES // 4:
        return text
    return text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text


def _zipped(file: TableFile) -> TableFile:
    """Find what a zip holds: a workbook, or one table.

    Raises:
        ColdstartError: it is damaged, or does not hold one table.
    """
    path = file.path
    try:
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
            names = {member.filename for member in members[:_MOST_MEMBERS]}
            if "[Content_Types].xml" in names and any(name.startswith("xl/") for name in names):
                kind = "xlsb" if "xl/workbook.bin" in names else "xlsx"
                return replace(file, kind=kind, notes=_name_notes(file, kind))
            if "mimetype" in names and b"opendocument.spreadsheet" in packed.open("mimetype").read(200):
                return replace(file, kind="ods", notes=_name_notes(file, "ods"))
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError) as error:
        raise ColdstartError(f"{path} is not a whole zip file: {error}") from error
    if len(members) > _MOST_MEMBERS:
        raise ColdstartError(f"{path} holds {len(members)} files: give a zip with one table in it")
    kept = [
        member
        for member in members
        if not member.is_dir() and not re.search(r"(^|/)(\.|__MACOSX/)", member.filename) and member.file_size
    ]
    known = [member for member in kept if _kind_of_name(member.filename)]
    plain = [member for member in known if not member.filename.lower().endswith((".txt", ".html", ".htm"))]
    tables = plain or known  # a read-me may lie beside a table
    if len(tables) != 1:
        listed = ", ".join(member.filename for member in (tables or kept)[:5]) or "nothing"
        raise ColdstartError(
            f"{path} holds {f'{len(tables)} tables' if tables else 'no table'}: {listed}; "
            f"unpack it and give one of them, {KNOWN}"
        )
    member = tables[0]
    if member.flag_bits & 1:
        raise ColdstartError(f"{path} is locked by a password: unpack it")
    others = len(kept) - 1
    notes = (f"read {member.filename}" + (f", without {others} other files in the zip" if others else ""),)
    return replace(file, kind=_kind_of_name(member.filename), packed="zip", member=member.filename, notes=notes)


def _name_notes(file: TableFile, kind: str) -> tuple[str, ...]:
    if file.kind in ("", kind):
        return ()
    return (f"its name says {_suffix(PurePosixPath(file.path.name))[1:]}, but it is {_usual_name(kind)}",)


@contextmanager
def open_bytes(file: TableFile) -> Iterator[io.BufferedReader[Any]]:
    """Open a file, unpacked.

    Raises:
        ColdstartError: while it is read too: the file is damaged, or unpacks to too much.
    """
    with file.path.open("rb") as source:
        if file.packed == "gzip":
            inner: BinaryIO = gzip.GzipFile(fileobj=source)  # type: ignore[assignment]
        elif file.packed == "zip":
            try:
                inner = zipfile.ZipFile(source).open(file.member)  # type: ignore[assignment]  # noqa: SIM115
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
                raise ColdstartError(f"{file.path} is not a whole zip file: {error}") from error
        else:
            yield source
            return
        yield io.BufferedReader(_Unpacked(inner, file), READ_BYTES)


@contextmanager
def open_utf8(file: TableFile) -> Iterator[io.BufferedReader[Any]]:
    """Open a file of text as a stream of UTF-8 without a byte order mark; raises as `open_bytes` does."""
    with open_bytes(file) as stream:
        stream.read(file.encoding.mark)
        yield (
            stream
            if file.encoding.name == "utf-8"
            else io.BufferedReader(AsUtf8(stream, file.encoding.name), READ_BYTES)
        )


@contextmanager
def open_whole(file: TableFile, most: int = MAX_UNPACKED_BYTES) -> Iterator[BinaryIO]:
    """Open a file whose parts are read in any order; one that is packed is unpacked into a temporary file.

    Raises:
        ColdstartError: it is damaged, or unpacks to more than `most` bytes.
    """
    with open_bytes(file) as stream:
        if not file.packed:
            yield stream
            return
        with tempfile.TemporaryFile(prefix="coldstart-") as unpacked:
            while chunk := stream.read(READ_BYTES):
                if unpacked.write(chunk) and unpacked.tell() > most:
                    raise ColdstartError(f"{file.path} unpacks to more than {most} bytes: unpack it and give its parts")
            unpacked.seek(0)
            yield unpacked


class _Unpacked(io.RawIOBase):
    """The bytes inside a packed file, to a limit."""

    def __init__(self, inner: BinaryIO, file: TableFile) -> None:
        self._inner, self._file, self._given = inner, file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        try:
            chunk = self._inner.read(len(target))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise ColdstartError(f"{self._file.path} is not a whole {self._file.packed} file: {error}") from error
        self._given += len(chunk)
        if self._given > MAX_UNPACKED_BYTES:
            raise ColdstartError(
                f"{self._file.path} unpacks to more than {MAX_UNPACKED_BYTES} bytes: unpack and split it"
            )
        target[: len(chunk)] = chunk
        return len(chunk)


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

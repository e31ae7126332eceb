"""Read manifests row by row: JSONL, CSV, Parquet or a folder of media. Knows no meaning of fields."""

from __future__ import annotations

import codecs
import csv
import difflib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coldstart.core.items import EXTENSIONS, FIELD_NAMES
from coldstart.errors import ColdstartError

FORMATS = ("a .jsonl, .csv or .parquet file", "a folder of media")


@dataclass(frozen=True)
class ManifestEntry:
    """One row of a manifest.

    Attributes:
        line: line number in the file (Parquet: row number; folder: position), counted from 1.
        fields: the row under our field names; empty where `fault` is set.
        fault: why the row could not be read, or "".
    """

    line: int
    fields: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def base_folder(path: Path) -> Path:
    """Return the folder that the media paths of a manifest are relative to."""
    return path if path.is_dir() else path.parent


def read_manifest(path: Path, names: Mapping[str, str] | None = None) -> Iterator[ManifestEntry]:
    """Read rows of a manifest in order; a row that cannot be read is a `ManifestEntry` with a fault, the rest go on.

    Args:
        path: a JSONL, CSV or Parquet file, or a folder.
        names: our field name -> the manifest's column. With a mapping, columns it does not mention and that are no
            field of ours go into `attributes`.

    Raises:
        ColdstartError: there is no such file, it cannot be read, its format is unknown, its header is at fault, it
            has no rows, `names` names no field of ours or a column that no row has. Where every row has the same
            columns (CSV, Parquet) the latter comes before the first row.
    """
    if unknown := sorted(set(names or ()) - FIELD_NAMES):
        raise ColdstartError(f"map: unknown field {unknown[0]!r}: {_nearest(unknown[0], FIELD_NAMES)}")
    if not path.exists():
        raise ColdstartError(f"no manifest at {path}: give {' or '.join(FORMATS)}")
    if path.is_dir():
        yield from _read_folder(path)
        return
    if path.suffix.lower() not in _READERS:
        raise ColdstartError(
            f"unknown manifest format {path.suffix or path.name!r} of {path}: give {' or '.join(FORMATS)}"
        )
    try:
        yield from _mapped(_READERS[path.suffix.lower()](path), path, names or {})
    except OSError as error:
        raise ColdstartError(f"cannot read manifest {path}: {error.strerror or error}") from error


def _mapped(entries: Iterator[ManifestEntry], path: Path, names: Mapping[str, str]) -> Iterator[ManifestEntry]:
    same_columns = path.suffix.lower() in (".csv", ".parquet")
    unseen, seen, empty = set(names.values()), set[str](), True
    for entry in entries:
        empty = False
        unseen -= entry.fields.keys()
        if unseen:
            seen |= entry.fields.keys()
            if same_columns and not entry.fault:
                break
        yield ManifestEntry(entry.line, _rename(entry.fields, names)) if names and not entry.fault else entry
    if empty:
        raise ColdstartError(f"manifest {path} has no rows: give one item a row")
    if unseen and seen:
        missing, has = ", ".join(sorted(unseen)), ", ".join(sorted(seen))
        raise ColdstartError(f"map names columns that no row of {path} has: {missing}; it has {has}")


def _rename(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    renamed = {ours: fields[column] for ours, column in names.items() if column in fields}
    attributes: dict[str, Any] = {}
    for column, value in fields.items():
        if column in names.values():
            continue
        if column in FIELD_NAMES and column not in names:
            renamed[column] = value
        elif value not in (None, ""):
            attributes[column] = value
    if attributes:
        given = _parsed(renamed.get("attributes") or {})
        renamed["attributes"] = {**given, **attributes} if isinstance(given, dict) else given
    return renamed


def _parsed(value: Any) -> Any:
    """Parse the JSON of a text; a text without JSON stays, for its row to be refused."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"it may be one of {', '.join(sorted(known))}"


def _read_jsonl(path: Path) -> Iterator[ManifestEntry]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            if line == 1:
                _refuse_utf16(path, raw)
                raw = raw.removeprefix(codecs.BOM_UTF8)
            if not raw.strip():
                continue
            try:
                fields = json.loads(raw.decode("utf-8").rstrip())
            except UnicodeDecodeError as error:
                yield ManifestEntry(line, fault=f"not UTF-8 at byte {error.start}")
            except json.JSONDecodeError as error:
                yield ManifestEntry(line, fault=f"not JSON: {error.msg} at column {error.colno}")
            except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or lists in lists
                yield ManifestEntry(line, fault=f"JSON that cannot be read: {str(error).partition(';')[0]}")
            else:
                if isinstance(fields, dict):
                    yield ManifestEntry(line, fields)
                else:
                    yield ManifestEntry(line, fault=f"not a JSON object but {type(fields).__name__}")


def _read_csv(path: Path) -> Iterator[ManifestEntry]:
    with path.open("rb") as file:
        _refuse_utf16(path, file.read(2))
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = csv.reader(file, strict=True)
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
                yield ManifestEntry(line, fault=f"not CSV: {error}")
                continue
            if not cells:
                continue
            if header is None:
                header = _header(path, cells)
                continue
            fields = dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=False))
            if len(cells) > len(header):
                yield ManifestEntry(line, fault=f"{len(cells)} columns where the header has {len(header)}")
            elif bad := [name for name, value in fields.items() if _undecodable(value)]:
                yield ManifestEntry(line, fault=f"not UTF-8 in {', '.join(bad)}")
            else:
                yield ManifestEntry(line, fields)


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    for place, name in enumerate(names, start=1):
        if not name:
            raise ColdstartError(f"header of {path}: column {place} has no name: name it or take it out")
        if name in names[: place - 1]:
            raise ColdstartError(f"header of {path}: column {name!r} stands twice: rename one")
        if _undecodable(name):
            raise ColdstartError(f"header of {path}: column {place} is not UTF-8: save the file as UTF-8")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise ColdstartError(f"header of {path}: one column {names[0]!r}: put commas between the columns")
    return names


def _refuse_utf16(path: Path, start: bytes) -> None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ColdstartError(f"{path} is UTF-16: save it as UTF-8")


def _undecodable(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _read_parquet(path: Path) -> Iterator[ManifestEntry]:
    line = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = pa.schema([column.with_type(_to_microseconds(column.type)) for column in file.schema_arrow])
            for batch in file.iter_batches(batch_size=4096):
                for fields in batch.cast(schema, safe=False).to_pylist(maps_as_pydicts="lossy"):
                    line += 1
                    yield ManifestEntry(line, fields)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        where = f" after row {line}" if line else ""
        raise ColdstartError(f"{path} is not a readable Parquet file{where}: {str(error).splitlines()[0]}") from error


def _to_microseconds(kind: pa.DataType) -> pa.DataType:
    """Reduce a type to microseconds: Python's times have no nanoseconds, and such a value would not leave Arrow."""
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else kind


def _read_folder(path: Path) -> Iterator[ManifestEntry]:
    files = sorted(
        (Path(folder, name) for folder, _, names in os.walk(path) for name in names),
        key=lambda file: file.relative_to(path).as_posix(),
    )
    media = [file for file in files if EXTENSIONS.get(file.suffix.lower().lstrip("."), "audio") != "audio"]
    if not media:
        raise ColdstartError(f"no image or video file in {path}: give {' or '.join(FORMATS)}")
    for line, file in enumerate(media, start=1):
        name = file.relative_to(path).as_posix()
        title = " ".join(file.stem.replace("_", " ").replace("-", " ").split())
        yield ManifestEntry(line, {"item_id": name, "title": title, "media": [{"uri": name}]})


_READERS: dict[str, Callable[[Path], Iterator[ManifestEntry]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}

"""Manifests: JSONL, CSV, Parquet or a folder of media, read row by row. Knows nothing of what the fields mean."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coldstart.errors import ColdstartError
from coldstart.items import EXTENSIONS, FIELD_NAMES

FORMATS = ("a .jsonl, .csv or .parquet file", "a folder of media")


@dataclass(frozen=True)
class Entry:
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
    """The folder that the media paths of a manifest are relative to."""
    return path if path.is_dir() else path.parent


def read(path: Path, names: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """Rows of a manifest in order; a row that cannot be read is an `Entry` with a fault, and the rest go on.

    Args:
        path: a JSONL, CSV or Parquet file, or a folder.
        names: our field name -> the manifest's column. With a mapping, columns it does not mention and that are no
            field of ours go into `attributes`.

    Raises:
        ColdstartError: there is no such file, its format is unknown, it is no Parquet file, or a mapped column is in
            no row.
    """
    if not path.exists():
        raise ColdstartError(f"no manifest at {path}: give {' or '.join(FORMATS)}")
    readers = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.is_dir():
        yield from _read_folder(path)
        return
    if path.suffix.lower() not in readers:
        raise ColdstartError(
            f"unknown manifest format {path.suffix or path.name!r} of {path}: give {' or '.join(FORMATS)}"
        )
    entries = readers[path.suffix.lower()](path)
    if not names:
        yield from entries
        return
    unseen = set(names.values())
    for entry in entries:
        unseen -= entry.fields.keys()
        yield entry if entry.fault else Entry(entry.line, _rename(entry.fields, names))
    if unseen:
        raise ColdstartError(f"map names columns that no row of {path} has: {', '.join(sorted(unseen))}")


def _rename(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    columns = {column: ours for ours, column in names.items()}
    renamed: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for column, value in fields.items():
        if column in columns:
            renamed[columns[column]] = value
        elif column in FIELD_NAMES and column not in names:
            renamed[column] = value
        elif value not in (None, ""):
            attributes[column] = value
    if attributes:
        given = renamed.get("attributes")
        renamed["attributes"] = {**(given if isinstance(given, dict) else {}), **attributes}
    return renamed


def _read_jsonl(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                fields = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                yield Entry(line, fault=f"not UTF-8 at byte {error.start}")
            except json.JSONDecodeError as error:
                yield Entry(line, fault=f"not JSON: {error.msg} at column {error.colno}")
            else:
                if isinstance(fields, dict):
                    yield Entry(line, fields)
                else:
                    yield Entry(line, fault=f"not a JSON object but {type(fields).__name__}")


def _read_csv(path: Path) -> Iterator[Entry]:
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = csv.DictReader(file, restkey="", strict=True)
        line = 1
        while True:
            try:
                fields = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Entry(rows.line_num, fault=f"not CSV: {error}")
                continue
            line = rows.line_num
            if fields.pop("", None):
                yield Entry(line, fault=f"more than the {len(rows.fieldnames or [])} columns of the header")
            elif any(_undecodable(value) for value in fields.values() if isinstance(value, str)):
                yield Entry(line, fault="not UTF-8")
            else:
                yield Entry(line, {name: value for name, value in fields.items() if value not in (None, "")})


def _undecodable(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _read_parquet(path: Path) -> Iterator[Entry]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ColdstartError(f"{path} is not a readable Parquet file: {error}") from error
    line = 0
    with file:
        for batch in file.iter_batches(batch_size=4096):
            for fields in batch.to_pylist():
                line += 1
                yield Entry(line, fields)


def _read_folder(path: Path) -> Iterator[Entry]:
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
        yield Entry(line, {"item_id": name, "title": title, "media": [{"uri": name}]})

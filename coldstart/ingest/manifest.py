"""Read manifests row by row: JSON, CSV, TSV, Parquet or a folder of media. Knows no meaning of fields but of the id."""

from __future__ import annotations

import difflib
import json
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from coldstart.core.items import EXTENSIONS, FIELD_NAMES, SHORT_FORMS
from coldstart.core.settings import nearest
from coldstart.core.spelling import existing_path
from coldstart.core.values import WHOLE_FLOAT, are_whole_floats
from coldstart.errors import ColdstartError
from coldstart.ingest.files import KNOWN
from coldstart.ingest.folder import read_folder
from coldstart.ingest.tables import Table, open_table

FORMATS = (KNOWN, "a folder of media")

_PEEKED_ROWS, _PEEKED_MEDIA = 1000, 16
_LONGEST_URI = 2000
_MEDIA_FIELDS = ("media", *SHORT_FORMS)


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

    Columns that are no field of ours go into `attributes`; without a mapping, a name so close to that of a missing
    field that it must be meant does not. Ids that are all whole numbers with ".0" lose it.

    Args:
        path: a JSONL, JSON, CSV, TSV or Parquet file, or a folder.
        names: our field name -> the manifest's column.

    Raises:
        ColdstartError: there is no such file, it cannot be read, its format is unknown, its header is at fault, it
            has no rows, `names` names no field of ours or a column that no row has. Where every row has the same
            columns (CSV, TSV, Parquet) the latter comes before the first row, as does a column whose name is nearly
            that of a field.
    """
    if unknown := sorted(set(names or ()) - FIELD_NAMES):
        raise ColdstartError(f"map: unknown field {unknown[0]!r}: {_nearest(unknown[0], FIELD_NAMES)}")
    path = existing_path(path)
    try:
        found = path.exists()
    except OSError as error:
        raise ColdstartError(f"cannot read manifest {path}: {error.strerror or error}") from error
    if not found:
        raise ColdstartError(f"no manifest at {path}: give {' or '.join(FORMATS)}")
    if path.is_dir():
        yield from (ManifestEntry(line, fields) for line, fields in enumerate(read_folder(path), start=1))
        return
    try:
        yield from _with_whole_ids(_mapped(open_table(path), names or {}))
    except OSError as error:
        raise ColdstartError(f"cannot read manifest {path}: {error.strerror or error}") from error


def _mapped(table: Table, names: Mapping[str, str]) -> Iterator[ManifestEntry]:
    same_columns, path = table.same_columns, table.path
    for column in table.columns:
        if column in table.doubled and column in {*FIELD_NAMES, *names.values()}:
            raise ColdstartError(f"header of {path}: column {column!r} stands twice: rename one")
    unseen, seen, empty, checked = set(names.values()), set[str](), True, bool(names) or not same_columns
    for line, found in table.rows():
        entry = ManifestEntry(line, fault=found) if isinstance(found, str) else ManifestEntry(line, found)
        empty = False
        if not checked and not entry.fault:
            _check_columns(path, entry.fields)
            checked = True
        unseen -= entry.fields.keys()
        if unseen:
            seen |= entry.fields.keys()
            if same_columns and not entry.fault:
                break
        plain = not names and entry.fields.keys() <= FIELD_NAMES
        yield entry if entry.fault or plain else replace(entry, fields=_rename(entry.fields, names))
    if empty:
        raise ColdstartError(f"manifest {path} has no rows: give one item a row")
    if unseen and seen:
        missing, has = ", ".join(sorted(unseen)), ", ".join(sorted(seen))
        raise ColdstartError(f"map names columns that no row of {path} has: {missing}; it has {has}")


def _check_columns(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuse columns that no row could be read with, once for all of them."""
    for column, value in fields.items():
        if close := _mistyped_field(column, fields):
            raise ColdstartError(
                f"header of {path}: unknown column {column!r}: did you mean {close!r}? Rename it, or set "
                f"`map: {{{close}: {column}}}` of the stage ingest"
            )
        if role := _media_role(column, value, fields):
            raise ColdstartError(
                f"header of {path}: column {column!r} holds media: set `map: {{{role}: {column}}}` of the stage "
                "ingest, or take it out"
            )
    if "item_id" not in fields:
        raise ColdstartError(
            f"header of {path}: no column item_id: it has {', '.join(fields)}; rename one, or set "
            "`map: {item_id: COLUMN}` of the stage ingest"
        )


def _mistyped_field(column: str, present: Collection[str]) -> str | None:
    """Find the field whose name was mistyped: one that is missing, and differs little; None for another name."""
    return None if column in FIELD_NAMES else _closest(column, FIELD_NAMES.difference(present))


@lru_cache(maxsize=4096)
def _closest(column: str, missing: frozenset[str]) -> str | None:
    close = nearest(column, missing)
    if close is None:
        return None
    words = [set(re.findall(r"[^\W_]+", name.casefold())) for name in (column, close)]
    alike = difflib.SequenceMatcher(None, column.casefold(), close).ratio() >= 0.8 and abs(len(column) - len(close)) < 3
    return close if words[0] <= words[1] or alike else None


def _media_role(column: str, value: Any, fields: Mapping[str, Any]) -> str | None:
    """Find the role of media in a column of no field: bytes, or, where no field has media, a path or URL of some."""
    if column in FIELD_NAMES:
        return None
    if isinstance(value, bytes) or (isinstance(value, dict) and isinstance(value.get("bytes"), bytes)):
        return "image"
    if not isinstance(value, str) or len(value) > _LONGEST_URI or not fields.keys().isdisjoint(_MEDIA_FIELDS):
        return None
    role = EXTENSIONS.get(re.sub(r"[?#].*", "", value.strip()).rpartition(".")[2].lower())
    return role if role != "audio" and re.search(r".\.", value) else None


def _with_whole_ids(entries: Iterator[ManifestEntry]) -> Iterator[ManifestEntry]:
    """Take ".0" from the ids of a manifest whose first rows all have it, as of a column that had gaps."""
    first = deque[ManifestEntry]()
    for entry in islice(entries, _PEEKED_ROWS):
        first.append(entry)
        if len(first) >= _PEEKED_MEDIA and any(isinstance(value, bytes | dict) for value in entry.fields.values()):
            break  # they may hold whole pictures
    whole = are_whole_floats(entry.fields.get("item_id") for entry in first)
    for entry in chain((first.popleft() for _ in range(len(first))), entries):
        given = entry.fields.get("item_id")
        if whole and isinstance(given, str) and re.match(WHOLE_FLOAT, given.strip()):
            entry = replace(entry, fields={**entry.fields, "item_id": given.strip().removesuffix(".0")})
        yield entry


def _rename(fields: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    renamed = {ours: fields[column] for ours, column in names.items() if column in fields}
    attributes: dict[str, Any] = {}
    for column, value in fields.items():
        if column in names.values():
            continue
        if (column in FIELD_NAMES and column not in names) or (
            not names and (_mistyped_field(column, fields) or _media_role(column, value, fields))
        ):
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
    close = nearest(name, known)
    return f"did you mean {close!r}?" if close else f"it may be one of {', '.join(sorted(known))}"

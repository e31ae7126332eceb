"""Read manifests row by row: a table with our names of fields or a shop's, or a folder of media."""

from __future__ import annotations

import difflib
import json
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from coldstart.core.items import EXTENSIONS, FIELD_NAMES, SHORT_FORMS
from coldstart.core.settings import nearest, nearest_or
from coldstart.core.spelling import existing_path, similar_path
from coldstart.core.values import WHOLE_FLOAT, are_whole_floats
from coldstart.errors import ColdstartError
from coldstart.ingest.count_columns import count_column_warnings
from coldstart.ingest.dataset_folder import dataset_tables, open_any, open_tables
from coldstart.ingest.files import KNOWN
from coldstart.ingest.folder import read_folder
from coldstart.ingest.recognise import recognise, recognise_given
from coldstart.ingest.recognition import Recognition
from coldstart.ingest.shop_rows import Doubts, ShopRows, Survey, plain_row, survey_doubts
from coldstart.ingest.table import Table

FORMATS = (KNOWN, "a folder of media, or of a dataset")

_PEEKED_ROWS, _PEEKED_MEDIA = 1000, 16
_LONGEST_URI = 2000
_MEDIA_FIELDS = ("media", *SHORT_FORMS)
_UNKNOWN_COLUMNS = (
    "ingest.map names columns that no row of {path} has: {missing}; it has {has}; mend ingest.map, or let "
    "`coldstart import` recognise the columns"
)


@dataclass(frozen=True)
class ManifestEntry:
    """One row of a manifest.

    Attributes:
        line: line number in the file (Parquet: row number; folder: position), counted from 1.
        fields: the row under our field names; empty where `fault` is set.
        fault: why the row could not be read, or "".
        rows: so many rows of the file were joined into it.
    """

    line: int
    fields: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    rows: int = 1


def base_folder(path: Path) -> Path:
    """Return the folder that the media paths of a manifest are relative to."""
    return path if path.is_dir() else path.parent


def is_media_folder(path: Path) -> bool:
    """Return True for a folder whose media are the items, no dataset."""
    return path.is_dir() and not dataset_tables(path)


class Manifest:
    """A manifest of items: a table with our field names or those of a shop, a folder of such tables, or one of media.

    Where the columns have our names, or are mapped one by one, values are read as they are; columns that are no field
    of ours go into `attributes`; without a mapping, a name so close to that of a missing field that it must be meant
    does not. Ids that are all whole numbers with ".0" lose it.

    Where the columns were recognised (`coldstart.ingest.recognise`), values are read as shops write them
    (`coldstart.ingest.shop_rows`).

    Args:
        path: a table file, or a folder.
        names: our field name -> the manifest's column, or several.
        clean: read values as shops write them; by default where columns are recognised and where a field has several.
        id_from: columns whose digest is the id, where `names` has none.

    Attributes:
        recognition: the recognised columns, None where values are read as they are.

    Raises:
        ColdstartError: there is no such file, it cannot be read, its format is unknown, its header is at fault, or
            `names` names no field of ours. Where every row has the same columns (CSV, TSV, Parquet) a column that
            is missing and one whose name is nearly that of a field come before the first row.
    """

    def __init__(
        self,
        path: Path,
        names: Mapping[str, str | Sequence[str]] | None = None,
        *,
        clean: bool | None = None,
        id_from: Sequence[str] = (),
    ) -> None:
        for name in sorted(names or ()):
            if name not in FIELD_NAMES and not name.startswith("attributes."):
                others = f"it may be one of {', '.join(sorted(FIELD_NAMES))}"
                raise ColdstartError(f"map: unknown field {name!r}: {nearest_or(name, FIELD_NAMES, others)}")
        self.path = path = existing_path(path)
        self.recognition: Recognition | None = None
        self.doubts = Doubts()
        self._names = {
            name: (given,) if isinstance(given, str) else tuple(given) for name, given in (names or {}).items()
        }
        self._survey: Survey | None = None
        self._table: Table | None = None
        self._peeked: tuple[list[str], list[dict[str, Any]]] | None = None
        try:
            if not path.exists():
                raise ColdstartError(f"no manifest at {path}{similar_path(path)}: give {' or '.join(FORMATS)}")
            if path.is_dir() and not (tables := dataset_tables(path)):
                return
            self._table = open_tables(tables, path) if path.is_dir() else open_any(path)
            several = any(len(given) > 1 or "." in name for name, given in self._names.items())
            if clean or (clean is None and several):
                self.recognition = self._mapped_shop(id_from)
            elif clean is None and not self._names:
                self.recognition = self._recognised()
        except OSError as error:
            raise ColdstartError(f"cannot read manifest {path}: {error.strerror or error}") from error

    def entries(self, exists: Callable[[str], bool] | None = None) -> Iterator[ManifestEntry]:
        """Read the items in order, one a `ManifestEntry`.

        Args:
            exists: tells whether a text is the name of a file.

        Raises:
            ColdstartError: the file is damaged, has no rows, or no row has a column of `names`.
        """
        if self._table is None:
            yield from (ManifestEntry(line, fields) for line, fields in enumerate(read_folder(self.path), start=1))
            return
        try:
            if self.recognition is None:
                yield from _with_whole_ids(_mapped(self._table, {ours: one[0] for ours, one in self._names.items()}))
                return
            rows = self._shop_rows()
            self.doubts = rows.doubts
            for line, found, joined in rows.entries(self.survey(), exists):
                if isinstance(found, str):
                    yield ManifestEntry(line, fault=found)
                else:
                    yield ManifestEntry(line, found, rows=joined)
        except OSError as error:
            raise ColdstartError(f"cannot read manifest {self.path}: {error.strerror or error}") from error

    @property
    def is_media_folder(self) -> bool:
        """True for a folder whose media are the items."""
        return self._table is None

    def columns(self) -> list[str]:
        """List the columns of the table, those of nested values among them."""
        return self._sample()[0]

    def has_bytes(self) -> bool:
        """Tell whether the first rows hold media as bytes."""
        return any(
            isinstance(value, bytes) or (isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes))
            for row in self._sample()[1][:_PEEKED_MEDIA]
            for value in row.values()
        )

    def check(self) -> None:
        """Check that there are rows, and the columns that `names` states; raises `ColdstartError`."""
        if self.recognition is None:
            next(self.entries(), None)
        elif not self._sample()[1] and next(self._table.rows(), None) is None:  # type: ignore[union-attr]
            raise ColdstartError(f"manifest {self.path} has no rows: give one item a row")

    def summary(self) -> list[str]:
        """Describe in lines what columns were taken for and what was doubtful; where values are read as they are, only
        what is warned of."""
        if self.recognition is None or self._survey is None:
            return [f"warning: {line}" for line in self.warnings()]
        taken = ", ".join(f"{match.field} from {', '.join(match.columns)}" for match in self.recognition.matches)
        if not self.recognition.of("item_id"):
            taken = f"item_id made from {', '.join(self.recognition.id_from[:3])}, {taken}"
        joined = self._survey.joined
        return [
            f"{self.path.name}: {taken}; other columns that are attributes: {len(self.recognition.attributes)}",
            *([f"{joined:,} rows were joined into the items of other rows with the same id"] if joined else []),
            *(f"doubtful: {line}" for line in (*self.value_doubts(), *self.doubts.lines())),
            *(f"warning: {line}" for line in self.warnings()),
        ]

    def survey(self) -> Survey:
        """Read all rows once for the spelling of their values and their ids; only where columns were recognised.

        Raises:
            ColdstartError: the file is damaged, or has no rows.
        """
        if self._survey is None:
            status = self.path.stat()
            assert self.recognition is not None
            key = (
                str(self.path),
                status.st_mtime_ns,
                status.st_size,
                repr((self.recognition.map(), self.recognition.id_from)),
            )
            if key not in _SURVEYS or self.path.is_dir():
                while len(_SURVEYS) >= _MOST_SURVEYS:
                    _SURVEYS.pop(next(iter(_SURVEYS)))
                _SURVEYS[key] = self._shop_rows().survey()
            self._survey = _SURVEYS[key]
        if not self._survey.rows:
            raise ColdstartError(f"manifest {self.path} has no rows: give one item a row")
        return self._survey

    def value_doubts(self) -> list[str]:
        """Describe what is doubtful in the values of all rows."""
        if self.recognition is None or self._table is None:
            return []
        return survey_doubts(self.survey(), self.recognition, self._table)

    def warnings(self) -> list[str]:
        """Warn of attributes that no new item can have, by the names of the columns and the first rows."""
        if self._table is None:
            return []
        taken = {column for given in self._names.values() for column in given}
        if self.recognition is not None:
            taken |= {column for match in self.recognition.matches for column in match.columns}
        return count_column_warnings(*self._sample(), taken)

    @property
    def notes(self) -> list[str]:
        """List what was decided about the file: encoding, delimiter, sheet."""
        return list(self._table.notes) if self._table else []

    def recognise(self, given: Mapping[str, Sequence[str]] | None = None) -> Recognition:
        """Recognise the columns of the table, and read its values as shops write them.

        Args:
            given: our field -> columns, as the user states them.

        Raises:
            ColdstartError: `given` names no field or column, the folder is one of media, or there are no rows.
        """
        if self._table is None:
            raise ColdstartError(f"{self.path} is a folder of media: it has no columns")
        columns, rows = self._sample()
        self._survey = None
        self.recognition = recognise(columns, rows, given)
        return self.recognition

    def _recognised(self) -> Recognition | None:
        """Recognise columns where they are not ours, and by names alone; None where values are read as they are."""
        assert self._table is not None
        columns, rows = self._sample()
        if not rows:
            return None
        fault = _fault_of_columns(self.path, rows[0] if self._table.same_columns else dict.fromkeys(columns))
        if fault is None and not _CONTENT.isdisjoint(columns):
            return None
        found = recognise(columns, rows).confident()
        names = {match.field for match in found.matches}
        if "item_id" not in names or _CONTENT.isdisjoint(names):
            return None
        if any(_mistyped_field(column, names | {"images", "videos"}) for column in found.attributes):
            return None
        return found

    def _mapped_shop(self, id_from: Sequence[str]) -> Recognition:
        columns, rows = self._sample()
        given = {name: tuple(one for one in chosen if one in columns) for name, chosen in self._names.items()}
        missing = [column for chosen in self._names.values() for column in chosen if column not in columns]
        if missing and not given.get("item_id") and not id_from:
            raise ColdstartError(
                _UNKNOWN_COLUMNS.format(path=self.path, missing=", ".join(missing), has=", ".join(columns))
            )
        return recognise_given(columns, rows, given, id_from)

    def _sample(self) -> tuple[list[str], list[dict[str, Any]]]:
        if self._peeked is not None:
            return self._peeked
        assert self._table is not None
        table = self._table
        rows: list[dict[str, Any]] = []
        for _, found in islice(table.rows(), _PEEKED_ROWS):
            if isinstance(found, dict):
                rows.append(plain_row(found, table.labels))
                if len(rows) >= _PEEKED_MEDIA and any(isinstance(value, bytes | dict) for value in found.values()):
                    break  # they may hold whole pictures
        columns = list(dict.fromkeys(name for row in rows for name in row)) or table.columns
        self._peeked = columns, rows
        return self._peeked

    def _shop_rows(self) -> ShopRows:
        assert self._table is not None and self.recognition is not None
        return ShopRows(self._table.rows, self.recognition, self._table.labels)


_CONTENT = frozenset(("title", "description", "media", *SHORT_FORMS))
_SURVEYS: dict[tuple[str, int, int, str], Survey] = {}
_MOST_SURVEYS = 4


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
        raise ColdstartError(_UNKNOWN_COLUMNS.format(path=path, missing=missing, has=has))


def _check_columns(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuse columns that no row could be read with, once for all of them."""
    if fault := _fault_of_columns(path, fields):
        raise ColdstartError(fault)


def _fault_of_columns(path: Path, fields: Mapping[str, Any]) -> str | None:
    for column, value in fields.items():
        if close := _mistyped_field(column, fields):
            return (
                f"header of {path}: unknown column {column!r}: did you mean {close!r}? Rename it, or set "
                f"`map: {{{close}: {column}}}` of the stage ingest, or use `coldstart import`"
            )
        if role := _media_role(column, value, fields):
            return (
                f"header of {path}: column {column!r} holds media: set `map: {{{role}: {column}}}` of the stage "
                "ingest, or use `coldstart import`, or take it out"
            )
    if "item_id" not in fields:
        return (
            f"header of {path}: no column item_id: it has {', '.join(fields)}; use `coldstart import`, rename one, or "
            "set `map: {item_id: COLUMN}` of the stage ingest"
        )
    return None


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

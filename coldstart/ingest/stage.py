"""The stage `ingest`: read manifest rows, check their fields and media, write items."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import Field, field_validator

from coldstart.core.items import CONTENT_FIELDS, FIELD_NAMES, LANGUAGE, Item
from coldstart.core.keys import digest, stage_key
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import suggestion
from coldstart.core.spelling import existing_path
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row, Work
from coldstart.core.values import is_number
from coldstart.errors import ColdstartError, redact_urls
from coldstart.ingest import manifest
from coldstart.ingest.folder import UNREAD, list_folder
from coldstart.ingest.media_files import EmbeddedMedia, LocalMedia
from coldstart.ingest.row_digests import RowDigests
from coldstart.ingest.sources import TABLE_SUFFIXES
from coldstart.media import guard
from coldstart.media.limits import Limits
from coldstart.media.loaders import TRANSIENT, ProbeMedia, bad_medium, check_remaining
from coldstart.store import ITEMS, Store
from coldstart.store.corrections import CLAIM_DECISIONS, UNCORRECTED
from coldstart.store.known_rows import KnownRows

SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string()),
        *CONTENT_FIELDS,
        pa.field(
            "bad_media", pa.list_(pa.struct([(name, pa.string()) for name in ("role", "uri", "reason", "detail")]))
        ),
        pa.field("row_key", pa.string()),
        pa.field("source_key", pa.string()),
        pa.field("ingested_at", pa.timestamp("us", "UTC")),
        LANGUAGE,
        UNCORRECTED,
        CLAIM_DECISIONS,
    ]
)
_STAT_THREADS = 16
_STAT_CHUNK = 512
_EXAMPLES = 3
_T = TypeVar("_T")
_R = TypeVar("_R")


class Settings(Section):
    """Settings of ingest."""

    map: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Our field name, or `attributes.NAME` -> the manifest's column, or several, as of pictures; columns that it leaves
    over become attributes. Without it the columns of shops are recognised by their names."""
    clean: bool | None = None
    """True: values are read as shops write them: HTML becomes text, rows with one id are one item, of nested categories
    the last level counts, a value that its field cannot have becomes an attribute. By default where columns were
    recognised."""
    id_from: tuple[str, ...] = ()
    """Columns whose digest is the id of an item, where `map` names no column of ids."""
    columns: tuple[str, ...] = ()
    """Columns of the table that `map` was made for; `coldstart import` names those that came or went since."""
    media_folder: str | None = None
    """Folder that pictures inside the manifest are written to, one of `media.roots`; by default `NAME.media` beside
    it."""

    @field_validator("map")
    @classmethod
    def _known_fields(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value.keys() - FIELD_NAMES:
            if not name.startswith("attributes."):
                raise ValueError(
                    f"an item has no field {name!r}{suggestion(name, FIELD_NAMES)}: it has "
                    f"{', '.join(sorted(FIELD_NAMES))}, and attributes.NAME"
                )
        return value


def build(name: str, settings: Settings, pipeline: Pipeline) -> IngestStage | StoredItems:
    """Build the stage for the pipeline's manifest; without one it leaves the items of the workspace as they are."""
    return StoredItems(name, pipeline.source) if pipeline.manifest is None else IngestStage(name, settings, pipeline)


class StoredItems(MapStageDefaults):
    """Source stage of a pipeline that names no manifest: no row is read, and the items of the workspace stay."""

    kind = "ingest"
    table = ITEMS
    key_column = "source_key"
    schema = SCHEMA
    batch_cost = 256.0
    deadline_s = 60.0
    on_device = False

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self._source = source

    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def entries(self) -> Iterator[Work]:
        return iter(())

    def check_source(self) -> None:
        """Check nothing: there is none."""

    def forgotten(self, item_ids: Iterable[str]) -> list[str]:
        return []

    def preparer(self) -> Prepare:
        return _unchanged

    def compute(self, batch: Sequence[Row]) -> list[Row | Reject]:
        return list(batch)

    def notes(self, workspace: Store) -> list[str]:
        count = workspace.count(ITEMS)
        text = f"nothing was read, since no manifest is named in {self._source}: {count:,} items stay as they are"
        return [f"{text}; --manifest FILE reads what has changed"] if count else []


def _unchanged(row: Row) -> tuple[Row, float]:
    return row, 1.0


class IngestStage(MapStageDefaults):
    """Source stage over one manifest; see `coldstart.core.stage.SourceStage`."""

    kind = "ingest"
    table = ITEMS
    key_column = "source_key"
    schema = SCHEMA
    batch_cost = 256.0
    isolated = True
    on_device = False

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        assert pipeline.manifest is not None
        self.name = name
        self._manifest = existing_path(pipeline.manifest)
        self._settings = settings
        self._limits = Limits(**pipeline.media.limits())
        self._roots = [existing_path(Path(root)) for root in pipeline.media.roots]
        self._base = manifest.base_folder(self._manifest)
        self._files = LocalMedia(self._base, self._roots)
        folder = None if settings.media_folder is None else Path(settings.media_folder)
        self._embedded = EmbeddedMedia(self._manifest, self._limits, folder)
        self._opened: manifest.Manifest | None = None
        self.deadline_s = self._limits.deadline_s
        self._seen: set[str] = set()

    def fingerprint(self) -> Mapping[str, Any]:
        # hosts and schemes are judged anew in every run; the deadline, like the device, is about the machine
        decided_elsewhere = ("allowed_hosts", "allowed_buckets", "allowed_schemes", "roots", "deadline_s")
        return {name: limit for name, limit in asdict(self._limits).items() if name not in decided_elsewhere}

    def entries(self) -> Iterator[Work]:
        """Yield one `Work` for each manifest row, in order; rows at fault carry their verdict.

        A row without a usable id of its own goes under `FILE#LINE`.
        """
        return self.entries_but(None)

    def entries_but(self, known: KnownRows | None) -> Iterator[Work]:
        """Yield `entries`; of rows that are known, nothing but item and key."""
        key = stage_key(self.kind, self.version, self.fingerprint())
        digests = RowDigests(key, self._base, self._roots)
        lines: dict[str, int] = {}
        folders: dict[str, str] = {}
        entries = self._open().entries(lambda uri: self._files.find(uri) is not None)
        with ThreadPoolExecutor(_STAT_THREADS) as pool:  # remote media are asked for their ETag one by one otherwise
            while chunk := list(islice(entries, _STAT_CHUNK)):
                rows = [None] * len(chunk) if known is None else _in_parts(pool, digests.of_entry, chunk)
                works: dict[int, Work] = {}
                read: dict[int, tuple[str, Item | Reject]] = {}
                for place, (entry, row) in enumerate(zip(chunk, rows, strict=True)):
                    item_id = entry.fields.get("item_id")
                    own = None if known is None else known.key_of(item_id, row)
                    if own is not None and lines.setdefault(str(item_id), entry.line) == entry.line:
                        works[place] = Work(str(item_id), own, {})
                    else:
                        read[place] = self._parse(entry, lines)
                if not works and not self._seen:
                    self._check_times((chunk[place], item) for place, (_, item) in read.items())
                locate = partial(self._locate, key=key, known=folders)
                asked = any(isinstance(item, Item) and item.media for _, item in read.values())
                located = _in_parts(pool if asked else None, locate, list(read.values()))
                works |= zip(read, located, strict=True)
                for place, row in enumerate(rows):
                    work = works[place]
                    self._seen.add(work.item_id)
                    if known is not None and row is not None and place in read and not isinstance(work.row, Reject):
                        known.add(work.item_id, row, work.key)
                    yield work

    def check_source(self) -> None:
        self._open().check()

    def doubts(self) -> list[str]:
        """Describe what was doubtful in the values of the rows that were read."""
        return [] if self._opened is None else self._opened.doubts.lines()

    def _open(self) -> manifest.Manifest:
        given = self._settings
        self._opened = manifest.Manifest(self._manifest, given.map, clean=given.clean, id_from=given.id_from)
        return self._opened

    def forgotten(self, item_ids: Iterable[str]) -> list[str]:
        return [item for item in item_ids if item.startswith(f"{self._manifest.name}#") and item not in self._seen]

    def notes(self, workspace: Any) -> list[str]:
        """List what a folder has besides the media that were listed, and media that items do without."""
        opened = self._opened
        listing = list_folder(self._manifest) if manifest.is_media_folder(self._manifest) else None
        note = listing.note() if listing else ""
        if listing and not TABLE_SUFFIXES.isdisjoint(listing.passed_over):
            note += "; a table of the items is read by `coldstart import FOLDER`"
        return [
            *([f"{self._manifest}: {note}"] if note else []),
            *([] if opened is None else opened.summary()),
            *_bad_media(workspace),
        ]

    def _check_times(self, first: Iterable[tuple[manifest.ManifestEntry, Item | Reject]]) -> None:
        """Check the times of the first rows.

        Raises:
            ColdstartError: all are numbers that lie in 1970, as those in a wrong unit do.
        """
        times = [
            (entry.fields["created_at"], item.created_at)
            for entry, item in first
            if isinstance(item, Item) and item.created_at is not None
        ]
        if times and all(time.year == 1970 and is_number(given) for given, time in times):
            raise ColdstartError(
                f"all times of {self._manifest} lie in 1970, such as created_at={times[0][0]!r}: numbers are seconds, "
                "milliseconds, microseconds or nanoseconds since 1970; write ISO 8601, such as 2024-01-05"
            )

    def _parse(self, entry: manifest.ManifestEntry, lines: dict[str, int]) -> tuple[str, Item | Reject]:
        place = f"{self._manifest.name}#{entry.line}"
        if entry.fault:
            return place, Reject("bad_row", f"{place}: {entry.fault}")
        try:
            item = Item.parse(self._embedded.save(entry.fields), self._files)
        except ValueError as error:
            given = entry.fields.get("item_id")
            usable = (
                isinstance(given, str)
                and given.strip()
                and given.isprintable()
                and lines.setdefault(given, entry.line) == entry.line
            )
            return str(given) if usable else place, Reject("bad_row", f"{place}: {error}")
        first = lines.setdefault(item.item_id, entry.line)
        if first != entry.line:
            return place, Reject("duplicate_id", f"{place}: item_id {item.item_id!r} stands on line {first} already")
        unread = [end for entry in item.media if (end := PurePath(entry.uri).suffix.lower().lstrip(".")) in UNREAD]
        if unread and manifest.is_media_folder(self._manifest):
            detail = f"{place}: .{unread[0]} is no format that is read: save it as JPEG, PNG or MP4"
            return item.item_id, Reject("unread_format", detail, state="filtered")
        if not (item.media or item.title or item.description):
            return item.item_id, Reject("bad_row", f"{place}: neither media nor text")
        return item.item_id, item

    def _locate(self, row: tuple[str, Item | Reject], key: str, known: dict[str, str]) -> Work:
        item_id, item = row
        if isinstance(item, Reject):
            return Work(item_id, digest([key, item.reason, item.detail]), item)
        media, signatures = [], []
        record = item.record()
        bad: list[dict[str, str]] = []
        faults: list[tuple[str, Reject]] = []
        gone = []
        try:
            for entry in item.media:
                try:
                    uri = self._resolve(item_id, entry.uri, known)
                    signatures.append(guard.signature(uri, self._limits))
                except Reject as reject:
                    reject = _with_cure(reject, entry.uri)
                    if reject.reason in TRANSIENT:
                        raise reject from None
                    bad.append(bad_medium(entry.role, entry.uri, reject))
                    faults.append((entry.role, reject))
                    gone.append([entry.uri, reject.reason, reject.detail])
                else:
                    media.append({"role": entry.role, "uri": uri})
            check_remaining([entry["role"] for entry in media], faults)
        except Reject as reject:
            hidden = [entry.uri for entry in item.media if redact_urls(entry.uri) != entry.uri]
            return Work(item_id, digest([key, record, reject.reason, reject.detail, *hidden]), reject)
        source_key = digest([key, record, media, signatures, *([gone] if gone else [])])
        fields = {**item.row(), "language": item.language, "record": record, "media": media, "bad_media": bad}
        fields |= dict.fromkeys((UNCORRECTED.name, CLAIM_DECISIONS.name))  # filled where people decided
        return Work(item_id, source_key, fields)

    def _resolve(self, item_id: str, uri: str, known: dict[str, str]) -> str:
        """Resolve a media reference of an item; see `coldstart.media.guard.resolve_uri`."""
        return guard.resolve_uri(uri, self._base, self._roots, self._limits, known)

    def preparer(self) -> Prepare:
        return ProbeMedia(self._limits)

    def compute(self, batch: Sequence[Row]) -> list[Row | Reject]:
        now = datetime.now(UTC)
        return [{**row, "ingested_at": now} for row in batch]


def _in_parts(pool: ThreadPoolExecutor | None, function: Callable[[_T], _R], values: Sequence[_T]) -> list[_R]:
    """Call a function with each value, some of them at once, and return the results in order."""
    if pool is None:
        return [function(value) for value in values]
    parts = [values[start::_STAT_THREADS] for start in range(min(_STAT_THREADS, len(values)))]
    found = list(pool.map(lambda part: [function(value) for value in part], parts))
    return [found[place % len(parts)][place // len(parts)] for place in range(len(values))]


def _bad_media(workspace: Store) -> list[str]:
    """Note media that cannot be read, of items that are made from their other ones, with an example a reason."""
    if not workspace.has(ITEMS) or "bad_media" not in workspace.columns(ITEMS):
        return []
    rows = workspace.read(ITEMS, ["item_id", "bad_media"], where="bad_media IS NOT NULL").to_pylist()
    found = [(row["item_id"], entry) for row in rows for entry in row["bad_media"]]
    if not found:
        return []
    first: dict[str, str] = {}
    for item_id, entry in found:
        first.setdefault(entry["reason"], f"{entry['uri']} of {item_id} ({entry['reason']}: {entry['detail']})")
    examples = "; ".join([*first.values()][:_EXAMPLES])
    return [
        f"{len(rows)} items do without {len(found)} of their media that cannot be read, such as {examples}: "
        "`coldstart show ITEM` lists them all"
    ]


def _with_cure(reject: Reject, uri: str) -> Reject:
    """Add the next step to the verdict on a path that only another system understands."""
    if reject.reason == "not_found" and re.match(r"[A-Za-z]:[\\/]|\\\\", uri):
        return Reject(
            reject.reason, f"{reject.detail}; a path of a Windows machine: give paths relative to the manifest"
        )
    return reject

"""The stage `ingest`: read manifest rows, check their fields and media, write items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator

from coldstart.core.items import CONTENT_FIELDS, FIELD_NAMES, Item
from coldstart.core.keys import digest, stage_key
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row, Work
from coldstart.errors import ColdstartError
from coldstart.ingest import manifest
from coldstart.media import guard
from coldstart.media.limits import Limits
from coldstart.media.loaders import ProbeMedia
from coldstart.store import ITEMS

SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string()),
        *CONTENT_FIELDS,
        pa.field("row_key", pa.string()),
        pa.field("source_key", pa.string()),
        pa.field("ingested_at", pa.timestamp("us", "UTC")),
    ]
)
_STAT_THREADS = 16
_STAT_CHUNK = 512


class Settings(Section):
    """Settings of ingest."""

    map: dict[str, str] = Field(default_factory=dict)
    """Our field name -> the manifest's column; columns it leaves over become attributes."""

    @field_validator("map")
    @classmethod
    def _known_fields(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.keys() - FIELD_NAMES:
            raise ValueError(f"an item has no field {name!r}: it has {', '.join(sorted(FIELD_NAMES))}")
        return value


def build(name: str, settings: Settings, pipeline: Pipeline) -> IngestStage:
    """Build the stage for the pipeline's manifest.

    Raises:
        ColdstartError: the pipeline has no manifest.
    """
    if pipeline.manifest is None:
        raise ColdstartError(f"{pipeline.source} names no manifest: give one with --manifest FILE")
    return IngestStage(name, settings, pipeline)


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
        self._manifest = pipeline.manifest
        self._names = settings.map
        self._limits = Limits(**pipeline.media.limits())
        self._roots = [Path(root) for root in pipeline.media.roots]
        self.deadline_s = self._limits.deadline_s
        self._seen: set[str] = set()

    def fingerprint(self) -> Mapping[str, Any]:
        # hosts and schemes are judged anew in every run; the deadline, like the device, is about the machine
        decided_elsewhere = ("allowed_hosts", "allowed_schemes", "deadline_s")
        return {name: limit for name, limit in asdict(self._limits).items() if name not in decided_elsewhere}

    def entries(self) -> Iterator[Work]:
        """Yield one `Work` for each manifest row, in order; rows at fault carry their verdict.

        A row without a usable id of its own goes under `FILE#LINE`.
        """
        key = stage_key(self.kind, self.version, self.fingerprint())
        lines: dict[str, int] = {}
        rows = (self._parse(entry, lines) for entry in manifest.read_manifest(self._manifest, self._names))
        known: dict[str, str] = {}

        def locate(part: Sequence[tuple[str, Item | Reject]]) -> list[Work]:
            return [self._locate(row, key, known) for row in part]

        with ThreadPoolExecutor(_STAT_THREADS) as pool:  # remote media are asked for their ETag one by one otherwise
            while chunk := list(islice(rows, _STAT_CHUNK)):
                parts = [chunk[start::_STAT_THREADS] for start in range(min(_STAT_THREADS, len(chunk)))]
                located = list(pool.map(locate, parts))
                for place in range(len(chunk)):
                    work = located[place % len(parts)][place // len(parts)]
                    self._seen.add(work.item_id)
                    yield work

    def forgotten(self, item_ids: Iterable[str]) -> list[str]:
        return [item for item in item_ids if item.startswith(f"{self._manifest.name}#") and item not in self._seen]

    def _parse(self, entry: manifest.ManifestEntry, lines: dict[str, int]) -> tuple[str, Item | Reject]:
        place = f"{self._manifest.name}#{entry.line}"
        if entry.fault:
            return place, Reject("bad_row", f"{place}: {entry.fault}")
        try:
            item = Item.parse(entry.fields)
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
        if not (item.media or item.title or item.description):
            return item.item_id, Reject("bad_row", f"{place}: neither media nor text")
        return item.item_id, item

    def _locate(self, row: tuple[str, Item | Reject], key: str, known: dict[str, str]) -> Work:
        item_id, item = row
        if isinstance(item, Reject):
            return Work(item_id, digest([key, item.reason, item.detail]), item)
        media, signatures = [], []
        base = manifest.base_folder(self._manifest)
        try:
            for entry in item.media:
                uri = guard.resolve_uri(entry.uri, base, self._roots, self._limits, known)
                media.append({"role": entry.role, "uri": uri})
                signatures.append(guard.signature(uri, self._limits))
        except Reject as reject:
            return Work(item_id, digest([key, item.record(), reject.reason, reject.detail]), reject)
        source_key = digest([key, item.record(), media, signatures])
        return Work(item_id, source_key, {**item.row(), "record": item.record(), "media": media})

    def preparer(self) -> Prepare:
        return ProbeMedia(self._limits)

    def compute(self, batch: Sequence[Row]) -> list[Row | Reject]:
        now = datetime.now(UTC)
        return [{**row, "ingested_at": now} for row in batch]

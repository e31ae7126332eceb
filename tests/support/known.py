"""A workspace of sample items with rows of the parts of `understand`, written by hand to the columns that they have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

import coldstart
from coldstart import sample
from coldstart.core.pipeline import Engine, Media, Pipeline, StageSpec
from coldstart.core.stage import CatalogStage, LedgerRow, MapStage, MapStageDefaults, Reject
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import expected_keys
from coldstart.understand.timeline import fuse, screen_text, transcript

TEXT, REAL, SHARE, WHOLE = pa.string(), pa.float64(), pa.float32(), pa.int32()
TIMES = [("start_s", REAL), ("end_s", REAL)]
OTHER = [("other_start_s", REAL), ("other_end_s", REAL)]


def rows_of(*fields: tuple[str, pa.DataType]) -> pa.DataType:
    return pa.list_(pa.struct(fields))


COLUMNS: dict[str, list[tuple[str, pa.DataType]]] = {
    "shots": [
        ("shots", rows_of(*TIMES, ("frame_s", REAL), ("group", WHOLE))),
        ("frame_times_s", pa.list_(REAL)),
        ("watched_s", REAL),
    ],
    "speech": [
        ("language", TEXT),
        ("language_confidence", SHARE),
        ("heard_s", REAL),
        ("voiced_s", REAL),
        ("segments", rows_of(*TIMES, ("text", TEXT), ("confidence", SHARE))),
        ("dropped", rows_of(*TIMES, ("text", TEXT), ("reason", TEXT))),
    ],
    "screen": [
        (
            "lines",
            rows_of(
                *TIMES, ("text", TEXT), ("confidence", SHARE), ("box", pa.list_(SHARE)), ("frames", WHOLE),
                ("medium", WHOLE),
            ),
        ),
        ("frames_read", WHOLE),
        ("frames_skipped", WHOLE),
    ],
    "duplicates": [
        ("arrived", pa.int64()),
        ("duplicate_of", TEXT),
        ("score", SHARE),
        ("mirrored", pa.bool_()),
        ("speed", SHARE),
        ("matches", rows_of(*TIMES, *OTHER)),
    ],
    "quality": [("sharpness", REAL), ("black_share", REAL), ("frozen_share", REAL), ("has_audio", pa.bool_())],
    "evidence": [
        ("timeline", rows_of(*TIMES, ("source", TEXT), ("text", TEXT), ("confidence", SHARE))),
        ("transcript", TEXT),
        ("screen_text", TEXT),
        ("language", TEXT),
    ],
    "safety": [
        ("findings", rows_of(("rule", TEXT), ("score", SHARE), ("source", TEXT), ("quote", TEXT), ("at_s", REAL))),
        ("scores", rows_of(("rule", TEXT), ("score", SHARE))),
        ("policy", TEXT),
    ],
}  # fmt: skip


@dataclass
class Part(MapStageDefaults):
    """A map stage that has its rows already."""

    name: str
    kind: str
    reads: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    batch_cost = 1.0
    deadline_s = 1.0
    schema = pa.schema([])

    @property
    def table(self) -> str:
        return f"stage.{self.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def preparer(self) -> Any:
        raise NotImplementedError

    def compute(self, batch: Sequence[Any]) -> list[Any]:
        raise NotImplementedError


@dataclass
class GatePart(Part):
    """One that keeps items out."""

    out: Mapping[str, Reject] = field(default_factory=dict)

    def blocked(self, workspace: Any) -> Mapping[str, Reject]:
        return self.out


@dataclass
class WholePart:
    """A catalog stage over its own table: items in it are expected with the key that they have."""

    name: str
    kind: str = "understand.duplicates"
    verdicts: Mapping[str, LedgerRow] = field(default_factory=dict)

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        keys = {item: key for item, key in store.keys(ITEMS).items() if item not in self.verdicts}
        return keys, dict(self.verdicts)

    def present(self, store: Store) -> dict[str, str]:
        return store.keys(f"stage.{self.name}")

    def run(self, store: Store, progress: Any) -> tuple[int, list[str]]:
        raise NotImplementedError


Stage = MapStage | CatalogStage


def catalogue(folder: Path, ids: Sequence[str], extra: Sequence[Mapping[str, Any]] = ()) -> Store:
    """A workspace that has ingested these items of the sample, and others from `extra`."""
    entries = [json.loads(line) for line in (sample.path() / "manifest.jsonl").read_text("utf-8").splitlines()]
    chosen = [entry for entry in entries if entry["item_id"] in ids]
    for entry in chosen:
        media = entry.get("media") or []
        entry["media"] = [{**one, "uri": str(sample.path() / one["uri"])} for one in media]
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "items.jsonl"
    manifest.write_text("".join(f"{json.dumps(entry)}\n" for entry in (*chosen, *extra)), "utf-8")
    workspace = coldstart.open(folder / "workspace", create=True)
    text = {"stage": "embed", "encoder": "fake:16", "input": "text"}
    workspace.run(
        {
            "manifest": str(manifest),
            "max_failed": 1.0,
            "media": {"roots": [str(sample.path())]},
            "engine": {"workers": 1, "device": "cpu"},
            "stages": {"ingest": {}, "text": text, "index": {}},
        }
    )
    return Store(folder / "workspace")


def pipeline_of(stages: Sequence[Stage]) -> Pipeline:
    """A pipeline of `ingest` and these stages."""
    specs = [StageSpec("ingest", "ingest", None), *(StageSpec(one.name, one.kind, None) for one in stages)]
    return Pipeline("test", None, 0.0, Media(), Engine(workers=1), tuple(specs), {})


def fill(store: Store, stage: Stage, rows: Mapping[str, Mapping[str, Any]], key: str | None = None) -> None:
    """Write rows of a part by item: fresh ones, or under the `key` given."""
    keys = expected_keys(stage, store.keys(ITEMS)) if isinstance(stage, MapStage) else store.keys(ITEMS)
    columns = COLUMNS[stage.kind.partition(".")[2]]
    schema = pa.schema([("item_id", TEXT), ("row_key", TEXT), *columns])
    found = [{"item_id": item, "row_key": key or keys[item], **row} for item, row in rows.items()]
    store.merge(f"stage.{stage.name}", pa.Table.from_pylist(found, schema=schema))


def evidence(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """The row of `understand.evidence` from those of the other parts."""
    joined: dict[str, Any] = {}
    for part in parts:
        joined |= part
    timeline = fuse(joined.get("shots", ()), joined.get("segments", ()), joined.get("lines", ()))
    return {
        "timeline": [vars(entry) for entry in timeline],
        "transcript": transcript(timeline),
        "screen_text": screen_text(timeline),
        "language": joined.get("language"),
    }

"""The made-up world of `behaviour_world` as a workspace: two spaces that show its items, and what its users did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from behaviour_world import World, world
from catalogue import photo, write_manifest

import coldstart
from coldstart.core.interactions import Interactions
from coldstart.ingest.interaction_file import SCHEMA
from coldstart.store.freshness import build
from coldstart.store.interactions import InteractionTable

COLD = 10
"""So many of the world's items, the last to arrive, nobody has met yet."""
FIT = {
    "dim": 16,
    "candidates": {"knn": {}, "ridge": {"target": "users"}},
    "weights": {"picture": 1.0, "text": 1.0, "labels": 0.2},
    "power": 0.5,
}
"""Settings of a quick fit."""


def small_world() -> World:
    """100 users, 80 items."""
    return world(users=100, items=80, per_user=14)


def entries(folder: Path, known: World) -> list[dict[str, Any]]:
    """Manifest rows of the world's items; those that the world shows no picture of have none."""
    folder.mkdir(parents=True, exist_ok=True)
    pictured = known.content.present("picture")
    return [
        {
            "item_id": record["item_id"],
            "kind": "product",
            "title": record["title"],
            "category": record["category"],
            **({"image": photo(folder / f"{record['item_id']}.jpg", place).name} if pictured[place] else {}),
        }
        for place, record in enumerate(known.content.records)
    ]


def settings(folder: Path, rows: Sequence[Mapping[str, Any]], **fit: Any) -> dict[str, Any]:
    """A pipeline over them: ingest, picture, text, align.behaviour, behaviour, index."""
    return {
        "manifest": str(write_manifest(folder / "items.jsonl", rows)),
        "engine": {"workers": 2, "device": "cpu", "dtype": "float32"},
        "stages": {
            "ingest": {},
            "picture": {"stage": "embed", "encoder": "fake:24", "input": "image"},
            "text": {"stage": "embed", "encoder": "fake:32", "input": "text", "prompt": "title"},
            "align": {"text_image": False, "behaviour": {**FIT, **fit}},
            "behaviour": {},
            "index": {},
        },
    }


def teach(workspace: coldstart.Workspace, known: World) -> None:
    """Put the world's vectors where the fake encoders' are: theirs say nothing of taste."""
    pipeline = workspace.pipeline()
    places = {item: place for place, item in enumerate(known.content.item_ids)}
    for name, block in known.content.blocks.items():
        stage: Any = build(pipeline.stage(name), pipeline)
        rows = workspace._store.read(stage.table).to_pylist()
        for row in rows:
            if row["item_id"] in places:
                row["vector"] = block[places[row["item_id"]]]
        workspace._store.merge(stage.table, pa.Table.from_pylist(rows, schema=stage.schema))


def batch(rows: Interactions) -> pa.RecordBatch:
    """Interactions as a block of a file."""
    columns = {
        "user_id": pa.array(np.array(rows.user_ids)[rows.users]),
        "item_id": pa.array(np.array(rows.item_ids)[rows.items]),
        "timestamp": pa.array(rows.times * 1_000_000).cast(pa.timestamp("us", "UTC")),
        "event": pa.array([""] * len(rows)),
        "weight": pa.array(rows.weights),
    }
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def met(known: World) -> Interactions:
    """What users did with items that are not cold."""
    return known.interactions.where(known.interactions.items < len(known.content) - COLD)


def shop(folder: Path, known: World | None = None, **fit: Any) -> coldstart.Workspace:
    """A workspace with all of it, its pipeline run once."""
    known = known or small_world()
    raw = settings(folder / "media", entries(folder / "media", known), **fit)
    workspace = coldstart.open(folder / "w", create=True)
    workspace.run(raw, only=["ingest", "picture", "text"])
    teach(workspace, known)
    InteractionTable(workspace._store).append([batch(met(known))])
    workspace.run()
    return workspace

"""Vectors that items have in a space, and those that they would have without their category. Makes no row.

Stages are taken as built: `coldstart.stages.embed` has what is said of them here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.encoders import Passport
from coldstart.freshness import Standing
from coldstart.pipeline import Pipeline, StageSpec
from coldstart.stage import Reject, Row
from coldstart.workspace import ITEMS, Store

Vectors = NDArray[np.float32]
KINDS = ("embed", "behaviour")
"""Kinds of stages whose rows are vectors of a space."""
_MANY = 8
"""Reading a whole table is quicker than asking for more than one in so many of its rows."""


def table_of(space: str, passport: Passport) -> str:
    """The table of a space: one a passport, so that vectors of two encoders never meet and going back costs nothing."""
    return f"stage.{space}-{passport.digest}"


def spaces_of(pipeline: Pipeline) -> list[StageSpec]:
    """The stages that make the spaces of a pipeline, in its order."""
    return [spec for spec in pipeline.stages if spec.kind in KINDS]


def vectors_of(store: Store, stage: Any, items: Sequence[str]) -> Vectors:
    """Stored vectors of items in their order, zero where one has none in the space: float32 [N, D]."""
    found = np.zeros((len(items), stage.passport.dim), np.float32)
    if not items or not store.has(stage.table):
        return found
    places = {item: place for place, item in enumerate(items)}
    ids = None if len(items) * _MANY > store.count(stage.table) else list(items)
    rows = store.read(stage.table, ["item_id", "vector"], ids=ids)
    chosen = np.array([places.get(item, -1) for item in rows["item_id"].to_pylist()], np.int64)
    start = 0
    for chunk in rows["vector"].chunks:
        values = chunk.flatten().to_numpy().reshape(len(chunk), -1)
        own = chosen[start : start + len(chunk)]
        found[own[own >= 0]] = values[own >= 0]
        start += len(chunk)
    return found


def reads_category(stage: Any, standing: Standing) -> bool:
    """Whether the vectors of items that have a category say so in words."""
    if stage.settings.over is not None:
        return reads_category(standing.stage(stage.settings.over), standing)
    return stage.settings.input == "text" and "category" in stage.preparer().prompt.inputs


def without_category(store: Store, standing: Standing, stage: Any, items: Sequence[str]) -> dict[str, Vectors]:
    """Item -> its vector in a space as it would be if the item had no category, float32 [D]; made now, and not kept.

    Items that have nothing else to say there have none.
    """
    rows = {row["item_id"]: {**row, "category": None} for row in store.read(ITEMS, ids=items).to_pylist()}
    return {item: row["vector"] for item, row in _made(store, standing, stage, rows).items()}


def _made(store: Store, standing: Standing, stage: Any, rows: Mapping[str, Row]) -> dict[str, Row]:
    """Rows of a space over changed items, without those that it turns away."""
    fed = {item: dict(row) for item, row in rows.items()}
    for field, name in stage.reads.items():
        source: Any = standing.stage(name)
        if name == stage.settings.over:
            read = _made(store, standing, source, rows)
        else:
            fresh = [item for item in rows if item in standing.of(name).fresh]
            read = {row["item_id"]: row for row in store.read(source.table, ids=fresh).to_pylist()} if fresh else {}
        for item, row in fed.items():
            row[field] = read.get(item)
    prepare, ready = stage.preparer(), {}
    for item, row in fed.items():
        with suppress(Reject):
            ready[item] = prepare(row)[0]
    made = stage.compute(list(ready.values())) if ready else []
    return {item: row for item, row in zip(ready, made, strict=True) if not isinstance(row, Reject)}

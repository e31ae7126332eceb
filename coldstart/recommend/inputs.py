"""What fits of behaviour learn from and leave, read from a workspace: content, the newest fit, the space it fills."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.settings import nearest
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.recommend.model.fusion import Content
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import Standing
from coldstart.store.interactions import INTERACTIONS

if TYPE_CHECKING:
    from coldstart.recommend.model.fitted import Behaviour
    from coldstart.store.artifacts import Artifact

FIT, SPACE = "align.behaviour", "behaviour"
"""Kinds of the stage that fits and of the one that fills a space with it."""
FIT_FILE = "fit.json"
"""What a fit says of itself that is asked often: its `dim`, and the passports of the `spaces` it learnt from."""
LABELS = "labels"
"""Name of what records say in words, beside the names of spaces."""
_EXCLUDED_COLUMNS = frozenset({"row_key", "source_key", "source", "ingested_at", "media"})


def record_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says of an item, from its row of `items`; `attributes` as a mapping."""
    attributes = json.loads(row["attributes"]) if row.get("attributes") else {}
    return {**{name: value for name, value in row.items() if name not in _EXCLUDED_COLUMNS}, "attributes": attributes}


def load_content(
    store: Store,
    pipeline: Pipeline,
    spaces: Sequence[str] | None = None,
    items: Sequence[str] | None = None,
    *,
    standing: Standing | None = None,
) -> Content:
    """Records of items, and their vectors in embed stages of the pipeline as far as those are fresh.

    Args:
        spaces: names of the embed stages; by default those that the pipeline's `align.behaviour` learns from, or all
            where it has no such stage.
        items: ids, in the wanted order; those that the workspace does not have are left out. By default all, by id.
        standing: of that pipeline, where it is at hand.

    Raises:
        NotFitted: the encoder of one of the spaces waits for a fit.
        ColdstartError: there is no such space.
    """
    standing = standing or Standing(store, pipeline)
    rows: dict[str, dict[str, Any]] = {}
    if store.has(ITEMS):
        columns = [name for name in store.columns(ITEMS) if name not in _EXCLUDED_COLUMNS]
        found = store.read(ITEMS, columns, ids=None if items is None else list(items)).to_pylist()
        rows = {row["item_id"]: record_of(row) for row in found}
    ids = sorted(rows) if items is None else [item for item in dict.fromkeys(items) if item in rows]
    blocks = {}
    for space in _default_spaces(pipeline) if spaces is None else spaces:
        _check_space(space, [spec.name for spec in pipeline.of_kind("embed")])
        vectors = vectors_of(store, standing.stage(space), ids)
        fresh = standing.of(space).fresh
        vectors[[item not in fresh for item in ids]] = 0
        blocks[space] = vectors
    return Content(tuple(ids), blocks, tuple(rows[item] for item in ids))


def _default_spaces(pipeline: Pipeline) -> list[str]:
    fits = pipeline.of_kind(FIT)
    if fits:
        return spaces_before(pipeline, fits[-1].name, fits[-1].settings.spaces)
    return [spec.name for spec in pipeline.of_kind("embed")]


def spaces_before(pipeline: Pipeline, stage: str, wanted: Sequence[str] | None) -> list[str]:
    """Names of the embed stages that stand before a stage, or of those that are wanted.

    Raises:
        ColdstartError: a wanted one does not stand there, or none does.
    """
    before = pipeline.earlier(stage)
    known = [spec.name for spec in before if spec.kind == "embed"]
    for space in wanted or ():
        if space not in known:
            raise ColdstartError(
                f"{stage}.spaces: no space {space!r} stands before it{nearest(space, known)}: there is "
                f"{', '.join(known) or 'none'}"
            )
    if not (known if wanted is None else wanted):
        raise ColdstartError(f"{stage} has no space to learn from: put a stage of kind embed before it")
    return known if wanted is None else list(dict.fromkeys(wanted))


def _check_space(space: str, known: Sequence[str]) -> None:
    if space not in known:
        raise ColdstartError(
            f"no space {space!r}{nearest(space, known)}: the pipeline embeds in {', '.join(known) or 'none'}"
        )


def fit_stage_of(pipeline: Pipeline) -> StageSpec:
    """The pipeline's stage that learns from interactions, the last one where there are several.

    Raises:
        NotFitted: it has none.
    """
    fits = pipeline.of_kind(FIT)
    if not fits:
        raise NotFitted(f"{pipeline.source} has no stage of kind {FIT}: `coldstart finetune behaviour` adds one")
    return fits[-1]


def load_newest_fit(store: Store, pipeline: Pipeline) -> tuple[Behaviour, Artifact]:
    """The newest fit, and the artifact that keeps it with its report.

    Raises:
        NotFitted: nothing is fitted yet.
    """
    spec = fit_stage_of(pipeline)
    made = store.artifacts.newest(spec.name)
    if made is None:
        raise NotFitted(f"stage {spec.name!r} has fitted nothing: run `coldstart finetune behaviour`")
    return load_fit(made.folder), made


@lru_cache(maxsize=2)
def load_fit(folder: Path) -> Behaviour:
    """The fit in the folder of an artifact, which is never changed: loaded once a process."""
    from coldstart.recommend.model.fitted import load_behaviour

    return load_behaviour(folder)


def load_item_vectors(store: Store, pipeline: Pipeline) -> tuple[list[str], NDArray[np.float32]]:
    """Ids, sorted, and vectors float32 [N, D] of the items that have a fresh row in the behaviour space: their
    products with vectors of users are scores.

    Raises:
        NotFitted: nothing is fitted yet, or no row is made with the fit yet.
        ColdstartError: the pipeline has no such space.
    """
    named = [spec.name for spec in pipeline.of_kind(SPACE)]
    if not named:
        raise NotFitted(f"{pipeline.source} has no stage of kind {SPACE}: `coldstart finetune behaviour` adds one")
    load_newest_fit(store, pipeline)
    standing = Standing(store, pipeline)
    stage: Any = standing.stage(named[-1])
    fresh = standing.of(named[-1]).fresh
    if not fresh:
        raise NotFitted(
            f"space {named[-1]!r} has no vector by the last fit yet: run `coldstart run --workspace {store.uri}`"
        )
    rows = store.read(stage.table, ["item_id", "vector", "norm"]).combine_chunks().sort_by("item_id")
    ids: list[str] = rows["item_id"].to_pylist()
    vectors = np.concatenate([chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in rows["vector"].chunks])
    full: NDArray[np.float32] = vectors * rows["norm"].to_numpy()[:, None]
    kept = np.array([item in fresh for item in ids], bool)
    return [item for item in ids if item in fresh], full[kept]


def met_items(store: Store, until_s: int | None) -> frozenset[str]:
    """Items that somebody met before a second; of any weight."""
    if not store.has(INTERACTIONS):
        return frozenset()
    where = None if until_s is None else f"timestamp < to_timestamp_seconds({until_s})"
    return frozenset(pc.unique(store.read(INTERACTIONS, ["item_id"], where=where)["item_id"]).to_pylist())

"""Read from a workspace the inputs of behaviour fits and their results: content, the newest fit, the space it fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.item_fields import read_attributes
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.settings import suggestion
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.recommend.model.fusion import Content
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState

if TYPE_CHECKING:
    from coldstart.recommend.model.fitted import Behaviour
    from coldstart.store.artifacts import Artifact

FIT, SPACE = "align.behaviour", "behaviour"
"""Stage kinds: the fit of behaviour, and the space that is filled with it."""
FIT_FILE = "fit.json"
"""File of an artifact with the `dim` of its fit and the passports of the `spaces` it was fitted on."""
LABELS = "labels"
"""Name of the labels of records, beside the names of spaces."""
LABEL_FIELDS = ("kind", "category", "creator", "tags", "attributes", "price")
"""Fields of an item that labels are read from (`coldstart.recommend.model.labels`)."""
_EXCLUDED_COLUMNS = frozenset(
    {"row_key", "source_key", "source", "ingested_at", "media", "uncorrected", "claim_decisions"}
)


def record_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row of `items` to the item's manifest record; `attributes` as a mapping."""
    attributes = read_attributes(row.get("attributes"))
    return {**{name: value for name, value in row.items() if name not in _EXCLUDED_COLUMNS}, "attributes": attributes}


def load_content(
    store: Store,
    pipeline: Pipeline,
    spaces: Sequence[str] | None = None,
    items: Sequence[str] | None = None,
    *,
    pipeline_state: PipelineState | None = None,
) -> Content:
    """Load records of items, and their fresh vectors in embed stages of the pipeline.

    Args:
        spaces: names of the embed stages; by default those of the pipeline's `align.behaviour`, or all where it has no
            such stage.
        items: ids, in the wanted order; ids that the workspace lacks are left out. By default all, sorted by id.
        pipeline_state: state of that pipeline, to read it only once.

    Raises:
        NotFitted: the encoder of one of the spaces waits for a fit.
        ColdstartError: there is no such space.
    """
    pipeline_state = pipeline_state or PipelineState(store, pipeline)
    rows: dict[str, dict[str, Any]] = {}
    if store.has(ITEMS):
        columns = [name for name in store.columns(ITEMS) if name not in _EXCLUDED_COLUMNS]
        found = store.read(ITEMS, columns, ids=None if items is None else list(items)).to_pylist()
        rows = {row["item_id"]: record_of(row) for row in found}
    ids = sorted(rows) if items is None else [item for item in dict.fromkeys(items) if item in rows]
    blocks = {}
    for space in _default_spaces(pipeline) if spaces is None else spaces:
        _check_space(space, [spec.name for spec in pipeline.of_kind("embed")])
        vectors = vectors_of(store, pipeline_state.stage(space), ids)
        fresh = pipeline_state.of(space).fresh
        vectors[[item not in fresh for item in ids]] = 0
        blocks[space] = vectors
    return Content(tuple(ids), blocks, tuple(rows[item] for item in ids))


def _default_spaces(pipeline: Pipeline) -> list[str]:
    fits = pipeline.of_kind(FIT)
    if fits:
        return spaces_before(pipeline, fits[-1].name, fits[-1].settings.spaces)
    return [spec.name for spec in pipeline.of_kind("embed")]


def spaces_before(pipeline: Pipeline, stage: str, wanted: Sequence[str] | None) -> list[str]:
    """List the embed stages before a stage, or check the requested ones.

    Raises:
        ColdstartError: a requested one is not before the stage, or there is none.
    """
    before = pipeline.earlier(stage)
    known = [spec.name for spec in before if spec.kind == "embed"]
    for space in wanted or ():
        if space not in known:
            raise ColdstartError(
                f"{stage}.spaces: no space {space!r} before it{suggestion(space, known)}: there is "
                f"{', '.join(known) or 'none'}"
            )
    if not (known if wanted is None else wanted):
        raise ColdstartError(f"{stage} has no space to learn from: put a stage of kind embed before it")
    return known if wanted is None else list(dict.fromkeys(wanted))


def _check_space(space: str, known: Sequence[str]) -> None:
    if space not in known:
        raise ColdstartError(
            f"no space {space!r}{suggestion(space, known)}: the pipeline embeds in {', '.join(known) or 'none'}"
        )


def fit_stage_of(pipeline: Pipeline) -> StageSpec:
    """Find the pipeline's fit of behaviour, the last one where there are several.

    Raises:
        NotFitted: it has none.
    """
    return pipeline.last(FIT, "coldstart finetune behaviour")


def load_newest_fit(store: Store, pipeline: Pipeline) -> tuple[Behaviour, Artifact]:
    """Load the newest fit, with the artifact that stores it and its report.

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
    """Load the fit in an artifact's folder, which never changes: once a process."""
    from coldstart.recommend.model.fitted import load_behaviour

    return load_behaviour(folder)


def load_item_vectors(store: Store, pipeline: Pipeline) -> tuple[list[str], NDArray[np.float32]]:
    """Load the vectors of items with a fresh row in the behaviour space: sorted ids, and float32 [N, D].

    Products with user vectors are scores.

    Raises:
        NotFitted: nothing is fitted yet, or the space has no row of the newest fit yet.
        ColdstartError: the pipeline has no such space.
    """
    name = pipeline.last(SPACE, "coldstart finetune behaviour").name
    load_newest_fit(store, pipeline)
    pipeline_state = PipelineState(store, pipeline)
    stage: Any = pipeline_state.stage(name)
    fresh = pipeline_state.of(name).fresh
    if not fresh:
        raise NotFitted(
            f"space {name!r} has no vector by the last fit yet: run `coldstart run --workspace {store.uri}`"
        )
    rows = store.read(stage.table, ["item_id", "vector", "norm"]).combine_chunks().sort_by("item_id")
    ids: list[str] = rows["item_id"].to_pylist()
    vectors = np.concatenate([chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in rows["vector"].chunks])
    full: NDArray[np.float32] = vectors * rows["norm"].to_numpy()[:, None]
    kept = np.array([item in fresh for item in ids], bool)
    return [item for item in ids if item in fresh], full[kept]

"""Run an ablation over a workspace: what each stage of its pipeline adds to finding new items, by its interactions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.ablation.ladder import ORDER, build_ladder
from coldstart.ablation.report import LadderReport, build_report
from coldstart.ablation.steps import LadderSettings, evaluate_steps
from coldstart.core.interactions import Interactions
from coldstart.core.likes import find_likes
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.errors import ColdstartError
from coldstart.recommend.evaluate.splits import Split, split_by_item_ids, split_by_items
from coldstart.recommend.fit_stage import content_groups
from coldstart.recommend.inputs import FIT, load_content
from coldstart.recommend.model.fusion import Content
from coldstart.store import Store
from coldstart.store.fits import with_fits
from coldstart.store.freshness import PipelineState
from coldstart.store.interactions import InteractionTable

_NEW_SHARE = 0.2
_CHOICE = ("candidates", "blend", "teacher", "dim", "valid_share", "folds", "max_delta", "calibrate")
"""Settings taken from the pipeline's fit; weights of spaces are not, since steps have their own blocks."""
_SAME = 0.98  # mean cosine from which on images of two items are duplicates


def evaluate_store(
    store: Store,
    pipeline: Pipeline,
    progress: Progress,
    *,
    seeds: int = 1,
    write: int | str | None = None,
    min_weight: float | None = None,
    warm_min: int = 1,
    labels: bool = False,
    held_out: Collection[str] | None = None,
    choice: Mapping[str, Any] | None = None,
    resamples: int = 2000,
) -> LadderReport:
    """Evaluate what each stage of a pipeline adds to the recall of new items, and its cost.

    Args:
        progress: source of progress meters.
        seeds: number of splits, each with other items held out as new.
        write: number of items, or `all`, that the writer without stored descriptions describes.
        min_weight: least weight of a row that counts as a like; None: as `align.behaviour`, or as the log has it.
        warm_min: least users of a training item.
        labels: use category, tags and attributes in every step.
        held_out: ids of the new items, instead of items drawn at random.
        choice: settings of the last step, as `coldstart.recommend.model.selection.SelectionSettings`; by default those
            of `align.behaviour`.

    Raises:
        ColdstartError: there are no interactions, too few to hold items out, or none of items of the catalogue; or
            another process writes to the workspace, where vectors of texts are stored.
    """
    pipeline = with_fits(pipeline, store)
    pipeline_state = PipelineState(store, pipeline)
    rows, content, groups = _met(store, pipeline, pipeline_state)
    with store.lock():
        ladder = build_ladder(store, pipeline, pipeline_state, content, write, progress)
    content = replace(content, blocks=ladder.blocks)
    fits = pipeline.of_kind(FIT)
    own = asdict(fits[-1].settings.selection()) if fits else {}
    likes = find_likes(rows.weights, own.get("min_weight") if min_weight is None else min_weight)
    least = likes.min_weight
    tried = {name: own[name] for name in _CHOICE if name in own} | {"warm_min": warm_min} | dict(choice or {})
    settings = LadderSettings(labels=labels, min_weight=least, choice=tried)
    splits = list(_splits(rows, groups, seeds, warm_min, held_out))
    with progress.meter("evaluate stages: steps", len(splits) * len(ladder.steps)) as meter:
        results = [
            evaluate_steps(split, content, ladder.steps, replace(settings, seed=seed), meter)
            for seed, split in enumerate(splits)
        ]
    if labels:
        ladder.caveats.insert(0, "every step also has the items' category, tags and attributes")
    ladder.caveats += likes.notes
    return build_report(
        results,
        ladder.steps,
        settings,
        missing=ladder.missing,
        costs=ladder.costs,
        covered=ladder.covered,
        catalogue=len(content),
        order=ORDER,
        caveats=ladder.caveats,
        about={
            "split": splits[0].kind,
            "splits": [split.digest() for split in splits],
            "min_weight": least,
            "warm_min": warm_min,
        },
        resamples=resamples,
    )


def _met(
    store: Store, pipeline: Pipeline, pipeline_state: PipelineState
) -> tuple[Interactions, Content, NDArray[np.int64]]:
    """Read interactions with items of the catalogue, those items with image vectors, and groups of duplicates."""
    rows = InteractionTable(store).read()
    if not len(rows):
        raise ColdstartError(
            f"workspace {store.uri} has no interactions: run `coldstart ingest --workspace "
            f"{store.uri} --interactions FILE`"
        )
    met = np.flatnonzero(np.bincount(rows.items, minlength=len(rows.item_ids)))
    names = [spec.name for spec in pipeline.of_kind("embed") if _is_picture(spec.settings)]
    content = load_content(
        store, pipeline, names, [rows.item_ids[place] for place in met], pipeline_state=pipeline_state
    )
    if not len(content):
        raise ColdstartError(
            f"none of the {len(met)} items that interactions name is in workspace {store.uri}: ids must be those of "
            "the manifest"
        )
    return rows.over(content.item_ids), content, content_groups(content, _SAME if content.blocks else None)


def _is_picture(settings: Any) -> bool:
    """Tell whether a space is of images alone, without heads aligned with texts."""
    return settings.input == "image" and settings.over is None and not settings.encoder.startswith("align:")


def _splits(
    rows: Interactions, groups: NDArray[np.int64], seeds: int, warm_min: int, held_out: Collection[str] | None
) -> list[Split]:
    if held_out is not None:
        return [split_by_item_ids(rows, sorted(held_out), warm_min=warm_min)]
    options = {"valid": 0.0, "test": _NEW_SHARE, "warm_min": warm_min}
    return [split_by_items(rows, groups=groups, seed=seed, **options) for seed in range(seeds)]  # type: ignore[arg-type]

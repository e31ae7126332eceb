"""Evaluate recommendations on a workspace: its interactions, and its items' vectors in the spaces that are fresh.

No result of a stage that was fitted on interactions is used: such fits are repeated inside the split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.core.interactions import Interactions
from coldstart.core.likes import find_likes
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Meter, Progress
from coldstart.errors import ColdstartError
from coldstart.recommend.evaluate import EvaluateSettings, build_split, count_steps, evaluate, splits
from coldstart.recommend.evaluate.measures import ListInputs, ListRows
from coldstart.recommend.evaluate.report import RecommendReport
from coldstart.recommend.evaluate.splits import KINDS, NothingToEvaluate, Split
from coldstart.recommend.inputs import FIT, load_content
from coldstart.recommend.model.fusion import Content
from coldstart.store import Store
from coldstart.store.interactions import InteractionTable


def evaluate_store(
    store: Store,
    pipeline: Pipeline,
    progress: Progress,
    *,
    split: str | Path = "time",
    settings: EvaluateSettings | None = None,
    spaces: Sequence[str] | None = None,
    folder: Path | None = None,
    listed: Callable[[ListInputs], ListRows] | None = None,
) -> RecommendReport:
    """Evaluate every method on the data of a workspace.

    Args:
        progress: source of progress meters.
        split: `time`, `items` or `coldrec`; or the folder of a split that was written before.
        settings: open ones (`min_weight`, `choice`, `fusing`) are those of the pipeline's `align.behaviour`; where that
            leaves `min_weight` open, as for `coldstart.core.likes.find_likes`.
        spaces: embed stages of the content; by default those of `align.behaviour`, or all.
        folder: where the split is written, and compared with the evaluated one at the end.
        listed: builds rows of lists; see `evaluate`.

    Raises:
        ColdstartError: there are no interactions with items of the workspace, or no such split, space or method; or as
            for `evaluate`.
    """
    settings = _filled(settings or EvaluateSettings(), pipeline)
    steps = count_steps(settings)  # first, since it refuses methods that there are not
    content = load_content(store, pipeline, spaces)
    every = InteractionTable(store).read()
    rows = every.over(content.item_ids)
    if not len(rows):
        known = f"{len(every)} interactions, none with its {len(content)} items" if len(every) else "no interactions"
        raise NothingToEvaluate(
            f"workspace {store.uri} has {known}: run `coldstart ingest --workspace {store.uri} --interactions FILE`"
        )
    likes = find_likes(rows.weights, settings.min_weight)
    settings = replace(settings, min_weight=likes.min_weight)
    if str(split) in KINDS:
        with progress.meter("split", None):
            chosen = build_split(rows, content, str(split), settings)
    else:
        chosen, content = _read(Path(split), content)
    with progress.meter("evaluate", steps) as meter:
        found = evaluate(rows, content, chosen, settings, folder=folder, listed=listed, step=_step(meter))
    return replace(found, notes=[*likes.notes, *_notes(pipeline, content, every, rows), *found.notes])


def _step(meter: Meter) -> Callable[[str], None]:
    return lambda name: meter.advance(1, 0, 0.0)


def _filled(settings: EvaluateSettings, pipeline: Pipeline) -> EvaluateSettings:
    """Fill open settings from the pipeline's last fit of behaviour."""
    fits = pipeline.of_kind(FIT)
    if not fits or settings.choice is not None:
        return settings
    own: Any = fits[-1].settings
    least = own.min_weight if settings.min_weight is None else settings.min_weight
    fusing = settings.fusing or {"weights": own.weights, "labels": own.labels}
    return replace(
        settings,
        choice=own.selection(),
        min_weight=least,
        fusing=fusing,
        count_attributes=own.count_attributes,
    )


def _read(folder: Path, content: Content) -> tuple[Split, Content]:
    """Read a split from its folder, and take the content of its items in its order."""
    if not folder.is_dir():
        raise ColdstartError(f"there is no split {str(folder)!r}: choose one of {', '.join(KINDS)}, or name a folder")
    split = splits.read_split(folder)
    places = {name: place for place, name in enumerate(content.item_ids)}
    gone = [name for name in split.interactions.item_ids if name not in places]
    if gone:
        raise ColdstartError(
            f"{len(gone)} items of the split in {folder} are not in the workspace, {gone[0]!r} the first: split anew"
        )
    return split, content.take([places[name] for name in split.interactions.item_ids])


def _notes(pipeline: Pipeline, content: Content, every: Interactions, rows: Interactions) -> list[str]:
    found = []
    if len(every) > len(rows):
        found.append(f"{len(every) - len(rows)} of {len(every)} interactions are with items that the catalogue lacks")
    bare = int((~np.any([content.present(space) for space in content.blocks], axis=0)).sum())
    if bare:
        found.append(f"{bare} of {len(content)} items have no vector in {', '.join(content.blocks)}")
    for spec in pipeline.of_kind("embed"):
        if spec.name in content.blocks and spec.settings.encoder.startswith("align:"):
            found.append(
                f"space {spec.name} uses heads fitted on images and texts of the whole catalogue, new items included; "
                "no interactions were used"
            )
    return found

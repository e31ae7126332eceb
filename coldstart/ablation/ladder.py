"""Collect the steps of an ablation from a workspace: what each stage of its pipeline adds to items, and its cost.

A step whose stage is absent, or adds nothing, is missing, with the reason and the next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from coldstart.ablation import descriptions
from coldstart.ablation.descriptions import WriterTexts
from coldstart.ablation.inputs import (
    Parts,
    TextVectors,
    cut_parts,
    join_parts,
    recorded_costs,
    required_costs,
    text_parts,
)
from coldstart.ablation.report import Cost, seconds
from coldstart.ablation.steps import MissingStep, Step
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import Row
from coldstart.describe.evaluate.held_out import ADAPTER, BASE
from coldstart.describe.evaluate.retrieval_gain import evaluation_encoder
from coldstart.describe.finetune.dataset import item_rows
from coldstart.errors import ColdstartError
from coldstart.recommend.model.fusion import Content
from coldstart.store import Store
from coldstart.store.freshness import PipelineState

PICTURES, TITLE, WORDS, EVIDENCE, BEHAVIOUR = "pictures", "title", "words", "evidence", "behaviour"
ORDER = (PICTURES, TITLE, WORDS, EVIDENCE, BASE, ADAPTER, BEHAVIOUR)
_EVIDENCE_PARTS = ("transcript", "screen_text")


@dataclass
class Ladder:
    """Steps of an ablation while they are collected, with their content blocks and costs."""

    blocks: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    missing: list[MissingStep] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)
    caveats: list[str] = field(default_factory=list)
    pictures: tuple[str, ...] = ()
    below: frozenset[str] = frozenset()
    """Names of the costs of image spaces and evidence, which all later steps depend on."""

    def add_costs(self, needs: frozenset[str], store: Store, pipeline_state: PipelineState) -> None:
        """Add the recorded costs of stages; known ones stay."""
        self.costs |= recorded_costs(sorted(needs - self.costs.keys()), store, pipeline_state)


def build_ladder(
    store: Store,
    pipeline: Pipeline,
    pipeline_state: PipelineState,
    content: Content,
    write: int | str | None,
    progress: Progress,
) -> Ladder:
    """Collect all steps over some items.

    Args:
        content: the items, with vectors of image spaces; write: as in `coldstart.ablation.workspace`.

    Raises:
        ColdstartError: the items have no content at all.
    """
    ladder = Ladder()
    _add_pictures(ladder, store, pipeline, pipeline_state, content)
    every = item_rows(store, pipeline, pipeline.stages[-1].name, pipeline_state)
    items = [every[item] for item in content.item_ids]
    encoder, budgets = evaluation_encoder(pipeline)
    parts = cut_parts([text_parts(row) for row in items], budgets, encoder)
    texts = TextVectors(store, encoder, progress)
    known: tuple[str, ...] = ("title",)
    _add_text(ladder, texts, parts, TITLE, "its title", (), known)
    _add_text(ladder, texts, parts, WORDS, "and its description by the seller", known, ("description",))
    known += ("description",)
    specs = pipeline.of_kind("understand.evidence")
    if specs:
        needs = required_costs(specs[-1].name, pipeline, pipeline_state)
        ladder.add_costs(needs, store, pipeline_state)
        _add_text(ladder, texts, parts, EVIDENCE, "and its transcript and screen text", known, _EVIDENCE_PARTS, needs)
        known += _EVIDENCE_PARTS
        ladder.below |= needs
    else:
        reason = "the pipeline has no stage of kind understand.evidence"
        ladder.missing.append(MissingStep(EVIDENCE, reason))
    for one in _add_descriptions(ladder, store, pipeline, pipeline_state, items, write, progress):
        described = [
            {**own, one.writer: one.texts.get(row["item_id"], "")} for own, row in zip(parts, items, strict=True)
        ]
        ladder.costs |= {cost.name: cost for cost in one.costs}
        ladder.add_costs(one.needs, store, pipeline_state)
        about = f"and what {one.model} wrote of it"
        _add_text(ladder, texts, described, one.writer, about, known, (one.writer,), one.needs)
        ladder.covered[one.writer] = sum(row["item_id"] in one.texts for row in items) / len(items)
    if not ladder.steps:
        raise ColdstartError(f"the items of workspace {store.uri} have no content: run `coldstart run` first")
    last = ladder.steps[-1]
    about = "and interactions, by the mapper selected on held-out items"
    ladder.steps.append(Step(BEHAVIOUR, about, last.blocks, last.needs, is_behaviour=True))
    return ladder


def _add_pictures(
    ladder: Ladder, store: Store, pipeline: Pipeline, pipeline_state: PipelineState, content: Content
) -> None:
    spaces = [name for name in content.blocks if content.present(name).any()]
    if not spaces:
        why = "holds no vectors yet: run `coldstart run`" if content.blocks else "is not there: embed pictures first"
        ladder.missing.append(MissingStep(PICTURES, f"a space of pictures {why}"))
        return
    ladder.blocks |= {name: content.blocks[name] for name in spaces}
    ladder.pictures = tuple(spaces)
    ladder.below = frozenset().union(*(required_costs(name, pipeline, pipeline_state) for name in spaces))
    ladder.add_costs(ladder.below, store, pipeline_state)
    ladder.steps.append(Step(PICTURES, "its images", ladder.pictures, ladder.below))
    ladder.covered[PICTURES] = float(np.any([content.present(name) for name in spaces], axis=0).mean())


def _add_text(
    ladder: Ladder,
    texts: TextVectors,
    parts: Sequence[Parts],
    name: str,
    about: str,
    known: tuple[str, ...],
    adds: tuple[str, ...],
    needs: frozenset[str] = frozenset(),
) -> None:
    """Add a step whose text has the known parts and those that it adds."""
    joined = [join_parts(own, (*known, *adds)) for own in parts]
    added = [any(own.get(part) for part in adds) for own in parts]
    if not any(added):
        ladder.missing.append(MissingStep(name, f"no item has a {' or a '.join(adds)}".replace("_", " ")))
        return
    ladder.blocks[name] = texts.vectors(name, joined)
    cost = texts.cost(f"encoding texts of {name}", joined)
    ladder.costs[cost.name] = cost
    ladder.steps.append(Step(name, about, (*ladder.pictures, name), ladder.below | needs | {cost.name}))
    ladder.covered[name] = float(np.mean(added))


def _add_descriptions(
    ladder: Ladder,
    store: Store,
    pipeline: Pipeline,
    pipeline_state: PipelineState,
    items: Sequence[Row],
    write: int | str | None,
    progress: Progress,
) -> list[WriterTexts]:
    """Collect descriptions, base before adapter, both over the same items; add absent ones to the missing steps."""
    own = descriptions.stored_descriptions(store, pipeline, pipeline_state)
    if own is None:
        why = "nothing is described: `coldstart describe` writes, `coldstart finetune describe` tunes the writer"
        ladder.missing += [MissingStep(BASE, why), MissingStep(ADAPTER, why)]
        return []
    found = [own]
    other = BASE if own.writer == ADAPTER else ADAPTER
    described = [row for row in items if row["item_id"] in own.texts]
    if write is None:
        ladder.missing.append(MissingStep(other, _offer(store, pipeline_state, own, other, len(described))))
    else:
        count = None if write == "all" else int(write)
        try:
            name, writer, shown = descriptions.other_writer(store, pipeline, own.writer)
            written = descriptions.write_descriptions(store, pipeline, name, writer, shown, described, count, progress)
        except ColdstartError as error:
            ladder.missing.append(MissingStep(other, str(error)))
        else:
            same = {item: text for item, text in own.texts.items() if item in written.texts}
            found = sorted([replace(own, texts=same), written], key=lambda one: one.writer != BASE)
    for one in found:
        fields = "all that is known" if one.shown is None else ", ".join(one.shown)
        ladder.caveats.append(f"{one.model} ({one.writer}) was shown {fields}")
    reached = len(found[0].texts.keys() & {row["item_id"] for row in items})
    if reached < len(items):
        ladder.caveats.append(
            f"descriptions are of {reached:,} of {len(items):,} items; the others have the text of the step before, so "
            "that gains look smaller than they are where all are described"
        )
    return found


def _offer(store: Store, pipeline_state: PipelineState, own: WriterTexts, other: str, count: int) -> str:
    """Describe how to evaluate the absent writer, with an estimate of the time."""
    names = [name for name in own.needs if pipeline_state.stage(name).kind == "describe.write"]
    per_item = [cost.per_item_s for cost in recorded_costs(names, store, pipeline_state).values()]
    known = per_item[0] if per_item and per_item[0] is not None else None
    takes = "" if known is None else f", about {seconds(known * count)} s at the pace of {own.writer}"
    return f"the {other} has written nothing here: `--write all` lets it, {count:,} items{takes}"

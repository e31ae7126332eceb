"""Find the items that fits of a workspace hold out, the writers to evaluate on them, and texts stored of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from coldstart import generators
from coldstart.core.attributes import Attributes
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.stage import Row
from coldstart.describe.attribute_values import PREDICTED
from coldstart.describe.check_context import EVIDENCE_KIND
from coldstart.describe.checks import Rules
from coldstart.describe.finetune.dataset import observed_values
from coldstart.describe.finetune.fit import requires_fit
from coldstart.describe.finetune.settings import FINETUNE, WRITE
from coldstart.describe.prompt_input import PromptBuilder
from coldstart.describe.writing import DEFAULT_PROMPTS, Writer, load_prompt_builder, load_prompts
from coldstart.errors import ColdstartError, NotFitted
from coldstart.generators import Generation
from coldstart.media.limits import Limits
from coldstart.store import Store
from coldstart.store.artifacts import Artifact
from coldstart.store.fits import ITEMS_FILE, WriterConfig, read_writer_config
from coldstart.store.freshness import PipelineState

BASE, ADAPTER, SENTENCES = "base", "adapter", "sentences"
"""Names of the generator before the fit, with the fit, and of plain sentences by fixed rules."""
ATTRIBUTES = "describe.attributes"
_PARTS = {"judged": "train"}
"""Part of a fit of attribute models -> the part of a split that it is."""


@dataclass(frozen=True)
class HeldOutItems:
    """Items of the fit that evaluations go by, and its writers.

    Attributes:
        stage: the fit's name; split: item -> its part of the split, and its group.
        given: fields of a new item.
        writing: generator, adapter, prompts and attributes of its writer.
        writers: names of the writers to evaluate by default.
        options, frames, pictures: of the generator.
        is_facts: True where sentences with slots were fitted, which need no model to write.
        tuned: True where `base` and `adapter` are a generator before and after its fit.
    """

    stage: str
    split: Mapping[str, tuple[str, int]]
    given: Collection[str] | None
    writing: WriterConfig
    writers: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 4
    pictures: int = 1
    is_facts: bool = False
    tuned: bool = False

    def known_attributes(self, rows: Mapping[str, Row]) -> Attributes:
        """Return the attributes with the values that texts are searched for: those that the fit saw."""
        if self.tuned and not self.is_facts:
            return self.writing.attributes
        learnt = [rows[item] for item, (part, _) in self.split.items() if part == "train" and item in rows]
        return self.writing.attributes.with_values(observed_values(learnt, self.writing.attributes))

    def writer(self, name: str, pipeline: Pipeline, rules: Rules) -> Writer:
        """Load a writer by its name: `base` and `adapter` of a fit, or a generator."""
        own = self.tuned and name in (BASE, ADAPTER)
        adapted = name == ADAPTER if self.tuned else name in self.writers
        generator = generators.load(
            self.writing.generator if own or adapted else name,
            device=pipeline.engine.device,
            dtype=pipeline.engine.dtype,
            adapter=self.writing.adapter if adapted and not self.is_facts else None,
            **(self.options if (own or adapted) and not self.is_facts else {}),
        )
        return Writer(
            generator,
            load_prompts(self.stage, self.writing.prompt or DEFAULT_PROMPTS),
            self.writing.attributes,
            rules,
            Limits(**pipeline.media.limits()),
            self.frames,
            self.pictures,
            self.writing.templates if adapted else {},
        )


def find_held_out(store: Store, pipeline: Pipeline) -> HeldOutItems:
    """Find the items that the last fit of a writer holds out, else those of the models of attributes.

    Writers by default are `base` and `adapter` of the fit, where the base can write before it is fitted, or
    `sentences` and `adapter` where the fit is one of sentences with slots; of attribute models the pipeline's own.

    Raises:
        ColdstartError: no fit holds items out.
    """
    for spec in pipeline.of_kind(FINETUNE):
        made = store.artifacts.newest(spec.name)
        if made is not None:
            return _of_writer(spec, read_writer_config(made.folder, pipeline.attributes), _split(made))
    for spec in reversed(pipeline.of_kind(EVIDENCE_KIND)):
        made = store.artifacts.newest(spec.name)
        split = {} if made is None else _split(made)
        if any(part == "test" for part, _ in split.values()):
            return _of_attributes(spec, pipeline, split)
    raise ColdstartError(
        f"no items are held out in workspace {store.uri}: run a pipeline with describe.grounds.test_share, such as "
        f"product, or `coldstart finetune describe --workspace {store.uri}`"
    )


def _split(made: Artifact) -> dict[str, tuple[str, int]]:
    rows = pq.read_table(made.folder / ITEMS_FILE).to_pylist()
    return {row["item_id"]: (_PARTS.get(row["split"], row["split"]), int(row.get("group") or 0)) for row in rows}


def _of_writer(spec: StageSpec, writing: WriterConfig, split: Mapping[str, tuple[str, int]]) -> HeldOutItems:
    settings = spec.settings
    is_facts = settings.input == "facts"
    before = [SENTENCES] if is_facts else [] if requires_fit(writing.generator) else [BASE]
    return HeldOutItems(
        spec.name,
        split,
        settings.given if is_facts else writing.given,  # prompts of facts have none
        writing,
        [*before, ADAPTER],
        settings.options,
        settings.frames,
        settings.pictures,
        is_facts=is_facts,
        tuned=True,
    )


def _of_attributes(spec: StageSpec, pipeline: Pipeline, split: Mapping[str, tuple[str, int]]) -> HeldOutItems:
    given = spec.settings.given
    for own in reversed(pipeline.of_kind(WRITE)):
        settings = own.settings
        try:
            writing, builder = load_prompt_builder(own, pipeline)
        except NotFitted:
            continue
        names = settings.prompt or writing.prompt or DEFAULT_PROMPTS
        config = WriterConfig(writing.generator, writing.adapter, builder.attributes, given, names, builder.templates)
        return HeldOutItems(
            spec.name,
            split,
            given if settings.given is None else settings.given,
            config,
            [settings.generator],
            settings.options,
            settings.frames,
            settings.pictures,
        )
    plain = WriterConfig(SENTENCES, None, pipeline.attributes, given, DEFAULT_PROMPTS)
    return HeldOutItems(spec.name, split, given, plain, [SENTENCES])


def stored_texts(
    store: Store,
    pipeline: Pipeline,
    pipeline_state: PipelineState,
    writer: Writer,
    rows: Sequence[Row],
    given: Collection[str] | None,
) -> dict[str, Generation]:
    """Read the texts that the workspace stores of items, where this writer would write the same in this view.

    That is: the same generator, adapter, prompts, attributes and shown fields, and equal inputs, predicted values
    among them.

    Args:
        rows: with the values predicted in the view under `PREDICTED`.
    """
    view = None if given is None else frozenset(given)
    for spec in reversed(pipeline.of_kind(WRITE)):
        try:
            stage: Any = pipeline_state.stage(spec.name)
            builder, state = stage.builder, pipeline_state.of(spec.name)
        except NotFitted:
            continue
        own = PromptBuilder(writer.prompts, writer.attributes, view, writer.templates)
        if not _writes_alike(stage, builder, writer, own) or not state.fresh:
            continue
        predicted = _stored_rows(store, pipeline_state, pipeline.before(spec.name, ATTRIBUTES))
        texts = _stored_rows(store, pipeline_state, spec.name)
        found = {}
        for row in rows:
            item = row["item_id"]
            if item not in texts:
                continue
            before, now = builder({**row, PREDICTED: predicted.get(item)}), own(row)
            if before.values == now.values and before.plain == now.plain:
                text = texts[item]
                found[item] = Generation(text["text"], text["finish"], text["prompt_tokens"], text["new_tokens"])
        return found
    return {}


def _writes_alike(stage: Any, builder: PromptBuilder, writer: Writer, own: PromptBuilder) -> bool:
    """Tell whether a stage writes as a writer does, given the same rows."""
    settings = stage.settings
    sizes = (settings.frames, settings.pictures) == (writer.frames, writer.pictures)
    return (
        stage.generator.passport() == writer.generator.passport()
        and {kind: prompt.digest for kind, prompt in builder.prompts.items()}
        == {kind: prompt.digest for kind, prompt in own.prompts.items()}
        and (builder.attributes.plain(), builder.given, dict(builder.templates))
        == (own.attributes.plain(), own.given, dict(own.templates))
        and (sizes or writer.generator.image_transform is None)
    )


def _stored_rows(store: Store, pipeline_state: PipelineState, stage: str | None) -> dict[str, Row]:
    """Read the fresh rows of a stage; none where there is no such stage."""
    table = f"stage.{stage}"
    if stage is None or not store.has(table):
        return {}
    fresh = pipeline_state.of(stage).fresh
    return {row["item_id"]: row for row in store.read(table).to_pylist() if row["item_id"] in fresh}

"""Build requests of items, generate and check their descriptions, and render a prompt with its token counts.

The stages do the same row by row. Evaluations, comparisons and preferences use `Writer`, with a view that hides the
fields they score by. Knows no table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coldstart.core import prompts
from coldstart.core.attributes import Attribute, Attributes
from coldstart.core.description import json_schema
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.prompts import Prompt
from coldstart.core.sanitize import sanitize_text
from coldstart.core.stage import Reject, Row
from coldstart.describe.attribute_values import RECORD, read_predicted
from coldstart.describe.check_context import with_known_values
from coldstart.describe.checks.check import check_description
from coldstart.describe.checks.contract import Checked, Rules, Sources
from coldstart.describe.prompt_input import (
    FIELDS,
    PromptBuilder,
    PromptInput,
    item_facts,
    plain_description,
    prompt_values,
    spoken_evidence,
    text_fields,
)
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Generator, Request, Sampling
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures
from coldstart.store.fits import WriterConfig, find_writer_config

SeenValues = Mapping[str, Mapping[str, float]]
"""Attribute -> value that may be stated -> its probability."""


def sources_of(
    row: Mapping[str, Any],
    attributes: Attributes,
    given: Collection[str] | None = None,
    seen: SeenValues | None = None,
    templates: Mapping[str, str] | None = None,
) -> tuple[Sources, Mapping[str, Attribute]]:
    """Return the sources that can support claims about an item in a view, and the attributes that can be claimed."""
    values, stated = prompt_values(row, attributes, given)
    facts = {name: values[name] for name in ("price", "creator", "category") if values[name] is not None}
    recorded = {name: one.value for name, one in item_facts(row, stated, given).items() if one.source == RECORD}
    spoken = spoken_evidence(row, values)
    predicted = {name: values for name, values in read_predicted(row).items() if name in stated}
    likely = {name: {one.value: one.probability for one in values} for name, values in predicted.items()}
    known = {**facts, **recorded}
    return Sources(text_fields(values), known, seen or {}, likely, row["kind"], spoken, templates or {}), stated


@dataclass(frozen=True)
class Writer:
    """Generator with its prompts, and the rules that its texts are checked by.

    Attributes:
        prompts: `product` and `video` -> prompt.
        attributes: those that can be stated, with their listed values.
        frames, pictures: of a video and a product, for a vision-language generator.
        templates: see `PromptBuilder`.
    """

    generator: Generator
    prompts: Mapping[str, Prompt]
    attributes: Attributes
    rules: Rules
    limits: Limits = field(default_factory=Limits)
    frames: int = 4
    pictures: int = 1
    templates: Mapping[str, str] = field(default_factory=dict)

    def prompt_inputs(self, items: Sequence[Row], given: Collection[str] | None = None) -> list[PromptInput | Reject]:
        """Build the prompt input of each item; a Reject where its pictures are needed and cannot be read."""
        view = None if given is None else frozenset(given)
        build = PromptBuilder(self.prompts, self.attributes, view, self.templates)
        transform = self.generator.image_transform
        if transform is None or (given is not None and "picture" not in given):
            return [build(row) for row in items]
        load = LoadPictures(transform, self.limits, self.frames, "uniform", self.pictures)
        found: list[PromptInput | Reject] = []
        for row in items:
            try:
                found.append(build(row, load(row)[0].images))
            except Reject as why:
                found.append(build(row) if why.reason == "no_media" else why)
        return found

    def write(
        self, items: Sequence[Row], given: Collection[str] | None = None, *, temperature: float = 0.0, seed: int = 0
    ) -> list[Generation | Reject]:
        """Generate a description of each item (rows, with `evidence` where there is some), in their order."""
        inputs = self.prompt_inputs(items, given)
        written = iter(
            generate_descriptions(
                [one for one in inputs if not isinstance(one, Reject)],
                self.generator,
                temperature=temperature,
                seed=seed,
            )
        )
        return [one if isinstance(one, Reject) else next(written) for one in inputs]

    def check(
        self,
        items: Sequence[Row],
        written: Sequence[Generation | Reject],
        given: Collection[str] | None = None,
        seen: Mapping[str, SeenValues] | None = None,
    ) -> list[Checked | Reject]:
        """Check each text against the fields that the view shows; return what the checks leave of it.

        Args:
            seen: item -> values that may be stated of it.
        """
        found: list[Checked | Reject] = []
        for row, generation in zip(items, written, strict=True):
            if isinstance(generation, Reject):
                found.append(generation)
                continue
            likely = (seen or {}).get(row["item_id"])
            sources, stated = sources_of(row, self.attributes, given, likely, self.templates)
            rules = replace(self.rules, output=self.prompts[row["kind"]].output)
            try:
                found.append(check_description(generation.text, generation.finish, stated, sources, rules))
            except Reject as why:
                found.append(why)
        return found


@dataclass(frozen=True)
class InputTokens:
    """Token counts of one input that is not empty.

    Attributes:
        tokens: of the whole input; `read`: of its part in the text; `budget`: the limit, or None.
    """

    tokens: int
    read: int
    budget: int | None


@dataclass(frozen=True)
class RenderedPrompt:
    """Messages of one prompt, with token counts.

    Attributes:
        system, text: the two messages.
        system_tokens, text_tokens: tokens of each, without the chat template.
        inputs: name -> its token counts.
    """

    system: str
    text: str
    system_tokens: int
    text_tokens: int
    inputs: Mapping[str, InputTokens]


def render_prompt(
    prompt: Prompt,
    row: Mapping[str, Any],
    attributes: Attributes,
    count_tokens: Callable[[Sequence[str]], Sequence[int]],
) -> RenderedPrompt:
    """Render the messages about one item and count their tokens.

    Args:
        row: the item, with transcript and screen text under `evidence` and its description under `described`.
        attributes: those that descriptions state.
        count_tokens: of the generator that reads the prompt.
    """
    values, stated = prompt_values(row, attributes)
    plain = plain_description(row, values, stated, item_facts(row, stated)).summary if "plain" in prompt.inputs else ""
    values |= {"plain": plain} | _described(row.get("described") or {})
    read = prompt.fit([values], count_tokens)[0] if prompt.output else values
    text = prompt.render(read)
    whole, part = (
        {name: sanitize_text(given.get(name)) for name in prompt.inputs if name != "wanted"} for given in (values, read)
    )
    names = [name for name, one in whole.items() if one]
    sizes = list(count_tokens(["", prompt.system, text, *(w[name] for name in names for w in (whole, part))]))
    empty, system, message, *own = sizes
    pairs = zip(names, own[::2], own[1::2], strict=True)
    return RenderedPrompt(
        prompt.system,
        text,
        system - empty,
        message - empty,
        {name: InputTokens(had - empty, has - empty, prompt.budgets.get(name)) for name, had, has in pairs},
    )


def _described(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked description as prompts of encoders read it."""
    values = [claim["value"] for claim in row.get("attributes") or ()]
    return {"attributes": values, **{name: row.get(name) for name in ("summary", "keywords", "queries")}}


KINDS = ("product", "video")


DEFAULT_PROMPTS = {"product": "describe_product", "video": "describe_video"}
"""Kind of item -> its prompt by default."""
PROSE_PROMPTS = {"product": "describe_product_prose", "video": "describe_video_prose"}
"""Those of an endpoint, whose model can write: facts with their confidence in, free prose out."""


def load_prompts(stage: str, names: Mapping[str, str]) -> dict[str, Prompt]:
    """Load the prompt of each kind of item.

    Raises:
        ColdstartError: an unknown kind, or a prompt without output fields.
    """
    found = {}
    for kind in KINDS:
        if kind not in names:
            raise ColdstartError(f"{stage}.prompt={dict(names)}: give one for each of {', '.join(KINDS)}")
        prompt = prompts.load(names[kind])
        if not prompt.output:
            raise ColdstartError(f"{stage}.prompt.{kind}={names[kind]!r}: its front matter has no output fields")
        found[kind] = prompt
    for kind in names:
        if kind not in KINDS:
            raise ColdstartError(f"{stage}.prompt: no items are of kind {kind!r}; there are {', '.join(KINDS)}")
    return found


def given_fields(stage: str, names: Collection[str] | None) -> frozenset[str] | None:
    """Return the names of shown fields as a set, checked; None for all.

    Raises:
        ColdstartError: a name is no field.
    """
    for name in names or ():
        if name not in FIELDS:
            raise ColdstartError(f"{stage}.given={name!r}: it is none of {', '.join(FIELDS)}")
    return None if names is None else frozenset(names)


def load_prompt_builder(spec: StageSpec, pipeline: Pipeline) -> tuple[WriterConfig, PromptBuilder]:
    """Load writer and prompt builder of a `describe.write` stage, by its settings or as its generator was fitted.

    The writer's `prompt` is the one that is used. An endpoint's answers are bound to the values that the models of
    attributes know.

    Raises:
        NotFitted: the generator is a `finetune:NAME` of a stage that has fitted nothing yet, or it is an endpoint and
            `describe.grounds` before it has fitted nothing.
        ColdstartError: as `load_prompts` and `given_fields`.
    """
    settings = spec.settings
    writing = find_writer_config(settings.generator, spec.name, pipeline)
    free = writing.generator.startswith("openai:")
    names = settings.prompt or writing.prompt or (PROSE_PROMPTS if free else DEFAULT_PROMPTS)
    given = settings.given if settings.given is not None else writing.given
    view = given_fields(spec.name, given)
    attributes = with_known_values(writing.attributes, spec.name, pipeline) if free else writing.attributes
    builder = PromptBuilder(load_prompts(spec.name, names), attributes, view, writing.templates)
    return replace(writing, prompt=names), builder


def build_requests(inputs: Sequence[PromptInput], generator: Generator) -> list[Request]:
    """Build requests to a generator, each input cut to its budget in the generator's tokens."""
    values: list[dict[str, Any]] = [{} for _ in inputs]
    for prompt in {one.prompt.name: one.prompt for one in inputs}.values():
        places = [place for place, one in enumerate(inputs) if one.prompt == prompt]
        fitted = prompt.fit([inputs[place].values for place in places], generator.count_tokens)
        for place, own in zip(places, fitted, strict=True):
            values[place] = own
    return [
        Request(
            one.prompt.render(own),
            one.prompt.system,
            json_schema(one.stated, one.prompt.output),
            one.images,
            one.plain.dumps(one.prompt.output) if one.plain else "",
        )
        for one, own in zip(inputs, values, strict=True)
    ]


def generate_descriptions(
    inputs: Sequence[PromptInput], generator: Generator, *, temperature: float = 0.0, seed: int = 0
) -> list[Generation | Reject]:
    """Generate a text for each prompt input, in their order."""
    found: list[Generation | Reject | None] = [None] * len(inputs)
    for limit in sorted({one.prompt.max_new_tokens for one in inputs}):
        own = [place for place, one in enumerate(inputs) if one.prompt.max_new_tokens == limit]
        sampling = Sampling(limit, temperature, 1.0 if temperature == 0 else 0.95, seed)
        written = generator.generate(build_requests([inputs[place] for place in own], generator), sampling)
        for place, generation in zip(own, written, strict=True):
            found[place] = generation
    return [one for one in found if one is not None]

"""Write of items and check what was written, apart from any table: what the stages do row by row, for a few items.

Evaluations, comparisons and preferences use it, with a view that hides what they judge by.

One item as a prompt shows it to a generator, and the tokens that each part takes: for people who write prompts.

Items as requests to a generator: which prompt, what is shown of the item, which schema binds the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coldstart.core import prompts
from coldstart.core.attributes import Attribute, Attributes, recorded_values
from coldstart.core.description import json_schema
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.prompts import Prompt
from coldstart.core.sanitize import sanitize_text
from coldstart.core.stage import Reject, Row
from coldstart.describe.checks.check import check_description
from coldstart.describe.checks.contract import Checked, Rules, Sources
from coldstart.describe.prompt_input import FIELDS, PromptBuilder, PromptInput, prompt_values, text_fields
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Generator, Request, Sampling
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures
from coldstart.store.fits import WriterConfig, find_writer_config

SeenValues = Mapping[str, Mapping[str, float]]
"""Visual attribute -> value -> probability that a picture agrees."""


def sources_of(
    row: Mapping[str, Any],
    attributes: Attributes,
    given: Collection[str] | None = None,
    seen: SeenValues | None = None,
) -> tuple[Sources, Mapping[str, Attribute]]:
    """What claims about an item can rest on, of what a view shows, and the attributes that can be claimed."""
    values, stated = prompt_values(row, attributes, given)
    facts = {name: values[name] for name in ("price", "creator", "category") if values[name] is not None}
    told = recorded_values(row, stated) if given is None else values["facts"]
    return Sources(text_fields(values), {**facts, **told}, seen or {}), stated


@dataclass(frozen=True)
class Writer:
    """One generator with its prompts, and the rules that its texts are held to.

    Attributes:
        prompts: `product` and `video` -> prompt.
        attributes: what can be stated, with the values that are listed.
        frames, pictures: of a video and a product, for a generator with eyes.
    """

    generator: Generator
    prompts: Mapping[str, Prompt]
    attributes: Attributes
    rules: Rules
    limits: Limits = field(default_factory=Limits)
    frames: int = 4
    pictures: int = 1

    def prompt_inputs(self, items: Sequence[Row], given: Collection[str] | None = None) -> list[PromptInput | Reject]:
        """What is asked of each item; a Reject where its pictures are needed and cannot be read."""
        ask = PromptBuilder(self.prompts, self.attributes, None if given is None else frozenset(given))
        transform = self.generator.image_transform
        if transform is None or (given is not None and "picture" not in given):
            return [ask(row) for row in items]
        look = LoadPictures(transform, self.limits, self.frames, "uniform", self.pictures)
        found: list[PromptInput | Reject] = []
        for row in items:
            try:
                found.append(ask(row, look(row)[0].images))
            except Reject as why:
                found.append(ask(row) if why.reason == "no_media" else why)
        return found

    def write(
        self, items: Sequence[Row], given: Collection[str] | None = None, *, temperature: float = 0.0, seed: int = 0
    ) -> list[Generation | Reject]:
        """What is written of each item (`items` rows, `evidence` in them where there is some), in their order."""
        asked = self.prompt_inputs(items, given)
        written = iter(
            generate_descriptions(
                [one for one in asked if not isinstance(one, Reject)],
                self.generator,
                temperature=temperature,
                seed=seed,
            )
        )
        return [one if isinstance(one, Reject) else next(written) for one in asked]

    def check(
        self,
        items: Sequence[Row],
        written: Sequence[Generation | Reject],
        given: Collection[str] | None = None,
        seen: Mapping[str, SeenValues] | None = None,
    ) -> list[Checked | Reject]:
        """What is left of each text by the checks; grounds are what the view shows.

        Args:
            seen: item -> what its pictures are a ground of.
        """
        found: list[Checked | Reject] = []
        for row, generation in zip(items, written, strict=True):
            if isinstance(generation, Reject):
                found.append(generation)
                continue
            sources, stated = sources_of(row, self.attributes, given, (seen or {}).get(row["item_id"]))
            rules = replace(self.rules, output=self.prompts[row["kind"]].output)
            try:
                found.append(check_description(generation.text, generation.finish, stated, sources, rules))
            except Reject as why:
                found.append(why)
        return found


@dataclass(frozen=True)
class InputTokens:
    """One input that is not empty.

    Attributes:
        tokens: that it has; `read`: that are left of it in the text; `budget`: that may be, or None.
    """

    tokens: int
    read: int
    budget: int | None


@dataclass(frozen=True)
class RenderedPrompt:
    """What is sent.

    Attributes:
        system, text: the two messages.
        system_tokens, text_tokens: tokens of each by itself, no chat template around it.
        inputs: name -> what is read of it.
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
    """The messages about one item.

    Args:
        row: the item with what was found in its media under `evidence`, and what was written of it under `described`.
        attributes: what the pipeline asks descriptions to state.
        count_tokens: as the generator counts that will read it.
    """
    values, _ = prompt_values(row, attributes)
    values |= _described(row.get("described") or {})
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
    """What was written of the item and checked, as prompts of encoders read it."""
    values = [claim["value"] for claim in row.get("attributes") or ()]
    return {"attributes": values, **{name: row.get(name) for name in ("summary", "keywords", "queries")}}


KINDS = ("product", "video")


DEFAULT_PROMPTS = {"product": "describe_product", "video": "describe_video"}
"""What is asked with where nothing else is said."""


def load_prompts(stage: str, names: Mapping[str, str]) -> dict[str, Prompt]:
    """The prompt of each kind of item.

    Raises:
        ColdstartError: an unknown kind, or a prompt that asks for no description.
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
    """Checked names of fields that are shown.

    Raises:
        ColdstartError: a name is none of them.
    """
    for name in names or ():
        if name not in FIELDS:
            raise ColdstartError(f"{stage}.given={name!r}: it is none of {', '.join(FIELDS)}")
    return None if names is None else frozenset(names)


def load_prompt_builder(spec: StageSpec, pipeline: Pipeline) -> tuple[WriterConfig, PromptBuilder]:
    """Who writes for a stage of kind `describe.write`, and what it asks: its settings, or as the fit had it.

    Raises:
        NotFitted: the generator is a `finetune:NAME` of a stage that has fitted nothing yet.
        ColdstartError: as `prompts_of` and `given_fields`.
    """
    settings = spec.settings
    writing = find_writer_config(settings.generator, spec.name, pipeline)
    names = settings.prompt or writing.prompt or DEFAULT_PROMPTS
    given = settings.given if settings.given is not None else writing.given
    return writing, PromptBuilder(load_prompts(spec.name, names), writing.attributes, given_fields(spec.name, given))


def build_requests(asked: Sequence[PromptInput], generator: Generator) -> list[Request]:
    """Messages to a generator, each input cut to its budget by the generator's own tokens."""
    values: list[dict[str, Any]] = [{} for _ in asked]
    for prompt in {one.prompt.name: one.prompt for one in asked}.values():
        places = [place for place, one in enumerate(asked) if one.prompt == prompt]
        fitted = prompt.fit([asked[place].values for place in places], generator.count_tokens)
        for place, own in zip(places, fitted, strict=True):
            values[place] = own
    return [
        Request(
            one.prompt.render(own),
            one.prompt.system,
            json_schema(one.stated, one.prompt.output),
            one.images,
        )
        for one, own in zip(asked, values, strict=True)
    ]


def generate_descriptions(
    asked: Sequence[PromptInput], generator: Generator, *, temperature: float = 0.0, seed: int = 0
) -> list[Generation | Reject]:
    """What a generator writes of each item, in their order."""
    found: list[Generation | Reject | None] = [None] * len(asked)
    for limit in sorted({one.prompt.max_new_tokens for one in asked}):
        own = [place for place, one in enumerate(asked) if one.prompt.max_new_tokens == limit]
        sampling = Sampling(limit, temperature, 1.0 if temperature == 0 else 0.95, seed)
        written = generator.generate(build_requests([asked[place] for place in own], generator), sampling)
        for place, generation in zip(own, written, strict=True):
            found[place] = generation
    return [one for one in found if one is not None]

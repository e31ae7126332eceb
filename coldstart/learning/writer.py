"""Items as requests to a generator: which prompt, what is shown of the item, which schema binds the answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from coldstart import prompts
from coldstart.description import json_schema
from coldstart.errors import ColdstartError
from coldstart.fitted import Writing, writing_of
from coldstart.generators import Generation, Generator, Request, Sampling
from coldstart.learning.asking import Ask, Asked
from coldstart.learning.view import FIELDS
from coldstart.pipeline import Pipeline, StageSpec
from coldstart.prompts import Prompt
from coldstart.stage import Reject

KINDS = ("product", "video")
PROMPTS = {"product": "describe_product", "video": "describe_video"}
"""What is asked with where nothing else is said."""


def prompts_of(stage: str, names: Mapping[str, str]) -> dict[str, Prompt]:
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


def ask_of(spec: StageSpec, pipeline: Pipeline) -> tuple[Writing, Ask]:
    """Who writes for a stage of kind `describe.write`, and what it asks: its settings, or as the fit had it.

    Raises:
        NotFitted: the generator is a `finetune:NAME` of a stage that has fitted nothing yet.
        ColdstartError: as `prompts_of` and `given_fields`.
    """
    settings = spec.settings
    writing = writing_of(settings.generator, spec.name, pipeline)
    names = settings.prompt or writing.prompt or PROMPTS
    given = settings.given if settings.given is not None else writing.given
    return writing, Ask(prompts_of(spec.name, names), writing.attributes, given_fields(spec.name, given))


def requests(asked: Sequence[Asked], generator: Generator) -> list[Request]:
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


def write(
    asked: Sequence[Asked], generator: Generator, *, temperature: float = 0.0, seed: int = 0
) -> list[Generation | Reject]:
    """What a generator writes of each item, in their order."""
    found: list[Generation | Reject | None] = [None] * len(asked)
    for limit in sorted({one.prompt.max_new_tokens for one in asked}):
        own = [place for place, one in enumerate(asked) if one.prompt.max_new_tokens == limit]
        sampling = Sampling(limit, temperature, 1.0 if temperature == 0 else 0.95, seed)
        written = generator.generate(requests([asked[place] for place in own], generator), sampling)
        for place, generation in zip(own, written, strict=True):
            found[place] = generation
    return [one for one in found if one is not None]

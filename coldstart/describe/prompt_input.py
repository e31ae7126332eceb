"""Build the prompt input of an item, and the description that a writer should give of it.

A cold item has fewer fields than a known one: a view hides fields, and training targets and evaluations use the hidden
ones. Reads plain rows. Workers import this module, so it loads neither torch nor Arrow nor the store.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.attributes import Attribute, Attributes, attribute_fields, recorded_values
from coldstart.core.description import MAX_LISTED, MAX_SUMMARY, Description, sentence
from coldstart.core.prompts import Prompt
from coldstart.core.stage import Reject, Row
from coldstart.describe.attribute_values import RECORD, Fact, facts_of, read_predicted
from coldstart.describe.checks.plain import sentences_of_texts
from coldstart.media.loaders import LoadPictures

TEXT_FIELDS = ("title", "description", "category", "tags", "creator", "transcript", "screen_text")
"""Text fields of an item, and of the evidence in its media."""

RECORD_FIELDS = ("title", "description", "category", "tags", "creator", "price")
"""Fields of a view that are fields of the item's record."""

FIELDS = (*TEXT_FIELDS, "price", "facts", "picture")
"""Fields of a view; `facts` are the attributes that the record states, `picture` its pictures or frames."""

_MIN_WORDS = 5


def prompt_values(
    row: Mapping[str, Any], attributes: Attributes, given: Collection[str] | None = None
) -> tuple[dict[str, Any], Mapping[str, Attribute]]:
    """Return the values that a prompt may read of an item, and the attributes that a description should state.

    `facts` are values of attributes that no other field shows; `known` are all, predicted ones with their probability.

    Args:
        row: the item, with transcript and screen text under `evidence`.
        given: fields of the view; None shows all.
    """
    evidence = row.get("evidence") or {}
    values = {name: row.get(name, evidence.get(name)) for name in (*TEXT_FIELDS, "price")}
    if given is not None:
        values = {name: value if name in given else None for name, value in values.items()}
    stated = attributes.of(values["category"])
    known = item_facts(row, stated, given)
    predicted = {name for name, one in known.items() if one.source != RECORD}
    facts = {name: one.value for name, one in known.items() if _is_fact(stated[name]) or name in predicted}
    wanted = {name: list(attribute.values) for name, attribute in stated.items()}
    graded = {
        name: one.value if one.source == RECORD else f"{one.value} ({one.probability:.2f})"
        for name, one in known.items()
    }
    return {**values, "facts": facts, "known": graded, "wanted": wanted}, stated


def item_facts(
    row: Mapping[str, Any], stated: Mapping[str, Attribute], given: Collection[str] | None = None
) -> dict[str, Fact]:
    """Return what is known of an item in a view: values of its record, else predicted values that may be stated.

    Args:
        row: the item, with the row of `describe.attributes` under `predicted`, if that stage ran.
    """
    shown = {name: row.get(name) for name in ("category", "creator", "tags") if given is None or name in given}
    if given is None or "facts" in given:
        shown["attributes"] = row.get("attributes")
    predicted = {name: values for name, values in read_predicted(row).items() if name in stated}
    found = facts_of(recorded_values(shown, stated), predicted)
    return {name: found[name] for name in stated if name in found}


def plain_description(
    row: Mapping[str, Any],
    values: Mapping[str, Any],
    stated: Mapping[str, Attribute],
    facts: Mapping[str, Fact],
    templates: Mapping[str, str] | None = None,
) -> Description:
    """Return the description by fixed rules: plain sentences of the facts, and their values.

    Args:
        values: of `prompt_values`, as the view shows them.
        templates: see `plain_sentences`.
    """
    known = {name: fact.value for name, fact in facts.items()}
    evidence, texts = spoken_evidence(row, values), text_fields(values)
    summary = sentences_of_texts(known, stated, texts, evidence=evidence, kind=row["kind"], templates=templates)
    told = [value.casefold() for value in known.values()]
    words = [*told, *(tag.casefold() for tag in values["tags"] or ())]
    queries = [" ".join(told), *(" ".join(pair) for pair in itertools.pairwise(told))]
    return Description(first_sentences(summary, 4), known, _listed(words), _listed(queries)[:3])


def spoken_evidence(row: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a view shows of an item's evidence, for quotations: transcript, screen text, timeline, and the lines
    on the screen with their places where the row of `understand.screen` is under `screen`.

    Args:
        values: of `prompt_values`.
    """
    if not (values["transcript"] or values["screen_text"]):
        return {}
    evidence = row.get("evidence") or {}
    found = {name: value for name, value in evidence.items() if name not in values or values[name]}
    hidden = {source for source, name in (("speech", "transcript"), ("screen", "screen_text")) if not values[name]}
    if found.get("timeline") is not None:
        found["timeline"] = [part for part in found["timeline"] if part["source"] not in hidden]
    lines = (row.get("screen") or {}).get("lines")
    return found if lines is None or "screen" in hidden else {**found, "lines": lines}


def _is_fact(attribute: Attribute) -> bool:
    return attribute.source is None or attribute.source.startswith("attributes.")


def text_fields(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the text fields of a view that are not blank, in which words of claims are searched. Lines stay lines,
    since an injected instruction often begins one."""
    found = {name: values.get(name) or "" for name in TEXT_FIELDS}
    found["tags"] = ", ".join(values.get("tags") or ())
    return {name: text.strip() for name, text in found.items() if text.strip()}


def target_description(
    row: Mapping[str, Any], stated: Mapping[str, Attribute], given: Collection[str], *, prose: bool = True
) -> Description:
    """Return the target description of an item by its record, for a view of the fields `given`.

    The summary is the first two sentences of the item's own description where that is hidden and `prose` is set, else
    its attributes as a plain sentence.
    """
    known = recorded_values(row, stated)
    own = " ".join((row.get("description") or "").split())
    use_prose = prose and "description" not in given and len(own.split()) >= _MIN_WORDS
    values = [value.casefold() for value in known.values()]
    keywords = [*values, *(tag.casefold() for tag in row.get("tags") or ()), (row.get("category") or "").casefold()]
    queries = [" ".join(values), *(" ".join(pair) for pair in itertools.pairwise(values))]
    return Description(
        first_sentences(own) if use_prose else sentence(known),
        known,
        _listed(keywords),
        _listed(queries)[:3],
    )


def first_sentences(text: str, count: int = 2, limit: int = MAX_SUMMARY) -> str:
    """Return the first sentences of a text, cut between words where they are longer than `limit` characters."""
    chosen = " ".join(re.split(r"(?<=[.!?])\s+", text)[:count])
    if len(chosen) <= limit:
        return chosen
    return chosen[:limit].rsplit(" ", 1)[0].rstrip(",;:") + " …"


def _listed(words: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words if word))[:MAX_LISTED]


@dataclass(frozen=True)
class PromptInput:
    """Input of the prompt about one item.

    Attributes:
        prompt: template of the message.
        values: of its inputs, uncut.
        stated: attributes that the answer may state.
        images: uint8 `[H, W, 3]` arrays, where the generator takes pictures; else empty.
        facts: attribute -> what is known of it.
        plain: description of the same facts by fixed rules.
    """

    prompt: Prompt
    values: Mapping[str, Any]
    stated: Mapping[str, Attribute]
    images: tuple[NDArray[np.uint8], ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    plain: Description = field(default_factory=Description)


@dataclass(frozen=True)
class PromptBuilder:
    """Builder of the `PromptInput` of an item's row. Picklable, for workers.

    Attributes:
        prompts: `product` or `video` -> its prompt.
        given: fields of the view; None shows all.
        templates: pattern of facts -> sentences with slots that a fit chose for it (`describe.finetune.templates`).
    """

    prompts: Mapping[str, Prompt]
    attributes: Attributes
    given: frozenset[str] | None = None
    templates: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, row: Mapping[str, Any], images: Sequence[NDArray[np.uint8]] = ()) -> PromptInput:
        values, stated = prompt_values(row, self.attributes, self.given)
        hidden = self.given is not None and "picture" not in self.given
        facts = item_facts(row, stated, self.given)
        plain = plain_description(row, values, stated, facts, self.templates)
        values = {**values, "plain": plain.summary}
        return PromptInput(
            self.prompts[row["kind"]], values, stated, () if hidden else tuple(images), facts=facts, plain=plain
        )

    @property
    def item_fields(self) -> frozenset[str]:
        """Fields of an item's record that its prompt, and the attributes that an answer may state, are made of."""
        read = {name for prompt in self.prompts.values() for name in prompt.inputs}
        shown = read if self.given is None else read & self.given
        found = {"kind"} | shown.intersection(RECORD_FIELDS)
        if self.given is None or "category" in self.given:
            found.add("category")
        if "plain" in read:
            found |= self.sentence_fields
        facts = read & {"facts", "known"} and (self.given is None or "facts" in self.given)
        return frozenset(found | attribute_fields(self.attributes) if facts else found)

    @property
    def sentence_fields(self) -> frozenset[str]:
        """Fields of an item's record that plain sentences are made of, whatever the prompt reads."""
        fields = {"title", "description", "category", "tags", "creator"}
        shown = fields if self.given is None else fields & self.given
        facts = self.given is None or "facts" in self.given
        return frozenset(shown | attribute_fields(self.attributes) if facts else shown)


@dataclass(frozen=True)
class LoadPromptInput:
    """Loader of the prompt input of one item, with pictures for a vision-language generator; costs one request."""

    builder: PromptBuilder
    load_pictures: LoadPictures | None

    def __call__(self, row: Row) -> tuple[PromptInput, float]:
        images: list[NDArray[np.uint8]] = []
        if self.load_pictures is not None:
            try:
                images = self.load_pictures(row)[0].images
            except Reject as why:
                if why.reason != "no_media":  # items without media are described by their texts
                    raise
        built = self.builder(row, images)
        if not images and not any(built.values[name] for name in built.prompt.inputs if name != "wanted"):
            raise Reject("nothing_to_go_on", f"none of {', '.join(built.prompt.inputs)} is given", state="filtered")
        return built, 1.0

"""Write of items and check what was written, apart from any table: what the stages do row by row, for a few items.

Evaluations, comparisons and preferences use it, with a view that hides what they judge by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coldstart.attributes import Attribute, Attributes, truth
from coldstart.checks.check import check
from coldstart.checks.contract import Checked, Rules, Sources
from coldstart.generators import Generation, Generator
from coldstart.learning.asking import Ask, Asked
from coldstart.learning.view import shown, texts
from coldstart.learning.writer import write
from coldstart.media.limits import Limits
from coldstart.media.pictures import LoadPictures
from coldstart.prompts import Prompt
from coldstart.stage import Reject, Row

Seen = Mapping[str, Mapping[str, float]]
"""Visual attribute -> value -> probability that a picture agrees."""


def sources_of(
    row: Mapping[str, Any],
    attributes: Attributes,
    given: Collection[str] | None = None,
    seen: Seen | None = None,
) -> tuple[Sources, Mapping[str, Attribute]]:
    """What claims about an item can rest on, of what a view shows, and the attributes that can be claimed."""
    values, stated = shown(row, attributes, given)
    facts = {name: values[name] for name in ("price", "creator", "category") if values[name] is not None}
    told = truth(row, stated) if given is None else values["facts"]
    return Sources(texts(values), {**facts, **told}, seen or {}), stated


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

    def asked(self, items: Sequence[Row], given: Collection[str] | None = None) -> list[Asked | Reject]:
        """What is asked of each item; a Reject where its pictures are needed and cannot be read."""
        ask = Ask(self.prompts, self.attributes, None if given is None else frozenset(given))
        transform = self.generator.image_transform
        if transform is None or (given is not None and "picture" not in given):
            return [ask(row) for row in items]
        look = LoadPictures(transform, self.limits, self.frames, "uniform", self.pictures)
        found: list[Asked | Reject] = []
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
        asked = self.asked(items, given)
        written = iter(
            write(
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
        seen: Mapping[str, Seen] | None = None,
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
                found.append(check(generation.text, generation.finish, stated, sources, rules))
            except Reject as why:
                found.append(why)
        return found

"""Lessons: an item as a cold one would come, and what is known of it, as prompt and completion."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from coldstart.attributes import Attributes
from coldstart.generators import Generator
from coldstart.learning.asking import Ask
from coldstart.learning.view import TEXTS, target
from coldstart.learning.writer import requests
from coldstart.prompts import Prompt
from coldstart.stage import Row
from coldstart.training.examples import Example


def lessons(
    rows: Sequence[Row],
    generator: Generator,
    *,
    prompts: Mapping[str, Prompt],
    attributes: Attributes,
    given: frozenset[str],
    drop: Mapping[str, float],
    views: int,
    seed: int,
    prose: bool,
) -> list[Example]:
    """`views` lessons an item, in the order of the rows: the first shows all of `given`, each further one leaves fields
    out at random, so that a writer learns to do without. A view that shows nothing more than one before it is left
    out, and so is one without words where the generator has no eyes.

    Args:
        drop: field -> how often it is left out of a further view.
        seed: of the draws, which depend on it, the item and the view alone.
        prose: whether an item's own description may be what the summary should say.
    """
    sighted = generator.image_transform is not None and "picture" in given
    asked, completions, items = [], [], []
    for row in rows:
        done = set()
        for view in range(views):
            draw = random.Random(f"{seed} {row['item_id']} {view}")
            kept = frozenset(name for name in sorted(given) if view == 0 or draw.random() >= drop.get(name, 0.0))
            one = Ask(prompts, attributes, kept)(row)
            told = tuple(sorted(name for name in TEXTS if one.values[name]))
            if told in done or not (told or sighted):
                continue
            done.add(told)
            asked.append(one)
            completions.append(target(row, one.stated, given, prose=prose).dumps(one.prompt.output))
            items.append(row["item_id"])
    return [
        Example(item, request.system, request.prompt, completion)
        for item, request, completion in zip(items, requests(asked, generator), completions, strict=True)
    ]

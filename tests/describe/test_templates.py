"""Data to text with slots: what is learnt, what a candidate may say, and which is chosen. No model but fakes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coldstart.core.attributes import Attributes
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import Reject
from coldstart.describe.finetune.fit_templates import choose_templates, lessons_of, write_candidates
from coldstart.describe.finetune.templates import (
    FactItem,
    delexicalise,
    fact_items,
    own_templates,
    plan_templates,
    render,
    sub_patterns,
    words_of_values,
)
from coldstart.describe.sentences import PLANS, plain_sentences, plan_template
from coldstart.generators import Generation, Request, Sampling

SHOP = Attributes.model_validate({"default": {"type": {"from": "category"}, "colour": {}, "audience": {}}})
PATTERN = "kind:one colour audience brand"
COLOURS = ("Red", "Blue", "Navy Blue", "Green", "Orange")


def shop(count: int = 40, description: str = "") -> list[dict[str, Any]]:
    return [
        {
            "item_id": f"{place:03}",
            "kind": "product",
            "title": f"Acme Men {COLOURS[place % 5]} Shirts {place}",
            "category": "Shirts",
            "creator": "Acme",
            "tags": [],
            "description": description.format(colour=COLOURS[place % 5].lower(), place=place),
            "attributes": {"colour": COLOURS[place % 5], "audience": "Men"},
        }
        for place in range(count)
    ]


class Writes:
    """Generator that answers each request with the next of its texts; it obeys no grammar."""

    image_transform = None

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), 0

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        self.asked += len(requests)
        text = self.texts.pop(0) if self.texts else "?"
        return [Generation(text, "stop", 1, 1) for _ in requests]


def test_values_become_slots_and_fill_them_again() -> None:
    item = fact_items(shop(1), SHOP)[0]
    assert item.pattern == PATTERN
    assert item.slots == {"kind": "shirt", "brand": "Acme", "colour": "red", "audience": "men"}
    assert delexicalise("A Red shirt for men.", item.slots) == "A [colour] [kind] for [audience]."
    assert delexicalise("Red, red shirt", item.slots) is None and delexicalise("Nothing here", item.slots) is None
    for plan in PLANS:
        expected = plain_sentences(
            {"type": "Shirts", "colour": "Red", "audience": "Men"}, {}, creator="Acme", plan=plan
        )
        assert render(plan_template(PATTERN, plan), item) == expected


def test_articles_follow_the_value() -> None:
    item = FactItem("1", "kind:one colour", {"colour": "orange", "kind": "cap"}, "", ())
    assert render("A [colour] [kind]. Get a [kind].", item) == "An orange cap. Get a cap."
    assert render("A [material] [kind].", item) == ""


def test_sellers_sentences_are_learnt_where_their_other_words_are_frames() -> None:
    told = own_templates(fact_items(shop(8, "This {colour} shirt suits men well. Knit number x{place}y."), SHOP))
    assert told == {"kind:one colour audience": {"This [colour] [kind] suits [audience] well.": 8}}
    once = own_templates(fact_items([*shop(3), *shop(1, "A {colour} shirt with zebra print.")], SHOP))
    assert once == {}, "a word beside one item alone states something of it"
    other = shop(8, "This {colour} shirt goes with orange.")
    assert not any("orange" in text for own in own_templates(fact_items(other, SHOP)).values() for text in own)


def test_few_facts_are_learnt_as_well() -> None:
    lessons = lessons_of(fact_items(shop(), SHOP))
    learnt = {one.prompt for one in (*lessons.train, *lessons.valid)}
    assert PATTERN in learnt and "kind:one colour" in learnt and set(sub_patterns(PATTERN)) >= learnt
    assert lessons.patterns == (PATTERN,), "candidates are written once a pattern, not once an item"
    assert not words_of_values(fact_items(shop(), SHOP)) & {word.lower() for word in lessons.grammar.frame}


@pytest.mark.parametrize(
    "text",
    [
        "A [colour] [kind] for [audience] by [brand], made of leather.",
        "A red [colour] [kind] for [audience] by [brand].",
        "A blue [kind] for [audience] by [brand].",
        "A [colour] [kind] for [audience].",
        "A [colour] [colour] [kind] for [audience] by [brand].",
        "A [colour] [kind] for [audience] by [brand] in [season].",
        "A [colour] [kind] for [audience] by [brand]. 100",
        "A [colour] [kind] <b>for</b> [audience] by [brand].",
        "They are [colour] [kind] for [audience] by [brand].",
        "[colour] [kind] for [audience] by [brand].",
        "A [colour] [kind] for [audience] by by [brand].",
        "A [colour] [kind] for [audience] by Nike, [brand].",
        "",
    ],
)
def test_a_candidate_that_says_more_or_less_than_the_facts_is_not_kept(text: str) -> None:
    lessons = lessons_of(fact_items(shop(), SHOP))
    answers = [json.dumps({"text": text}), "no JSON", json.dumps([text]), json.dumps({"text": 3})]
    kept = write_candidates(Writes(*answers), lessons, SilentProgress(), "fit")  # type: ignore[arg-type]
    assert kept == {PATTERN: []}


def test_a_candidate_of_slots_and_frames_is_kept() -> None:
    lessons = lessons_of(fact_items(shop(), SHOP))
    good = "A [kind] by [brand] in [colour] for [audience]."
    writer = Writes(json.dumps({"text": good}))
    assert write_candidates(writer, lessons, SilentProgress(), "fit") == {PATTERN: [good]}  # type: ignore[arg-type]
    assert writer.asked == 5
    assert lessons.grammar.schema(PATTERN)["properties"]["text"]["pattern"].startswith(r"^ (\[kind\]|")


def _encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Encode a text by its colour, where that stands in a title or behind the first three words."""
    vectors = np.zeros((len(texts), len(COLOURS) + 1), np.float32)
    for row, text in enumerate(texts):
        colour = next(one for one in ("Navy Blue", *COLOURS) if one.lower() in text.lower())
        seen = "Acme Men" in text or text.lower().startswith(f"a shirt in {colour.lower()}")
        vectors[row, COLOURS.index(colour)] = 1 if seen else 0
        vectors[row, -1] = 2
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_candidate_is_chosen_where_it_finds_its_items_better_and_rules_write_the_others() -> None:
    items = fact_items(shop(), SHOP)
    better, worse = "A [kind] in [colour] by [brand] for [audience].", "A [kind] by [brand] for [audience] in [colour]."
    chosen, figures = choose_templates(items, {PATTERN: [worse, better]}, _encode, _encode, 0)
    assert chosen == {PATTERN: better} and figures[0]["chosen"] == "model" and figures[0]["low"] > 0
    assert choose_templates(items, {PATTERN: [worse]}, _encode, _encode, 0)[0] == {}
    few, figures = choose_templates(items[:8], {PATTERN: [better]}, _encode, _encode, 0)
    assert few == {} and figures[0]["chosen"] == "rules: too few to judge"


def test_chosen_sentences_are_written_by_pattern_and_rules_write_the_rest() -> None:
    templates = {PATTERN: "By [brand], for [audience]: a [colour] [kind]."}
    facts = {"type": "Shirts", "colour": "Orange", "audience": "Men"}
    assert plain_sentences(facts, {}, creator="Acme", templates=templates) == "By Acme, for men: an orange shirt."
    assert plain_sentences(facts, {}, templates=templates) == "An orange shirt for men."
    assert plan_templates(PATTERN)[0] == "A [colour] [kind] for [audience] by [brand]."

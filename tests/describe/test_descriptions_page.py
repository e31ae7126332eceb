"""Test the page of evaluated descriptions: its parts, its marks, and that no text becomes markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated_items import SCHEMA, evaluated_item
from hostile_page import HOSTILE, STEERING, Page
from numpy.typing import NDArray

from coldstart.core.attributes import Attribute
from coldstart.core.description import Description
from coldstart.core.stage import Reject
from coldstart.describe.evaluate.report import Distractor, evaluate_writers
from coldstart.describe.page import descriptions_html, descriptions_page, verdict_of
from coldstart.media.limits import Limits
from coldstart.sample import path as sample

COUNT = 24
TRUE = {"colour": "Red", "type": "Backpack"}


def vectors(texts: Any) -> NDArray[np.float32]:
    """Texts as unit vectors of their letters."""
    counts = np.asarray([[text.lower().count(chr(97 + place)) + 0.01 for place in range(26)] for text in texts])
    return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def known(split: str = "test", writers: int = 2, text: str | None = None) -> dict[str, Any]:
    """A report of 24 items, with `text` in the place of every text that is not ours."""
    own = text or "Red backpack"

    def records(right: bool) -> list[Any]:
        found = []
        for place in range(COUNT):
            said = {"colour": "Red" if right else "Blue", "type": "Backpack"}
            one = evaluated_item(
                f"item-{place}",
                said,
                truth=TRUE,
                title=own,
                hidden={"description": text or f"description {place}"},
                seen={"colour": {text or "Red": 0.8}},
                kept=said if right else {"type": "Backpack"},
                group=place,
            )
            if place == 3 and not right:
                one = replace(one, written=None, checked=Reject("prompt_too_long", "900 of 512 tokens"))
            if text is not None:
                one = replace(one, written=f"{text} {json.dumps(said)}", attributes={**SCHEMA, text: Attribute()})
            found.append(one)
        return found

    all_writers = {"base": records(False), "adapter": records(True)}
    names = dict(list({"base": "starter", "adapter": text or "starter tuned"}.items())[:writers])
    told = [Description(f"Truth {place}.", TRUE) for place in range(COUNT)]
    found = evaluate_writers(
        {name: all_writers[name] for name in names},
        told,
        vectors,
        vectors,
        writers=names,
        split=split,
        note="held out: no fit has seen them"
        if split == "test"
        else "not held out: the fit was trained on these items",
        given=["title", "screen_text"],
        distractors=[Distractor("something else")],
    )
    picture = next(iter(sorted(sample().rglob("*.jpg"))))
    items = {item: {"title": text or item, "kind": "product", "uri": str(picture)} for item in found.example_ids()}
    plain: dict[str, Any] = json.loads(json.dumps(found.with_items(items).to_dict()))
    return plain


def text_of(page: str) -> str:
    return " ".join(Page(page).text)


def test_writers_stand_side_by_side_before_and_after_the_checks() -> None:
    page = descriptions_html(known())
    said = text_of(page)
    assert "test 24 items · base : starter · adapter : starter tuned" in said
    assert "base as written base after the checks adapter as written adapter after the checks base → adapter" in said
    assert (
        "stated and right, of those recorded 0.479 " in said
    )  # 23 of 48 as base wrote; the colour is always wrong, and one text is missing
    for title in ("Truth of attributes and claims", "Attribute by attribute", "Text → item: retrieval",
                  "Item → item: retrieval", "Results of the checks", "20 examples, drawn at random",
                  "Held-out items and method"):  # fmt: skip
        assert title in said
    assert "24 queries, 25 items to choose from" in said
    assert "1 further items stand in the index with all of their own words" in said
    assert "title, screen text, where an item has them" in said
    assert "Not an honest measure" not in said
    assert 'class="better"' in page


def test_claims_have_their_marks_grounds_and_reasons() -> None:
    page = descriptions_html(known())
    assert page.count('<div class="example">') == 20
    example = next(one for one in page.split('<div class="example">')[1:] if "item-3<" not in one)
    kept = re.findall(r'<li class="(true|false|open)">(.*?)</li>', example)
    assert [(truth, re.sub("<[^>]*>", "", words)) for truth, words in kept] == [
        ("true", "✓ type: Backpack title found Backpack"),
        ("true", "✓ colour: Red title found Red"),
        ("true", "✓ type: Backpack title found Backpack"),
    ]
    gone = re.findall(r"<s dir=\"auto\">(.*?)</li>", example)
    assert [re.sub("<[^>]*>", "", words) for words in gone] == ["colour: Blue not grounded, no source has it"]
    assert 'Red <span class="soft">80 %</span>' in example


def test_what_was_turned_away_says_why() -> None:
    report = known()
    wanted = next(one for one in report["examples"] if one["item_id"] == "item-3")
    report["examples"] = [wanted]
    said = text_of(descriptions_html(report))
    assert "base rejected nothing prompt too long: 900 of 512 tokens" in said
    assert "rejected: prompt too long" in said


def test_one_writer_has_nothing_to_be_compared_with() -> None:
    page = descriptions_html(known(writers=1))
    said = text_of(page)
    assert "base as written base after the checks of how many" in said
    assert "base → adapter" not in said


def test_a_training_split_has_a_warning() -> None:
    said = text_of(descriptions_html(known("train")))
    assert "Not an honest measure of new items: not held out: the fit was trained on these items." in said


def test_the_caveat_stands_above_the_figures() -> None:
    report = known()
    assert "Take it with care" not in text_of(descriptions_html(report))
    report["caveat"] = "the judges have seen 3 of them"
    assert "Take it with care: the judges have seen 3 of them. Truth of attributes and claims" in text_of(
        descriptions_html(report)
    )


def test_where_nothing_asks_there_is_no_section() -> None:
    report = known()
    report |= {"gain": {"text_to_item": None, "item_to_item": None}, "query": "", "given": None}
    said = text_of(descriptions_html(report))
    assert "item: retrieval" not in said
    assert "no hidden text is a query" in said
    assert "all that an item has" in said


def test_no_text_of_an_item_or_a_model_becomes_markup() -> None:
    page = Page(descriptions_html(known(text=HOSTILE)))
    assert not {"script", "iframe", "link", "object"} & set(page.tags)
    assert "{{ 7 * 7 }}" in " ".join(page.text)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    assert not page.values("href")


def test_texts_lose_what_steers_a_terminal_or_breaks_the_file(tmp_path: Path) -> None:
    descriptions_page(known(text=STEERING), tmp_path / "deep" / "page.html")
    page = (tmp_path / "deep" / "page.html").read_text("utf-8")
    assert not {"\x1b", "\x9b", "\u202e", "\ud800"} & set(page)
    assert "over" in page


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    page = descriptions_html(known())
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page


@pytest.mark.slow
def test_media_that_cannot_be_shown_say_why() -> None:
    report = known()
    items = sorted(report["items"])
    report["items"][items[0]]["uri"] = None
    report["items"][items[1]]["uri"] = "/nowhere/at/all.jpg"
    del report["items"][items[2]]
    said = text_of(descriptions_html(report))
    assert "no media" in said
    assert "not found" in said
    assert "too many pixels" in text_of(descriptions_html(known(), limits=Limits(max_pixels=10)))


@pytest.mark.parametrize(
    ("change", "less", "verdict"),
    [
        (None, False, ""),
        ({"value": 0.1, "low": 0.0, "high": 0.2}, False, ""),
        ({"value": 0.1, "low": 0.05, "high": 0.2}, False, "better"),
        ({"value": 0.1, "low": 0.05, "high": 0.2}, True, "worse"),
        ({"value": -0.1, "low": -0.2, "high": -0.05}, True, "better"),
    ],
)
def test_a_difference_is_coloured_where_zero_lies_outside(change: Any, less: bool, verdict: str) -> None:
    assert verdict_of(change, less_is_better=less) == verdict

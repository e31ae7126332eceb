"""The page of an alignment: what stands where, what is marked right, and that no text of an item becomes markup."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_page import HOSTILE, STEERING, Page
from test_evaluate_align import EYE, SWAPPED, Made, heads

from coldstart.align.evaluate import evaluate_split
from coldstart.align.page import alignment_html, alignment_page
from coldstart.align.queries import ClassTexts
from coldstart.media.limits import Limits
from coldstart.pages.charts import bars, dots, interval, number, percent, signed
from coldstart.sample import path as sample


def known(*, before: bool = True, split: str = "test", classes: int = 2) -> dict[str, Any]:
    """A report of six items of which two are taken for each other, after the fit."""
    features = Made(
        split=[split] * 6,
        texts=np.concatenate([EYE, EYE]),
        text_items=np.arange(12) % 6,
        text_views=["title"] * 6 + ["screen_text"] * 6,
    )
    names = [f"class {place}" for place in range(classes)]
    named = ClassTexts(names, EYE[np.arange(classes) % 6], np.arange(classes), [names[i % 2] for i in range(6)])
    report = evaluate_split(features, heads(text=SWAPPED), heads() if before else None, split, named)
    picture = next(iter(sorted(sample().rglob("*.jpg"))))
    items = {
        item: {"title": f"title of {item}", "description": None, "category": None, "kind": "product",
               "uri": str(picture)}
        for item in report.shown()
    }  # fmt: skip
    return report.with_items(items).to_dict()


def text_of(page: str) -> str:
    return " ".join(Page(page).text)


@pytest.mark.slow
def test_before_after_and_difference_stand_side_by_side() -> None:
    page = alignment_html(known())
    text = text_of(page)
    assert "Alignment of pictures and words test 6 items, by title · starter and fake:6" in text
    first = "measure before after difference chance R@1 1.000 0.610 to 1.000 0.667"
    assert first in text
    row = re.search(r'<tr><td class="name">R@1</td>.*?</tr>', page)
    assert row is not None
    assert 'class="better"' not in row[0]
    assert "−0.333" in row[0]
    assert "0.167</td>" in row[0]  # chance
    for title in ("Recall with intervals", "Rank of the right answer", "Zero-shot classification", "Other texts",
                  "Shape of the space", "Picture → text: example results", "Text → picture: example results",
                  "Held-out items and method"):  # fmt: skip
        assert f" {title}" in text
    assert "Not an honest measure" not in text


@pytest.mark.slow
def test_without_a_before_there_is_nothing_to_compare() -> None:
    text = text_of(alignment_html(known(before=False)))
    assert "measure after chance R@1" in text
    assert "before" not in text.replace("stands before the right one", "")
    assert "difference" not in text.replace("differences", "")


@pytest.mark.slow
def test_a_split_that_was_seen_is_warned_of() -> None:
    text = text_of(alignment_html(known(split="train")))
    assert "Not an honest measure of new items: not held out: the fit was trained on these items." in text


@pytest.mark.slow
def test_right_ones_are_marked_and_wrong_ones_show_the_rank_of_the_right_one() -> None:
    page = alignment_html(known())
    sheets = re.findall(r'<div class="sheet">.*?</div>\s*</div>', page, re.DOTALL)
    worst = next(sheet for sheet in sheets if "item-0" in sheet)
    assert "right at 6" in worst
    assert re.search(r'<li class="right answer"><span>6\.</span><span dir="auto">title of item-0</span>', worst)
    assert re.search(r'<li><span>1</span><span dir="auto">title of item-1</span>', worst)
    assert re.search(r'<li class="right"><span>1 ✓</span><span dir="auto">title of item-2</span>', page)
    found = Page(page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in found.values("src"))
    assert found.tags.count("img") > 12


@pytest.mark.slow
def test_classes_are_shown_as_a_matrix_while_they_are_few() -> None:
    assert 'class="matrix"' in alignment_html(known(classes=5))
    many = alignment_html(known(classes=13))
    assert 'class="matrix"' in many  # two are asked and two are found, whatever else there is
    report = known(classes=2)
    report["after"]["zero_shot"]["per_class"] = [
        {"name": f"c{place}", "items": 1, "accuracy": 0.5, "found": {f"c{place}": 1}} for place in range(13)
    ]
    assert 'class="matrix"' not in alignment_html(report)
    report["after"]["zero_shot"] = None
    report["views"] = {}
    text = text_of(alignment_html(report))
    assert "Zero-shot classification" not in text
    assert "Other texts" not in text


@pytest.mark.slow
def test_no_text_of_an_item_becomes_markup() -> None:
    harmless = known()
    hostile = deepcopy(harmless)
    for item in hostile["items"].values():
        item["title"] = HOSTILE
    per_class = hostile["after"]["zero_shot"]["per_class"]
    for one in per_class:
        one["found"] = {HOSTILE if name == one["name"] else name: count for name, count in one["found"].items()}
        one["name"] = HOSTILE
    hostile["after"]["zero_shot"]["majority"]["name"] = HOSTILE
    hostile["about"] = {"data": HOSTILE}
    hostile["towers"] = {"image": HOSTILE, "text": HOSTILE}
    hostile["view"] = "title"
    page = Page(alignment_html(hostile))
    assert not {"script", "iframe", "link", "object"} & set(page.tags)
    assert "{{ 7 * 7 }}" in " ".join(page.text)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(value.startswith("data:") for value in page.values("src"))
    assert not page.values("href")


@pytest.mark.slow
def test_texts_lose_what_steers_a_terminal_or_breaks_the_file(tmp_path: Path) -> None:
    report = known()
    for item in report["items"].values():
        item["title"] = STEERING
    alignment_page(report, tmp_path / "deep" / "page.html")
    page = (tmp_path / "deep" / "page.html").read_text("utf-8")
    assert not {"\x1b", "\x9b", "\u202e", "\ud800"} & set(page)
    assert "red" in page


@pytest.mark.slow
def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    page = alignment_html(known())
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page


@pytest.mark.slow
def test_media_that_cannot_be_shown_say_why() -> None:
    report = known()
    for place, item in enumerate(sorted(report["items"])):
        report["items"][item]["uri"] = None if place % 2 else "/nowhere/at/all.jpg"
    del report["items"]["item-3"]
    text = text_of(alignment_html(report))
    assert "no media" in text
    assert "not found" in text
    assert "item-3" in text


@pytest.mark.slow
def test_limits_are_those_of_ingest() -> None:
    page = alignment_html(known(), limits=Limits(max_pixels=10))
    assert "too many pixels" in text_of(page)


# -- numbers and charts


@pytest.mark.parametrize(
    ("value", "shown", "with_sign"),
    [
        (0.41251, "0.413", "+0.413"), (-0.5, "−0.500", "−0.500"), (0.0, "0.000", "0.000"), (1, "1.000", "+1.000"),
        (-12.0, "−12", "−12"), (151.797, "151.8", "+151.8"), (1234.0, "1,234", "+1,234"),
        (2.5, "2.500", "+2.500"), (None, "", ""),
    ],
)  # fmt: skip
def test_numbers(value: float | None, shown: str, with_sign: str) -> None:
    assert number(value) == shown
    assert signed(value) == with_sign


def test_shares_round_to_nothing_and_to_all_only_where_they_are() -> None:
    assert [percent(share) for share in (0, 0.001, 0.5, 0.996, 1)] == ["0 %", "< 1 %", "50 %", "> 99 %", "100 %"]
    assert interval({"value": 1, "low": 0.25, "high": 3}) == "0.250 to 3"
    assert interval({"value": 1, "low": -0.5, "high": 3}, is_rank=True, is_change=True) == "−0.5 to +3"
    assert number(1.0, is_rank=True) == "1"
    assert interval(None) == ""


def test_dots_stand_where_their_values_are() -> None:
    found = {"value": 0.5, "low": 0.25, "high": 0.75, "chance": 0.0}
    chart = dots([("one way", [("R@1", {"before": {**found, "value": 0.25}, "after": found})])])
    zero, _, half, _, one = (tick["x"] for tick in chart["ticks"])
    before, after = chart["marks"]
    assert (after["x"], chart["chances"][0]["x"]) == (half, zero)
    assert before["x"] == after["low"] == (zero + half) / 2
    assert before["y"] < after["y"] < chart["bottom"]
    assert after["text"] == "R@1 after: 0.500 (0.250 to 0.750)"
    assert one < chart["width"]
    lone = dots([("one way", [("R@1", {"after": found})])])
    assert lone["marks"][0]["y"] == lone["labels"][0]["y"]
    long = dots([("one way", [("a name of forty letters for one of its rows", {"after": found})])])
    assert long["label_x"] > 40 * 7 > lone["label_x"] > 0
    assert long["label_x"] < long["ticks"][0]["x"]


def test_bars_are_shares_to_one_scale() -> None:
    after = [{"first": 1, "last": 1, "queries": 3}, {"first": 2, "last": 1000, "queries": 1}]
    before = [{"first": 1, "last": 1, "queries": 2}, {"first": 2, "last": 1000, "queries": 2}]
    found = bars(after, before)
    assert [bucket["label"] for bucket in found] == ["1", "2–1,000"]
    assert [[bar["height"] for bar in bucket["bars"]] for bucket in found] == [[86.7, 130.0], [86.7, 43.3]]
    assert [len(bucket["bars"]) for bucket in bars(after, None)] == [1, 1]

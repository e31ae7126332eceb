"""Attributes that count interactions: found by name and by correlation, with the gain that rests on them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from behaviour_world import World, world

from coldstart.core.likes import find_likes
from coldstart.core.progress import SilentProgress
from coldstart.errors import ColdstartError, NothingToLearn
from coldstart.recommend.count_attributes import (
    CountAttribute,
    check_fit,
    describe_count_attributes,
    find_count_attributes,
    parsed_number,
    without_attributes,
)
from coldstart.recommend.evaluate import EvaluateSettings, evaluate
from coldstart.recommend.evaluate.page import markdown, recommend_html
from coldstart.recommend.fit_stage import BehaviourFitStage, TrainingData, _details
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.settings import Settings


@pytest.fixture(scope="module")
def small() -> World:
    return world(users=80, items=120, per_user=15)


def with_attributes(known: World, values: dict[str, Any]) -> Content:
    """Give each item of a world one value of each name."""
    records = tuple(
        {**record, "attributes": {name: own[place] for name, own in values.items()}}
        for place, record in enumerate(known.content.records)
    )
    return Content(known.content.item_ids, known.content.blocks, records)


def honest(known: World) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    count = len(known.content)
    return {
        "brand": rng.choice(["Acme", "Bolt", "Core"], count).tolist(),
        "weight": rng.lognormal(size=count).tolist(),
        "year": rng.integers(1990, 2020, count).tolist(),
        "rating": rng.choice(["PG", "R"], count).tolist(),
    }


def test_brand_price_and_category_are_no_counts(small: World) -> None:
    content = with_attributes(small, honest(small))
    priced = tuple({**record, "price": 3.0 + place % 17} for place, record in enumerate(content.records))
    content = Content(content.item_ids, content.blocks, priced)
    counts = small.interactions.counts()
    assert find_count_attributes(content, counts) == []
    assert without_attributes(content, []).records == content.records


def test_counts_are_found_by_name_and_by_correlation(small: World) -> None:
    counts = small.interactions.counts()
    noisy = (counts + np.random.default_rng(1).integers(0, 2, len(counts))).tolist()
    best = counts >= np.quantile(counts, 0.9)
    content = with_attributes(
        small,
        {
            **honest(small),
            "n_ratings": [f"{count:,}" for count in counts * 1000],  # a text, as CSV has it
            "place": [-value for value in noisy],
            "Bestseller": best.tolist(),
            "views": [3.0] * len(counts),
        },
    )
    tagged = tuple(
        {**record, "tags": ["Top Seller", "red"] if best[place] else ["red"]}
        for place, record in enumerate(content.records)
    )
    content = Content(content.item_ids, content.blocks, tagged)
    found = {one.name: one for one in find_count_attributes(content, counts)}
    assert set(found) == {
        "attributes.n_ratings",
        "attributes.place",
        "attributes.bestseller",
        "attributes.views",
        "tags",
    }
    assert found["attributes.n_ratings"].correlation == pytest.approx(1)
    assert found["attributes.place"].by_name is False
    assert found["attributes.place"].correlation == pytest.approx(-0.97, abs=0.03)
    assert found["attributes.views"].correlation is None  # all have the same
    assert found["tags"].value == "top seller"
    bare = without_attributes(content, list(found.values())).records[int(np.flatnonzero(best)[0])]
    assert set(bare["attributes"]) == set(honest(small))
    assert bare["tags"] == ["red"]


@pytest.mark.slow
def test_an_evaluation_says_what_rests_on_a_count(small: World) -> None:
    """And is silent without one."""
    settings = EvaluateSettings(methods=("random",), draws=200, check=False, seeds=1)
    content = with_attributes(small, {"n_ratings": small.interactions.counts().tolist()})
    found = evaluate(small.interactions, content, "items", settings).to_dict()
    gain = found["count_attributes"]["gain"]
    assert gain["difference"]["value"] == pytest.approx(gain["with_them"]["value"] - gain["without"]["value"])
    assert gain["chance"] < gain["without"]["value"]
    assert gain["share"]["low"] <= gain["share"]["value"] <= gain["share"]["high"]
    first, second = found["count_attributes"]["lines"]
    assert first.startswith("an attribute counts interactions: attributes.n_ratings (by its name; rank correlation +")
    assert second.startswith("recall@20 of a kernel ridge is 0.")
    assert f"Warning: {first}." in markdown(found)
    assert "<h2>Attributes that count interactions</h2>" in recommend_html(found)
    plain = evaluate(small.interactions, small.content, "items", settings).to_dict()
    assert plain["count_attributes"] is None
    assert "count interactions" not in recommend_html(plain)
    labels_off = evaluate(small.interactions, content, "items", replace(settings, fusing={"labels": False}))
    assert labels_off.count_attributes is None


def test_a_weight_of_a_count_says_why_it_has_no_block(small: World) -> None:
    content = with_attributes(small, {"n_ratings": list(range(len(small.content))), "size": ["nan"] * 120})
    weights = {"labels.attributes.n_ratings": 1.0}
    found = find_count_attributes(content, small.interactions.counts(), weights)
    with pytest.raises(ColdstartError, match=r"n_ratings counts interactions, which fits leave out: .*: true$"):
        without_attributes(content, found, weights)
    assert parsed_number("nan") is parsed_number("inf") is parsed_number("12 px") is None
    assert parsed_number("1,204+") == 1204


def test_too_few_to_measure(small: World) -> None:
    content = with_attributes(small, {"n_ratings": small.interactions.counts().tolist()})
    alone = np.zeros(len(content), np.int64)  # one group, so that nothing can be held out
    found = check_fit(small.interactions, content, min_weight=None, groups=alone, share=0.2)
    assert found is not None
    assert found["gain"] is None
    assert found["lines"][1] == "what rests on it cannot be measured: too few items or likes can be held out"


def test_the_words_of_several() -> None:
    found = [
        CountAttribute("attributes.views", "", True, None, 3),
        CountAttribute("tags", "bestseller", True, 0.5, 40),
    ]
    assert describe_count_attributes(found, None)[0] == (
        "2 attributes count interactions: attributes.views (by its name; too few items to correlate); tags "
        "'bestseller' (by its name; rank correlation +0.50 with their users in training, 40 items). A new item has "
        "none yet, and what the catalogue says was counted after the fact: so they are left out (`count_attributes: "
        "true` takes them in)"
    )
    assert describe_count_attributes(found, None, are_used=True)[0].endswith(": leave them out of the table")


def test_a_fit_of_behaviour_says_what_rests_on_a_count(small: World) -> None:
    content = with_attributes(small, {"n_ratings": small.interactions.counts().tolist()})
    each = np.arange(len(content))
    counted = check_fit(small.interactions, content, min_weight=None, groups=each, share=0.3)
    assert counted is not None
    assert counted["gain"]["items"] > 20
    budget = {"estimated": 1.0, "seconds": 2.0, "left_out": [], "trials": 3}
    report = {"likes": "all", "weights": {}, "powers": {}, "budget": budget, "seconds": 1.0}
    lines = _details(SimpleNamespace(report={**report, "count_attributes": counted}))  # type: ignore[arg-type]
    assert [line for line in lines if line.startswith("warning: ")] == [f"warning: {line}" for line in counted["lines"]]
    assert len(_details(SimpleNamespace(report={**report, "count_attributes": None}))) == 3  # type: ignore[arg-type]
    weights = {"text": 1.0, "labels.category": 1.0}  # by which a fit reads no other labels
    assert find_count_attributes(content, small.interactions.counts(), weights) == []
    weights["labels.attributes.n_ratings"] = 0.5
    assert len(find_count_attributes(content, small.interactions.counts(), weights)) == 1
    assert check_fit(small.interactions, small.content, min_weight=None, groups=each, share=0.3) is None


@pytest.mark.slow
def test_an_evaluation_fits_without_counts_unless_they_are_wanted(small: World) -> None:
    content = with_attributes(small, {"n_ratings": small.interactions.counts().tolist()})
    settings = EvaluateSettings(methods=("ridge",), draws=200, check=False, seeds=1)

    def recall(own: Content, **changes: Any) -> float:
        found = evaluate(small.interactions, own, "items", replace(settings, **changes)).to_dict()
        return float(found["methods"]["ridge"]["sets"]["cold"]["recall@20"]["value"])

    plain = recall(small.content)
    assert recall(content) == plain
    assert recall(content, count_attributes=True) != plain


@pytest.mark.parametrize("wanted", [False, True])
def test_a_fit_of_behaviour_learns_from_no_counts_unless_they_are_wanted(
    small: World, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    content = with_attributes(small, {"n_ratings": small.interactions.counts().tolist()})
    given: list[Content] = []

    def select(rows: Any, own: Content, *more: Any, **named: Any) -> None:
        given.append(own)
        raise NothingToLearn("the test ends here")

    monkeypatch.setattr("coldstart.recommend.model.selection.select_model", select)
    pipeline: Any = None
    stage = BehaviourFitStage("liking", Settings(count_attributes=wanted), pipeline, [])
    store: Any = None
    rows = small.interactions
    with pytest.raises(NothingToLearn):
        stage._fit(store, TrainingData(content, {}, rows, find_likes(rows.weights, None)), SilentProgress())
    names = {name for record in given[0].records for name in record["attributes"]}
    assert names == ({"n_ratings"} if wanted else set())

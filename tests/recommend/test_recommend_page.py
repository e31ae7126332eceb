"""The page of an evaluation: what it shows, and that no text in it becomes markup."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from behaviour_world import world

from coldstart.recommend.evaluate import EvaluateSettings, evaluate
from coldstart.recommend.evaluate.page import recommend_html, scatter, verdict, whiskers

METHODS = ("random", "popularity", "content_mean", "ridge")


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    small = world(users=60, items=100, per_user=12)
    settings = EvaluateSettings(methods=METHODS, teacher="pure_svd", dim=16, draws=100, seeds=2)
    return evaluate(small.interactions, small.content, "coldrec", settings).to_dict()


def test_every_method_and_set_is_shown(known: dict[str, Any]) -> None:
    page = recommend_html(known)
    for title in ("New items", "Training items", "Both together"):
        assert f"<h2>{title} " in page
    for own in known["methods"].values():
        assert page.count(f'<td class="name">{own["title"]}') == 3 + 3 + 1  # two tables a set, and the strata
    assert page.count('class="dot') == 4 * len(METHODS) + 2 * len(METHODS)
    assert known["split"]["digest"] in page
    assert f"their share of the later likes: {100 * known['cold_share']:.0f} %" in page
    assert "none of 15 kinds: test rows, valid rows, " in page
    assert "Not a test" not in page


def test_validation_is_no_test(known: dict[str, Any]) -> None:
    own = copy.deepcopy(known)
    own["split"]["part"] = "valid"
    assert "Not a test" in recommend_html(own)


def test_no_text_becomes_markup(known: dict[str, Any]) -> None:
    own = copy.deepcopy(known)
    own["methods"]["ridge"]["title"] = "<script>alert(1)</script>"
    own["left_out"] = {"<b>x</b>": "<img src=x onerror=alert(1)>"}
    own["notes"] = ["{{ 7 * 7 }}"]
    page = recommend_html(own)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<dd>{{ 7 * 7 }}</dd>" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"?http", page)


def test_a_colour_means_a_significant_difference_after_the_correction() -> None:
    found = {"value": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "p_holm": 0.04}
    assert verdict(found) == "better"
    assert verdict({**found, "value": -0.1}) == "worse"
    assert verdict({**found, "p_holm": 0.05}) == ""
    assert verdict({**found, "p_holm": None}) == ""
    assert verdict(None) == ""


def test_places_follow_values() -> None:
    chart = whiskers(
        [
            ("low", "baseline", {"value": 0.1, "low": 0.05, "high": 0.12}),
            ("high", "closed form", {"value": 0.3, "low": 0.2, "high": 0.38}),
        ]
    )
    assert [tick["text"] for tick in chart["ticks"]] == ["0", "0.1", "0.2", "0.3", "0.4"]
    first, second = chart["marks"]
    assert first["low"] < first["x"] < first["high"] < second["low"] < second["x"] < second["high"]
    assert second["role"] == "closed-form"
    assert second["text"] == "high: 0.300 (0.200 to 0.380)"
    assert whiskers([])["marks"] == []
    square = scatter(
        [
            {"number": 1, "role": "baseline", "text": "", "across": 0.0, "up": 0.0},
            {"number": 2, "role": "baseline", "text": "", "across": 1.0, "up": 0.5},
        ]
    )
    near, far = square["points"]
    assert near["x"] < far["x"]
    assert near["y"] > far["y"]

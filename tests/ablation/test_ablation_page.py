"""The page of an ablation: rows and chart, and that no text becomes markup."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from hostile_page import HOSTILE, STEERING, Page

from coldstart.ablation.page import ablation_html, format_duration, format_p, gains_chart
from coldstart.ablation.report import Cost, Estimate, Gain, LadderReport, StepResult
from coldstart.ablation.steps import MissingStep


def step(name: str, value: float, gain: float | None, seconds: float | None, about: str = "words") -> StepResult:
    over = None if gain is None else Gain(gain, gain - 0.01, gain + 0.01, "items", 0.02, 0.06)
    found = Estimate(value, value - 0.02, value + 0.02, "users")
    ndcg = {"value": value / 2, "low": 0.0, "high": 1.0}
    return StepResult(
        name, about, (name,), found, ndcg, found, None if gain is None else "before", over, over,
        covered=0.5, seconds=seconds, once_s=2.0, per_thousand_s=seconds, total_s=seconds,
    )  # fmt: skip


def known(text: str = "plain words") -> dict[str, Any]:
    steps = (
        step("pictures", 0.1, None, 40.0),
        step("title", 0.12, 0.02, 0.004),
        step("words", 0.2, 0.08, 25.0, text),
        step("base", 0.19, -0.05, 4_000.0),
        step("behaviour", 0.3, 0.11, None),
    )
    return asdict(
        LadderReport(
            ("pictures", "title", "words", "evidence", "base", "behaviour"),
            steps,
            (MissingStep("evidence", text),),
            (Cost(text, None, 0.0, "no run of it is recorded"), Cost("a fit", 0.0, 90.0, "recorded")),
            {"users": 1234, "lists": 2468, "new_items": 50, "training_items": 200, "catalogue": 250, "splits": 2},
            20,
            False,
            ("ridge", "ridge"),
            (text,),
        )
    )


def test_every_step_is_in_its_place_and_missing_ones_have_their_reason() -> None:
    page = ablation_html(known())
    places = [page.index(f"<b>{name}</b>") for name in known()["order"]]
    assert places == sorted(places)
    assert "not evaluated: plain words" in page
    assert "1,234 users" in page
    assert "in 2 splits" in page
    assert "50 % of the items have it" in page
    assert '<span class="better">+0.080</span><small>+0.070 to +0.090</small><small>p 0.06</small>' in page
    assert '<span class="worse">−0.050</span>' in page
    assert "(ridge)" in page
    assert "Not drawn, since their seconds are not known: behaviour." in page


def test_gains_are_drawn_against_the_logarithm_of_seconds() -> None:
    chart = gains_chart(known()["steps"])
    assert chart is not None
    points = {one["name"]: one for one in chart["points"]}
    assert set(points) == {"title", "words", "base"}
    assert points["title"]["x"] == chart["left"]  # less than a tenth of a second counts as that
    assert points["title"]["x"] < points["words"]["x"] < points["base"]["x"] < chart["right"]
    words = points["words"]["series"]["gain"]
    assert words["high"] < words["y"] < words["low"] < chart["zero"] < points["base"]["series"]["gain"]["y"]
    assert words["text"] == "words, by content alone: +0.080 (+0.070 to +0.090) for 25 s"
    assert [tick["text"] for tick in chart["x_ticks"]] == ["0.1 s", "1 s", "10 s", "1.7 min", "16.7 min", "2.8 h"]
    assert "+0.000" in [tick["text"] for tick in chart["y_ticks"]] or chart["zero"] > 0


def test_with_nothing_gained_nothing_is_drawn() -> None:
    one = {**known(), "steps": known()["steps"][:1]}
    assert gains_chart(one["steps"]) is None
    assert "<svg" not in ablation_html(one)


@pytest.mark.parametrize("text", [HOSTILE, STEERING])
def test_no_text_becomes_markup(text: str) -> None:
    page = ablation_html(known(text))
    found = Page(page)
    assert set(found.tags) & {"script", "img"} == set()
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert text not in page
    page.encode("utf-8")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "?"), (0.0, "0 s"), (0.034, "0.034 s"), (12.3, "12 s"), (90.0, "1.5 min"), (7_200.0, "2.0 h"),
     (172_800.0, "2.0 d")],
)  # fmt: skip
def test_time_has_a_readable_unit(value: float | None, expected: str) -> None:
    assert format_duration(value) == expected


def test_a_small_p_is_shown_as_small() -> None:
    assert [format_p(one) for one in (None, {"holm": 0.004}, {"holm": 0.25})] == ["", "< 0.01", "0.25"]

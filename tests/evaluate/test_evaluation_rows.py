"""Rows of `evaluate all`: verdicts by intervals and counts, and sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coldstart.evaluate.rows import VERDICTS, Baseline, Row, exactly, judged, percent
from coldstart.metrics.ranking import Interval

ROW = Row(
    "search",
    "A photo finds its product among all 65",
    "Search by photo finds the right product first in",
    "recall@1",
    803,
    "photos",
    None,
    Interval(0.62, 0.54, 0.70),
    Baseline("the best single space", Interval(0.60, 0.52, 0.68)),
)


def verdict(difference: Interval | None = None, **changes: object) -> str:
    return judged(replace(ROW, difference=difference, **changes)).verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("difference", "found"),
    [
        (Interval(0.02, 0.01, 0.03), "better"),
        (Interval(0.02, -0.01, 0.05), "level"),
        (Interval(-0.02, -0.03, -0.01), "worse"),
        (Interval(0.0, 0.0, 0.0), "level"),
    ],
)
def test_a_paired_difference_decides_by_its_interval(difference: Interval, found: str) -> None:
    assert verdict(difference) == found
    opposite = {"better": "worse", "worse": "better", "level": "level"}
    assert verdict(difference, fewer_is_better=True) == opposite[found]


def test_without_a_difference_the_two_intervals_have_to_be_apart() -> None:
    assert verdict() == "level"
    assert verdict(baseline=Baseline("chance", exactly(0.53))) == "better"
    assert verdict(baseline=Baseline("chance", exactly(0.55))) == "level"
    assert verdict(baseline=Baseline("chance", exactly(0.71))) == "worse"


@pytest.mark.parametrize(
    ("n", "groups", "few"), [(30, None, False), (29, None, True), (500, 29, True), (30, 30, False)]
)
def test_fewer_than_thirty_queries_or_groups_of_them_are_too_few(n: int, groups: int | None, few: bool) -> None:
    row = judged(replace(ROW, n=n, groups=groups, difference=Interval(0.2, 0.1, 0.3)))
    assert row.verdict == ("few" if few else "better")
    assert bool(row.why) == few


def test_a_sentence_has_value_interval_count_baseline_and_verdict() -> None:
    assert judged(ROW).sentence == (
        "Search by photo finds the right product first in 62 % (54 to 70 %), n = 803 photos; the best single space "
        "60 %: level with the baseline (the two intervals overlap)"
    )
    score = judged(replace(ROW, is_share=False, statement="Lists rank with", measure="ndcg@20", baseline=None))
    assert score.sentence == "Lists rank with ndcg@20 0.620 (0.540 to 0.700), n = 803 photos: level with the baseline"
    assert judged(replace(ROW, n=12)).sentence.endswith("60 %: too few to judge")
    assert judged(replace(ROW, groups=4)).sentence.endswith(
        ": too few to judge (803 photos of 4 groups of items, and 30 are needed)"
    )


def test_a_sentence_without_a_value_says_why() -> None:
    row = Row("align", "A picture finds its title", verdict="not_fitted", why="`coldstart finetune align` fits it")
    assert row.sentence == "A picture finds its title: not fitted: `coldstart finetune align` fits it"
    with pytest.raises(ValueError, match="no value"):
        judged(row)


def test_shares_are_never_rounded_to_none_or_all() -> None:
    assert [percent(share) for share in (0.0, 0.0002, 0.004, 0.5, 0.996, 1.0)] == [
        "0",
        "< 0.1",
        "0.4",
        "50",
        "99.6",
        "100",
    ]


def test_a_row_is_plain_data_with_its_sentence_and_a_known_verdict() -> None:
    plain = judged(ROW).to_dict()
    assert plain["verdict"] in VERDICTS
    assert plain["value"] == {"value": 0.62, "low": 0.54, "high": 0.70}
    assert plain["sentence"] == judged(ROW).sentence

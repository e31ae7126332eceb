"""Certificates: settings are chosen on other users, gains are paired, and nothing but a valid one allows a reranker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from coldstart.rerank import RerankItems, RerankRequest
from coldstart.rerank.certificate import Base, LabeledRequest, certify, ndcg, why_not
from coldstart.rerank.report import lines_of, markdown, rerank_html, rows_of

BASE = Base("plain", "base-1")
NOW = datetime(2026, 11, 30, tzinfo=UTC)
WINDOW = {"start": 0, "end": 1, "split": "last-out x"}


class Shift:
    """Reranker that puts the item at a place first."""

    kind = "mmr"

    def __init__(self, place: int) -> None:
        self.place, self.digest, self.counts = place, f"shift-{place}", Counter[str]()

    def order(self, request: RerankRequest, items: RerankItems, scores: Any) -> Sequence[int]:
        first = sorted(range(len(items)), key=lambda one: (-scores[one], items.item_ids[one]))
        return [first.pop(self.place), *first]


def judged(count: int, right: int, start: int = 0) -> list[LabeledRequest]:
    found = []
    for number in range(start, start + count):
        ids = tuple(f"r{number}-{place:02d}" for place in range(20))
        relevant = np.arange(20) == right
        scores = -np.arange(20, dtype=np.float64)
        found.append(
            LabeledRequest(
                RerankRequest((), number), RerankItems(ids, ids), scores, relevant, 1, ~relevant, f"t{number}"
            )
        )
    return found


def certificate(test: list[LabeledRequest], places: Sequence[int] = (0, 5)) -> dict[str, Any]:
    candidates = [({"place": place}, Shift(place)) for place in places]
    return certify(candidates, judged(10, 5, 1000), test, BASE, WINDOW, now=NOW)


def test_settings_are_chosen_on_validation_requests_alone_and_the_gain_is_paired() -> None:
    found = certificate(judged(40, 5))
    assert found["settings"] == {"place": 5} and found["method"] == "shift-5"
    assert found["ndcg"]["value"] == 1 and found["ndcg_base"]["value"] == pytest.approx(1 / np.log2(7))
    assert found["difference"]["low"] > 0 and found["order"] == {
        "tau": 1.0,
        "least": 1.0,
        "requests": 20,
        "inner": None,
    }
    assert found["exposed"] == {"base": {"items": 400, "new_share": 0.9}, "reranked": {"items": 400, "new_share": 0.9}}
    assert why_not(found, "mmr", BASE, "shift-5", NOW) is None
    wrong = certificate(judged(40, 0))  # right on validation, wrong on the test: it stays the choice, and is off
    assert wrong["settings"] == {"place": 5} and wrong["difference"]["high"] < 0
    assert "no gain" in str(why_not(wrong, "mmr", BASE, "shift-5", NOW))


def test_equal_settings_are_the_first_and_no_change_is_no_gain() -> None:
    found = certify([({"place": 0}, Shift(0))] * 2, judged(5, 0, 100), judged(40, 0), BASE, WINDOW, now=NOW)
    assert found["difference"] == {"value": 0.0, "low": pytest.approx(-0.0, abs=0.2), "high": pytest.approx(0, abs=0.2)}
    assert "no gain" in str(why_not(found, "mmr", BASE, "shift-0", NOW))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"made_at": (NOW - timedelta(days=31)).isoformat()}, "31 days old"),
        ({"made_at": (NOW + timedelta(days=2)).isoformat()}, "days old"),
        ({"made_at": "yesterday"}, "cannot be read"),
        ({"made_at": 5}, "cannot be read"),
        ({"made_at": "2026-11-30T00:00:00"}, "cannot be read"),
        ({"method": "other"}, "another model"),
        ({"base": {"name": "other", "digest": "other"}}, "about lists of other"),
        ({"base": None}, "cannot be read"),
        ({"few": True}, "too few"),
        ({"difference": {"value": 1, "low": 0.0, "high": 2}}, "no gain"),
        ({"difference": {"value": 1, "low": float("nan"), "high": 2}}, "no gain"),
        ({"difference": {"value": 1, "low": None, "high": 2}}, "cannot be read"),
        ({"difference": None}, "cannot be read"),
        ({"n": float("inf")}, "cannot be read"),
        ({"difference": {"value": 1, "low": 10**400, "high": 2}}, "cannot be read"),
    ],
)
def test_only_a_valid_certificate_allows(change: dict[str, Any], words: str | None) -> None:
    made = {**certificate(judged(40, 5)), **change}
    why = why_not(made, "mmr", BASE, "shift-5", NOW)
    assert why is None if words is None else words in str(why)
    assert why_not(None, "mmr", BASE, "shift-5", NOW) == "mmr has no certificate"
    assert why_not(made, "mmr", BASE, None, NOW) is not None


def test_few_requests_or_few_targets_are_too_few_to_judge() -> None:
    assert certificate(judged(10, 5))["few"]
    assert not certificate(judged(40, 5))["few"]


def test_ndcg_counts_right_items_that_the_base_lacks() -> None:
    one = judged(1, 0)[0]
    two = LabeledRequest(one.request, one.items, one.scores, one.relevant, 2)
    assert ndcg(one, range(20)) == 1 and ndcg(two, range(20)) == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_table_markdown_and_page_say_what_is_served() -> None:
    made = certificate(judged(40, 5))
    known = {
        "base": {"name": "plain <b>", "digest": "x", "items": 20, "requests": 40, "valid": 10, "window": WINDOW},
        "certificates": {"mmr": {**made, "why_not": None, "days": 30}},
        "left_out": {"listwise": "not fitted"},
        "notes": [],
    }
    assert [row[0] for row in rows_of(known)] == ["base", "mmr"] and rows_of(known)[1][3] == "on"
    assert any("left out: listwise" in line for line in lines_of(known))
    assert "| mmr |" in markdown(known)
    page = rerank_html(known)
    assert "<title>" in page and "Reranking" in page and "plain &lt;b&gt;" in page and "plain <b>" not in page

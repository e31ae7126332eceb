"""Claims that people decided on, in the checks of a description: approved ones stay, rejected ones are not said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from test_checks import ATTRIBUTES, GOOD, RULES, SOURCES

from coldstart.describe.checks import Rules, check_description
from coldstart.store.corrections import claims_of


def check(rules: Rules, **fields: Any) -> Any:
    return check_description(json.dumps({**GOOD, **fields}), "stop", ATTRIBUTES, SOURCES, rules)


def decided(**claims: list[tuple[str, str]]) -> Rules:
    return replace(RULES, **{name: frozenset(pairs) for name, pairs in claims.items()})


def test_approved_claims_need_no_other_ground() -> None:
    written = {"summary": "It flies. White casual shoes for men.", "keywords": ["wings", "fly"], "queries": ["fly me"]}
    assert "flies" not in check(RULES, **written).description.summary
    approved = [("summary", "It flies."), ("keyword", "wings"), ("query", "fly me"), ("colour", "Navy Blue")]
    found = check(decided(approved=[*approved, ("wings", "two")]), **written)
    assert found.description.summary == written["summary"]
    assert (found.description.keywords, found.description.queries) == (("wings",), ("fly me",))
    assert found.description.attributes["colour"] == "Navy Blue"  # though it is not claimed
    assert found.description.attributes["wings"] == "two"  # though the category has no such attribute
    by_review = {(one.claim, one.value) for one in found.grounds if one.ground == "review"}
    assert by_review == {*approved, ("wings", "two")}
    unsafe = "Visit www.example.com now."
    assert check(RULES, summary=unsafe).description.summary != unsafe
    assert check(decided(approved=[("summary", unsafe)]), summary=unsafe).description.summary == unsafe


def test_rejected_claims_are_said_nowhere() -> None:
    plain = check(RULES).description.summary
    first = plain.split(". ")[0] + "."
    found = check(decided(rejected=[("summary", first), ("type", "Casual Shoes"), ("colour", "White")]))
    assert first not in found.description.summary
    assert "type" not in found.description.attributes
    assert "white" not in found.description.summary.lower()
    assert {one.reason for one in found.cut} >= {"rejected_by_review"}
    fallback = check(decided(rejected=[("summary", one) for one in (first, "Crème leather without any fur.")]))
    assert "Crème" not in fallback.description.summary


def test_a_strangers_list_of_claims_is_read_as_far_as_it_is_one() -> None:
    assert claims_of("[" * 5000) == claims_of("[1]") == {"approved": frozenset(), "rejected": frozenset()}
    text = json.dumps({"approved": [["a", "b"], ["a"], "ab", [1, 2], ["a", "b", "c"]], "rejected": {"a": "b"}})
    assert claims_of(text) == {"approved": frozenset({("a", "b")}), "rejected": frozenset()}

"""Every item of a stage is in exactly one state, and keys alone decide which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldstart.core.keys import chain, stage_key
from coldstart.core.stage import LedgerRow, State
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import Balance, assess, assess_map, expected_keys, tally

ITEM = st.sampled_from("abcdefgh")
KEYS = st.dictionaries(ITEM, st.sampled_from("123"))


def verdict(item_id: str, key: str, state: State = "failed", reason: str = "too_small") -> LedgerRow:
    return LedgerRow("square", item_id, key, state, reason, "")


@given(KEYS, KEYS, KEYS)
def test_every_item_is_in_exactly_one_state(
    expected: dict[str, str], present: dict[str, str], tried: dict[str, str]
) -> None:
    state = assess(expected, present, {item: verdict(item, key) for item, key in tried.items()})
    parts = [set(state.fresh), set(state.settled), set(state.stale)]
    assert sum(len(part) for part in parts) == len(expected) == state.balance.total
    assert set.union(*parts) == set(expected)
    assert all(present[item] == expected[item] for item in state.fresh)
    assert all(tried[item] == expected[item] for item in state.settled)
    assert [item for item in expected if item in state.stale] == list(state.stale)


def test_a_row_that_carries_the_key_beats_a_verdict_under_it() -> None:
    state = assess({"a": "1"}, {"a": "1"}, {"a": verdict("a", "1")})
    assert (set(state.fresh), set(state.settled), state.stale) == ({"a"}, set(), ())


def test_a_verdict_holds_only_for_the_key_that_was_tried() -> None:
    ledger = {"a": verdict("a", "1"), "b": verdict("b", "0"), "gone": verdict("gone", "1")}
    state = assess({"a": "1", "b": "1", "c": "1"}, {"c": "0"}, ledger)
    assert (set(state.fresh), set(state.settled), state.stale) == (set(), {"a"}, ("b", "c"))


def test_a_balance_counts_states_and_reasons() -> None:
    verdicts = [
        verdict("a", "1"),
        verdict("b", "1", reason="no_text", state="filtered"),
        verdict("c", "1", reason="corrupt_image"),
        verdict("d", "1", reason="corrupt_image"),
        verdict("e", "1", state="duplicate", reason="duplicate_id"),
    ]
    balance = tally(4, verdicts, 1)
    reasons = {"corrupt_image": 2, "too_small": 1, "no_text": 1, "duplicate_id": 1}
    assert balance == Balance(fresh=4, failed=3, filtered=1, duplicate=1, pending=1, reasons=reasons)
    assert next(iter(balance.reasons)) == "corrupt_image"
    assert (balance.total, balance.failed_share) == (10, 0.3)
    assert Balance().failed_share == 0.0


@dataclass
class Stage:
    """As much of a map stage as its freshness needs."""

    size: int = 1
    version: int = 1
    name: str = "square"
    kind: str = "square"
    table: str = "stage.square"
    key_column: str = "row_key"
    reads: Mapping[str, str] = field(default_factory=dict)
    item_fields: Collection[str] | None = None

    def fingerprint(self) -> Mapping[str, Any]:
        return {"size": self.size}


def keys(stage: Any, items: Mapping[str, str]) -> dict[str, str]:
    return expected_keys(stage, items)


def test_keys_chain_from_the_item_and_name_the_stage() -> None:
    assert keys(Stage(), {"a": "1", "b": "2"}) == {
        "a": chain(stage_key("square", 1, {"size": 1}), "1"),
        "b": chain(stage_key("square", 1, {"size": 1}), "2"),
    }
    assert keys(Stage(name="renamed"), {"a": "1"}) == keys(Stage(), {"a": "1"})


@pytest.mark.parametrize("changed", [Stage(size=2), Stage(version=2), Stage(kind="cube")])
def test_what_changes_results_makes_every_row_stale(changed: Stage) -> None:
    assert not set(keys(changed, {"a": "1", "b": "2"}).values()) & set(keys(Stage(), {"a": "1", "b": "2"}).values())


def test_the_state_of_a_stage_over_a_workspace(tmp_path: Path) -> None:
    store = Store(tmp_path, create=True)
    stage: Any = Stage()
    assert assess_map(store, stage).balance == Balance()
    store.merge(ITEMS, pa.table({"item_id": ["a", "b", "c", "d"], "row_key": ["1", "2", "3", "4"]}))
    expected = keys(stage, store.keys(ITEMS))
    store.merge(stage.table, pa.table({"item_id": ["a", "gone"], "row_key": [expected["a"], "x"]}))
    other = LedgerRow("other", "d", expected["d"], "failed", "too_small", "")
    store.record([verdict("b", expected["b"]), verdict("c", expected["c"], "filtered", "no_text"), other])

    state = assess_map(store, stage)
    assert (set(state.fresh), set(state.settled), state.stale) == ({"a"}, {"b", "c"}, ("d",))
    assert state.balance == Balance(1, 1, 1, 0, 1, {"too_small": 1, "no_text": 1})
    assert assess_map(store, stage, retry=["failed"]).stale == ("b", "d")
    assert assess_map(store, stage, retry=["failed", "filtered"]).stale == ("b", "c", "d")

    store.merge(ITEMS, pa.table({"item_id": ["a", "b"], "row_key": ["changed", "2"]}))
    assert set(assess_map(store, stage).stale) == {"a", "d"}

"""Which parts are merged, and what that costs over many runs."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from coldstart.store import Store
from coldstart.store.compaction import PARTS, SEARCHED, WRITTEN, MergeRule, to_merge


def test_nothing_is_merged_while_few_parts_wait() -> None:
    assert to_merge([]) == to_merge([5]) == to_merge([1] * (PARTS - 1)) == 0


def test_the_newest_are_merged_and_older_ones_only_where_the_newer_hold_as_much() -> None:
    assert to_merge([1] * PARTS) == PARTS
    assert to_merge([10_000, *[1] * PARTS]) == PARTS
    assert to_merge([100, 8, *[1] * PARTS]) == PARTS + 1
    assert to_merge([9, *[1] * PARTS]) == PARTS
    assert to_merge([1, 100, *[1] * (PARTS - 1)]) == 0


def test_over_many_runs_parts_stay_few_and_rows_are_seldom_written_anew() -> None:
    sizes, most, written, runs = [200_000], 0, 0, 2000
    for _ in range(runs):
        sizes.append(100)
        if merging := to_merge(sizes):
            written += sum(sizes[-merging:])
            sizes[-merging:] = [sum(sizes[-merging:])]
        most = max(most, len(sizes))
    assert sum(sizes) == 200_000 + 100 * runs
    assert most <= PARTS + math.log2(sum(sizes) / 100)
    assert written / (100 * runs) < 6


@pytest.mark.parametrize(("rule", "parts", "times"), [(WRITTEN, 12, 3), (SEARCHED, 5, 7)])
def test_a_table_that_is_searched_has_fewer_parts(rule: MergeRule, parts: int, times: int) -> None:
    sizes, most, written = [20_000], 0, 0
    for _ in range(200):
        sizes.append(100)
        if merging := to_merge(sizes[1:], rule):  # the index that was trained stays
            written += sum(sizes[-merging:])
            sizes[-merging:] = [sum(sizes[-merging:])]
        most = max(most, len(sizes))
    assert most == parts
    assert round(written / 20_000) == times


@pytest.mark.slow
def test_a_table_written_to_often_has_few_fragments_and_versions(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace", create=True)
    for number in range(40):
        store.append("items", pa.table({"item_id": [f"i{number}"], "row_key": ["k"]}))
        store.maintain(timedelta(0))
        table = store.db.open_table("items")
        assert len(table.to_lance().get_fragments()) <= PARTS + math.log2(40)
        assert len(table.list_versions()) <= 3
    assert store.keys("items") == {f"i{number}": "k" for number in range(40)}


def test_rows_that_were_removed_leave_their_fragment(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace", create=True)
    store.append("items", pa.table({"item_id": [f"i{number}" for number in range(20)], "row_key": ["k"] * 20}))
    store.delete("items", ["i3"])
    store.maintain(timedelta(0))
    (fragment,) = store.db.open_table("items").to_lance().get_fragments()
    assert fragment.num_deletions == 1, "a twentieth stays"
    store.delete("items", ["i4", "i5"])
    store.maintain(timedelta(0))
    (fragment,) = store.db.open_table("items").to_lance().get_fragments()
    assert (fragment.num_deletions, fragment.count_rows()) == (0, 17)

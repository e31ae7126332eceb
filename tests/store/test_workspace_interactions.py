"""The table of interactions: equal rows once, windows, digests, and a kill at any place."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from coldstart.core.interactions import interactions
from coldstart.ingest.interaction_file import SCHEMA
from coldstart.store import ITEMS, Store
from coldstart.store.interactions import (
    INTERACTIONS,
    REJECTED,
    AppendCounts,
    InteractionSummary,
    InteractionTable,
    RejectedRows,
    row_keys,
)

KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_workspace_interactions import made
from coldstart.store import Store
from coldstart.store.interactions import InteractionTable

def some():
    for number in range(6):
        if number == int(sys.argv[2]):
            os._exit(9)
        yield made(number)

store = Store(sys.argv[1], create=True)
with store.lock():
    InteractionTable(store).append(some())
"""


def batch(*rows: tuple[str, str, float, str, float]) -> pa.RecordBatch:
    """Rows of user, item, seconds, event, weight."""
    columns = list(zip(*rows, strict=True))
    columns[2] = tuple(round(seconds * 1e6) for seconds in columns[2])
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)


def made(number: int, count: int = 50) -> pa.RecordBatch:
    """Rows that overlap with those of the next number, with other weights."""
    return batch(
        *((f"u{n % 7}", f"i{n % 5}", float(n), "click", float(number)) for n in range(number * 40, number * 40 + count))
    )


@pytest.fixture
def table(tmp_path: Path) -> InteractionTable:
    return InteractionTable(Store(tmp_path / "workspace", create=True))


def rows_of(table: InteractionTable) -> list[tuple[str, str, int, float]]:
    found = table.read()
    return sorted(
        (found.user_ids[user], found.item_ids[item], int(time), float(weight))
        for user, item, time, weight in zip(found.users, found.items, found.times, found.weights, strict=True)
    )


def test_an_empty_table_is_read_as_no_rows(table: InteractionTable) -> None:
    found = table.read()
    assert (len(found), found.user_ids, found.item_ids) == (0, (), ())
    assert table.count() == 0
    assert table.digest() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes
    assert table.summary() == InteractionSummary(0, 0, 0, 0, 0, None, None)
    assert table.append([]) == AppendCounts(0, 0, 0)


def test_rows_come_back_over_sorted_names(table: InteractionTable) -> None:
    """Against `interactions`, which makes them from plain lists."""
    rng = np.random.default_rng(0)
    users = [f"user {n}" for n in rng.integers(0, 40, 3000)]
    items = ["\U0001f34bé'\"\\"[n % 5] + str(n) for n in rng.integers(0, 60, 3000)]
    times = np.arange(3000)
    weights = rng.normal(size=3000).astype(np.float32)
    rows = list(zip(users, items, times.tolist(), [""] * 3000, weights.tolist(), strict=True))
    assert table.append([batch(*rows[:1000]), batch(*rows[1000:])]) == AppendCounts(3000, 0, 0)
    found, expected = table.read(), interactions(users, items, times, weights)
    assert (found.user_ids, found.item_ids) == (expected.user_ids, expected.item_ids)
    order = np.argsort(found.times)
    for name in ("users", "items", "times", "weights"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(getattr(found, name)[order], getattr(expected, name))


def test_an_equal_row_stands_once_with_its_last_weight(table: InteractionTable) -> None:
    rows = [("a", "x", 1, "", 1.0), ("a", "x", 1, "", 3.0), ("a", "x", 1, "like", 1.0), ("a", "x", 2, "", 1.0)]
    assert table.append([batch(*rows)]) == AppendCounts(added=3, repeated=1)
    assert table.append([batch(*rows)]) == AppendCounts(repeated=4)
    assert table.append([batch(("a", "x", 1, "", 5.0)), batch(("b", "x", 1, "", 5.0))]) == AppendCounts(1, 0, 1)
    assert rows_of(table) == [("a", "x", 1, 1.0), ("a", "x", 1, 5.0), ("a", "x", 2, 1.0), ("b", "x", 1, 5.0)]


def test_names_that_join_alike_are_not_the_same(table: InteractionTable) -> None:
    rows = [("ab", "c", 1, "", 1.0), ("a", "bc", 1, "", 1.0), ("c", "ab", 1, "", 1.0), ("a", "b", 1, "c", 1.0)]
    assert len(set(row_keys(batch(*rows)).tolist())) == 4


def test_keys_are_the_same_on_every_machine() -> None:
    """Against the same sums in Python's integers."""
    from hashlib import blake2b

    def mixed(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        return value ^ (value >> 31)

    key = 0
    for text in ("ann", "lamp", "click"):
        key = mixed((key + int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")) % 2**64)
    key = mixed((key + 7_000_000) % 2**64)
    assert row_keys(batch(("ann", "lamp", 7, "click", 1.0))).tolist() == [key - 2**64 if key >= 2**63 else key]


def test_a_window_holds_its_start_and_not_its_end(table: InteractionTable) -> None:
    table.append([batch(("a", "x", 1, "", 1.0), ("b", "y", 2.9, "", -1.0), ("c", "z", 3, "", 2.0))])
    found = table.read(start=2, end=3)
    assert (found.user_ids, found.item_ids, found.times.tolist()) == (("b",), ("y",), [2])
    assert table.read(min_weight=1.0).user_ids == ("a", "c")
    assert table.read(start=9).user_ids == ()


def test_the_digest_is_of_the_rows_alone(tmp_path: Path) -> None:
    tables = [InteractionTable(Store(tmp_path / name, create=True)) for name in "abc"]
    tables[0].append([made(0), made(1)])
    tables[1].append([made(0).slice(0, 20), made(1), made(0)])
    tables[1].append([made(1)])
    tables[2].append([made(0)])
    assert tables[0].digest() == tables[1].digest() != tables[2].digest()
    assert tables[0].digest(end=40) == tables[2].digest(end=40) != tables[0].digest()
    tables[2].append([batch(("u0", "i0", 0, "click", 9.0))])
    assert tables[0].digest(end=40) != tables[2].digest(end=40)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_kill_between_batches_leaves_what_a_second_run_completes(tmp_path: Path, after: int) -> None:
    whole = InteractionTable(Store(tmp_path / "whole", create=True))
    whole.append(made(number) for number in range(6))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(after), str(Path(__file__).parent)]
    assert subprocess.run(command, timeout=120).returncode == 9
    killed = InteractionTable(Store(tmp_path / "killed", create=True))
    assert killed.count() == (40 * after + 10 if after else 0)
    with Store(tmp_path / "killed").lock():  # the lock went with its process
        killed.append(made(number) for number in range(6))
    assert rows_of(killed) == rows_of(whole)
    assert killed.digest() == whole.digest()


def test_a_summary_counts_the_items_of_the_catalogue(table: InteractionTable, tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace")
    table.append([batch(("a", "x", 1, "", 1.0), ("b", "y", 2.5, "", 1.0), ("a", "y", 3, "", 1.0))])
    times = (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 3, tzinfo=UTC))
    assert table.summary() == InteractionSummary(3, 2, 2, 0, 0, *times)
    store.append(ITEMS, pa.table({"item_id": ["y", "z"], "row_key": ["k", "k"]}))
    assert table.summary() == InteractionSummary(3, 2, 2, 1, 0, *times)


def test_rejected_rows_are_of_the_last_reading_of_a_file(table: InteractionTable, tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace")
    rejected = pa.table({"row": [3], "reason": ["no_user"], "detail": [""]})
    for _ in range(2):
        for name in ("a'.csv", "b.csv"):
            RejectedRows(store, REJECTED).forget(Path(name))
            RejectedRows(store, REJECTED).add(Path(name), rejected)
    assert store.read(REJECTED).sort_by("file").to_pylist() == [
        {"file": "a'.csv", "row": 3, "reason": "no_user", "detail": ""},
        {"file": "b.csv", "row": 3, "reason": "no_user", "detail": ""},
    ]
    assert not store.has(INTERACTIONS)

"""True neighbours kept up to date equal those found anew by a plain loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from coldstart.store import ground_truth
from coldstart.store.ground_truth import (
    Changes,
    Condition,
    NeighbourLists,
    RecallSamples,
    Truth,
    choose_condition,
    empty_lists,
)

DIM, TOP_K = 8, 3
SHOES = Condition("category", "shoes")


def rows(numbers: range, seed: int = 0) -> pa.Table:
    """Items with random vectors, those of even numbers shoes; every seventh has no vector."""
    vectors = [np.random.default_rng([seed, n]).standard_normal(DIM).astype(np.float32) for n in numbers]
    return pa.table(
        {
            "item_id": [f"i{n}" for n in numbers],
            "category": ["shoes" if n % 2 == 0 else "hats" for n in numbers],
            "vector": pa.array(
                [None if n % 7 == 6 else v for n, v in zip(numbers, vectors, strict=True)], pa.list_(pa.float32(), DIM)
            ),
        }
    )


@pytest.fixture
def table(tmp_path: Path) -> Any:
    return lancedb.connect(str(tmp_path)).create_table("catalog", rows(range(200)), on_bad_vectors="null")


def by_loop(table: Any, item: str, where: Condition | None) -> list[str]:
    """The `TOP_K` nearest others of an item, one distance at a time."""
    found = table.to_arrow().to_pylist()
    own = next(np.array(row["vector"]) for row in found if row["item_id"] == item)
    distances = {}
    for row in found:
        if row["vector"] is None or row["item_id"] == item or (where and row["category"] != where.value):
            continue
        other = np.array(row["vector"])
        distances[row["item_id"]] = 1 - own @ other / np.linalg.norm(own) / np.linalg.norm(other)
    return sorted(distances, key=distances.__getitem__)[:TOP_K]


def check(table: Any, found: Truth) -> None:
    assert found.filtered is not None
    for place, item in enumerate(found.ids):
        assert found.near.ids[place, :TOP_K].tolist() == by_loop(table, item, None)
        assert found.filtered.ids[place, :TOP_K].tolist() == by_loop(table, item, SHOES)


def sampled(table: Any, size: int = 20) -> Truth:
    ids, vectors = ground_truth.draw_rows(table, "vector", 172, size)
    return ground_truth.find_neighbours(table, "vector", ids, vectors, SHOES, TOP_K)


def test_one_pass_finds_what_a_loop_finds(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check(table, sampled(table))
    monkeypatch.setattr(ground_truth, "BLOCK", 16)
    check(table, sampled(table))


def test_new_changed_and_removed_items_are_taken_in(table: Any) -> None:
    known = sampled(table)
    table.add(rows(range(200, 230)), on_bad_vectors="null")
    table.delete("item_id IN ('i0', 'i1', 'i2', 'i3', 'i4', 'i5', 'i8')")
    table.merge_insert("item_id").when_matched_update_all().execute(rows(range(40, 60), seed=1), on_bad_vectors="null")
    changed = [f"i{n}" for n in (*range(200, 230), *range(40, 60))]
    gone = [f"i{n}" for n in (0, 1, 2, 3, 4, 5, 8)]
    now = ground_truth.update_truth(known, table, "vector", changed, gone, rows=190, size=20, top_k=TOP_K)
    assert len(now.ids) == 20
    assert len(set(now.ids)) == 20
    assert not set(gone) & set(now.ids)
    check(table, now)


def test_a_list_that_lost_too_many_is_looked_up_anew(table: Any) -> None:
    known = sampled(table)
    gone = sorted({item for item in known.near.ids[0] if item})
    table.delete(f"item_id IN ({', '.join(map(repr, gone))})")
    assert not known.near.without(gone).sure(TOP_K)[0]
    check(table, ground_truth.update_truth(known, table, "vector", [], gone, rows=166, size=20, top_k=TOP_K))


def test_new_items_take_their_share_of_the_sample(table: Any) -> None:
    known, share = sampled(table, 50), []
    table.add(rows(range(200, 400)), on_bad_vectors="null")
    changed = [f"i{n}" for n in range(200, 400)]
    for count in range(340, 360):
        now = ground_truth.update_truth(known, table, "vector", changed, [], rows=count, size=50, top_k=TOP_K)
        share.append(sum(int(item[1:]) >= 200 for item in now.ids) / len(now.ids))
    assert 0.35 < np.mean(share) < 0.65


def test_a_list_is_sure_as_far_as_it_reaches() -> None:
    ids = np.array([["a", "b", "c"]], object)
    near = NeighbourLists(ids, np.array([[0.1, 0.2, 0.3]], np.float32), np.array([0.35], np.float32))
    left = near.without(["b"])
    assert left.ids.tolist() == [["a", "c", None]]
    assert left.sure(2).tolist() == [True]
    assert left.sure(3).tolist() == [False]
    far = NeighbourLists(
        np.array([["d", None, None]], object),
        np.array([[0.4, np.inf, np.inf]], np.float32),
        np.array([np.inf], np.float32),
    )
    assert left.joined(far).ids.tolist() == [["a", "c", None]], "something between 0.35 and 0.4 may be unknown"
    whole = NeighbourLists(left.ids, left.distances, np.array([np.inf], np.float32))
    assert whole.joined(far).ids.tolist() == [["a", "c", "d"]]


def test_samples_come_back_as_they_were_kept_and_only_for_their_version(table: Any, tmp_path: Path) -> None:
    db = lancedb.connect(str(tmp_path))
    wide = Truth(  # spaces have vectors of other lengths
        np.array(["a"], object), np.ones((1, DIM + 1), np.float32), None, empty_lists(1, 2 * TOP_K), None
    )
    kept = {"image": sampled(table), "text": wide}
    RecallSamples(current=dict(kept)).save(db, 7)
    stored = db.open_table(ground_truth.SAMPLES_TABLE)
    assert RecallSamples.load(stored, Changes(8)).known == {}
    back = RecallSamples.load(stored, Changes(7)).known
    assert list(back) == ["image", "text"]
    for space, own in kept.items():
        assert back[space].condition == own.condition
        np.testing.assert_array_equal(back[space].ids, own.ids)
        np.testing.assert_array_equal(back[space].vectors, own.vectors)
        np.testing.assert_array_equal(back[space].near.ids, own.near.ids)
        np.testing.assert_array_equal(back[space].near.distances, own.near.distances)
        assert (back[space].filtered is None) == (own.filtered is None)


def test_samples_of_another_form_are_drawn_anew(tmp_path: Path) -> None:
    db = lancedb.connect(tmp_path)
    other = pa.table({"space": ["words"], "version": [7], "ids": [["a"]]})
    assert RecallSamples.load(db.create_table("recall_samples", other), Changes(7)) == RecallSamples()


def test_a_filter_stays_while_it_keeps_enough() -> None:
    labels = pa.table({"kind": ["product"] * 100, "category": ["a"] * 10 + ["b"] * 20 + ["c"] * 70})
    assert choose_condition(labels, None) == Condition("category", "a")
    assert choose_condition(labels, Condition("category", "b")) == Condition("category", "b")
    assert choose_condition(labels, Condition("category", "c")) == Condition("category", "a")
    assert choose_condition(labels.slice(99), None) is None


def test_changes_add_up_while_recall_is_not_measured(table: Any, tmp_path: Path) -> None:
    db = lancedb.connect(str(tmp_path))
    RecallSamples(current={"text": sampled(table)}).save(db, 7)
    table.add(rows(range(200, 210)), on_bad_vectors="null")
    first = Changes(7, [f"i{n}" for n in range(200, 210)])
    RecallSamples.load(db.open_table(ground_truth.SAMPLES_TABLE), first).save(db, 9)
    table.delete("item_id IN ('i0', 'i205')")
    samples = RecallSamples.load(db.open_table(ground_truth.SAMPLES_TABLE), Changes(9, [], ["i0", "i205"]))
    assert [*samples.changes.written] == [*first.written]
    assert [*samples.changes.gone] == ["i0", "i205"]
    labels = table.search().where("vector IS NOT NULL").select(["category"]).limit(None).to_arrow()
    check(table, samples.of(table, "vector", "text", labels, SHOES, 20, TOP_K))
    samples.save(db, 11)
    stored = db.open_table(ground_truth.SAMPLES_TABLE)
    assert ground_truth.CHANGED not in (stored.schema.metadata or {})

"""The parts of the Ray engine, without a cluster: what a partition finds, what actors do, what is committed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from ray_stages import Recipe, Squares, fill

from coldstart.core.keys import stage_key
from coldstart.core.pipeline import Engine
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import LedgerRow
from coldstart.engine.local import run_map
from coldstart.engine.ray.actors import ActorConfig, Computer, PartOutcome, Preparer
from coldstart.engine.ray.plan import (
    BLOCK,
    Partition,
    Summary,
    add_balances,
    filter_of,
    fragment_groups,
    label_rows,
    partition_of,
    read_block,
    read_columns,
    split_block,
    summarize_partition,
    tables_of,
)
from coldstart.engine.ray.run import Committer
from coldstart.engine.work import Scope, sources, stale_work
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store
from coldstart.store.fragments import (
    ADDRESS,
    addresses_of,
    commit_fragments,
    ensure_table,
    read_rows_at,
    table_version,
    write_fragments,
)
from coldstart.store.freshness import Balance, PipelineState, assess_map
from coldstart.store.item_keys import CARRIED, carry_over

ROW_SCHEMA = pa.schema([("item_id", pa.string()), ("row_key", pa.string()), ("value", pa.float64())])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace", create=True)


def key_of(stage: Squares) -> str:
    return stage_key(stage.kind, stage.version, stage.fingerprint())


def plan(store: Store, recipe: Recipe, scope: Scope, count: int, part: int) -> tuple[list[Summary], list[pa.Table]]:
    """What the tasks of `ray_plan.make` find, in this process."""
    tables = tables_of(store, recipe, recipe.stage)
    blocks = []
    for number, (table, where) in enumerate(tables.places.items()):
        labels = (number, "row_key", tables.fields if table in (ITEMS, CARRIED) else ())
        for fragments in fragment_groups(where):
            columns, filtered = read_columns(tables, table), filter_of(tables, table)
            blocks.append(read_block(where, fragments, columns, filtered, *labels))
    dealt = [split_block(block, count) for block in blocks]
    summaries, parts = [], []
    for number in range(count):
        mine = [block[number] for block in dealt]
        key = key_of(recipe.stage)
        names, numbered = tuple(tables.places), (number << 32, part)
        summary, *own = summarize_partition(recipe, key, names, tables.fields, scope, numbered, {}, *mine)
        summaries.append(summary)
        parts += own
    return summaries, parts


def do(store: Store, recipe: Recipe, parts: list[pa.Table]) -> list[PartOutcome]:
    """What both pools make of the parts."""
    stage = recipe.stage
    places = {name: where for name in (ITEMS, "stage.square") if (where := table_version(store, name)) is not None}
    reads = {name: f"stage.{read}" for name, read in stage.reads.items()}
    order = ActorConfig(
        recipe, key_of(stage), places, ensure_table(store, stage.table, stage.schema), reads, 1, 2**31, "cpu"
    )
    preparer, computer = Preparer(order), Computer(order)
    made = [computer(preparer(part)) for part in parts]
    return [pickle.loads(outcome.as_py()) for table in made for outcome in table["outcome"]]


def run(store: Store, recipe: Recipe, scope: Scope | None = None, count: int = 3, part: int = 4) -> Balance:
    """A whole pass; returns the balance after it."""
    stage = recipe.stage
    summaries, parts = plan(store, recipe, scope or Scope(), count, part)
    for summary in summaries:
        store.delete_verdicts(stage.name, summary.obsolete)
        store.record(summary.turned_away)
    with Committer(store, stage, ensure_table(store, stage.table, stage.schema), Engine()) as committer:
        for outcome in do(store, recipe, parts):
            committer.add(outcome)
            if outcome.fault is not None:
                raise outcome.fault
    return add_balances(summary.balance for summary in plan(store, recipe, Scope(limit=0), count, part)[0])


def run_local(store: Store, recipe: Recipe) -> Balance:
    """The same on one machine, as `coldstart.engine.run` does it."""
    stage: Any = recipe.stage
    pipeline_state = recipe.pipeline_state(store)
    found = assess_map(store, stage, pipeline_state.upstream(stage))
    chosen = [item for item in found.stale if item not in found.waiting]
    work = stale_work(store, found.expected, chosen, sources(stage, pipeline_state))
    run_map(store, stage, work, len(chosen), Engine(workers=1), SilentProgress())
    pipeline_state = recipe.pipeline_state(store)
    return assess_map(store, stage, pipeline_state.upstream(stage)).balance


def rows_of(store: Store, table: str) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in store.read(table).to_pylist()}


def verdicts_of(store: Store, stage: str = "square") -> dict[str, tuple[str, str]]:
    return {item: (row.reason, row.detail) for item, row in store.verdicts(stage).items()}


def titles(count: int, words: Mapping[int, str] | None = None) -> dict[str, str]:
    return {f"i{n}": f"{(words or {}).get(n, 'make')} {n}" for n in range(count)}


def test_tables_equal_those_of_the_local_engine(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other", create=True)
    for one in (store, other):
        fill(one, titles(30, {4: "reject", 9: "nan"}))
    balance = run(store, Recipe(store.uri, Squares()))
    assert balance == run_local(other, Recipe(other.uri, Squares()))
    assert balance == Balance(fresh=28, failed=2, reasons={"too_small": 1, "bad_vector": 1})
    assert rows_of(store, "stage.square") == rows_of(other, "stage.square")
    assert store.verdicts("square") == other.verdicts("square")
    assert store.metadata("stage.square") == other.metadata("stage.square") == {"passport": "squares"}


def test_a_task_reads_whole_fragments_of_as_many_rows_as_one_looks_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in range(0, 12, 3):
        fill(store, {f"i{n}": f"make {n}" for n in range(first, first + 3)})
    where = table_version(store, ITEMS)
    assert where is not None
    monkeypatch.setattr("coldstart.engine.ray.plan.PARTITION_ROWS", 5)
    groups = fragment_groups(where)
    assert [len(group) for group in groups] == [2, 2]
    blocks = [read_block(where, group, ["item_id", "row_key"], None, 0, "row_key") for group in groups]
    assert sorted(item for block in blocks for item in block["item_id"].to_pylist()) == sorted(
        f"i{n}" for n in range(12)
    )
    addresses = {
        item: at
        for block in blocks
        for item, at in zip(block["item_id"].to_pylist(), block[ADDRESS].to_pylist(), strict=True)
    }
    assert addresses == addresses_of(where, list(addresses))


def test_what_is_fresh_is_left_alone_and_what_changed_is_replaced(store: Store) -> None:
    recipe = Recipe(store.uri, Squares())
    fill(store, titles(20, {3: "nan"}))
    run(store, recipe)
    before = rows_of(store, "stage.square")
    fill(store, {"i3": "make 5", "i4": "make 6", "i5": "reject 5", "new": "make 7"})
    summaries, parts = plan(store, recipe, Scope(), 2, 100)
    assert sorted(item for part in parts for item in part["item_id"].to_pylist()) == ["i3", "i4", "i5", "new"]
    assert add_balances(summary.balance for summary in summaries) == Balance(fresh=17, pending=4)
    assert run(store, recipe) == Balance(fresh=20, failed=1, reasons={"too_small": 1})
    after = rows_of(store, "stage.square")
    assert {item: row["value"] for item, row in after.items() if before.get(item) != row} == {
        "i3": 25.0,
        "i4": 36.0,
        "new": 49.0,
    }
    assert "i5" not in after and len(after) == store.count("stage.square") == 20
    assert verdicts_of(store) == {"i5": ("too_small", "1 x 1")}


def test_another_version_makes_all_anew_once(store: Store) -> None:
    fill(store, titles(10))
    run(store, Recipe(store.uri, Squares()))
    assert run(store, Recipe(store.uri, Squares(version=2))) == Balance(fresh=10)
    assert store.count("stage.square") == 10
    assert plan(store, Recipe(store.uri, Squares(version=2)), Scope(), 2, 4)[1] == []


@pytest.mark.slow
def test_a_stage_that_reads_another_gets_its_rows_and_waits_for_them(store: Store, tmp_path: Path) -> None:
    first = Squares()
    second = Squares("fourth", {"square": "square"})
    other = Store(tmp_path / "other", create=True)
    for one in (store, other):
        fill(one, titles(12, {2: "nan"}))
    assert run(store, Recipe(store.uri, second, (first,))) == Balance(pending=12)
    run(store, Recipe(store.uri, first))
    run_local(other, Recipe(other.uri, first))
    fill(store, {"i7": "make 70"})  # its square is to come
    fill(other, {"i7": "make 70"})
    balance = run(store, Recipe(store.uri, second, (first,)))
    assert balance == run_local(other, Recipe(other.uri, second, (first,)))
    made = rows_of(store, "stage.fourth")
    assert made == rows_of(other, "stage.fourth")
    assert made["i3"]["read"] == 9.0 and "i7" not in made


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(limit=3), ["i0", "i1", "i2"]),
        (Scope(among=frozenset({"i5", "i8", "i99"})), ["i5", "i8"]),
        (Scope(retry=frozenset({"failed"}), among=frozenset({"i9"})), ["i9"]),
    ],
)
def test_a_scope_leaves_the_rest(store: Store, scope: Scope, expected: list[str]) -> None:
    fill(store, titles(12))
    store.record([LedgerRow("square", "i9", _expected(store, "i9"), "failed", "bad_vector", "nan")])
    _, parts = plan(store, Recipe(store.uri, Squares()), scope, 1, 2)
    assert [item for part in parts for item in part["item_id"].to_pylist()] == expected


def _expected(store: Store, item: str) -> str:
    stage: Any = Squares()
    return assess_map(store, stage).expected[item]


def test_gates_close_items_and_file_them(store: Store) -> None:
    """What a gate closes comes with its name; the partition files the verdicts that are not there yet."""
    from coldstart.core.stage import Reject

    class Gated(Recipe):
        def pipeline_state(self, view: Any, blocked: Any = None) -> PipelineState:
            found = super().pipeline_state(view)
            found.blocked = lambda name, ignoring=(): {"i1": Reject("copy", "of i0", "duplicate")}  # type: ignore
            return found

    fill(store, titles(6))
    recipe = Gated(store.uri, Squares())
    assert run(store, recipe) == Balance(fresh=5, duplicate=1, reasons={"copy": 1})
    assert verdicts_of(store) == {"i1": ("copy", "of i0")}
    assert [list(summary.turned_away) for summary in plan(store, recipe, Scope(), 1, 4)[0]] == [[]]


def test_verdicts_beside_rows_are_obsolete(store: Store) -> None:
    fill(store, titles(3))
    run(store, Recipe(store.uri, Squares()))
    store.record([LedgerRow("square", item, "old", "failed", "bad", "") for item in ("i1", "gone")])
    [summary] = plan(store, Recipe(store.uri, Squares()), Scope(), 1, 4)[0]
    assert summary.obsolete == ["gone", "i1"]


def test_a_fault_is_carried_to_the_driver_and_what_was_made_before_it_is_kept(store: Store) -> None:
    fill(store, titles(12, {9: "fault"}))
    with pytest.raises(ZeroDivisionError, match=r"^a fault$"):
        run(store, Recipe(store.uri, Squares()), count=1, part=12)
    assert sorted(rows_of(store, "stage.square")) == ["i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7"]
    assert verdicts_of(store) == {}


def test_a_fault_in_preparing_is_carried_as_well(store: Store) -> None:
    fill(store, titles(4, {2: "bug"}))
    with pytest.raises(ZeroDivisionError, match=r"^a bug$"):
        run(store, Recipe(store.uri, Squares()))


@pytest.mark.slow
def test_hanging_and_crashing_decoders_cost_their_item(store: Store) -> None:
    fill(store, titles(6, {1: "hang", 3: "segfault"}))
    assert run(store, Recipe(store.uri, Squares(isolated=True)), count=1, part=3).failed == 2
    assert verdicts_of(store) == {
        "i1": ("decode_timeout", "took more than 5 s"),
        "i3": ("decoder_fault", "the worker process died (exit code -11, Segmentation fault)"),
    }


def test_a_worker_whose_rows_would_carry_another_key_is_refused(store: Store) -> None:
    fill(store, titles(2))
    recipe = Recipe(store.uri, Squares())
    with pytest.raises(ColdstartError) as caught:
        list(summarize_partition(recipe, "another", (), (), Scope(), (0, 4), {}, BLOCK.empty_table()))
    said = str(caught.value)
    assert said.startswith("worker ") and said.endswith(
        " would make other rows of stage 'square' than the driver: its libraries or model weights differ; install the "
        "same versions and `coldstart models pull` on all nodes"
    )


def test_all_of_an_item_meets_in_one_partition() -> None:
    ids = [f"item {n}" for n in range(1000)]
    rows = pa.table({"item_id": ids, "row_key": ids, ADDRESS: pa.array(range(1000), pa.uint64())})
    parts = split_block(label_rows(rows, 7, "row_key"), 4)
    assert sum(part.num_rows for part in parts) == 1000
    for number, part in enumerate(parts):
        assert 200 < part.num_rows < 300
        assert {partition_of(item, 4) for item in part["item_id"].to_pylist()} == {number}
        assert set(part["table"].to_pylist()) == {7}


def test_a_commit_appends_and_removes_in_one_version(store: Store) -> None:
    def table(ids: str, value: float) -> pa.Table:
        return pa.Table.from_pylist([{"item_id": i, "row_key": i, "value": value} for i in ids], schema=ROW_SCHEMA)

    target = ensure_table(store, "stage.rows", ROW_SCHEMA)
    assert ensure_table(store, "stage.rows", ROW_SCHEMA) == target
    commit_fragments(target, [*write_fragments(target, table("ab", 1)), *write_fragments(target, table("c", 1))], [])
    first = table_version(store, "stage.rows")
    assert first is not None and first.version == target.version + 1
    old = addresses_of(first, ["a", "c", "none"])
    assert old == {"a": 0, "c": 1 << 32}
    assert [row["item_id"] for row in read_rows_at(first, [old["c"], old["a"]])] == ["c", "a"]
    write_fragments(target, table("z", 3))  # never committed
    commit_fragments(target, write_fragments(target, table("ac", 2)), old.values())
    assert {item: row["value"] for item, row in rows_of(store, "stage.rows").items()} == {"a": 2.0, "b": 1.0, "c": 2.0}
    commit_fragments(target, [], [*old.values(), 1])
    assert sorted(rows_of(store, "stage.rows")) == ["a", "c"]
    commit_fragments(target, [], [])
    assert lance.dataset(target.uri).version == target.version + 3
    store.maintain()
    assert sorted(rows_of(store, "stage.rows")) == ["a", "c"]


def test_a_workspace_on_a_server_is_refused() -> None:
    store = object.__new__(Store)
    store.uri = "db://shop"
    with pytest.raises(ColdstartError) as caught:
        table_version(store, "items")
    assert str(caught.value) == (
        "workspace db://shop is on a LanceDB server: `engine: ray` needs a folder or an object store, such as "
        "s3://BUCKET/PATH, that all workers reach"
    )


def test_balances_of_partitions_add_up() -> None:
    parts = [Balance(5, 1, 0, 2, 3, {"a": 1, "b": 2}), Balance(1, 2, 1, 0, 0, {"b": 3})]
    assert add_balances(parts) == Balance(6, 3, 1, 2, 3, {"b": 5, "a": 1})
    assert list(add_balances(parts).reasons) == ["b", "a"]


@pytest.mark.parametrize("carried", [True, False])
def test_a_partition_computes_the_keys_of_item_fields_as_a_store_does(store: Store, carried: bool) -> None:
    if carried:
        fill(store, {"i0": "make 0", "i1": "make 1", "i2": "make 2"})
        carry_over(store)
    else:
        store.set_layout_version()
    fill(store, {"i1": "make 7", "i3": "make 3"})
    stage, fields = Squares(), (frozenset({"title"}), frozenset[str]())
    for some in fields:
        stage.item_fields = some
        tables = tables_of(store, Recipe(store.uri, stage), stage)
        assert list(tables.fields) == [some] and (CARRIED in tables.places) == carried
        blocks = []
        for number, (table, where) in enumerate(tables.places.items()):
            rows = where.open().to_table(columns=read_columns(tables, table), with_row_address=True)
            blocks.append(label_rows(rows, number, "row_key", tables.fields if table in (ITEMS, CARRIED) else ()))
        view = Partition(tuple(tables.places), tables.fields, pa.concat_tables(blocks))
        assert view.item_keys(some) == store.item_keys(some)
        assert view.item_keys(None) == store.item_keys(None)

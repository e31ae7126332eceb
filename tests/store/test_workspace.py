"""The store: tables, ledger, one writer, upkeep; ids of any text."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coldstart
from coldstart.core.stage import LedgerRow
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, LEDGER, PIPELINES, RUNS, Store
from coldstart.store.fragments import ensure_table
from coldstart.store.sql import equals, one_of, quote

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
HOSTILE = [
    "a'b",
    'a"b',
    "a\\b",
    "\\'",
    "''",
    "%_",
    "a\0b",
    "\n",
    "'; DROP TABLE items; --",
    "🍋",
    "é",
    "e\u0301",
    "",
    "\\n",
]

HOLD = """
import sys
from coldstart.store import Store
with Store(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace", create=True)


def rows(ids: list[str], key: str = "k") -> pa.Table:
    return pa.table({"item_id": ids, "row_key": [key] * len(ids)})


def verdict(item_id: str, stage: str = "image", key: str = "k", state: Any = "failed") -> LedgerRow:
    return LedgerRow(stage, item_id, key, state, "too_small", "1 x 1")


@pytest.fixture
def holder(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `store`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, store.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


# -- opening


def test_a_workspace_is_made_only_when_asked(tmp_path: Path) -> None:
    uri = tmp_path / "a" / "b"
    with pytest.raises(ColdstartError) as caught:
        Store(uri)
    assert str(caught.value) == f"no workspace at {uri}: make one with `coldstart run PIPELINE --workspace {uri}`"
    assert not uri.exists()
    Store(uri, create=True)
    assert Store(uri).tables() == []
    assert repr(Store(uri)) == f"Store({str(uri)!r})"


@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_workspace_is_refused_in_one_line(tmp_path: Path, create: bool) -> None:
    file = tmp_path / "file"
    file.touch()
    faults = {
        str(file): f"{file} is a file, not a workspace: give a folder",
        "": "the workspace is an empty text: give a folder or a LanceDB URI",
        " ": "the workspace is an empty text: give a folder or a LanceDB URI",
        "a\0b": "cannot open workspace a\0b: embedded null byte",
        "~nobody-of-this-name": "cannot open workspace ~nobody-of-this-name: Could not determine home directory",
        "foo://x/y": "cannot open workspace foo://x/y: Invalid input, No object store provider found for scheme: 'foo'",
    }
    for uri, fault in faults.items():
        with pytest.raises(ColdstartError) as caught:
            Store(uri, create=create)
        place = ": give a folder that can be made and written" if fault.startswith("cannot open") else ""
        assert str(caught.value) == fault + place
    with pytest.raises(ColdstartError) as caught:
        Store(file / "below", create=True)
    assert str(caught.value) == (
        f"cannot open workspace {file / 'below'}: Not a directory: give a folder that can be made and written"
    )


# -- tables


def test_tables_are_listed_in_order_beyond_one_page(store: Store) -> None:
    names = [f"t{number:02}" for number in range(25)]
    for name in reversed(names):
        store.append(name, rows(["a"]))
    assert store.tables() == names
    assert store.has("t24")
    assert not store.has("t25")
    assert (store.count("t00"), store.count("t25")) == (1, 0)


def test_merge_inserts_and_replaces(store: Store) -> None:
    store.merge(ITEMS, rows(["a", "b"], "old"))
    store.merge(ITEMS, rows(["b", "c"], "new"))
    assert store.keys(ITEMS) == {"a": "old", "b": "new", "c": "new"}
    assert store.keys("none") == {}


def test_merge_refuses_repeated_ids_and_writes_nothing(store: Store) -> None:
    with pytest.raises(ValueError) as caught:
        store.merge(ITEMS, rows(["a", "b", "a", "a"]))
    assert str(caught.value) == "2 repeated item_id in one batch for table 'items'"
    assert not store.has(ITEMS)
    table = pa.table({"stage": ["x", "x", "y"], "item_id": ["a", "a", "a"]})
    with pytest.raises(ValueError) as caught:
        store.merge("t", table, on=("stage", "item_id"))
    assert str(caught.value) == "1 repeated stage/item_id in one batch for table 't'"
    store.merge("t", table.slice(1), on=("stage", "item_id"))
    assert store.count("t") == 2


def test_read_takes_columns_ids_or_a_condition(store: Store) -> None:
    ids = [f"i{number}" for number in range(1200)]
    store.append(ITEMS, rows(ids))
    assert store.read(ITEMS, ["item_id"], ids=["i7", "none", "i1100"]).to_pydict() == {"item_id": ["i7", "i1100"]}
    assert sorted(store.read(ITEMS, ids=ids)["item_id"].to_pylist()) == sorted(ids)
    assert store.read(ITEMS, ids=[]).num_rows == 0
    assert store.read(ITEMS, where="item_id = 'i5'").to_pylist() == [{"item_id": "i5", "row_key": "k"}]
    assert store.read(ITEMS).num_rows == 1200  # no hidden limit
    with pytest.raises(ColdstartError) as caught:
        store.read("nope")
    assert str(caught.value) == f"workspace {store.uri} has no table 'nope': it has items"


def test_metadata_is_kept_from_the_schema_that_made_the_table(store: Store) -> None:
    table = rows(["a"])
    store.merge("t", table.replace_schema_metadata({"passport": '{"dim": 3, "ü": "é"}'}))
    store.merge("t", rows(["b"]))
    assert store.metadata("t") == {"passport": '{"dim": 3, "ü": "é"}'}
    store.maintain(timedelta(hours=1))
    assert Store(store.uri).metadata("t") == {"passport": '{"dim": 3, "ü": "é"}'}


def test_delete_takes_many_ids_and_missing_tables(store: Store) -> None:
    ids = [f"i{number}" for number in range(1200)]
    store.append(ITEMS, rows(ids))
    store.delete(ITEMS, iter(ids[1:]))
    assert store.keys(ITEMS) == {"i0": "k"}
    store.delete(ITEMS, [])
    store.delete("none", ["a"])
    assert store.count(ITEMS) == 1


@pytest.mark.slow
def test_hostile_ids_are_only_ids(store: Store) -> None:
    store.merge(ITEMS, rows(HOSTILE, "old"))
    store.merge(ITEMS, rows(HOSTILE, "new"))
    store.record([verdict(item_id) for item_id in HOSTILE])
    assert store.keys(ITEMS) == dict.fromkeys(HOSTILE, "new")
    assert list(store.ledger()["image"]) == HOSTILE
    for left, item_id in reversed(list(enumerate(HOSTILE))):
        assert store.read(ITEMS, ["item_id"], ids=[item_id]).to_pydict() == {"item_id": [item_id]}
        store.delete(ITEMS, [item_id])
        store.delete_verdicts("image", [item_id])
        assert list(store.keys(ITEMS)) == HOSTILE[:left]
        assert list(store.ledger().get("image", {})) == HOSTILE[:left]


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=1, max_size=6, unique=True))
def test_ids_may_be_any_unicode_text(store: Store, ids: list[str]) -> None:
    store.merge(ITEMS, rows(ids))
    assert sorted(store.read(ITEMS, ["item_id"], ids=ids)["item_id"].to_pylist()) == sorted(ids)
    assert store.read(ITEMS, where=equals("item_id", ids[0]))["item_id"].to_pylist() == [ids[0]]
    store.delete(ITEMS, ids)
    assert store.keys(ITEMS) == {}


def test_quotes_are_doubled_and_nothing_else_is_special() -> None:
    assert quote('it\'s \\ "x"') == "'it''s \\ \"x\"'"
    assert one_of("item_id", ["a", "b'"]) == "item_id IN ('a', 'b''')"


# -- ledger


def test_the_ledger_keeps_one_verdict_a_stage_and_item(store: Store) -> None:
    assert store.ledger() == {}
    store.record([])
    assert not store.has(LEDGER)
    store.record([verdict("a"), verdict("b"), verdict("a", "text")])
    store.record([verdict("a", key="k2", state="filtered")])
    assert store.ledger() == {
        "image": {"a": verdict("a", key="k2", state="filtered"), "b": verdict("b")},
        "text": {"a": verdict("a", "text")},
    }
    assert store.ledger("text") == {"text": {"a": verdict("a", "text")}}
    assert store.ledger("it's") == {}
    store.delete_verdicts("image", ["a", "b"])
    assert store.ledger() == {"text": {"a": verdict("a", "text")}}
    (at,) = store.read(LEDGER)["at"].to_pylist()
    assert datetime.now(UTC) - at < timedelta(minutes=1)


# -- pipelines and runs


def test_the_pipeline_saved_last_is_the_one_in_force(store: Store) -> None:
    assert store.pipeline() is None
    one, other = {"stages": {"ingest": {"map": {"title": "näme"}}}}, {"stages": {}, "max_failed": 0.5}
    for setting in (one, one, other, one, one):
        store.save_pipeline("starter", setting)
        assert store.pipeline() == setting
    assert store.count(PIPELINES) == 3
    store.maintain(timedelta(hours=1))
    assert Store(store.uri).pipeline() == one


def test_runs_are_a_log(store: Store) -> None:
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    store.save_run("image", began, 1.5, {"done": 3, "notes": ["é"]})
    store.save_run("image", began, 2.5, {})
    saved = store.read(RUNS).to_pylist()
    assert [(run["stage"], run["started_at"], run["seconds"], json.loads(run["report"])) for run in saved] == [
        ("image", began, 1.5, {"done": 3, "notes": ["é"]}),
        ("image", began, 2.5, {}),
    ]


# -- one writer


@pytest.mark.slow
def test_a_second_process_is_refused_with_the_holder_named(store: Store, holder: subprocess.Popen[str]) -> None:
    store.append(ITEMS, rows(["a"]))
    since = (Path(store.uri) / ".coldstart.writer").read_text("utf-8")
    assert since.startswith(f"process {holder.pid} since 20")
    assert since.endswith(" UTC")
    with pytest.raises(ColdstartError) as caught, store.lock():
        raise AssertionError("never reached")
    assert str(caught.value) == f"workspace {store.uri} is being written by {since}: wait until it ends, or stop it"
    assert Store(store.uri).keys(ITEMS) == {"a": "k"}  # readers need no lock


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_free(store: Store, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with store.lock():
        pass


def test_the_lock_is_free_after_an_error_and_closed_in_the_same_process(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock(), pytest.raises(ColdstartError, match=r" is being written by process \d+ since "), store.lock():
        raise AssertionError("never reached")


def test_a_remote_workspace_is_locked_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remote = Store("memory://shop")
    assert (remote.folder, remote.size_bytes()) == (None, 0)
    with (
        remote.lock(),
        pytest.raises(ColdstartError, match=r"^workspace memory://shop is being written by process "),
        Store("memory://shop").lock(),
    ):
        raise AssertionError("never reached")


def test_readers_see_whole_commits_while_another_thread_writes(store: Store) -> None:
    store.merge(ITEMS, rows([f"i{number}" for number in range(10)], "0"))
    seen: set[frozenset[str]] = set()
    stop = threading.Event()

    def look() -> None:
        reader = Store(store.uri)
        while not stop.is_set():
            seen.add(frozenset(reader.keys(ITEMS).values()))
            reader.size_bytes()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with store.lock():
            for version in range(1, 8):
                store.merge(ITEMS, rows([f"i{number}" for number in range(10)], str(version)))
            store.maintain(timedelta(hours=1))
    finally:
        stop.set()
        thread.join()
    assert seen
    assert all(len(keys) == 1 for keys in seen)
    assert store.keys(ITEMS) == {f"i{number}": "7" for number in range(10)}


# -- upkeep


def test_upkeep_compacts_and_says_what_it_saved(store: Store) -> None:
    for number in range(12):
        store.append(ITEMS, rows([f"i{number}"]))
    store.append("stage.kept", rows(["a"]))
    store.append("stage.kept", rows(["b"]))
    size = store.size_bytes()
    assert size == sum(file.stat().st_size for file in Path(store.uri).rglob("*") if file.is_file())
    kept = store.maintain(timedelta(milliseconds=1), skip=["stage.kept"])
    assert kept.bytes_before == size
    assert kept.bytes_after == store.size_bytes() < size
    assert kept.versions_before == (1 + 12) + (1 + 2)  # a table is made empty
    assert 1 + 3 <= kept.versions_after < 1 + 12  # the compaction itself may be younger than a millisecond
    assert store.keys(ITEMS) == {f"i{number}": "k" for number in range(12)}
    assert len(store.db.open_table("stage.kept").list_versions()) == 3


def test_upkeep_keeps_young_versions_for_their_readers(store: Store) -> None:
    store.append(ITEMS, rows(["a"]))
    reader = Store(store.uri).db.open_table(ITEMS)
    reader.checkout(reader.version)
    store.append(ITEMS, rows(["b"]))
    store.maintain()
    assert reader.count_rows() == 1
    assert Store(store.uri).count(ITEMS) == 2


def test_a_table_that_a_kill_left_half_made_is_made_again(store: Store) -> None:
    store.append(ITEMS, rows(["a"]))
    (Path(store.uri) / "ledger.lance" / "_versions").mkdir(parents=True)
    assert "ledger" in store.tables()
    assert not store.has("ledger")
    assert store.ledger() == {}
    verdict = LedgerRow("image", "a", "k", "failed", "corrupt_image", "")
    store.record([verdict])
    assert store.ledger() == {"image": {"a": verdict}}


def test_a_table_of_an_earlier_release_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    old = pa.table({"item_id": ["a", "b"], "row_key": ["k", "k"], "size": [1, 2]})
    new = pa.table({"item_id": ["b", "c"], "row_key": ["k", "k"], "size": [3, 4], "named": ["x", None]})
    store = Store(tmp_path / "workspace", create=True)
    with store.lock():
        store.merge("stage.rows", old)
        store.merge("stage.rows", new)
        ensure_table(store, "stage.more", old.schema)
        ensure_table(store, "stage.more", new.schema)
    assert sorted(store.read("stage.rows").to_pylist(), key=lambda row: row["item_id"]) == [
        {"item_id": "a", "row_key": "k", "size": 1, "named": None},
        {"item_id": "b", "row_key": "k", "size": 3, "named": "x"},
        {"item_id": "c", "row_key": "k", "size": 4, "named": None},
    ]
    assert store.columns("stage.more") == ["item_id", "row_key", "size", "named"]


def test_a_page_of_the_ledger_is_a_part_of_all_failures(tmp_path: Path) -> None:
    workspace = coldstart.open(tmp_path, create=True)
    store = Store(tmp_path)
    stages = {"ingest": {}, "image": {"stage": "embed", "encoder": "fake:32"}, "index": {}}
    store.save_pipeline("own", {"stages": stages})
    found = [
        LedgerRow(stage, f"i{place}", "k", state, "reason", "http://u:secret@h/x")
        for stage in ("image", "ingest", "gone")
        for place, state in enumerate(["failed", "filtered", "failed", "failed"])
    ]
    store.record(found[::-1])
    whole = workspace.failures()
    assert [(row["stage"], row["item_id"]) for row in whole] == [
        (stage, f"i{place}") for stage in ("ingest", "image") for place in range(4)
    ]
    assert {row["detail"] for row in whole} == {"http://***@h/x"}
    assert workspace.failures_page(start=3, limit=2) == (whole[3:5], 8)
    failed = [row for row in whole if row["state"] == "failed"]
    assert workspace.failures_page({"state": "failed"}, 1, 3) == (failed[1:4], 6)
    assert workspace.failures_page({"stage": "it's"}) == ([], 0)
    store.record([LedgerRow("image", name, "k", "filtered", "no_video", "") for name in ("clip", "hat")])
    store.db.create_table(
        "items", pa.table({"item_id": ["clip", "hat"], "kind": ["video", "product"], "row_key": ["k", "k"]})
    )
    missing = {"reason": "no_video"}  # a product without a video lacks nothing
    assert [row["item_id"] for row in workspace.failures_page(missing, of_kind=False)[0]] == ["clip"]
    assert workspace.failures_page(missing)[1] == 2

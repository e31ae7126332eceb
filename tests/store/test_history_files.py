"""Histories of users: equal to the table after any appends, strictly before a time, capped, and whole after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from coldstart.core.histories import HistoryRows, check_before
from coldstart.errors import ColdstartError, LeakError
from coldstart.ingest.interaction_file import SCHEMA
from coldstart.store import Store, histories, history_build, history_files
from coldstart.store.check import find_damage, repair
from coldstart.store.history_build import build, follow, open_histories
from coldstart.store.interactions import INTERACTIONS, AppendCounts, InteractionTable
from coldstart.store.removal import remove_items, remove_users

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_history_files import append, rows
from coldstart.store import Store
left = 5
def sync(file):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = sync
append(Store(sys.argv[1]), rows(5, 90, items=5))
"""


def rows(seed: int, count: int, users: int = 9, items: int = 50, spread_s: int = 400) -> pa.RecordBatch:
    """Draw interactions, many of them in the same seconds."""
    draw = np.random.default_rng(seed)
    columns: list[Any] = [
        [f"u{number}" for number in draw.integers(0, users, count)],
        [f"i{number}" for number in draw.integers(0, items, count)],
        draw.integers(0, spread_s, count) * 1_000_000 + draw.integers(0, 1_000_000, count),
        draw.choice(["click", "like", ""], count),
        draw.choice([1, 2.5, 4.5, -1], count).astype(np.float32),
    ]
    arrays = [pa.array(column).cast(kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)


def append(store: Store, *batches: pa.RecordBatch) -> AppendCounts:
    with store.lock(), follow(store) as history:
        done = InteractionTable(store).append(batches, history.add)
        history.closed |= done.renewed > 0
    return done


def stored(store: Store) -> dict[str, list[tuple[int, str, str, float]]]:
    """Collect the actions of each user from the table: seconds, item, event, weight."""
    found: dict[str, list[tuple[int, str, str, float]]] = {}
    for row in store.read(INTERACTIONS).to_pylist():
        action = int(row["timestamp"].timestamp()), row["item_id"], row["event"], row["weight"]
        found.setdefault(row["user_id"], []).append(action)
    return {user: sorted(actions) for user, actions in found.items()}


def read(store: Store) -> dict[str, list[tuple[int, str, str, float]]]:
    opened = open_histories(store)
    found = {}
    for user in opened.users.ids(range(len(opened.users))):
        own = opened.of(user)
        assert (np.diff(own.seconds.astype(int)) >= 0).all()
        names = zip(own.seconds.tolist(), opened.items.ids(own.items), own.events, strict=True)
        found[user] = sorted((at, item, opened.events[kind], float(opened.weights[kind])) for at, item, kind in names)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "w", create=True)


def forbid_builds(patch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("the histories were built anew")

    patch.setattr(history_build, "build", refuse)


@pytest.mark.slow
def test_histories_equal_the_table_after_each_append(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_build, "MERGE_ACTIONS", 130)
    monkeypatch.setattr(history_files, "MERGE_ACTIONS", 40)
    with monkeypatch.context() as patch:
        forbid_builds(patch)
        for seed, count in enumerate((300, 0, 150, 60, 20)):
            append(store, *[rows(10 * seed + part, count // 3) for part in range(3)])
            assert read(store) == (stored(store) if count or seed else {})
        assert len(open_histories(store)._segments) > 1
        numbers = open_histories(store).items.numbers(["i1", "i2", "none"])
        store.maintain()  # moves rows to other files, and changes none
        assert read(store) == stored(store)
    assert append(store, rows(0, 100), rows(99, 50)).repeated == 100
    renewed = rows(1, 100).to_pylist()
    append(store, pa.RecordBatch.from_pylist([{**row, "weight": 9.0} for row in renewed], schema=SCHEMA))
    assert read(store) == stored(store)
    assert any(action[3] == 9 for actions in read(store).values() for action in actions)
    np.testing.assert_array_equal(open_histories(store).items.numbers(["i1", "i2", "none"]), numbers)
    shutil.rmtree(histories.folder_of(store))
    assert read(store) == stored(store)


@pytest.mark.slow
def test_reads_end_strictly_before_the_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(open_histories(store).of("u1")) == 0
    append(store, rows(1, 500))
    append(store, rows(2, 100))
    opened = open_histories(store)
    assert len(opened._segments) == 2
    draw = np.random.default_rng(0)
    users = [f"u{number}" for number in draw.integers(0, 11, 60)]
    before = draw.integers(0, 420, 60)
    for last in (None, 0, 1, 7, 1000):
        found = opened.read(users, before, last)
        for place, (user, time) in enumerate(zip(users, before, strict=True)):
            full, own = opened.of(user), opened.of(user, int(time), last)
            count = int((full.seconds < time).sum())
            chosen = slice(0 if last is None else max(count - last, 0), count)
            for name in ("items", "events", "seconds"):
                np.testing.assert_array_equal(getattr(own, name), getattr(full, name)[chosen])
                np.testing.assert_array_equal(getattr(found[place], name), getattr(own, name))
    check_before(opened.read(["u3"]), np.array([400]))
    with pytest.raises(LeakError) as told:
        check_before(
            HistoryRows(np.array([0, 1, 3]), *(np.array([1, 5, 9]),) * 3), np.array([2, 9]), ["a", "b"].__getitem__
        )
    assert str(told.value) == (
        "history of user 'b' has an action at 9, which is not before the request at 9: read histories with `before`"
    )
    monkeypatch.setattr(histories, "ends_before", lambda seconds, starts, ends, before: ends)
    with pytest.raises(LeakError, match=r"history of user 'u3' has an action at \d+, which is not before the request"):
        opened.of("u3", 200)


@pytest.mark.slow
def test_cap_keeps_the_newest_and_counts_the_rest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_files, "MERGE_ACTIONS", 40)
    append(store, rows(1, 300))
    with store.lock():
        build(store, cap=20)
    append(store, rows(2, 30, users=3))
    whole, opened = stored(store), open_histories(store)
    for user, actions in whole.items():
        assert opened.of(user).seconds.tolist() == [action[0] for action in actions][-20:]
    summary = opened.summary()
    assert summary.dropped == sum(max(len(actions) - 20, 0) for actions in whole.values())
    assert summary.actions + summary.dropped == 330
    assert (summary.longest, summary.cap, summary.users) == (20, 20, 9)


@pytest.mark.slow
def test_weights_and_events_beyond_one_byte_are_told_apart_as_far_as_it_goes(store: Store) -> None:
    plain = rows(1, 2_000, spread_s=5_000).to_pylist()
    append(
        store, pa.RecordBatch.from_pylist([{**row, "weight": 1.0 + at} for at, row in enumerate(plain)], schema=SCHEMA)
    )
    kinds = open_histories(store)
    assert {*kinds.events} == {"click", "like", ""}
    signs = [{**row, "weight": (-1.0) ** at * 3.0 ** (at % 79), "user_id": "new"} for at, row in enumerate(plain)]
    append(store, pa.RecordBatch.from_pylist(signs, schema=SCHEMA))
    kinds = open_histories(store)
    assert {*kinds.weights.tolist()} == {1.0, -1.0}
    many = [{**row, "event": f"event {at % 400}", "user_id": "other"} for at, row in enumerate(plain)]
    append(store, pa.RecordBatch.from_pylist(many, schema=SCHEMA))
    kinds = open_histories(store)
    assert 250 < len(kinds.events) <= 255
    assert len(kinds.of("other")) == 2_000
    late = {**plain[0], "timestamp": 1 << 52}
    append(store, pa.RecordBatch.from_pylist([late], schema=SCHEMA))
    assert open_histories(store).summary().left_out == 1


@pytest.mark.slow
def test_removed_users_and_items_leave_no_byte(store: Store) -> None:
    append(store, rows(1, 300))
    append(store, rows(2, 60))
    numbers = open_histories(store).items.numbers(["i2", "i3"])
    folder = histories.folder_of(store)
    (folder / "segment-999999").mkdir()  # of a killed writer
    (folder / "segment-999999" / "text.npy").write_bytes(b"u4")
    with store.lock():
        remove_users(store, ["u4"])
    assert "u4" not in read(store)
    assert not [path for path in folder.rglob("text.npy") if b"u4" in path.read_bytes()]
    with store.lock():
        remove_items(store, ["i7"], interactions=True)
    assert read(store) == stored(store)
    assert not [path for path in folder.rglob("text.npy") if b"i7" in path.read_bytes()]
    opened = open_histories(store)
    np.testing.assert_array_equal(opened.items.numbers(["i2", "i3"]), numbers)
    assert opened.items.numbers(["i7"]).tolist() == [-1]
    assert opened.items.places(["i9", "i7", "i2"])[opened.items.numbers(["i9", "i2"])].tolist() == [0, 2]


class Killed(BaseException):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.slow
def test_a_kill_at_any_write_leaves_histories_that_agree_or_are_built(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, rows(1, 200))
    for step in range(40):
        left = step

        def die(file: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", die)
            with contextlib.suppress(Killed):
                append(store, rows(100 + step, 150, users=12 + step, items=60 + step))
                break
        assert read(store) == stored(store)
    assert step > 8
    assert read(store) == stored(store)


@pytest.mark.slow
def test_sigkill_before_the_manifest_is_replaced(store: Store) -> None:
    append(store, rows(1, 200))
    command = [sys.executable, "-c", KILLED, store.uri, str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len([*histories.folder_of(store).glob("manifest.json*")]) == 2
    assert read(store) == stored(store)


@pytest.mark.slow
def test_damaged_and_foreign_files_are_built_anew(store: Store) -> None:
    append(store, rows(1, 200))
    folder = histories.folder_of(store)
    manifest = folder / "manifest.json"
    whole = json.loads(manifest.read_text())
    segment = folder / f"segment-{whole['segments'][0]}"
    (segment / "items.npy").write_bytes(b"\x93NUMPY\x01\x00 no header")
    assert read(store) == stored(store)
    for change in ({"format": 2}, {"cap": 0}, {"coarse": 9}, {"segments": [-1]}, {"sums": [-1, 0]}, {"kinds": [1]}):
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
        assert read(store) == stored(store)
    manifest.write_text("[" * 9_000)
    assert read(store) == stored(store)
    opened = json.loads(manifest.read_text())
    items = np.load(folder / f"segment-{opened['segments'][0]}" / "items.npy")
    items[3] = 4_000_000_000
    np.save(folder / f"segment-{opened['segments'][0]}" / "items.npy", items)
    reader = open_histories(store)
    assert reader.fault() == "actions name items or events that there are not"
    with pytest.raises(ColdstartError, match=r"histories of workspace .* are damaged .*coldstart check --workspace"):
        for number in range(9):
            reader.of(f"u{number}")
    append(store, rows(2, 5))
    assert read(store) == stored(store)


@pytest.mark.parametrize("what", ["zip", "header", "shape", "file", "manifest", "number", "generation", "users"])
def test_files_of_a_stranger_are_built_anew_and_rows_can_be_added(store: Store, what: str) -> None:
    append(store, rows(1, 30))
    folder = histories.folder_of(store)
    segment = next(folder.glob("segment-*"))
    manifest = folder / histories.MANIFEST
    if what == "zip":
        (segment / "items.npy").write_bytes(b"PK\x05\x06")
    elif what in ("header", "shape"):
        descr, shape = ("[" * 3000, "(1,)") if what == "header" else ("'<u4'", f"({10**30},)")
        header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
        (segment / "items.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    elif what == "file":
        shutil.rmtree(folder)
        folder.write_text("")
    elif what == "manifest":
        manifest.unlink()
        manifest.mkdir()
    elif what == "number":
        manifest.unlink()
        (folder / f"segment-{'9' * 18}").mkdir()
    elif what == "generation":
        made = json.loads(manifest.read_text()) | {"generation": (1 << 53) - 1}
        manifest.write_text(json.dumps(made))
    else:
        np.save(segment / "users.npy", np.load(segment / "users.npy") + np.uint32(10**9))
    append(store, rows(2, 10))
    assert read(store) == stored(store)


def test_names_of_a_stranger_are_checked_before_they_are_read(store: Store) -> None:
    append(store, rows(1, 200))
    folder = histories.folder_of(store)
    made = json.loads((folder / "manifest.json").read_text())
    for name, change in (("ends", -5), ("order", 4_000_000_000), ("text", 0xFF)):
        path = folder / f"items-{made['items']}" / f"{name}.npy"
        column = np.load(path)
        before = column.copy()
        column[1] = change
        np.save(path, column)
        assert open_histories(store).items.fault()
        np.save(path, before)
        assert open_histories(store).fault() is None


def test_check_finds_damaged_histories_and_drops_them(store: Store) -> None:
    append(store, rows(1, 200))
    assert find_damage(store) == []
    [segment] = histories.folder_of(store).glob("segment-*")
    np.save(segment / "events.npy", np.full(200, 200, np.uint8))
    assert [(one.table, one.what) for one in find_damage(store)] == [
        ("histories", "actions name items or events that there are not")
    ]
    with store.lock():
        repair(store)
    assert read(store) == stored(store)

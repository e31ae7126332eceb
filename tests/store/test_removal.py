"""Items and users are removed from every table and from every byte of a workspace, and are kept out of it."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from stored_words import places_of

from coldstart.errors import ColdstartError
from coldstart.ingest.interaction_file import SCHEMA
from coldstart.ingest.load_interactions import import_interactions
from coldstart.ingest.log_file import REJECTED as REJECTED_SCHEMA
from coldstart.store import Store, removal, tombstones
from coldstart.store.interactions import INTERACTIONS, REJECTED, InteractionTable, RejectedRows
from coldstart.store.tombstones import read_tombstones

PERSON = "person-8f31c0a97b"
OTHER = "person-8f31c0a97b-too"


def log(store: Store, users: list[str], count: int, seed: int = 0) -> None:
    """Append interactions of these users in batches of their own, as several files would."""
    draw = random.Random(seed)
    rows = [
        {
            "user_id": draw.choice(users),
            "item_id": f"sku-{draw.randrange(9)}",
            "timestamp": datetime(2026, 1, 1 + place % 28, tzinfo=UTC),
            "event": "like",
            "weight": float(place),
        }
        for place in range(count)
    ]
    InteractionTable(store).append(iter([pa.RecordBatch.from_pylist(rows, schema=SCHEMA)]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A workspace with three commits of interactions, a rejected row of the person, and one of another."""
    store = Store(tmp_path / "w", create=True)
    for part in range(3):
        log(store, [PERSON, OTHER, "u1", "u2"], 40, part)
    rejected = [
        {"row": 3, "reason": "bad_id", "detail": f"{PERSON}, sku\t1"},
        {"row": 4, "reason": "bad_id", "detail": f"{OTHER}x, sku\t2"},
        {"row": 5, "reason": "bad_time", "detail": "soon"},
    ]
    RejectedRows(store, REJECTED).add(Path("/logs/clicks.csv"), pa.Table.from_pylist(rejected, schema=REJECTED_SCHEMA))
    return store


def users_of(store: Store) -> set[str]:
    return set(store.read(INTERACTIONS, ["user_id"])["user_id"].to_pylist())


@pytest.mark.slow
def test_of_a_removed_user_nothing_is_left_in_any_byte(store: Store, tmp_path: Path) -> None:
    person = "person-unique-4711"
    log(store, [person, "u1"], 30, 9)  # in a file with others, beside files without
    store.maintain()
    before = places_of(person, tmp_path / "w")
    assert any("interactions.lance/data/" in place for place in before), "the search finds what is there"
    rows = store.count(INTERACTIONS)
    own = store.read(INTERACTIONS, where=f"user_id = '{person}'").num_rows
    report = removal.remove_users(store, [person])
    assert places_of(person, tmp_path / "w") == []
    assert report.rows == {INTERACTIONS: own}
    assert store.count(INTERACTIONS) == rows - own
    assert users_of(store) == {PERSON, OTHER, "u1", "u2"}
    assert not read_tombstones(store).open_users
    store.maintain()
    assert places_of(person, tmp_path / "w") == []


def test_rejected_rows_that_name_the_user_go_and_others_stay(store: Store) -> None:
    report = removal.remove_users(store, [PERSON])
    assert report.rows[REJECTED] == 1
    assert store.read(REJECTED)["row"].to_pylist() == [4, 5]
    assert users_of(store) == {OTHER, "u1", "u2"}


def test_a_value_that_was_cut_within_the_id_goes_too(store: Store, tmp_path: Path) -> None:
    cut = f"{'x' * 190}, {PERSON}"[:200]
    table = pa.Table.from_pylist([{"row": 9, "reason": "bad_id", "detail": cut}], schema=REJECTED_SCHEMA)
    RejectedRows(store, REJECTED).add(Path("/logs/clicks.csv"), table)
    assert removal.remove_users(store, [PERSON]).rows[REJECTED] == 2


def test_a_removed_user_is_refused_when_the_log_is_read_again(store: Store, tmp_path: Path) -> None:
    removal.remove_users(store, [PERSON])
    path = tmp_path / "again.csv"
    path.write_text(f"user_id,item_id,timestamp\n{PERSON},sku-1,1700000000\nu9,sku-1,1700000000\n")
    report = import_interactions(store, path)
    assert (report.added, dict(report.rejected), report.rows) == (1, {"removed_user": 1}, 2)
    assert not report.over_budget
    assert users_of(store) == {OTHER, "u1", "u2", "u9"}
    assert places_of(f"{PERSON},", tmp_path / "w") == []
    with store.lock():
        assert removal.undo(store, "user", [PERSON, "nobody"]) == ([PERSON], ["nobody"])
    assert import_interactions(store, path).added == 1
    assert PERSON in users_of(store)


def test_a_rejected_row_of_a_removed_user_is_not_stored_again(store: Store, tmp_path: Path) -> None:
    removal.remove_users(store, [PERSON])
    path = tmp_path / "again.csv"
    path.write_text(f'user_id,item_id\n{PERSON},"{"y" * 5000}"\n')
    report = import_interactions(store, path)
    assert dict(report.rejected) == {"removed_user": 1}
    assert store.count(REJECTED) == 2


def test_an_unknown_user_is_named_and_leaves_no_trace(store: Store) -> None:
    report = removal.remove_users(store, ["u1", "nobody"])
    assert (report.removed, report.unknown) == (1, ("nobody",))
    assert len(read_tombstones(store).users) == 1


def test_a_dry_run_changes_nothing(store: Store) -> None:
    version = store.db.open_table(INTERACTIONS).version
    report = removal.remove_users(store, ["u1"], dry_run=True)
    assert report.removed == 1
    assert report.rows[INTERACTIONS] > 0
    assert store.db.open_table(INTERACTIONS).version == version
    assert not read_tombstones(store).users


class Killed(BaseException):
    """Stands for a SIGKILL at one place."""


def killed_at(monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str], call: int) -> Callable[[], None]:
    """Kill at the n-th call of a function; returns what takes that back."""
    owner, name = place
    real, calls = getattr(owner, name), [0]

    def wrapper(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapper)
    return monkeypatch.undo


@pytest.mark.parametrize(
    ("name", "call"),
    [("write_tombstones", 1), ("_drop_rows", 1), ("purge", 1), ("purge", 2), ("write_tombstones", 2)],
)
def test_a_removal_killed_at_any_step_is_finished_by_the_same_call(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    back = killed_at(monkeypatch, (removal, name), call)
    with pytest.raises(Killed):
        removal.remove_users(store, [PERSON])
    back()
    again = Store(tmp_path / "w")
    assert [note[:36] for note in removal.removal_notes(again)] == (
        [] if (name, call) == ("write_tombstones", 1) else ["the removal of 1 user was interrupted"[:36]]
    )
    report = removal.remove_users(again, [PERSON])
    assert report.resumed == (0 if (name, call) == ("write_tombstones", 1) else 1)
    assert users_of(again) == {OTHER, "u1", "u2"}
    assert [place for place in places_of(PERSON, tmp_path / "w") if place not in places_of(OTHER, tmp_path / "w")] == []
    assert not read_tombstones(again).open_users


def test_a_tag_that_somebody_set_does_not_keep_the_user(store: Store, tmp_path: Path) -> None:
    store.db.open_table(INTERACTIONS).tags.create("mine", 1)
    log(store, ["person-unique-4711"], 3, 5)
    store.db.open_table(INTERACTIONS).tags.create("later", store.db.open_table(INTERACTIONS).version)
    removal.remove_users(store, ["person-unique-4711"])
    assert places_of("person-unique-4711", tmp_path / "w") == []


@pytest.mark.slow
def test_fits_that_read_the_log_are_named_until_they_are_fitted_anew(store: Store) -> None:
    behaviour = {"behaviour.json": b"{}", "fit.json": b"{}"}
    store.artifacts.save("align.behaviour", "k", behaviour, {"interactions": {"in_workspace": 3}})
    store.artifacts.save("align.text_image", "k", {"heads.json": b"{}"}, {})
    store.artifacts.save("other", "k", {"grounds.json": b"{}"}, {"interactions": {}})
    report = removal.remove_users(store, ["u1", "u2"])
    command = f"coldstart finetune behaviour --workspace {store.uri}"
    expected = removal.StaleFit("align.behaviour", 0, 2, command)
    assert report.fits[0] == expected
    script = f'import coldstart; coldstart.open("{store.uri}").run(only=["other"], refit=True)'
    assert shlex.split(report.fits[1].command) == ["python", "-c", script]
    store.artifacts.save("other", "k", {"grounds.json": b"{ }"}, {})
    line = f"align.behaviour learnt from the interactions of 2 removed users: `{command}` fits it anew"
    assert removal.removal_notes(store) == [line]
    store.artifacts.save("align.behaviour", "k2", {**behaviour, "new": b""}, {"interactions": {"in_workspace": 1}})
    assert removal.removal_notes(store) == []


def test_a_server_that_keeps_its_own_files_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "uri", "db://shop")
    with pytest.raises(ColdstartError, match="LanceDB server"):
        removal.remove_users(store, ["u1"])


def test_a_hash_says_nothing_without_the_salt_of_its_workspace(store: Store, tmp_path: Path) -> None:
    removal.remove_users(store, [PERSON])
    other = Store(tmp_path / "w2", create=True)
    log(other, [PERSON, "u2"], 20)
    removal.remove_users(other, [PERSON])
    assert read_tombstones(store).users.isdisjoint(read_tombstones(other).users)
    assert PERSON not in json.dumps(store.read("removed").to_pylist(), default=str)


def test_purge_leaves_files_without_deleted_rows_as_they_are(store: Store) -> None:
    def files(clean: bool) -> set[str]:
        fragments = store.db.open_table(INTERACTIONS).to_lance().get_fragments()
        return {f.data_files()[0].path for f in fragments if not (clean and f.num_deletions)}

    clean = files(clean=True)
    assert clean
    log(store, ["person-unique-4711"], 3, 5)
    removal.remove_users(store, ["person-unique-4711"])
    assert clean <= files(clean=False)


def test_rows_of_a_stranger_that_are_no_removals_are_left_alone(store: Store) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"what": "user", "key": "k", "salt": "not hex", "fits": [], "done": True, "at": at},
        {"what": "user", "key": "k2", "salt": None, "fits": None, "done": None, "at": at},
        {"what": "item", "key": "sku-1", "salt": None, "fits": None, "done": True, "at": None},
        {"what": "other", "key": "", "salt": None, "fits": None, "done": True, "at": at},
    ]
    store.append("removed", pa.Table.from_pylist(rows, schema=tombstones._SCHEMA))
    known = read_tombstones(store)
    assert (known.items, known.users, known.open_users) == ({}, frozenset(), frozenset())
    assert removal.remove_users(store, [PERSON]).removed == 1
    assert len(read_tombstones(store).users) == 1

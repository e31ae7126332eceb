"""`coldstart remove`: asks before it removes, names what is unknown, and says what stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
import typer
from catalogue import coldstart

from coldstart.ingest.interaction_file import SCHEMA
from coldstart.store import Store
from coldstart.store.interactions import InteractionTable


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    store = Store(tmp_path / "w", create=True)
    store.set_layout_version()
    items = pa.table({"item_id": ["a1", "a2", "b1"], "row_key": ["", "", ""], "creator": ["u1", "u2", None]})
    store.merge("items", items)
    rows = [
        {
            "user_id": f"u{n}",
            "item_id": f"a{n}",
            "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
            "event": "",
            "weight": 1,
        }
        for n in (1, 2, 3)
    ]
    InteractionTable(store).append(iter([pa.RecordBatch.from_pylist(rows, schema=SCHEMA)]))
    return tmp_path / "w"


def test_without_a_terminal_nothing_is_removed_unless_yes_is_given(workspace: Path) -> None:
    refused = coldstart("remove", "a1", "--workspace", workspace)
    assert refused.returncode == 1
    assert "no terminal to ask on: look with --dry-run, then give --yes" in refused.stderr
    assert Store(workspace).count("items") == 3
    assert coldstart("remove", "a1", "--yes", "--workspace", workspace).returncode == 0
    assert Store(workspace).count("items") == 2


def test_a_dry_run_counts_and_says_that_nothing_was_removed(workspace: Path) -> None:
    done = coldstart("remove", "a1", "zz", "--dry-run", "--workspace", workspace)
    assert done.returncode == 0
    assert "not in the workspace: zz" in done.stdout
    assert "1 interaction with them stay as histories of users: --interactions removes them" in done.stdout
    assert done.stdout.rstrip().endswith("dry run: nothing was removed")
    assert Store(workspace).count("items") == 3


@pytest.mark.slow
def test_what_was_removed_before_is_no_fault(workspace: Path) -> None:
    for words in (["a1"], ["--user", "u3"]):
        for expected in ("1 ", "removed before: "):
            done = coldstart("remove", *words, "--yes", "--workspace", workspace)
            assert (done.returncode, expected in done.stdout) == (0, True), done.stderr


def test_ids_that_the_workspace_lacks_are_named_with_the_nearest(workspace: Path) -> None:
    refused = coldstart("remove", "b11", "--yes", "--workspace", workspace)
    assert refused.returncode == 1
    assert "has no item 'b11' (did you mean 'b1'?); nothing was removed" in refused.stderr


def test_interactions_with_an_item_go_where_that_is_wanted(workspace: Path) -> None:
    done = coldstart("remove", "a1", "--interactions", "--yes", "--json", "--workspace", workspace)
    report = json.loads(done.stdout)
    assert report["rows"] == {"interactions": 1, "items": 1}
    assert Store(workspace).read("interactions")["user_id"].to_pylist() == ["u2", "u3"]


@pytest.mark.slow
def test_impressions_of_an_item_stay_unless_its_interactions_go(workspace: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown.csv"
    shown.write_text("user_id,item_id,timestamp\nu1,a1,2026-01-01\nu1,a2,2026-01-01\n")
    assert coldstart("ingest", "--impressions", shown, "--workspace", workspace).returncode == 0
    done = coldstart("remove", "a1", "--dry-run", "--workspace", workspace)
    assert "1 impression of them stay as what users were shown: --interactions removes them" in done.stdout
    done = coldstart("remove", "a1", "--interactions", "--yes", "--json", "--workspace", workspace)
    assert json.loads(done.stdout)["rows"] == {"impressions": 1, "interactions": 1, "items": 1}


def test_users_are_erased_and_what_they_made_is_counted(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("u2\nu9\n")
    done = coldstart("remove", "--user", "u1", "--users", tmp_path / "users.txt", "--yes", "--workspace", workspace)
    assert done.returncode == 0, done.stderr
    assert "2 users removed" in done.stdout
    assert "not in the workspace: u9" in done.stdout
    assert "2 items with such a creator stay" in done.stdout
    assert Store(workspace).read("interactions")["user_id"].to_pylist() == ["u3"]
    back = coldstart("remove", "--undo", "--user", "u1", "--workspace", workspace)
    assert back.stdout == "u1 may come back: with the next `coldstart ingest`\n"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([], "give items (ITEM, --manifest, --where, --kind) or users (--user, --users), one of both"),
        (["a1", "--user", "u1"], "one of both"),
        (["--user", "u1", "--interactions"], "--interactions goes with items"),
        (["--undo", "--kind", "video"], "name the items or a --manifest of them, or users"),
        (["--undo", "a1"], "nothing of that was removed ('a1')"),
    ],
)
def test_options_that_do_not_go_together_are_refused(workspace: Path, words: list[str], fault: str) -> None:
    refused = coldstart("remove", *words, "--yes", "--workspace", workspace)
    assert refused.returncode == 1
    assert fault in refused.stderr
    assert Store(workspace).count("items") == 3


@pytest.mark.slow
def test_on_a_terminal_the_counts_come_before_the_question(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def confirm(text: str, abort: bool) -> None:
        asked.append(text)
        assert abort
        if len(asked) == 1:
            raise typer.Abort

    monkeypatch.setattr("typer.confirm", confirm)
    monkeypatch.setattr("sys.stdin", mock.Mock(isatty=lambda: True))
    first = coldstart("remove", "a1", "--workspace", workspace)
    assert "1 item would go" in first.stdout
    assert first.returncode == 1
    assert Store(workspace).count("items") == 3
    assert coldstart("remove", "a1", "--workspace", workspace).returncode == 0
    assert Store(workspace).count("items") == 2
    assert coldstart("remove", "a1", "--workspace", workspace).stdout == "removed before: a1\n"
    assert len(asked) == 2

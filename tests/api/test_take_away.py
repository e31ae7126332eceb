"""Removed items are served no more, copies of them are matched anew, and a run does not bring them back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from catalogue import contents, rows, settings, states, write_manifest

import coldstart
from coldstart.errors import ColdstartError
from coldstart.ingest.manifest import Manifest
from coldstart.store import Store, removal
from coldstart.store.catalog import Catalog

pytestmark = pytest.mark.slow


def understanding(manifest: Path) -> dict[str, Any]:
    """A pipeline that links copies, embeds texts and pictures, and indexes."""
    raw = settings(manifest, workers=1, device="cpu")
    only = {"fingerprint": {}, "duplicates": {"policy": "link"}}
    off = dict.fromkeys(("quality", "shots", "speech", "screen", "evidence", "safety"), False)
    stages = raw["stages"]
    return {**raw, "stages": {"ingest": {}, "understand": {**only, **off}, **{k: stages[k] for k in list(stages)[1:]}}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two publications: p0 to p3 and p1b, which shows the pictures of p1; then p4 as well."""
    base = tmp_path_factory.mktemp("taken")
    entries = rows(base / "shop", 5)
    shutil.copy(base / "shop" / "p1.jpg", base / "shop" / "p1b.jpg")
    entries.insert(4, {**entries[1], "item_id": "p1b", "image": "p1b.jpg"})
    manifest = write_manifest(base / "shop" / "items.jsonl", entries[:-1])
    workspace = coldstart.open(base / "w", create=True)
    workspace.run(understanding(manifest))
    write_manifest(manifest, entries)
    workspace.run()
    return base


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> coldstart.Workspace:
    shutil.copytree(made / "w", tmp_path / "w")
    opened = coldstart.open(tmp_path / "w")
    opened.trust()
    return opened


def found(opened: coldstart.Workspace) -> set[str]:
    return {hit.item_id for hit in opened.search(text="article", top_k=9, copies=True)}


def named_in(folder: Path, item: str) -> set[str]:
    """Tables with a row that names an item in any column."""
    store = Store(folder)
    every = {name: store.read(name).to_pylist() for name in store.tables()}
    return {name for name, own in every.items() if f'"{item}"' in json.dumps(own, default=str)}


def test_a_removed_item_is_in_no_table_and_in_no_publication(workspace: coldstart.Workspace, tmp_path: Path) -> None:
    assert found(workspace) == {"p0", "p1", "p1b", "p2", "p3", "p4"}
    dry = workspace.remove(["p1", "nope"], dry_run=True)
    assert found(workspace) == {"p0", "p1", "p1b", "p2", "p3", "p4"}
    report = workspace.remove(["p1", "nope"])
    assert (report.rows, report.copies, report.unknown) == (dry.rows, ("p1b",), ("nope",))
    assert report.rows["items"] == 1
    assert report.publications_dropped == 2
    assert found(workspace) == found(coldstart.open(tmp_path / "w")) == {"p0", "p2", "p3", "p4"}
    assert named_in(tmp_path / "w", "p1") == {"removed"}
    with pytest.raises(ColdstartError, match="no publication is kept from before"):
        workspace.rollback()


def test_the_next_run_matches_copies_anew_and_turns_the_item_away(
    workspace: coldstart.Workspace, tmp_path: Path
) -> None:
    workspace.remove(["p1"])
    assert states(workspace.status())["ingest"] == (5, 0, 0, 0, 0)
    report = workspace.run()
    by_name = {stage.stage: stage for stage in report.stages}
    assert by_name["ingest"].balance.reasons == {"removed": 1}
    assert states(report.stages)["ingest"] == (5, 0, 1, 0, 0)
    assert found(workspace) == {"p0", "p1b", "p2", "p3", "p4"}
    assert {hit.item_id for hit in workspace.search(text="article", top_k=9)} == found(workspace)
    ledger = {row["item_id"]: row for row in workspace.failures()}
    assert ledger["p1"]["reason"] == "removed"
    assert "coldstart remove --undo p1" in ledger["p1"]["detail"]
    assert workspace.remove(["p1"]).already == ("p1",)
    workspace.remove(["p3"])
    assert workspace.undo_removal(["p1"]) == ["p1"]
    workspace.run()
    assert found(workspace) == {"p0", "p1b", "p1", "p2", "p4"}


def test_what_is_rolled_back_to_stays_served_without_the_item(workspace: coldstart.Workspace, tmp_path: Path) -> None:
    workspace.rollback()
    report = workspace.remove(["p4"])
    assert report.publications_dropped == 1
    assert found(workspace) == {"p0", "p1", "p1b", "p2", "p3"}
    assert named_in(tmp_path / "w", "p4") == {"removed"}


def test_a_publication_from_before_the_item_stays(workspace: coldstart.Workspace) -> None:
    workspace.remove(["p4"])
    assert len(workspace.publications()) == 2
    assert workspace.remove(["p0", "p1", "p1b", "p2", "p3"]).publications_dropped == 2
    assert found(workspace) == set()


def test_items_are_chosen_by_condition_kind_or_manifest(
    workspace: coldstart.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.remove(where="category = 'shelf 2'")
    assert found(workspace) == {"p0", "p1", "p1b", "p3", "p4"}
    listed = write_manifest(tmp_path / "gone.jsonl", [{"item_id": "p0"}, {"item_id": "p3"}])
    assert workspace.remove(manifest=listed).removed == 2
    assert found(workspace) == {"p1", "p1b", "p4"}
    ingest = {"map": {"item_id": "number", "title": "name"}, "id_from": []}
    monkeypatch.setattr(type(workspace), "_stored_ingest", lambda self: ingest)
    (tmp_path / "gone.csv").write_text("number\np4\n")
    assert workspace.remove(manifest=tmp_path / "gone.csv", dry_run=True).removed == 1
    (tmp_path / "gone.csv").write_text("sku\np4\n")
    assert workspace.remove(manifest=tmp_path / "gone.csv", dry_run=True).removed == 1
    assert workspace.remove(manifest=listed, dry_run=True).already == ("p0", "p3")
    (tmp_path / "gone.csv").write_text("other\np4\n")
    with pytest.raises(ColdstartError, match="no column of ids: it has other; name one item_id or number"):
        workspace.remove(manifest=tmp_path / "gone.csv")
    assert workspace.undo_removal(manifest=listed) == ["p0", "p3"]
    with pytest.raises(ColdstartError, match="no item meets the condition"):
        workspace.remove(kind="video")
    with pytest.raises(ColdstartError, match=r"has no item 'p44' \(did you mean 'p4'\?\); nothing was removed"):
        workspace.remove(["p44"])


def test_ids_that_were_made_are_made_again(
    workspace: coldstart.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.csv").write_text("name,url\nCup,https://x.example/1\n")
    made = [entry.fields["item_id"] for entry in Manifest(tmp_path / "shop.csv", clean=True, id_from=["url"]).entries()]
    monkeypatch.setattr(type(workspace), "_stored_ingest", lambda self: {"map": {"title": "name"}, "id_from": ["url"]})
    with pytest.raises(ColdstartError, match=f"has no item '{made[0]}'"):
        workspace.remove(manifest=tmp_path / "shop.csv")


class Killed(BaseException):
    """Stands for a SIGKILL at one place."""


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (Catalog, "build_indexes", 1),
        (Catalog, "publish", 1),
        (removal, "purge", 1),
    ],
)
def test_a_removal_killed_at_any_step_is_finished_by_the_same_call(
    workspace: coldstart.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int
) -> None:
    real, calls = getattr(owner, name), [0]

    def killed(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(Killed):
        workspace.remove(["p1"])
    monkeypatch.undo()
    again = coldstart.open(tmp_path / "w")
    assert again.remove(["p1"]).resumed == 1
    assert named_in(tmp_path / "w", "p1") == {"removed"}
    assert found(again) == {"p0", "p2", "p3", "p4"}
    assert again.check() == []
    assert {row["item_id"] for row in contents(tmp_path / "w")["catalog"]} == {"p0", "p2", "p3", "p4"}

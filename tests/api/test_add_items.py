"""Items that arrive one by one: what becomes of each row, what stays as it was, and what a run does afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from catalogue import contents, photo, rows, settings, write_manifest

import coldstart
from coldstart import sample
from coldstart.api.workspace import Workspace
from coldstart.errors import ColdstartError
from coldstart.store import Store

pytestmark = pytest.mark.slow  # each starts worker processes


def shop(folder: Path, count: int = 4, **stages: Any) -> tuple[Workspace, Path]:
    """A workspace with a few items of a manifest, and the manifest."""
    manifest = write_manifest(folder / "shop.jsonl", rows(folder, count))
    pipeline = settings(manifest, workers=1)
    index = pipeline["stages"].pop("index")
    pipeline["stages"] = {"ingest": {}, **stages, **pipeline["stages"], "index": index}
    workspace = coldstart.open(folder / "ws", create=True)
    workspace.run(pipeline)
    return workspace, manifest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    shop(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A shop of four items in a folder of its own: the workspace names the manifest where it was made."""
    shutil.copytree(made / "ws", tmp_path / "ws")
    return tmp_path


def arrival(name: str = "n1", **fields: Any) -> dict[str, Any]:
    return {"item_id": name, "title": f"oat drink {name}", "media": [{"role": "image", "uri": "photo.jpg"}], **fields}


def test_an_arrival_is_searchable_and_a_later_run_redoes_nothing(folder: Path) -> None:
    workspace = coldstart.open(folder / "ws")
    stored = Store(folder / "ws").pipeline()
    runs = Store(folder / "ws").count("runs")
    report = workspace.add_items([arrival()], files={"photo.jpg": photo(folder / "one.jpg", 9)})
    assert [(one.item_id, one.state, one.change) for one in report.items] == [("n1", "searchable", "added")]
    assert report.publication == "pub-000002" == workspace.publications()[0].tag
    assert [hit.item_id for hit in workspace.search(text="oat drink n1", top_k=1)] == ["n1"]
    assert (Store(folder / "ws").pipeline(), Store(folder / "ws").count("runs")) == (stored, runs)
    before = contents(folder / "ws")
    kept = before["items"][0]["media"][0]["uri"]
    assert Path(kept).is_relative_to((folder / "ws/uploads").resolve())
    done = workspace.run()
    assert {stage.stage: stage.ran.done for stage in done.stages} == {"ingest": 0, "image": 0, "text": 0, "index": 0}
    assert contents(folder / "ws") == before


def test_rows_given_again_are_unchanged_and_changed_ones_are_done_anew(folder: Path) -> None:
    workspace = coldstart.open(folder / "ws")
    files = {"photo.jpg": photo(folder / "one.jpg", 9)}
    with workspace.keep_warm():
        workspace.add_items([arrival()], files=files)
        before = contents(folder / "ws")
        again = workspace.add_items([arrival()], files=files)
        assert (again.items[0].state, again.items[0].change) == ("searchable", "unchanged")
        assert again.publication == "pub-000002"
        assert contents(folder / "ws") == before
        files = {"photo.jpg": photo(folder / "two.jpg", 10)}
        changed = workspace.add_items([arrival(title="soy drink"), arrival("p0", title="renamed")], files=files)
    assert [one.change for one in changed.items] == ["updated", "updated"]
    found = {row["item_id"]: row for row in contents(folder / "ws")["catalog"]}
    assert (found["n1"]["title"], found["p0"]["title"]) == ("soy drink", "renamed")
    assert found["n1"]["media"][0]["digest"] == found["p0"]["media"][0]["digest"]
    assert len(found) == 5


def test_a_bad_row_costs_itself_alone(folder: Path) -> None:
    workspace = coldstart.open(folder / "ws")
    (folder / "broken.jpg").write_bytes(photo(folder / "one.jpg", 9).read_bytes()[:200])
    (folder / "page.html").write_text("<html><script>", "utf-8")
    files = {"photo.jpg": folder / "one.jpg", "../../b.jpg": folder / "broken.jpg", "p": folder / "page.html"}
    report = workspace.add_items(
        [
            arrival("good"),
            {"title": "without an id"},
            arrival("price", price="a lot"),
            arrival("good", title="twice"),
            {"item_id": "broken", "image": "../../b.jpg"},
            {"item_id": "page", "image": "p"},
            {"item_id": "both", "title": "t", "media": [{"role": "image", "uri": "p"}, "photo.jpg"]},
            {"item_id": "outside", "image": "/etc/hostname", "title": "t"},
            {"item_id": "web", "image": "https://example.com/a.jpg"},
            ["no", "row"],  # type: ignore[list-item]
            {"item_id": "empty"},
            {"item_id": "p1", "image": "../../b.jpg"},
        ],
        files=files,
    )
    found = [(one.item_id, one.state, one.change, one.reason) for one in report.items]
    assert found == [
        ("good", "searchable", "added", ""),
        (None, "failed", "none", "bad_row"),
        ("price", "failed", "none", "bad_row"),
        ("good", "failed", "none", "duplicate_id"),
        ("broken", "failed", "none", "corrupt_image"),
        ("page", "failed", "none", "unsupported_media"),
        ("both", "searchable", "added", ""),
        ("outside", "failed", "none", "outside_media_roots"),
        ("web", "failed", "none", "host_not_allowed"),
        (None, "failed", "none", "bad_row"),
        ("empty", "failed", "none", "bad_row"),
        ("p1", "failed", "none", "corrupt_image"),
    ]
    assert [entry["reason"] for entry in report.items[6].bad_media] == ["unsupported_media"]
    served = {row["item_id"] for row in contents(folder / "ws")["catalog"]}
    assert served == {"p0", "p1", "p2", "p3", "good", "both"}  # p1 stays as it was
    failures = {row["item_id"]: row["reason"] for row in workspace.failures()}
    assert failures["broken"] == "corrupt_image"
    assert "p1" not in failures
    assert not list((folder / "ws/uploads").rglob("*.html"))


def test_a_workspace_that_has_a_pipeline_and_no_items(tmp_path: Path) -> None:
    workspace = coldstart.open(tmp_path / "ws", create=True)
    with pytest.raises(
        ColdstartError, match=r"has no pipeline to add items by: .*coldstart run .*coldstart init"
    ) as no:
        workspace.add_items([arrival()])
    assert no.value.kind == "not_ready"
    pipeline = {**settings(tmp_path / "none.jsonl"), "manifest": None}
    Store(tmp_path / "ws").save_pipeline("own", {name: value for name, value in pipeline.items() if value})
    nothing = workspace.add_items([{"item_id": "bad", "price": "x"}])
    assert (nothing.items[0].state, nothing.publication) == ("failed", None)
    report = workspace.add_items([{"item_id": "a", "title": "red shoes"}])
    assert (report.items[0].state, report.publication) == ("searchable", "pub-000001")


def test_items_added_in_turn_are_as_those_of_one_manifest(tmp_path: Path) -> None:
    understand = {"understand": dict.fromkeys(("shots", "speech", "screen", "evidence", "safety"), False)}
    understand["understand"] |= {"quality": {"min_side": 12}}  # type: ignore[dict-item]
    entries = rows(tmp_path / "media", 6)
    tiny = photo(tmp_path / "media/tiny.jpg", 3)
    from PIL import Image

    Image.open(tiny).resize((10, 10)).save(tiny)
    entries[3]["image"] = tiny.name
    entries[4] |= {name: entries[1][name] for name in ("image", "title", "category")}  # a copy
    manifest = write_manifest(tmp_path / "media/all.jsonl", entries)
    pipeline = settings(manifest, workers=1)
    pipeline["stages"] = {"ingest": {}, **understand, **pipeline["stages"]}
    whole = coldstart.open(tmp_path / "whole", create=True)
    whole.run(pipeline)
    first = write_manifest(tmp_path / "media/first.jsonl", entries[:2])
    turn = coldstart.open(tmp_path / "turn", create=True)
    turn.run({**pipeline, "manifest": str(first)})
    with turn.keep_warm():
        states = [one.state for one in turn.add_items(entries[2:4]).items]
        states += [one.state for one in turn.add_items(entries[4:]).items]
    assert states == ["searchable", "filtered", "duplicate", "searchable"]
    assert contents(tmp_path / "turn") == contents(tmp_path / "whole")


def test_copies_follow_their_original(tmp_path: Path) -> None:
    understand = {"understand": dict.fromkeys(("quality", "shots", "speech", "screen", "evidence", "safety"), False)}
    workspace, _ = shop(tmp_path, 3, **understand)
    same = {"photo.jpg": tmp_path / "p1.jpg"}
    report = workspace.add_items([arrival("copy", title="article 1 of shelf 1")], files=same)
    assert (report.items[0].state, report.items[0].reason) == ("duplicate", "near_duplicate")
    other = {"photo.jpg": Path(sample.__file__).parent / "images/06_Banana.jpg"}
    workspace.add_items([arrival("p1", title="article 1 of shelf 1", category="shelf 1")], files=other)
    found = {row["item_id"]: row["duplicate_of"] for row in contents(tmp_path / "ws")["catalog"]}
    assert found == {"p0": None, "p1": None, "p2": None, "copy": None}  # it is an original now
    before = contents(tmp_path / "ws")
    workspace.run(start="understand.fingerprint")
    assert contents(tmp_path / "ws") == before


def test_uploads_behind_a_link_are_no_media_root(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "ws/uploads").symlink_to(folder / "elsewhere")
    workspace = coldstart.open(folder / "ws")
    assert str(folder / "elsewhere") not in str(workspace.media_limits().roots)
    with pytest.raises(ColdstartError, match="is a link"):
        workspace.add_items([arrival()], files={"photo.jpg": photo(folder / "one.jpg", 9)})
    assert not list((folder / "elsewhere").iterdir())


def test_removed_items_stay_removed(folder: Path) -> None:
    workspace = coldstart.open(folder / "ws")
    workspace.remove(["p2"])
    report = workspace.add_items([{"item_id": "p2", "title": "back"}])
    assert (report.items[0].state, report.items[0].reason) == ("filtered", "removed")
    assert json.dumps(report.to_dict())


def test_files_of_removed_items_go_with_them(folder: Path) -> None:
    workspace = coldstart.open(folder / "ws")
    files = {"photo.jpg": photo(folder / "one.jpg", 9), "other.jpg": photo(folder / "two.jpg", 10)}
    workspace.add_items([arrival("a"), {"item_id": "b", "image": "other.jpg"}], files=files)
    assert len([path for path in (folder / "ws/uploads").rglob("*") if path.is_file()]) == 2
    (folder / "ws").rename(folder / "moved")  # its items name files by the place where it was
    shutil.copytree(folder / "moved", folder / "copied")
    (folder / "moved/uploads").rename(folder / "away")  # the copy needs its own
    copied = coldstart.open(folder / "copied")
    assert "data:image/jpeg" in copied.dossier("a")._repr_html_()
    before = contents(folder / "copied")
    done = copied.run(spaces={"second": {"stage": "embed", "encoder": "fake:16", "input": "image"}})
    assert {stage.stage: stage.ran.done for stage in done.stages if stage.ran.done} == {"second": 6, "index": 6}
    assert contents(folder / "copied")["items"] == before["items"]
    (folder / "away").rename(folder / "moved/uploads")
    moved = coldstart.open(folder / "moved")
    moved.remove(["a"])
    (left,) = [path for path in (folder / "moved/uploads").rglob("*") if path.is_file()]
    assert left.read_bytes() == files["other.jpg"].read_bytes()


def test_interactions_in_memory_are_added_once(tmp_path: Path) -> None:
    workspace = coldstart.open(tmp_path / "ws", create=True)
    rows = [
        {"user_id": "u1", "item_id": "a", "timestamp": 1_700_000_000},
        {"user_id": "u1", "item_id": "b", "timestamp": "2024-01-05T10:00:00+01:00", "event": "click", "weight": 2},
        {"user_id": "u2", "item_id": 5, "timestamp": "nonsense"},
    ]
    first, again = workspace.add_interactions(rows), workspace.add_interactions(rows)
    assert (first.added, first.rejected, again.added, again.repeated) == (2, {"bad_time": 1}, 0, 2)
    found = workspace.table("interactions", ["item_id", "timestamp", "weight"]).sort_by("item_id").to_pylist()
    assert [(row["item_id"], int(row["timestamp"].timestamp()), row["weight"]) for row in found] == [
        ("a", 1_700_000_000, 1.0),
        ("b", 1_704_445_200, 2.0),
    ]
    assert "interactions_rejected" not in workspace.tables()
    with pytest.raises(ColdstartError, match="no interactions: give rows"):
        workspace.add_interactions([])

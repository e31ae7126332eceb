"""A change makes exactly the right rows stale, through all later stages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from catalogue import contents, photo, rows, settings, states, write_manifest
from poison import write_video

import coldstart
from coldstart import encoders
from coldstart.api import Workspace
from coldstart.core import settings as resources
from coldstart.encoders import Encoder, Passport
from coldstart.encoders.fake import Fake
from coldstart.engine.report import RunReport
from coldstart.errors import ColdstartError

PHOTOS = 6
NOTHING = {"ingest": 0, "image": 0, "text": 0, "index": 0}


class Shop:
    """Six photos and a video, run once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.media = folder / "shop"
        self.entries = rows(self.media, PHOTOS)
        write_video(self.media / "clip.mp4", 2.0)
        self.entries.append({"item_id": "clip", "title": "a clip", "video": "clip.mp4"})
        self.manifest = self.media / "items.jsonl"
        self.write()
        self.settings: dict[str, Any] = settings(self.manifest, workers=1)
        self.workspace: Workspace = coldstart.open(folder / "workspace", create=True)
        self.workspace.run(self.settings)

    def write(self) -> None:
        write_manifest(self.manifest, self.entries)

    def run(self, **options: Any) -> RunReport:
        return self.workspace.run(self.settings, **options)

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        return contents(self.folder / "workspace")

    def table(self, stage: str) -> str:
        """The table that rows of this stage go to now."""
        from coldstart.engine.run import build

        pipeline = self.workspace.pipeline(self.settings)
        spec = pipeline.stage(stage)
        return str(build(spec, pipeline).table)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("first"))


@pytest.fixture
def shop(first: Shop, tmp_path: Path) -> Shop:
    """A workspace of its own over the same files, as the first run left it."""
    folder = tmp_path / "own"
    shutil.copytree(first.folder, folder, copy_function=shutil.copy2)
    own = object.__new__(Shop)
    own.folder, own.media, own.manifest = folder, folder / "shop", folder / "shop" / "items.jsonl"
    own.entries, own.settings = deepcopy(first.entries), {**deepcopy(first.settings), "manifest": str(own.manifest)}
    own.workspace = coldstart.open(folder / "workspace")
    own.run()
    return own


def done(report: RunReport) -> dict[str, int]:
    return {stage.stage: stage.ran.done for stage in report.stages}


def changed(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> set[str]:
    """Ids of the rows that differ."""
    old = {row["item_id"]: row for row in before}
    return {row["item_id"] for row in after if old.get(row["item_id"]) != row}


@pytest.mark.slow
def test_a_second_run_does_nothing(shop: Shop) -> None:
    before = shop.contents()
    report = shop.run()
    assert done(report) == NOTHING
    assert shop.contents() == before
    assert states(report.stages) == dict.fromkeys(NOTHING, (PHOTOS + 1, 0, 0, 0, 0))


@pytest.mark.slow
def test_moving_the_manifest_folder_redoes_nothing_downstream(shop: Shop) -> None:
    before = shop.contents()
    moved = shop.folder / "moved"
    shop.media.rename(moved)
    shop.settings["manifest"] = str(moved / "items.jsonl")
    report = shop.run()
    assert done(report) == {**NOTHING, "ingest": PHOTOS + 1, "index": PHOTOS + 1}  # they state where the media are
    after = shop.contents()
    for name in (shop.table("image"), shop.table("text")):
        assert after[name] == before[name]
    assert {row["media"][0]["uri"] for row in after["catalog"]} == {
        str(moved / entry.get("image", "clip.mp4")) for entry in shop.entries
    }
    assert [row["row_key"] for row in after["items"]] == [row["row_key"] for row in before["items"]]


@pytest.mark.slow
def test_touching_a_file_redoes_only_ingest(shop: Shop) -> None:
    before = shop.contents()
    os.utime(shop.media / "p3.jpg", ns=(1, 1))
    report = shop.run()
    assert done(report)["ingest"] == 1
    assert done(report)["image"] == done(report)["text"] == 0
    after = shop.contents()
    assert [row["row_key"] for row in after["items"]] == [row["row_key"] for row in before["items"]]
    assert after[shop.table("image")] == before[shop.table("image")]


def change_photo(shop: Shop) -> None:
    photo(shop.media / "p3.jpg", 77)


def change_title(shop: Shop) -> None:
    shop.entries[3]["title"] = "something else"
    shop.write()


def change_price(shop: Shop) -> None:
    shop.entries[3]["price"] = 3.5
    shop.write()


def change_attribute(shop: Shop) -> None:
    shop.entries[3]["attributes"] = {"colour": "red"}
    shop.write()


def move_photo(shop: Shop) -> None:
    (shop.media / "p3.jpg").rename(shop.media / "moved.jpg")
    shop.entries[3]["image"] = "moved.jpg"
    shop.write()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "redone"),
    [
        (change_photo, ["image"]),
        (change_title, ["text"]),
        (change_price, []),
        (change_attribute, []),
        (move_photo, []),
    ],
)
def test_a_changed_item_is_redone_where_it_is_read(
    shop: Shop, change: Callable[[Shop], None], redone: list[str]
) -> None:
    before = shop.contents()
    change(shop)
    assert done(shop.run()) == {**NOTHING, "ingest": 1, "index": 1, **dict.fromkeys(redone, 1)}
    after = shop.contents()
    assert after.keys() == before.keys()
    touched = {"items", "catalog", *map(shop.table, redone)}
    assert {name: changed(before[name], after[name]) for name in after} == {
        name: {"p3"} if name in touched else set() for name in after
    }
    assert done(shop.run()) == NOTHING


@pytest.mark.slow
def test_changed_prices_reach_the_catalog_and_no_vector(shop: Shop) -> None:
    for number, entry in enumerate(shop.entries[:5]):
        entry["price"] = 10.0 + number
    shop.write()
    assert done(shop.run()) == {**NOTHING, "ingest": 5, "index": 5}
    shop.entries[2]["price"] = 99.0
    shop.write()
    estimate = shop.workspace.estimate(shop.settings).to_dict()["stages"]
    assert {stage["stage"]: stage["rows"] for stage in estimate} == {**NOTHING, "ingest": 1, "index": PHOTOS + 1}
    assert done(shop.run()) == {**NOTHING, "ingest": 1, "index": 1}
    assert {hit.item_id for hit in shop.workspace.search(text="article", where="price > 12")} == {"p2", "p3", "p4"}


@pytest.mark.slow
def test_dropped_columns_that_no_stage_reads_redo_nothing_downstream(shop: Shop) -> None:
    for number, entry in enumerate(shop.entries):
        entry["attributes"] = {"shelf": number, "seen": None, "colour": "red"}
    shop.write()
    shop.run()
    for entry in shop.entries:
        entry["attributes"] = {"colour": "red"}
    shop.write()
    assert done(shop.run()) == {**NOTHING, "ingest": PHOTOS + 1, "index": PHOTOS + 1}


@pytest.mark.slow
def test_a_new_item_is_done_alone(shop: Shop) -> None:
    before = shop.contents()
    shop.entries.append({"item_id": "new", "title": "new", "image": photo(shop.media / "new.jpg", 50).name})
    shop.write()
    assert done(shop.run()) == dict.fromkeys(NOTHING, 1)
    for name, table in shop.contents().items():
        assert changed(before[name], table) == {"new"}, name


@pytest.mark.slow
def test_another_encoder_redoes_its_space_alone_and_going_back_redoes_nothing(shop: Shop) -> None:
    before = shop.contents()
    old, text = shop.table("image"), shop.table("text")
    shop.settings["stages"]["image"]["encoder"] = "fake:48"
    report = shop.run()
    assert done(report) == {**NOTHING, "image": PHOTOS + 1, "index": PHOTOS + 1}
    after = shop.contents()
    assert shop.table("image") != old
    assert {len(row["vector"]) for row in after[shop.table("image")]} == {48}
    assert {len(row["vector_image"]) for row in after["catalog"]} == {48}
    assert after[old] == before[old] and after[text] == before[text]
    shop.settings["stages"]["image"]["encoder"] = "fake:32"
    assert done(shop.run()) == {**NOTHING, "index": PHOTOS + 1}
    assert shop.contents()["catalog"] == before["catalog"]


@pytest.mark.slow
def test_a_prompt_redoes_what_is_read_through_it(shop: Shop) -> None:
    before = shop.contents()
    prompt = shop.folder / "words.md"
    prompt.write_text(resources.data_files("prompts", "*.md")["item_text"].read_text("utf-8"), "utf-8")
    shop.settings["stages"]["text"]["prompt"] = str(prompt)
    assert done(shop.run()) == NOTHING  # the same words from another place
    prompt.write_text(prompt.read_text("utf-8") + "\nfor sale\n", "utf-8")
    assert done(shop.run()) == {**NOTHING, "text": PHOTOS + 1, "index": PHOTOS + 1}
    after = shop.contents()
    assert after[shop.table("image")] == before[shop.table("image")]
    everything = {entry["item_id"] for entry in shop.entries}
    assert changed(before[shop.table("text")], after[shop.table("text")]) == everything


@pytest.mark.slow
def test_the_number_of_frames_redoes_the_pictures(shop: Shop) -> None:
    before = shop.contents()
    shop.settings["stages"]["image"]["frames"] = 3
    assert done(shop.run()) == {**NOTHING, "image": PHOTOS + 1, "index": PHOTOS + 1}
    after = shop.contents()
    assert {len(row["frame_vectors"] or ()) for row in after[shop.table("image")]} == {0, 3}
    assert after[shop.table("text")] == before[shop.table("text")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"workers": 2, "commit_rows": 2, "device": "cpu"}},
        {"max_failed": 1},
        {"media": {"deadline_s": 60.0}},
    ],
)
def test_settings_that_change_no_result_redo_nothing(shop: Shop, change: dict[str, Any]) -> None:
    shop.settings |= change
    shop.settings["stages"]["image"]["batch_size"] = 2
    assert done(shop.run()) == NOTHING


@pytest.mark.slow
def test_an_item_that_fails_now_leaves_all_tables_that_are_served(shop: Shop) -> None:
    (shop.media / "p3.jpg").write_bytes(b"no picture")
    report = shop.run()
    assert states(report.stages)["ingest"] == (PHOTOS, 1, 0, 0, 0)
    assert done(report) == {**NOTHING, "index": 1}
    after = shop.contents()
    assert "p3" not in {row["item_id"] for row in after["items"] + after["catalog"]}
    assert [(row["item_id"], row["reason"]) for row in after["ledger"]] == [("p3", "unsupported_media")]


# -- spaces


class Other(Fake):
    """Vectors as long as those of `fake:32`, made by another model."""

    def __init__(self) -> None:
        super().__init__(32)
        self.name = "other:32"

    def passport(self, modality: Any) -> Passport:
        return Passport(self.name, "other", "other", 32)


@pytest.mark.slow
def test_encoders_of_equal_length_never_share_a_table(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    old = shop.table("text")
    before = shop.contents()
    monkeypatch.setattr(encoders, "load", lambda name, **options: Other())
    assert done(shop.run()) == {**NOTHING, "image": PHOTOS + 1, "text": PHOTOS + 1, "index": PHOTOS + 1}
    assert shop.table("text") != old
    assert shop.contents()[old] == before[old]


@pytest.mark.slow
def test_a_query_by_another_encoder_is_refused_with_both_names(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shop.workspace.search(text="article", spaces=["text"])
    fresh = coldstart.open(shop.folder / "workspace")

    def other(name: str, **options: Any) -> Encoder:
        return Other()

    monkeypatch.setattr(encoders, "load", other)
    with pytest.raises(ColdstartError) as caught:
        fresh.search(text="article", spaces=["text"], hybrid=False)
    assert "fake:32" in str(caught.value) and "other:32" in str(caught.value)


@pytest.mark.slow
def test_a_second_pipeline_needs_no_manifest(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    bare = {key: value for key, value in deepcopy(shop.settings).items() if key != "manifest"}
    index = bare["stages"].pop("index")
    bare["stages"] |= {"other": {"stage": "embed", "encoder": "fake:16", "input": "image"}, "index": index}
    estimate = shop.workspace.estimate(bare).to_dict()["stages"]
    assert {stage["stage"]: stage["rows"] for stage in estimate} == {**NOTHING, "other": PHOTOS + 1, "index": 7}
    report = shop.workspace.run(bare)
    assert done(report) == {**NOTHING, "other": PHOTOS + 1, "index": PHOTOS + 1}
    assert states(report.stages)["ingest"] == (PHOTOS + 1, 0, 0, 0, 0)
    note = (
        "nothing was read, since no manifest is named in pipeline: 7 items stay as they are; --manifest FILE reads "
        "what has changed"
    )
    assert list(report.stages[0].notes) == [note]
    assert list(shop.workspace.status()[0].notes) == [note]
    empty = coldstart.open(tmp_path / "empty", create=True)
    for do in (empty.run, empty.estimate):
        with pytest.raises(ColdstartError) as caught:
            do(bare)
        assert str(caught.value) == "pipeline names no manifest: give one with --manifest FILE"


@pytest.mark.slow
def test_later_stages_need_no_manifest(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    bare = {key: value for key, value in shop.settings.items() if key != "manifest"}
    report = shop.workspace.run(bare, only=["image", "text", "index"])
    assert [stage.ran.done for stage in report.stages] == [0, 0, 0]
    assert shop.workspace.dossier("p0").item_id == "p0"

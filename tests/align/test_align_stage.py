"""align.text_image over a catalogue whose pictures and titles can be learnt, and what follows from a fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import coloured
import numpy as np
import pytest
from catalogue import write_manifest

import coldstart
from coldstart import encoders
from coldstart.align.settings import RECIPE, Settings
from coldstart.align.stage import AlignStage
from coldstart.core.pipeline import load
from coldstart.errors import ColdstartError
from coldstart.store.freshness import build

pytestmark = pytest.mark.slow

FAST = {"batch_size": 64, "epochs": 25, "lr": 0.01, "dropout": 0.0, "dim": 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalogue and a workspace that ran once; leave it as it is."""
    folder = tmp_path_factory.mktemp("aligned")
    settings = coloured.settings(folder / "media", training=FAST, valid_share=0.0)
    workspace = coldstart.open(folder / "w", create=True)
    assert not workspace.run(settings).over_budget
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> coldstart.Workspace:
    """The same, to be changed."""
    shutil.copytree(made / "w", tmp_path / "w")
    return coldstart.open(tmp_path / "w")


def manifest_of(workspace: coldstart.Workspace) -> tuple[Path, list[dict[str, Any]]]:
    path = Path(workspace.pipeline().raw["manifest"])
    return path, [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def with_rows(workspace: coldstart.Workspace, path: Path, rows: list[dict[str, Any]], folder: Path) -> Path:
    """A manifest of other rows beside the media of the first."""
    return write_manifest(path.with_name(f"{folder.name}.jsonl"), rows)


def align_of(workspace: coldstart.Workspace) -> AlignStage:
    pipeline = workspace.pipeline()
    stage = build(next(spec for spec in pipeline.stages if spec.kind == "align.text_image"), pipeline)
    assert isinstance(stage, AlignStage)
    return stage


def note(report: Any, stage: str) -> str:
    return next(str(one.notes[0]).partition("\n")[0] for one in report.stages if one.stage == stage)


def balance(workspace: coldstart.Workspace, stage: str) -> tuple[int, int, int]:
    found = next(one.balance for one in workspace.status() if one.stage == stage)
    assert found.failed == found.duplicate == 0
    return found.fresh, found.filtered, found.pending


def test_pictures_that_no_fit_has_seen_are_found_by_their_words(made: Path) -> None:
    workspace = coldstart.open(made / "w")
    artifact = workspace._store.artifacts.newest("align.text_image")
    assert artifact is not None
    assert artifact.report["parts"] == {"test": 22, "valid": 0, "train": 78, "seen": 0}
    assert artifact.report["recall_at_10"]["after"] > 0.8  # by chance 10 of 22, 0.45
    assert 0 <= artifact.report["joined"]["trained"] <= 1 and artifact.report["joined"]["queries"]["unseen"] > 0
    features = align_of(workspace).features(workspace._store, _Silent())
    held_out = [item for item, side in zip(features.item_ids, features.split, strict=True) if side == "test"]
    titles = {item: f"{item.partition('-')[0]} hat with {item.partition('-')[2]} shoes" for item in held_out}
    ranks = []
    for item, title in titles.items():
        hits = workspace.search(text=title, spaces=["aligned"], hybrid=False, top_k=100)
        ranks.append(1 + [hit.item_id for hit in hits].index(item))
    assert np.median(ranks) <= 5  # of 100 pictures


def test_the_spaces_of_a_fit_share_a_passport_and_what_they_are_over_does_not(made: Path) -> None:
    workspace = coldstart.open(made / "w")
    with pytest.raises(ColdstartError) as caught:
        workspace.search(text="blue hat", spaces=["other"], hybrid=False)
    assert str(caught.value) == "space 'other' is not in the published catalog: it has aligned, aligned_text, image"
    passport = encoders.Passport.from_json(workspace.published().passports["aligned"])
    assert passport.encoder == "align:align.text_image"
    text = encoders.Passport.from_json(workspace.published().passports["aligned_text"])
    assert text == passport
    assert encoders.Passport.from_json(workspace.published().passports["image"]) != passport


def test_an_earlier_fit_does_not_answer_for_the_vectors_of_a_later_one(shop: coldstart.Workspace) -> None:
    before = encoders.Passport.from_json(shop.published().passports["aligned"])
    shop.finetune_align(overrides=["align.text_image.training.seed=1"])
    still = shop.search(text="blue hat", spaces=["aligned"], hybrid=False, top_k=3)  # served by the earlier fit's heads
    assert len(still) == 3
    shop.run()
    after = encoders.Passport.from_json(shop.published().passports["aligned"])
    assert after.encoder == before.encoder and after != before
    with pytest.raises(ColdstartError) as caught:
        _ask_with(shop, before)
    assert "holds vectors of align:align.text_image" in str(caught.value)


def _ask_with(workspace: coldstart.Workspace, passport: encoders.Passport) -> None:
    """Ask the published catalog with the encoder of another passport."""
    from coldstart.search.queries import Query
    from coldstart.search.search import search_many

    encoder = workspace.encoder_for(passport)
    list(search_many(workspace.published(), lambda _: encoder, [Query("q", text="blue hat")], spaces=["aligned"]))


def test_a_second_run_fits_nothing_and_a_request_without_news_neither(shop: coldstart.Workspace) -> None:
    digest = shop._store.artifacts.newest("align.text_image").digest  # type: ignore[union-attr]
    report = shop.run()
    assert [one.ran.done for one in report.stages if one.stage != "index"] == [0] * 5
    assert note(report, "align.text_image").startswith("fit of ")
    assert any("\nfitted on 78 items in " in text for one in report.stages for text in one.notes)
    assert note(shop.finetune_align(), "align.text_image").endswith("; nothing came or changed since")
    assert [one.digest for one in shop._store.artifacts.all("align.text_image")] == [digest]


def test_new_items_wait_until_a_fit_is_requested(shop: coldstart.Workspace, tmp_path: Path) -> None:
    path, rows = manifest_of(shop)
    coloured.picture(path.with_name("new.png"), "red", "white")
    rows[1] |= {"title": "crimson hat with green shoes"}
    manifest = with_rows(
        shop, path, [*rows[:99], {"item_id": "new", "title": "a new hat", "image": "new.png"}], tmp_path
    )
    report = shop.run(manifest=manifest)
    assert note(report, "align.text_image").endswith("; 1 items came and 1 changed since: `coldstart finetune align`")
    assert balance(shop, "align.text_image") == (99, 0, 2)
    assert balance(shop, "aligned") == (101, 0, 0)  # new items are embedded by the fit that is there
    images = shop._store.keys(align_of(shop)._image.table)
    texts = shop._store.keys(build_of(shop, "aligned_text").table)
    shop.finetune_align()
    assert balance(shop, "align.text_image") == (101, 0, 0)
    assert balance(shop, "aligned") == (0, 0, 101)
    again = shop.run()
    assert {one.stage: one.ran.done for one in again.stages if one.stage != "index"} == {
        "ingest": 0,
        "image": 0,
        "align.text_image": 0,
        "aligned": 101,
        "aligned_text": 101,
    }
    assert shop._store.keys(align_of(shop)._image.table) == images  # no picture was looked at again
    assert shop._store.keys(build_of(shop, "aligned_text").table).keys() == texts.keys()


def build_of(workspace: coldstart.Workspace, name: str) -> Any:
    pipeline = workspace.pipeline()
    return build(pipeline.stage(name), pipeline)


def test_other_settings_are_a_fit_of_their_own_and_only_what_changes_results_counts(shop: coldstart.Workspace) -> None:
    report = shop.run(overrides=["align.text_image.min_items=10"])
    assert {one.stage: one.ran.done for one in report.stages}["align.text_image"] == 0
    report = shop.run(overrides=["align.text_image.training.lr=0.02"])
    assert {one.stage: one.ran.done for one in report.stages}["align.text_image"] == 100


def test_stored_vectors_through_the_heads_are_those_of_the_pictures_themselves(shop: coldstart.Workspace) -> None:
    report = shop.run(overrides=["aligned.over=null"])
    assert {one.stage: one.ran.done for one in report.stages}["aligned"] == 100
    apart = shop.vectors("aligned").to_pylist()
    shop.run(overrides=["aligned.over=image"])
    over = {row["item_id"]: row["vector"] for row in shop.vectors("aligned").to_pylist()}
    for row in apart:
        np.testing.assert_allclose(row["vector"], over[row["item_id"]], atol=1e-5)


def test_the_words_of_a_fit_are_encoded_once(shop: coldstart.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = align_of(shop)
    first = stage.features(shop._store, _Silent())
    monkeypatch.setattr(type(stage._encoders.text), "encode_documents", None)  # a call would fail
    second = align_of(shop).features(shop._store, _Silent())
    np.testing.assert_array_equal(first.texts, second.texts)
    assert sorted(set(first.text_views)) == ["description", "title"]
    assert len(first.texts) == 200


def test_items_without_a_picture_or_a_text_are_turned_away_with_the_reason(tmp_path: Path) -> None:
    settings = coloured.settings(tmp_path / "media", training=FAST)
    path, rows = Path(settings["manifest"]), coloured.entries(tmp_path / "media")
    bare = {"item_id": "bare", "image": rows[0]["image"], "kind": "product"}
    rows = [*rows[:30], bare, {"item_id": "unseen", "title": "a hat", "kind": "product"}]
    write_manifest(path, rows)
    settings["stages"] = {name: settings["stages"][name] for name in ("ingest", "image", "align")}
    workspace = coldstart.open(tmp_path / "w", create=True)
    workspace.run(settings)
    found = {
        row["item_id"]: (row["state"], row["reason"], row["detail"])
        for row in workspace.failures()
        if row["stage"] == "align.text_image"
    }
    assert found == {
        "bare": ("filtered", "no_text", "none of title, description, transcript, screen_text is given"),
        "unseen": ("filtered", "no_vector", "image: no_media"),
    }


def test_items_of_one_title_fall_on_one_side(tmp_path: Path) -> None:
    settings = coloured.settings(tmp_path / "media", training=FAST)
    rows = coloured.entries(tmp_path / "media")
    for number, row in enumerate(rows):
        row["title"] = f"Hat, no. {number % 25}" if number % 2 else f"hat no {number % 25}!"
    write_manifest(Path(settings["manifest"]), rows)
    settings["stages"] = {name: settings["stages"][name] for name in ("ingest", "image", "align")}
    workspace = coldstart.open(tmp_path / "w", create=True)
    workspace.run(settings)
    features = align_of(workspace).features(workspace._store, _Silent())
    sides: dict[int, set[str]] = {}
    for group, side in zip(features.groups.tolist(), features.split, strict=True):
        sides.setdefault(group, set()).add(side)
    assert len(sides) == 25
    assert all(len(own - {"seen"}) == 1 for own in sides.values())  # other pictures of a trained title are held out too
    assert set().union(*sides.values()) >= {"train", "test", "seen"}


def test_a_fit_by_an_earlier_recipe_stays_in_use_until_a_fit_is_requested(
    shop: coldstart.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldstart.align.stage.RECIPE", RECIPE + 1)  # so the fit there is of an earlier one
    later = "; by the recipe of an earlier version: `coldstart finetune align` fits by that of now"
    ran = shop.run()
    assert note(ran, "align.text_image").endswith(later)
    assert [one.ran.done for one in ran.stages if one.stage != "index"] == [0] * 5
    again = shop.finetune_align()
    assert next(one.ran.done for one in again.stages if one.stage == "align.text_image") == 100
    assert later not in note(again, "align.text_image")
    assert note(shop.finetune_align(), "align.text_image").endswith("; nothing came or changed since")


def test_classes_are_held_out_by_default_and_named(shop: coldstart.Workspace) -> None:
    raw = shop.pipeline().raw
    del raw["stages"]["align"]["text_image"]["hold_out"]
    shop.finetune_align(raw)
    artifact = shop._store.artifacts.newest("align.text_image")
    assert artifact is not None
    assert artifact.report["hold_out"] == ["category"]
    features = align_of(shop).features(shop._store, _Silent())
    sides: dict[str, set[str]] = {}
    for item, side in zip(features.item_ids, features.split, strict=True):
        sides.setdefault(item.partition("-")[0], set()).add(side)
    assert sum(own == {"test"} for own in sides.values()) == 1


@pytest.mark.parametrize(
    ("encoder", "key"),  # as `coldstart` 0.1 computed them
    [("starter", "90933778739f84b8beeedc1275a7436d"), ("starter:levels", "26c9aa8578d82f24c277130ac38ad65d")],
)
def test_fits_of_0_1_over_the_starter_keep_their_key(encoder: str, key: str) -> None:
    image = {"stage": "embed", "encoder": encoder, "input": "image"}
    pipeline = load({"stages": {"ingest": {}, "image": image, "align": {"text_image": {}}}})
    stage = build(pipeline.stage("align.text_image"), pipeline)
    assert isinstance(stage, AlignStage)
    assert stage._key == key


def test_settings_that_are_left_out_keep_the_key_of_earlier_fits() -> None:
    assert "hold_out" not in Settings().key_settings()
    assert Settings().key_settings()["training"]["lr"] == 3e-3
    assert Settings(hold_out=["category"]).key_settings()["hold_out"] == ["category"]
    assert Settings(training={"seed": 1}).key_settings()["training"] == {
        "loss": "infonce", "epochs": 50, "patience": 15, "batch_size": 512, "lr": 3e-3, "weight_decay": 1.0, "dim": 384,
        "hidden": 0, "standardise": True, "dropout": 0.5, "hidden_dropout": 0.0, "noise": 0.0, "smoothing": 0.1,
        "prior": 0.0, "seed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hold_out": ["creator"]},
            "align.text_image.hold_out='creator': 0 values on 0 of 100 items, and 10 values on half of them are "
            "needed: leave it out",
        ),
        (
            {"hold_out": ["shade"]},
            "align.text_image.hold_out='shade': it is none of title, description, category, creator, attributes.NAME",
        ),
        (
            {"min_items": 200, "test_share": 0.1},
            "align.text_image: 100 items have a picture and a text, and a fit needs 200 (min_items): until there are "
            "more, use `encoder: starter-clip`, which needs none",
        ),
        (
            {"image": "pictures"},
            "align.text_image.image='pictures': no space of pictures of that name stands before it; there is image",
        ),
        ({"start": "same"}, "align.text_image.start=same: fake:48 and fake:64 share no space; use auto or random"),
        ({"group_by": ["colour"]}, "align.text_image.group_by='colour': it is none of title, description, category, "
         "creator, attributes.NAME"),
        ({"texts": {"title": 0}}, "align.text_image.texts={'title': 0.0}: give one of them a number above 0"),
    ],
)  # fmt: skip
def test_faults_name_the_value_and_the_next_step(
    shop: coldstart.Workspace, changes: dict[str, Any], message: str
) -> None:
    raw = json.loads(json.dumps(shop.pipeline().raw))
    raw["stages"]["align"]["text_image"] |= changes
    with pytest.raises(ColdstartError) as caught:
        shop.run(raw)
    assert str(caught.value) == message


def test_a_space_waits_for_its_fit_and_reports_it(made: Path, tmp_path: Path) -> None:
    raw = json.loads(json.dumps(coldstart.open(made / "w").pipeline().raw))
    workspace = coldstart.open(tmp_path / "w", create=True)
    workspace.run(raw, only=["ingest", "image"])
    assert balance(workspace, "aligned") == (0, 0, 100)
    waits = (
        "space 'aligned' waits for stage 'align.text_image', which has fitted nothing: run `coldstart finetune align`"
    )
    assert next(one.notes for one in workspace.status() if one.stage == "aligned") == [waits]
    assert [(one.stage, one.rows) for one in workspace.estimate().stages if one.stage == "aligned"] == [
        ("aligned", 100)
    ]
    states = {one.stage: (one.state, one.detail) for one in workspace.dossier("red-blue").stages}
    assert states["aligned"] == ("pending", waits)
    with pytest.raises(ColdstartError) as caught:
        workspace.run(only=["aligned"])
    assert str(caught.value) == waits


class _Silent:
    """Counts nothing."""

    def meter(self, stage: str, total: int | None) -> Any:
        from coldstart.core.progress import SilentProgress

        return SilentProgress().meter(stage, total)

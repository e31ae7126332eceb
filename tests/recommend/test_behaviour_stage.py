"""align.behaviour and the space of kind behaviour over a workspace of users with known preferences."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import behaviour_shop
import numpy as np
import pytest
import screens
from behaviour_shop import COLD, FIT, batch, met, small_world
from catalogue import photo, states, write_manifest
from typer.testing import CliRunner

import coldstart
from coldstart.cli import app
from coldstart.core import pipeline as pipelines
from coldstart.core.interactions import interactions
from coldstart.encoders import Passport
from coldstart.errors import ColdstartError, NotFitted
from coldstart.recommend.fit_stage import compared_metrics, content_groups
from coldstart.recommend.inputs import load_content, load_item_vectors, load_newest_fit
from coldstart.recommend.model import RECIPE
from coldstart.recommend.model.selection import SelectionSettings
from coldstart.recommend.settings import Settings, with_behaviour
from coldstart.store.fits import with_fits
from coldstart.store.freshness import PipelineState
from coldstart.store.interactions import InteractionTable

pytestmark = pytest.mark.slow

FITTED = "align.behaviour"
WORLD = small_world()
ITEMS = len(WORLD.content)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace that ran once; leave it as it is."""
    folder = tmp_path_factory.mktemp("behaviour")
    behaviour_shop.shop(folder, WORLD)
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> coldstart.Workspace:
    """The same, to be changed."""
    shutil.copytree(made / "w", tmp_path / "w")
    return coldstart.open(tmp_path / "w")


def seen(made: Path) -> tuple[coldstart.Workspace, Any, Any]:
    """The workspace, its store and its pipeline."""
    workspace = coldstart.open(made / "w")
    return workspace, workspace._store, workspace.pipeline()


def balances(workspace: coldstart.Workspace) -> dict[str, tuple[int, ...]]:
    """Stage -> fresh, failed, filtered, duplicate, pending."""
    return states(workspace.status())  # type: ignore[return-value]


def notes(report: Any, stage: str) -> list[str]:
    """First lines of notes, as a terminal shows them."""
    return next([note.partition("\n")[0] for note in one.notes] for one in report.stages if one.stage == stage)


def done(report: Any) -> dict[str, int]:
    return {one.stage: one.ran.done for one in report.stages}


# -- the fit and its space


@pytest.mark.parametrize("titles", ["another thing", "the same thing"])
def test_a_fit_of_which_nothing_can_be_held_out_waits_and_the_run_goes_on(tmp_path: Path, titles: str) -> None:
    alike = titles == "the same thing"
    rows = [{"item_id": f"item-{place}", "title": titles if alike else f"{titles} {place}"} for place in range(8)]
    raw = behaviour_shop.settings(tmp_path, rows, min_items=4, min_users=2, warm_min=1)
    workspace = coldstart.open(tmp_path / "w", create=True)
    workspace.run(raw, only=["ingest", "text"])
    liked = [(f"user-{user}", f"item-{(user + step) % 8}") for user in range(16) for step in range(1 + alike)]
    users, items = zip(*liked, strict=True)
    log = interactions(users, items, np.arange(len(liked)), np.ones(len(liked), np.float32))
    InteractionTable(workspace._store).append([batch(log)])
    report = workspace.run()
    (note,) = notes(report, FITTED)
    some = "8 items with an interaction (1 that differ in content) 0" if alike else "8 items with an interaction 2"
    too_few = (
        f"of {some} can be held out, liked by 0 users who like another item: too few; bring more with "
        "`coldstart ingest --interactions FILE`"
    )
    assert note == f"waits: {too_few}"
    assert balances(workspace)["index"] == (8, 0, 0, 0, 0)
    with pytest.raises(ColdstartError) as refused:
        workspace.finetune_behaviour()
    assert str(refused.value) == f"align.behaviour: {too_few}"


def test_a_fit_calibrated_in_the_basis_of_a_fold_is_kept_and_made_anew_when_it_is_asked_for(
    shop: coldstart.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldstart.recommend.fit_stage.BehaviourFitStage._is_calibrated", lambda self, fit: False)
    monkeypatch.setattr("coldstart.engine.increment.__version__", "that calibrates otherwise")
    run = shop.run()
    assert notes(run, FITTED) == notes(shop.run(), FITTED), "also where nothing changed since"
    (note,) = notes(run, FITTED)
    assert note.endswith(
        "; an earlier version calibrated the scores of its cold items for another basis than its own: "
        "`coldstart finetune behaviour`"
    )
    assert done(run)[FITTED] == 0
    fitted = shop._store.artifacts.newest(FITTED)
    monkeypatch.undo()
    assert fitted is not None and fitted.report["calibration"]["basis"] == "final"


def test_every_item_with_content_has_a_vector_and_those_with_interactions_are_fitted(made: Path) -> None:
    workspace, store, pipeline = seen(made)
    counts = balances(workspace)
    assert counts[FITTED] == (ITEMS - COLD, 0, COLD, 0, 0)
    assert counts["behaviour"] == (ITEMS, 0, 0, 0, 0)
    assert counts["index"] == (ITEMS, 0, 0, 0, 0)
    cold = [row for row in workspace.failures() if row["stage"] == FITTED]
    assert {(row["state"], row["reason"], row["detail"]) for row in cold} == {
        ("filtered", "no_interactions", "nobody has met it in the training window")
    }
    assert [row["item_id"] for row in cold] == list(WORLD.content.item_ids[-COLD:])
    fitted, artifact = load_newest_fit(store, pipeline)
    assert fitted.item_ids == WORLD.content.item_ids[:-COLD]
    assert artifact.report["interactions"]["learnt_from"] == len(met(WORLD))
    assert workspace.fitted(FITTED) == dict.fromkeys(fitted.item_ids, "train")


def test_rows_are_the_fit_applied_to_the_content(made: Path) -> None:
    workspace, store, pipeline = seen(made)
    fitted, artifact = load_newest_fit(store, pipeline)
    content = load_content(store, pipeline)
    assert content.item_ids == WORLD.content.item_ids
    for space, block in WORLD.content.blocks.items():
        np.testing.assert_array_equal(content.blocks[space], block)
    item_ids, vectors = load_item_vectors(store, pipeline)
    assert item_ids == list(content.item_ids)
    np.testing.assert_allclose(vectors, fitted.items(content), atol=1e-5)
    rows = workspace.vectors("behaviour").sort_by("item_id").to_pylist()
    np.testing.assert_allclose(np.linalg.norm([row["vector"] for row in rows], axis=1), 1, atol=1e-5)
    assert [row["warm"] for row in rows] == fitted.is_warm(item_ids).tolist()
    assert not any(row["warm"] for row in rows[-COLD:])
    passport = Passport.from_json(workspace.published().passports["behaviour"])
    assert passport == Passport(
        "behaviour:align.behaviour", f"sha256:{artifact.digest}", "content: picture, text", fitted.dim
    )


def test_a_batch_in_which_a_space_has_no_vector_is_mapped_by_the_others(shop: coldstart.Workspace) -> None:
    pipeline = shop.pipeline()
    spec = pipeline.stage("behaviour")
    stage: Any = PipelineState(shop._store, with_fits(pipeline, shop._store)).stage(spec.name)
    prepare = stage.preparer()
    words = {"vectors of text": {"vector": WORLD.content.blocks["text"][3].tolist()}}
    record = {"item_id": "new", "title": "a teapot, its photo comes tomorrow", "attributes": None}
    (row,) = stage.compute([prepare({**record, **words, "vectors of picture": None})[0]])
    assert row["vector"].shape == (stage.passport.dim,) and row["norm"] > 0 and not row["warm"]
    (nothing,) = stage.compute([prepare({"item_id": "new", "attributes": None})[0]])
    assert (nothing.reason, nothing.state) == ("no_content", "filtered")


def test_items_without_interactions_find_their_users(made: Path) -> None:
    _, store, pipeline = seen(made)
    fitted, _ = load_newest_fit(store, pipeline)
    item_ids, vectors = load_item_vectors(store, pipeline)
    users = fitted.users(met(WORLD).over(fitted.item_ids).matrix())
    scores = users @ vectors[-COLD:].T
    truth = WORLD.truth[:, -COLD:]
    assert item_ids[-COLD:] == list(WORLD.content.item_ids[-COLD:])
    by_user = [np.corrcoef(score, taste)[0, 1] for score, taste in zip(scores, truth, strict=True)]
    assert np.mean(by_user) > 0.4  # by chance 0


def test_the_neighbours_of_an_item_are_what_the_same_people_like(made: Path) -> None:
    workspace, store, pipeline = seen(made)
    item_ids, vectors = load_item_vectors(store, pipeline)
    query = item_ids[-1]  # nobody has met it
    hits = workspace.search(item=query, spaces=["behaviour"], top_k=5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = [item_ids[place] for place in np.argsort(-(unit @ unit[-1])) if item_ids[place] != query]
    assert [hit.item_id for hit in hits] == order[:5]


def test_a_behaviour_space_is_searched_by_item_and_by_name(made: Path, tmp_path: Path) -> None:
    workspace, _, _ = seen(made)
    assert workspace.published().passports.keys() == {"picture", "text", "behaviour"}
    by_default = workspace.search(item="item-0001", top_k=5)
    assert {space for hit in by_default for space in hit.ranks} <= {"picture", "text"}
    assert {space for hit in workspace.search(text="drama") for space in hit.ranks} <= {"picture", "text", "full_text"}
    with pytest.raises(ColdstartError) as refused:
        workspace.search(text="drama", spaces=["behaviour"])
    assert str(refused.value) == (
        "space 'behaviour' holds vectors of behaviour, and no text has a vector there: search it by an item, or name a "
        "space that takes text"
    )
    with pytest.raises(ColdstartError) as refused:
        workspace.search(image=photo(tmp_path / "asks.jpg", 3), spaces=["behaviour", "picture"])
    assert str(refused.value) == (
        "space 'behaviour' holds vectors of behaviour, and no image has a vector there: search it by an item, or "
        "name a space that takes image"
    )
    with pytest.raises(ColdstartError) as refused:
        workspace.match(item="item-0001", spaces=["behaviour"])
    assert str(refused.value) == (
        "space 'behaviour' holds vectors of behaviour, not of content: match in a space of an encoder"
    )


# -- what comes and changes


def test_a_second_run_does_nothing_and_a_request_without_news_neither(shop: coldstart.Workspace) -> None:
    digest = shop._store.artifacts.newest(FITTED).digest  # type: ignore[union-attr]
    run = shop.run()
    assert set(done(run).values()) == {0}
    assert re.fullmatch(r"fit of \d{4}-\d\d-\d\d \d\d:\d\d UTC in use", notes(run, FITTED)[0])
    (whole,) = (one.notes[0] for one in run.stages if one.stage == FITTED)
    assert "held out as cold" in whole.partition("\n")[2]
    again = notes(shop.finetune_behaviour(), FITTED)[0]
    assert again.endswith("; nothing came or changed since") and " UTC in use: fitted on " in again
    assert [one.digest for one in shop._store.artifacts.all(FITTED)] == [digest]


def test_a_new_item_gets_its_vector_without_a_fit_and_a_changed_photo_its_own_anew(
    made: Path, shop: coldstart.Workspace
) -> None:
    rows = [json.loads(line) for line in (made / "media" / "items.jsonl").read_text("utf-8").splitlines()]
    rows.append({"item_id": "new", "kind": "product", "title": "a new drama", "category": "drama"})
    photo(made / "media" / "other.jpg", 999)
    rows[1]["image"] = "other.jpg"
    before = {row["item_id"]: row["row_key"] for row in shop.vectors("behaviour").to_pylist()}
    report = shop.run(manifest=write_manifest(made / "media" / "changed.jsonl", rows))
    assert {name: count for name, count in done(report).items() if name != "index"} == {
        "ingest": 2,
        "picture": 1,
        "text": 1,
        FITTED: 0,
        "behaviour": 2,
    }
    after = {row["item_id"]: row["row_key"] for row in shop.vectors("behaviour").to_pylist()}
    assert {item for item in after if after[item] != before.get(item)} == {"new", "item-0001"}
    assert balances(shop)[FITTED] == (ITEMS - COLD - 1, 0, COLD + 1, 0, 1)
    assert notes(report, FITTED)[0].endswith("; since then 1 items changed: `coldstart finetune behaviour`")
    assert len(shop.search(item="new", spaces=["behaviour"], top_k=3)) == 3


def test_new_data_wait_for_a_refit_which_makes_all_rows_anew(shop: coldstart.Workspace) -> None:
    cold = WORLD.content.item_ids[-1]
    InteractionTable(shop._store).append([batch(interactions([f"user-{n:04d}" for n in range(9)], [cold] * 9))])
    report = shop.run()
    assert notes(report, FITTED)[0].endswith(
        "; since then 1 items came, 9 interactions came: `coldstart finetune behaviour`"
    )
    assert (done(report)["behaviour"], balances(shop)[FITTED]) == (0, (ITEMS - COLD, 0, COLD - 1, 0, 1))
    fitted = shop.finetune_behaviour()
    assert done(fitted) == {FITTED: ITEMS - COLD + 1}
    assert [note.partition(":")[0] for note in notes(fitted, FITTED)[1:4]] == ["likes", "content", "budget"]
    assert notes(fitted, FITTED)[-1] == f"`coldstart run --workspace {shop.uri}` fills behaviour with it"
    assert balances(shop)["behaviour"] == (0, 0, 0, 0, ITEMS)
    with pytest.raises(NotFitted) as waits:
        load_item_vectors(shop._store, shop.pipeline())
    assert str(waits.value) == (
        f"space 'behaviour' has no vector by the last fit yet: run `coldstart run --workspace {shop.uri}`"
    )
    (note,) = shop.recommend(history=[cold], top_k=2).notes
    assert note == f"scored by content alone (picture, text): {waits.value}"
    assert len(shop.search(item=cold, spaces=["behaviour"], top_k=3)) == 3  # served by the earlier fit until then
    assert done(shop.run())["behaviour"] == ITEMS
    assert next(row["warm"] for row in shop.vectors("behaviour").to_pylist() if row["item_id"] == cold)


def test_other_settings_are_a_fit_of_their_own_and_what_only_stops_one_is_not(shop: coldstart.Workspace) -> None:
    assert set(done(shop.run(overrides=["align.behaviour.min_users=3"])).values()) == {0}
    report = shop.run(overrides=["align.behaviour.max_delta=0"])
    assert (done(report)[FITTED], done(report)["behaviour"]) == (ITEMS - COLD, ITEMS)


def test_a_fit_on_vectors_of_another_encoder_is_not_put_on_those_of_now(shop: coldstart.Workspace) -> None:
    report = shop.run(overrides=["text.encoder=fake:16"], only=["text", "behaviour", "index"])
    waits = (
        "space 'behaviour' waits for stage 'align.behaviour', which was fitted on other vectors than those of picture, "
        "text: run `coldstart finetune behaviour`"
    )
    assert notes(report, "behaviour") == [waits]
    assert balances(shop)["behaviour"] == (0, 0, 0, 0, ITEMS)
    assert shop.published().passports.keys() == {"picture", "text"}
    assert (done(shop.run())[FITTED], balances(shop)["behaviour"]) == (ITEMS - COLD, (ITEMS, 0, 0, 0, 0))


def test_the_training_window_ends_at_until(shop: coldstart.Workspace) -> None:
    shop.run(overrides=["align.behaviour.until=1970-04-01"])  # 90 of the world's 120 days
    report = shop._store.artifacts.newest(FITTED).report  # type: ignore[union-attr]
    rows = met(WORLD)
    assert report["interactions"]["learnt_from"] == int((rows.times < 90 * 86_400).sum()) < len(rows)
    assert report["interactions"]["until"] == "1970-04-01T00:00:00"


def test_a_batch_of_one_gives_what_a_batch_of_all_gives(shop: coldstart.Workspace) -> None:
    item_ids, vectors = load_item_vectors(shop._store, shop.pipeline())
    pipeline = with_fits(shop.pipeline(overrides=["behaviour.batch_size=7"]), shop._store)
    stage: Any = PipelineState(shop._store, pipeline).stage("behaviour")
    shop._store.drop(stage.table, "true")
    shop.run(overrides=["behaviour.batch_size=7"], only=["behaviour"])
    again_ids, again = load_item_vectors(shop._store, pipeline)
    assert again_ids == item_ids
    np.testing.assert_allclose(again, vectors, atol=1e-5)


# -- too little to learn from


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace without interactions that ran once; leave it as it is."""
    folder = tmp_path_factory.mktemp("empty")
    rows = behaviour_shop.entries(folder / "media", WORLD)[:12]
    rows.append({"item_id": "bare", "kind": "product", "description": "that no space reads"})
    raw = behaviour_shop.settings(folder / "media", rows)
    coldstart.open(folder / "w", create=True).run(raw)
    return folder


def test_a_run_goes_on_without_interactions_and_notes_what_waits(empty: Path) -> None:
    workspace = coldstart.open(empty / "w")
    report = workspace.run()
    bring = f"bring more with `coldstart ingest --workspace {workspace.uri} --interactions FILE`"
    assert notes(report, FITTED) == [f"waits: the workspace has no interactions: {bring}"]
    waits = (
        "space 'behaviour' waits for stage 'align.behaviour', which has fitted nothing: run `coldstart finetune "
        "behaviour`"
    )
    assert notes(report, "behaviour") == [waits]
    assert balances(workspace) == states(report.stages)
    assert balances(workspace)[FITTED] == (0, 0, 1, 0, 12)
    assert balances(workspace)["behaviour"] == (0, 0, 0, 0, 13)
    assert balances(workspace)["index"] == (12, 0, 1, 0, 0)
    assert workspace.published().passports.keys() == {"picture", "text"}
    assert [one.notes for one in workspace.status() if one.stage == "behaviour"] == [[waits]]
    bare = {row["stage"]: (row["reason"], row["detail"]) for row in workspace.failures() if row["item_id"] == "bare"}
    assert bare[FITTED] == ("no_content", "picture: no_media; text: no_text")
    with pytest.raises(NotFitted) as nothing:
        load_newest_fit(workspace._store, workspace.pipeline())
    assert str(nothing.value) == "stage 'align.behaviour' has fitted nothing: run `coldstart finetune behaviour`"


def test_a_requested_fit_names_what_is_missing(empty: Path, tmp_path: Path) -> None:
    shutil.copytree(empty / "w", tmp_path / "w")
    workspace = coldstart.open(tmp_path / "w")
    bring = f"bring more with `coldstart ingest --workspace {workspace.uri} --interactions FILE`"
    with pytest.raises(ColdstartError) as refused:
        workspace.finetune_behaviour()
    assert str(refused.value) == f"align.behaviour: the workspace has no interactions: {bring}"
    item, other = WORLD.content.item_ids[:2]
    rows = interactions(["a", "b", "c", "d"], [item, item, other, "unknown"], [9 * 86_400] * 4)
    InteractionTable(workspace._store).append([batch(rows)])
    with pytest.raises(ColdstartError) as refused:
        workspace.finetune_behaviour(overrides=["align.behaviour.until=1970-01-05"])
    assert str(refused.value) == f"align.behaviour: the workspace has no interactions before 1970-01-05: {bring}"
    with pytest.raises(ColdstartError) as refused:
        workspace.finetune_behaviour(overrides=["align.behaviour.until=null", "align.behaviour.warm_min=2"])
    assert str(refused.value) == (
        "align.behaviour: 3 users liked something and 1 items were liked by 2 or more (warm_min), and a fit needs 20 "
        f"(min_users) and 20 (min_items); of 4 interactions 3 are with items whose content is known: {bring}"
    )
    assert notes(workspace.run(), FITTED)[0].startswith("waits: 3 users liked something and 0 items were liked by 5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"align": {"text_image": False, "behaviour": {"spaces": ["picture", "txt"]}}},
            "align.behaviour.spaces: no space 'txt' before it (did you mean 'text'?): there is picture, text",
        ),
        (
            {"align": {"text_image": False, "behaviour": {"weights": {"picture": 1, "sound": 1}}}},
            "align.behaviour.weights has 'sound', and its spaces are picture, text, labels: name those",
        ),
        (
            {"align": {"text_image": False}},
            "behaviour: no stage of kind align.behaviour stands before it: add `align: {behaviour: {}}`",
        ),
        (
            {"behaviour": {"fit": "align.behavior"}},
            "behaviour.fit='align.behavior': no stage of kind align.behaviour has that name before it (did you mean "
            "'align.behaviour'?); there is align.behaviour",
        ),
        (
            {"align": {"text_image": False, "behaviour": {"candidates": {"oracle": {}}}}},
            "candidate 'oracle': no mapper 'oracle'; choose among ",
        ),
    ],
)
def test_faults_name_the_value_and_the_next_step(shop: coldstart.Workspace, changes: Any, message: str) -> None:
    raw = json.loads(json.dumps(shop.pipeline().raw))
    raw["stages"] |= changes
    with pytest.raises(ColdstartError) as caught:
        shop.run(raw)
    assert str(caught.value).startswith(message)
    assert str(caught.value) == message or message.endswith("choose among ")


# -- pipelines


def test_the_group_align_fits_behaviour_only_where_it_is_named() -> None:
    def parts(align: Any) -> list[str]:
        stages = {"ingest": {}, "image": {"stage": "embed", "encoder": "fake:8"}, "align": align}
        return [spec.name for spec in pipelines.load({"stages": stages}).stages][2:]

    assert parts({}) == ["align.text_image"]
    assert parts({"text_image": {}}) == ["align.text_image"]
    assert parts({"behaviour": {}}) == ["align.text_image", FITTED]
    assert parts({"text_image": False, "behaviour": True}) == [FITTED]


@pytest.mark.parametrize(
    ("name", "spaces", "stages", "learns_from"),
    [
        ("starter", None, ["image", "clip", "text", FITTED, "behaviour", "index"], None),
        ("starter", ["text"], ["image", "clip", "text", FITTED, "behaviour", "index"], ("text",)),
        (
            "aligned",
            None,
            ["image", "text", "align.text_image", FITTED, "aligned", "behaviour", "index"],
            None,
        ),
        (
            "aligned",
            ["text", "aligned"],
            ["image", "text", "align.text_image", "aligned", "liking", "behaviour", "index"],
            ("text", "aligned"),
        ),
        ("recommend", None, ["image", "title", "text", FITTED, "behaviour", "index"], ("image", "title", "text")),
        ("recommend", ["image"], ["image", "title", "text", FITTED, "behaviour", "index"], ("image",)),
    ],
)
def test_a_pipeline_without_the_stages_gets_them(
    name: str, spaces: list[str] | None, stages: list[str], learns_from: tuple[str, ...] | None
) -> None:
    raw, overrides = with_behaviour(pipelines.load(name), spaces)
    loaded = pipelines.load(raw, overrides)
    assert [spec.name for spec in loaded.stages][1:] == stages
    assert loaded.of_kind(FITTED)[0].settings.spaces == learns_from


def test_dates_of_a_pipeline_stay_words(tmp_path: Path) -> None:
    loaded = pipelines.load("recommend", ["align.behaviour.until=2026-06-01"])
    assert json.loads(json.dumps(loaded.raw))["stages"]["align"]["behaviour"]["until"] == "2026-06-01"
    assert loaded.of_kind(FITTED)[0].settings.until_s == 1_780_272_000  # date -u -d 2026-06-01 +%s
    loaded = pipelines.load("recommend", ["align.behaviour.until=2026-06-01T02:00:00+02:00"])
    assert loaded.of_kind(FITTED)[0].settings.until_s == 1_780_272_000


def test_items_of_nearly_one_content_are_held_out_together() -> None:
    content = WORLD.content.take([1, 2, 3, 4])
    content.blocks["picture"][1] = content.blocks["picture"][0]  # one picture, other words
    content.blocks["picture"][3], content.blocks["text"][3] = content.blocks["picture"][2], content.blocks["text"][2]
    assert content_groups(content, 0.98).tolist() == [0, 1, 2, 2]
    assert content_groups(content, None).tolist() == [0, 1, 2, 3]


def test_the_defaults_of_the_stage_are_those_of_the_choice() -> None:
    stage, choice = Settings().model_dump(), SelectionSettings()
    assert stage.pop("candidates") is None
    shared = {one.name: getattr(choice, one.name) for one in fields(choice) if one.name != "candidates"}
    assert {name: stage[name] for name in shared} == shared


def test_the_default_budget_leaves_the_keys_of_earlier_fits() -> None:
    assert "budget_s" not in Settings().counted()
    assert Settings(budget_s=60).counted()["budget_s"] == 60


def test_a_fit_of_an_earlier_recipe_is_kept_and_named_and_made_anew_when_it_is_asked_for(
    shop: coldstart.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldstart.recommend.fit_stage.RECIPE", RECIPE + 1)
    monkeypatch.setattr("coldstart.engine.increment.__version__", "of the next recipe")
    run = shop.run()
    assert notes(run, FITTED)[0].endswith(
        "; fitted by the recipe of an earlier version, and a new fit takes the present one: "
        "`coldstart finetune behaviour`"
    )
    assert done(run)[FITTED] == 0
    made: list[str] = []
    monkeypatch.setattr(
        "coldstart.recommend.fit_stage.BehaviourFitStage._fit", lambda *_: (made.append("anew") or 0, ["fitted"])
    )
    shop.finetune_behaviour()
    assert made == ["anew"]


def test_a_recall_of_as_many_as_there_are_is_left_out() -> None:
    report = {"candidates": {"knn": {"recall@20": {}, "ndcg@20": {}}}}
    assert compared_metrics({**report, "judged": {"items": 21}}) == ["recall@20", "ndcg@20"]
    assert compared_metrics({**report, "judged": {"items": 20}}) == ["ndcg@20"]


# -- the command


def test_the_command_shows_what_was_tried_and_which_won(shop: coldstart.Workspace) -> None:
    weights = "align.behaviour.weights={text: 1, labels: 0.2}"
    command = ["finetune", "behaviour", "-w", shop.uri, "--spaces", "text"]
    ran = CliRunner().invoke(app, [*command, "--set", weights, "--set", "align.behaviour.blend=false", "--json"])
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)["fits"][FITTED]
    assert (set(report["candidates"]), report["settings"]["blend"]) == (set(FIT["candidates"]), False)
    assert report["spaces"].keys() == {"text"}
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    assert "; nothing came or changed since" in ran.stdout.replace("\n", " ")
    table = screens.tables(ran.stdout)[-1]
    assert ["mapper", "recall@20", "ndcg@20"] in table
    scores = {
        name: [f"{one['value']:.4f} ({one['low']:.4f}–{one['high']:.4f})" for one in values.values()]
        for name, values in report["candidates"].items()
    }
    best = report["chosen"]
    other = next(name for name in scores if name != best)
    rows = [row for row in table if row[0] in (f"{best} (chosen)", other)]
    assert rows == [[f"{best} (chosen)", *scores[best]], [other, *scores[other]]]

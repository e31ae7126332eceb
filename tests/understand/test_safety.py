"""The safety stage: what it reads, the gate and its appeal, pictures likened to words, and faults of its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from catalogue import coldstart as command
from catalogue import contents, rows, settings, states, write_manifest
from PIL import Image
from poison import write_video

import coldstart
from coldstart import sample
from coldstart.api import Workspace
from coldstart.core import pipeline as pipelines
from coldstart.core.items import Item
from coldstart.core.keys import digest
from coldstart.core.stage import Gate, MapStage
from coldstart.encoders.fake import Fake
from coldstart.engine.resolve import setup_faults
from coldstart.errors import ColdstartError, MissingModel
from coldstart.media.guard import file_sha256
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import build
from coldstart.understand import nsfw, safety_evaluation
from coldstart.understand.safety import Finding, RulePrompts, finding_time_s, score_pictures
from coldstart.understand.safety_evaluation import Share, measure_safety, read_harm_labels, stated_harm
from coldstart.understand.stages.safety import SafetyStage

POLICY = """
name: test
version: 1
rules:
  guns: {about: guns, signs: [{words: [glock], near: [for sale], score: 0.9}, {words: [untraceable], score: 0.5}]}
pictures:
  temperature: 0.5
  rules:
    dark: {about: dark pictures, unsafe: [night, a dark room], safe: [day]}
"""
DETAIL = 'guns 0.90 ≥ 0.8: "Glock 19 for sale" in title; policy test 1'


def unit(*numbers: float) -> Any:
    return np.array(numbers, np.float32) / np.float32(np.linalg.norm(numbers))


class Shop:
    """Three photos and a video; one title is unsafe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        entries = rows(folder / "shop", 3)
        entries[1]["title"] = "Glock 19 for sale"
        entries[2]["title"] = "untraceable parcels"
        write_video(folder / "shop" / "clip.mp4", 2.0)
        entries.append({"item_id": "clip", "title": "a clip", "video": "clip.mp4"})
        self.policy = folder / "policy.yaml"
        self.policy.write_text(POLICY, "utf-8")
        self.settings = settings(write_manifest(folder / "shop" / "items.jsonl", entries), workers=1)
        self.workspace: Workspace = coldstart.open(folder / "workspace", create=True)

    def stages(self, *names: str, **own: Any) -> None:
        """The stages in this order, `safety` among them with these settings."""
        safety = {"stage": "understand.safety", "policy": str(self.policy), **own}
        known = {**self.settings["stages"], "safety": safety}
        self.settings["stages"] = {name: known[name] for name in names}

    def run(self) -> dict[str, int]:
        """Run; rows done in each stage, and the balance in `balances`."""
        report = self.workspace.run(self.settings)
        self.balances = states(report.stages)
        self.notes = {stage.stage: list(stage.notes) for stage in report.stages}
        return {stage.stage: stage.ran.done for stage in report.stages}

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        return contents(self.folder / "workspace")

    def ledger(self) -> dict[tuple[str, str], tuple[str, str, str]]:
        return {
            (row["stage"], row["item_id"]): (row["state"], row["reason"], row["detail"])
            for row in self.contents().get("ledger", [])
        }

    def found(self) -> dict[str, dict[str, float]]:
        """Item -> rule -> score, as the stage's rows say."""
        return {
            row["item_id"]: {entry["rule"]: round(entry["score"], 4) for entry in row["scores"]}
            for row in self.contents()["stage.safety"]
        }


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


# -- the gate


@pytest.mark.slow
def test_an_unsafe_item_is_closed_to_all_later_stages_and_can_be_appealed(shop: Shop) -> None:
    shop.stages("ingest", "safety", "image", "text", "index")
    assert shop.run() == {"ingest": 4, "safety": 4, "image": 3, "text": 3, "index": 3}
    assert shop.balances == {
        "ingest": (4, 0, 0, 0, 0),
        "safety": (4, 0, 0, 0, 0),
        **dict.fromkeys(("image", "text", "index"), (3, 0, 1, 0, 0)),
    }
    verdict = ("filtered", "unsafe", DETAIL)
    assert shop.ledger() == {("image", "p1"): verdict, ("text", "p1"): verdict, ("index", "p1"): verdict}
    assert shop.notes["safety"] == [
        "1 item is closed to later stages by policy test 1: see `coldstart status --failed`"
    ]
    assert shop.found() == {"p0": {}, "p1": {"guns": 0.9}, "p2": {"guns": 0.5}, "clip": {}}
    before = shop.contents()

    shop.stages("ingest", "safety", "image", "text", "index", threshold=0.95)
    assert shop.run() == {"ingest": 0, "safety": 0, "image": 1, "text": 1, "index": 1}
    assert set(shop.balances.values()) == {(4, 0, 0, 0, 0)}
    assert shop.ledger() == {} and shop.notes["safety"] == []
    after = shop.contents()
    assert after["stage.safety"] == before["stage.safety"]
    assert [row for row in after["catalog"] if row["item_id"] != "p1"] == before["catalog"]
    assert len(after["catalog"]) == 4

    shop.stages("ingest", "safety", "image", "text", "index", threshold=0.95, thresholds={"guns": 0.5})
    assert shop.run() == {"ingest": 0, "safety": 0, "image": 0, "text": 0, "index": 2}
    assert {item for stage, item in shop.ledger() if stage == "image"} == {"p1", "p2"}
    assert shop.ledger()["text", "p2"][2] == 'guns 0.50 ≥ 0.5: "untraceable" in title; policy test 1'
    assert {row["item_id"] for row in shop.contents()["catalog"]} == {"p0", "clip"}


@pytest.mark.slow
def test_a_threshold_equal_to_the_score_closes(shop: Shop) -> None:
    shop.stages("ingest", "safety", "text", "index", threshold=0.9)  # as a half-precision number it would be above
    shop.run()
    assert {item for _, item in shop.ledger()} == {"p1"}


@pytest.mark.slow
def test_status_shows_rule_score_and_words(shop: Shop) -> None:
    shop.stages("ingest", "safety", "text", "index")
    shop.run()
    shown = command("status", "--failed", "--json", "--workspace", shop.folder / "workspace")
    assert shown.returncode == 0
    listed = [(row["stage"], row["item_id"], row["reason"], row["detail"]) for row in json.loads(shown.stdout)["items"]]
    assert listed == [("text", "p1", "unsafe", DETAIL), ("index", "p1", "unsafe", DETAIL)]


@pytest.mark.slow
def test_a_changed_policy_judges_all_texts_anew_and_encodes_what_it_lets_through(shop: Shop) -> None:
    shop.stages("ingest", "safety", "image", "text", "index")
    shop.run()
    shop.policy.write_text("# a note\n" + POLICY.replace("about: guns", "about: firearms"), "utf-8")
    assert shop.run() == {"ingest": 0, "safety": 0, "image": 0, "text": 0, "index": 0}
    shop.policy.write_text(POLICY.replace("version: 1", "version: 2").replace("glock", "howitzer"), "utf-8")
    assert shop.run() == {"ingest": 0, "safety": 4, "image": 1, "text": 1, "index": 1}
    assert shop.ledger() == {}
    assert {row["policy"] for row in shop.contents()["stage.safety"]} == {"test 2"}


@pytest.mark.slow
def test_another_title_is_judged_alone(shop: Shop) -> None:
    shop.stages("ingest", "safety", "text", "index")
    shop.run()
    manifest = Path(shop.settings["manifest"])
    manifest.write_text(manifest.read_text("utf-8").replace("Glock 19", "Glockenspiel"), "utf-8")
    assert shop.run() == {"ingest": 1, "safety": 1, "text": 1, "index": 1}
    assert shop.ledger() == {}


# -- evidence


def test_the_words_of_the_media_are_judged_with_their_second(shop: Shop) -> None:
    shop.stages("ingest", "safety")
    stage = the_stage(shop)
    timeline = [
        {"start_s": 0.0, "end_s": 9.0, "source": "shot", "text": ""},
        {"start_s": 0.5, "end_s": 2.0, "source": "speech", "text": " Hello all. "},
        {"start_s": 3.25, "end_s": 5.0, "source": "speech", "text": "One Glock for sale."},
        {"start_s": 4.0, "end_s": 6.0, "source": "screen", "text": "CALL NOW"},
        {"start_s": 6.5, "end_s": 8.0, "source": "screen", "text": "untraceable"},
    ]
    evidence = {
        "timeline": timeline,
        "transcript": "Hello all. One Glock for sale.",
        "screen_text": "CALL NOW\nuntraceable",
        "language": "en",
    }
    scored, cost = stage.preparer()({"title": None, "tags": ["untraceable"], "evidence": evidence})
    assert cost == 1.0
    (row,) = stage.compute([scored])
    assert isinstance(row, dict)
    assert [(found["source"], found["quote"], found["at_s"]) for found in row["findings"]] == [
        ("tags", "untraceable", None),
        ("transcript", "Glock for sale", 3.25),
        ("screen_text", "untraceable", 6.5),
    ]
    assert row["scores"] == [{"rule": "guns", "score": 0.95}]
    assert row["policy"] == "test 1"


def test_the_verdict_says_the_second(shop: Shop) -> None:
    shop.stages("ingest", "safety")
    stage = the_stage(shop)
    found = {"rule": "guns", "score": 0.9, "source": "transcript", "quote": "Glock\n for sale", "at_s": 3.2}
    verdict = stage._verdict({"findings": [found], "policy": "test 1"}, "guns", 0.9)
    assert str(verdict) == 'unsafe: guns 0.90 ≥ 0.8: "Glock for sale" in transcript at 3.2 s; policy test 1'


def test_a_text_that_is_on_no_timeline_has_no_second() -> None:
    assert finding_time_s(Finding("r", 1.0, "screen_text", "b", 2), {"screen_text": "a\nb", "timeline": []}) is None
    assert finding_time_s(Finding("r", 1.0, "transcript", "b", 0), {"transcript": "b", "timeline": None}) is None
    assert finding_time_s(Finding("r", 1.0, "title", "b", 0), {}) is None


def test_evidence_is_read_where_it_stands_before(shop: Shop) -> None:
    off = dict.fromkeys(("fingerprint", "duplicates", "quality", "shots", "screen"), False)
    shop.settings["stages"] = {"ingest": {}, "understand": {**off, "speech": {"model": "fake"}}}
    pipeline = pipelines.load(shop.settings)
    stage = build(pipeline.stages[-1], pipeline)
    assert isinstance(stage, MapStage) and isinstance(stage, Gate)
    assert (stage.name, dict(stage.reads)) == ("understand.safety", {"evidence": "understand.evidence"})
    shop.settings["stages"] = {"ingest": {}, "understand": {**off, "speech": False, "evidence": False}}
    pipeline = pipelines.load(shop.settings)
    assert build(pipeline.stages[-1], pipeline).reads == {}  # type: ignore[union-attr]


# -- pictures


def test_a_picture_is_likened_to_prompts() -> None:
    prompts = RulePrompts(("x", "y"), np.array([[1, 0], [0, 1]], np.float32), np.array([[-1, 0]], np.float32))
    vectors = np.array([unit(-1, 0.1), unit(0.1, 1)])
    found = score_pictures(vectors, prompts, 0.5)
    weights = np.exp(np.array([0.1, 1.0, -0.1]) / np.hypot(0.1, 1) / 0.5)
    assert found.score == pytest.approx(weights[:2].sum() / weights.sum(), abs=1e-6)
    assert (found.prompt, found.place) == ("y", 1)


@pytest.mark.slow
def test_pictures_are_scored_from_the_stored_vectors(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stages("ingest", "image", "text", "index")
    shop.run()

    def refuse(*_: Any) -> Any:
        raise AssertionError("a picture was encoded again")

    monkeypatch.setattr(Fake, "encode_images", refuse)
    shop.stages("ingest", "image", "safety", "text", "index", space="image")
    assert shop.run() == {"ingest": 0, "image": 0, "safety": 4, "text": 0, "index": 1}
    assert {item for _, item in shop.ledger()} == {"p1"}, "by its title; no picture closes an item without a threshold"
    table = next(rows for name, rows in shop.contents().items() if name.startswith("stage.image-"))
    fake = Fake(32)
    for row in table:
        vectors = np.array([*(row["frame_vectors"] or ()), row["vector"]], np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        weights = np.exp(vectors @ fake.encode_queries(["night", "a dark room", "day"]).T / 0.5)
        shares = weights[:, :2].sum(axis=1) / weights.sum(axis=1)
        assert shop.found()[row["item_id"]]["dark"] == pytest.approx(shares.max(), abs=1e-3)
        safety = {found["item_id"]: found for found in shop.contents()["stage.safety"]}[row["item_id"]]
        (finding,) = [found for found in safety["findings"] if found["rule"] == "dark"]
        times = [*(row["frame_times_s"] or ()), None]
        assert finding["source"] == "image" and finding["quote"] in ("night", "a dark room")
        assert finding["at_s"] == times[int(shares.argmax())]


@pytest.mark.slow
def test_a_picture_closes_an_item_once_a_threshold_is_set(shop: Shop) -> None:
    shop.stages("ingest", "image", "safety", "text", "index", space="image")
    shop.run()
    scores = {item: found["dark"] for item, found in shop.found().items()}
    worst = max(scores, key=lambda item: scores[item])
    limit = round(sorted(scores.values())[-1] - 1e-4, 4)
    shop.stages("ingest", "image", "safety", "text", "index", space="image", threshold=1.0, thresholds={"dark": limit})
    assert shop.run()["safety"] == 0
    assert {item for _, item in shop.ledger()} == {worst}
    detail = shop.ledger()["text", worst][2]
    assert detail.startswith(f'dark {scores[worst]:.2f} ≥ {limit:g}: "') and " in image" in detail


def test_an_item_without_a_vector_is_judged_by_its_words_alone(shop: Shop) -> None:
    shop.stages("ingest", "image", "safety", space="image")
    stage = the_stage(shop)
    scored, _ = stage.preparer()({"title": "Glock for sale", "tags": None, "evidence": None, "space": None})
    (row,) = stage.compute([scored])
    assert isinstance(row, dict)
    assert [found["rule"] for found in row["findings"]] == ["guns"]
    assert dict(stage.reads) == {"space": "image"}


# -- settings


def the_stage(shop: Shop) -> SafetyStage:
    pipeline = pipelines.load(shop.settings)
    spec = pipeline.stage("safety")
    stage = build(spec, pipeline)
    assert isinstance(stage, SafetyStage)
    return stage


def test_thresholds_are_no_part_of_the_fingerprint(shop: Shop) -> None:
    prints = set()
    for own in ({}, {"threshold": 0.1}, {"thresholds": {"dark": 0.2}}):
        shop.stages("ingest", "image", "safety", **own)
        prints.add(digest(the_stage(shop).fingerprint()))
    shop.stages("ingest", "image", "safety", space="image")
    assert len(prints) == 1 and digest(the_stage(shop).fingerprint()) not in prints


def first_fault(shop: Shop) -> list[str]:
    return setup_faults(pipelines.load(shop.settings))


@pytest.mark.parametrize(
    ("own", "fault"),
    [
        (
            {"thresholds": {"gun": 0.5}},
            "safety.thresholds: policy test 1 has no rule 'gun' (did you mean 'guns'?): it has guns, dark",
        ),
        (
            {"space": "images"},
            "safety.space: no image space 'images' stands before it (did you mean 'image'?): put the embed "
            "stage above it (there: image)",
        ),
        (
            {"space": "text"},
            "safety.space: no image space 'text' stands before it: put the embed stage above it (there: image)",
        ),
        (
            {"space": "late"},
            "safety.space: no image space 'late' stands before it: put the embed stage above it (there: image)",
        ),
        ({"policy": "nope"}, "safety: no policy 'nope': give a path or one of safety"),
    ],
)
def test_faults_of_the_settings_are_told_before_a_run(shop: Shop, own: dict[str, Any], fault: str) -> None:
    shop.settings["stages"]["late"] = {"stage": "embed", "encoder": "fake:32", "input": "image"}
    shop.stages("ingest", "image", "text", "safety", "late", **own)
    assert first_fault(shop) == [fault]


def test_a_space_that_reads_no_text_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "modalities", frozenset({"image"}))
    shop.stages("ingest", "image", "safety", space="image")
    assert first_fault(shop) == [
        "safety.space: encoder fake:32 of 'image' reads no text into the space of its pictures, so that they "
        "cannot be compared with words: take one that does, such as open_clip, or leave space out"
    ]


def test_a_space_needs_a_policy_of_pictures(shop: Shop) -> None:
    shop.policy.write_text(POLICY.partition("pictures:")[0], "utf-8")
    shop.stages("ingest", "image", "safety", space="image")
    assert first_fault(shop) == ["safety.space: policy test 1 has no rules on pictures: add `pictures:` to it"]


@pytest.mark.parametrize("threshold", [0, 1.5, "high"])
def test_a_threshold_is_a_score(shop: Shop, threshold: Any) -> None:
    shop.stages("ingest", "safety", threshold=threshold)
    with pytest.raises(ColdstartError, match=r"safety\.threshold="):
        pipelines.load(shop.settings)


# -- pictures by a classifier


CLASSIFIED = (
    POLICY
    + """
  classifiers:
    bright: {about: bright pictures, model: open_nsfw, threshold: 0.9}
"""
)


class Gallery:
    """Items of one picture or video of one brightness, judged by the fake classifier without an engine."""

    def __init__(self, folder: Path, policy: str = CLASSIFIED, **own: Any) -> None:
        self.folder = folder
        (folder / "policy.yaml").write_text(policy, "utf-8")
        safety = {"stage": "understand.safety", "policy": str(folder / "policy.yaml"), "classifier": "fake", **own}
        pipeline = pipelines.load({"stages": {"safety": safety}}, media_roots=[folder])
        made = build(pipeline.stages[0], pipeline)
        assert isinstance(made, SafetyStage)
        self.stage = made

    def medium(self, name: str, *shades: int) -> dict[str, Any]:
        """One picture of a shade, or a video of several, a second each."""
        path = self.folder / name
        images = [np.full((64, 64, 3), shade, np.uint8) for shade in shades]
        if len(images) == 1:
            Image.fromarray(images[0]).save(path)
            return {"role": "image", "uri": str(path)}
        with av.open(path, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=4)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for image in images:
                for _ in range(4):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(stream.encode())
        return {"role": "video", "uri": str(path)}

    def row(self, media: list[dict[str, Any]], title: str = "a lamp") -> dict[str, Any]:
        item = {"item_id": "a", "title": title, "media": [*media]}
        for entry in item["media"]:
            entry["digest"] = file_sha256(Path(entry["uri"]))
            entry["size_bytes"] = Path(entry["uri"]).stat().st_size
        (row,) = self.stage.compute([self.stage.preparer()(item)[0]])
        assert isinstance(row, dict)
        return row


def test_a_bright_picture_is_found_by_its_classifier_and_said_in_plain_words(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    row = gallery.row([gallery.medium("dim.png", 20), gallery.medium("white.png", 250)])
    (found,) = row["findings"]
    assert (found["rule"], found["source"], found["at_s"]) == ("bright", "open_nsfw", None)
    assert found["quote"] == "picture: 0.98 unsafe by open_nsfw" and row["policy"] == "test 1, pictures by open_nsfw"
    verdict = gallery.stage._verdict(row, "bright", 0.98)
    assert verdict.detail == (
        "bright 0.98 ≥ 0.9: picture: 0.98 unsafe by open_nsfw; policy test 1, pictures by open_nsfw"
    )


def test_a_finding_in_a_video_has_the_time_of_its_frame(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, frames=12)
    (found,) = gallery.row([gallery.medium("clip.mp4", 10, 10, 245)])["findings"]
    assert found["quote"].startswith("frame: 0.9") and found["at_s"] == pytest.approx(2.5, abs=0.51)


def test_pictures_of_low_scores_or_none_are_no_findings(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    assert gallery.row([gallery.medium("dim.png", 20)])["findings"] == []
    without = gallery.row([], title="Glock 19 for sale")
    assert [one["rule"] for one in without["findings"]] == ["guns"] and without["policy"] == "test 1"
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    broken = gallery.row([{"role": "image", "uri": str(tmp_path / "broken.png")}], title="Glock 19 for sale")
    assert [one["rule"] for one in broken["findings"]] == ["guns"] and broken["policy"] == "test 1"


def test_thresholds_of_the_policy_close_and_those_of_the_stage_come_first(tmp_path: Path) -> None:
    assert Gallery(tmp_path).stage._threshold("bright") == 0.9
    assert Gallery(tmp_path, thresholds={"bright": 0.99}).stage._threshold("bright") == 0.99
    plain = Gallery(tmp_path).stage.fingerprint()
    assert Gallery(tmp_path, CLASSIFIED.replace("0.9}\n", "0.7}\n")).stage.fingerprint() == plain


def test_keys_say_whether_a_classifier_was_used_and_are_as_before_without_one(tmp_path: Path) -> None:
    on, off = Gallery(tmp_path), Gallery(tmp_path, classifier="off")
    before = Gallery(tmp_path, POLICY, classifier="off")
    assert "classifier" in on.stage.fingerprint()
    assert off.stage.fingerprint() == before.stage.fingerprint() and off.stage.item_fields == before.stage.item_fields
    assert set(on.stage.item_fields) - set(off.stage.item_fields) == {"media.image", "media.video"}
    assert not off.stage.isolated and on.stage.isolated


def test_a_model_that_was_not_pulled_is_said_where_it_is_optional_and_an_error_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "none"))
    shy = Gallery(tmp_path, classifier="auto")
    assert "classifier" not in shy.stage.fingerprint()
    (note,) = shy.stage.notes(Store(tmp_path / "workspace", create=True))
    assert note.startswith("no picture is scored") and "coldstart models pull safety-pictures" in note
    with pytest.raises(MissingModel, match="models pull safety-pictures"):
        Gallery(tmp_path, classifier="open_nsfw")
    with pytest.raises(ColdstartError, match="has no rule for it"):
        Gallery(tmp_path, POLICY)


@pytest.mark.slow
def test_the_real_classifier_calls_a_lemon_harmless() -> None:
    try:
        weights = nsfw.find_weights()
    except MissingModel as missing:
        pytest.skip(str(missing))
    photo = Image.open(sample.path() / "images" / "08_Lemon.jpg").convert("RGB")
    image = np.asarray(photo.resize((nsfw.SIDE, nsfw.SIDE), Image.Resampling.BILINEAR))
    first, again = nsfw.OpenNsfw(weights, "cpu").scores([image, image])
    assert first == again and 0 < first < 0.2


def stored(folder: Path, records: dict[str, dict[str, Any]], shades: dict[str, int]) -> tuple[Store, SafetyStage]:
    """A store of items with a picture of a shade each, white ones closed, and the safety stage over its rows."""
    gallery = Gallery(folder)
    store = Store(folder / "w", create=True)
    items = [Item.parse({"item_id": key, "title": "a lamp", "attributes": own}) for key, own in records.items()]
    own = [item.row()["attributes"] for item in items]
    store.append(ITEMS, pa.table({"item_id": [*records], "row_key": [*records], "attributes": own}))
    made = [
        {**gallery.row([gallery.medium(f"{key}.png", shade)] if shade else []), "item_id": key, "row_key": key}
        for key, shade in shades.items()
    ]
    store.append(gallery.stage.table, pa.Table.from_pylist(made, schema=gallery.stage.schema))
    return store, gallery.stage


def test_false_alarms_are_counted_and_recall_is_unmeasured_without_unsafe_items(tmp_path: Path) -> None:
    records = {"white": {"adult": "no"}, "dim": {"safety": "safe"}, "text": {"Adult": False}, "else": {"adult": "?"}}
    store, stage = stored(tmp_path, records, {"white": 250, "dim": 20, "text": 0, "else": 250})
    found = measure_safety(store, stage, stated_harm(store))
    assert (found.picture_alarms, found.alarms, found.unlabelled) == (Share(1, 2), Share(1, 3), Share(1, 1))
    assert found.picture_alarms.bounds == pytest.approx((0.0945, 0.9055), abs=1e-4)  # Wilson; statsmodels 0.14
    assert (found.recall.value, found.recall.bounds, found.classifier) == (None, None, "open_nsfw")
    assert list(found.wrong) == ["white"] and found.wrong["white"].startswith("bright 0.98 ≥ 0.9: picture")
    known = measure_safety(store, stage, {**stated_harm(store), "else": True, "dim": True})
    assert (known.recall, known.picture_recall, known.alarms) == (Share(1, 2), Share(1, 2), Share(1, 2))
    assert json.loads(json.dumps(known.to_dict()))["recall"]["value"] == 0.5
    with pytest.raises(ColdstartError, match=r"^stage safety has no rows: `coldstart run "):
        measure_safety(Store(tmp_path / "empty", create=True), stage, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item_id,label\na,safe\nb,Unsafe\n", {"a": False, "b": True}),
        ('{"item_id": "a", "label": "harmless"}\n', {"a": False}),
        (
            "item_id,label\na,maybe\n",
            "line 2: give item_id and label, one of safe, unsafe, harmless: item_id='a', label='may",
        ),
        ("", "has no rows: give item_id,label"),
        ("{nothing}\n", "no JSON object in every line"),
    ],
)
def test_labels_of_harm_are_read(text: str, expected: object, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text(text, "utf-8")
    if isinstance(expected, dict):
        assert read_harm_labels(path) == expected
    else:
        with pytest.raises(ColdstartError) as caught:
            read_harm_labels(path)
        assert str(expected) in str(caught.value)


def test_labels_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety_evaluation, "_MOST_LABELS", 1)
    (tmp_path / "labels").write_text("item_id,label\na,safe\nb,unsafe\n", "utf-8")
    with pytest.raises(ColdstartError, match=r"2 lines, and 1 are read"):
        read_harm_labels(tmp_path / "labels")

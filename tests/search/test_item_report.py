"""Report on one item, from rows written by hand: nothing is left out, made up, or taken for fresh."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from item_rows import MATCH, SCREEN, SHOTS, SPEECH, part
from known import GatePart, Part, WholePart, catalogue, evidence, fill, pipeline_of

import coldstart
from coldstart.core.pipeline import StageSpec
from coldstart.core.stage import LedgerRow, Reject
from coldstart.errors import ColdstartError
from coldstart.search.item_report import Dossier, StageState, collect_dossier
from coldstart.store import ITEMS, Store, freshness
from coldstart.store.freshness import expected_keys

CLIPS = ("clip-01", "clip-02", "grocery-product-08", "grocery-product-10")
BAD = {"item_id": "bad", "title": "gone", "video": "missing.mp4"}


@dataclass
class World:
    """A workspace with a pipeline whose stages stand as they are."""

    store: Store
    monkeypatch: pytest.MonkeyPatch

    def put(self, *stages: Any) -> None:
        self.stages = {stage.name: stage for stage in (Part("ingest", "ingest"), *stages)}
        self.monkeypatch.setattr(freshness, "build", self.build)

    def build(self, spec: StageSpec, pipeline: Any) -> Any:
        stage = self.stages[spec.name]
        if isinstance(stage, ColdstartError):
            raise stage
        return stage

    def of(self, item: str) -> Dossier:
        found = self.find(item)
        assert found is not None
        return found

    def find(self, item: str) -> Dossier | None:
        return collect_dossier(
            self.store, pipeline_of([one for name, one in self.stages.items() if name != "ingest"]), item
        )


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogue")
    catalogue(folder, CLIPS, [BAD, {"item_id": "words", "title": "only words", "attributes": {"size": [1, 2]}}])
    return folder / "workspace"


@pytest.fixture
def world(ingested: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    store = Store(ingested)
    yield World(store, monkeypatch)
    for table in store.tables():
        if table.startswith("stage.understand"):
            store.db.drop_table(table)


@pytest.mark.slow
def test_every_part_is_in_it(world: World) -> None:
    stages = {name: part(name) for name in ("quality", "shots", "speech", "screen", "evidence", "safety")}
    world.put(WholePart("understand.duplicates"), *stages.values())
    findings = [{"rule": "scam", "score": 0.75, "source": "transcript", "quote": "send money", "at_s": 0.5}]
    scores = [{"rule": "scam", "score": 0.75}]
    fill(world.store, stages["shots"], {"clip-02": SHOTS})
    fill(world.store, stages["speech"], {"clip-02": SPEECH})
    fill(world.store, stages["screen"], {"clip-02": SCREEN})
    fill(world.store, stages["evidence"], {"clip-02": evidence(SHOTS, SPEECH, SCREEN)})
    fill(world.store, stages["safety"], {"clip-02": {"findings": findings, "scores": scores, "policy": "safety 1"}})
    fill(world.store, stages["quality"], {"clip-02": {"sharpness": 40.5, "has_audio": True}})
    found = world.of("clip-02")
    assert (found.item_id, found.item["title"], found.duration_s) == ("clip-02", "traffic lights on my plate", 10.8)
    assert [(one.start_s, one.end_s, one.source, one.text, one.confidence) for one in found.timeline] == [
        (0.0, 3.6, "shot", "", None),
        (0.4, 2.3, "speech", "Red, yellow and green.", 0.75),
        (3.5, 5.0, "screen", "18.90 kr", 0.5),
        (3.6, 10.8, "shot", "", None),
    ]
    assert (found.transcript, found.screen_text, found.spoken_language) == ("Red, yellow and green.", "18.90 kr", "en")
    assert found.spoken_language_confidence == pytest.approx(0.9)
    assert (found.shots, found.frame_times_s) == (SHOTS["shots"], [1.8, 7.2])
    assert found.lines[0]["text"] == "18.90 kr"
    assert found.dropped == SPEECH["dropped"]
    assert found.quality == {"sharpness": 40.5, "has_audio": True}
    assert found.safety == {"findings": findings, "scores": scores, "policy": "safety 1"}
    assert found.coverage == {
        "watched_s": 10.8, "heard_s": 10.8, "voiced_s": 3.5, "frames_read": 4, "frames_skipped": 2,
    }  # fmt: skip
    assert [stage.state for stage in found.stages] == ["fresh", "pending", *["fresh"] * 6]


@pytest.mark.slow
def test_without_evidence_the_parts_are_joined(world: World) -> None:
    speech, screen = part("speech"), part("screen")
    world.put(speech, screen)
    fill(world.store, speech, {"clip-02": SPEECH})
    fill(world.store, screen, {"clip-02": SCREEN})
    found = world.of("clip-02")
    assert [entry.text for entry in found.timeline] == ["Red, yellow and green.", "18.90 kr"]
    assert (found.transcript, found.screen_text, found.spoken_language) == ("Red, yellow and green.", "18.90 kr", "en")


@pytest.mark.slow
def test_an_item_of_which_nothing_is_known(world: World) -> None:
    world.put(part("shots"), part("evidence"))
    found = world.of("words")
    assert found.item["attributes"] == {"size": [1, 2]}
    assert (found.duration_s, found.duplicate_of, found.spoken_language, found.transcript) == (None, None, None, "")
    for empty in (found.timeline, found.shots, found.lines, found.dropped, found.quality, found.safety, found.copies):
        assert not empty
    assert found.stages == [
        StageState("ingest", "ingest", "fresh", has_row=True),
        StageState("understand.shots", "understand.shots", "pending"),
        StageState("understand.evidence", "understand.evidence", "pending"),
    ]


def test_a_pipeline_without_understand(world: World) -> None:
    world.put(Part("text", "embed"))
    fill(world.store, part("shots"), {"clip-01": SHOTS})
    assert world.of("clip-01").shots == [], "a table that no stage of the pipeline has is not read"


def test_copies_and_originals_see_the_same_match_from_their_own_side(world: World) -> None:
    duplicates = WholePart("understand.duplicates")
    world.put(duplicates)
    copy = {"arrived": 3, "duplicate_of": "clip-01", "score": 0.5, "mirrored": True, "speed": 1.25, "matches": [MATCH]}
    early = {**copy, "arrived": 1, "matches": []}
    fill(world.store, duplicates, {"clip-01": {"arrived": 0}, "clip-02": copy, "words": early})
    (words, clip) = world.of("clip-01").copies
    assert (words.item_id, words.title, words.medium, words.matches) == ("words", "only words", None, [])
    assert (clip.item_id, clip.title) == ("clip-02", "traffic lights on my plate")
    assert (clip.score, clip.mirrored, clip.speed) == (0.5, True, 1.25)
    assert (clip.changes, clip.found_by, clip.placement) == ("mirrored", None, None), "a row of an earlier version"
    assert clip.matches == [{"start_s": 1.0, "end_s": 6.5, "other_start_s": 0.0, "other_end_s": 5.0}]
    original = world.of("clip-02").duplicate_of
    assert original is not None and original.medium is not None
    assert (original.item_id, original.matches, original.medium["role"]) == ("clip-01", [MATCH], "video")
    assert world.of("clip-01").duplicate_of is None


def test_an_original_that_left_the_workspace_is_still_named(world: World) -> None:
    duplicates = WholePart("understand.duplicates")
    world.put(duplicates)
    fill(world.store, duplicates, {"clip-02": {"arrived": 3, "duplicate_of": "it's gone", "matches": []}})
    original = world.of("clip-02").duplicate_of
    assert original is not None
    assert (original.item_id, original.title, original.medium) == ("it's gone", None, None)


@pytest.mark.slow
def test_states_are_those_of_the_balance(world: World) -> None:
    speech, safety = part("speech"), part("safety", GatePart, out={"clip-01": Reject("unsafe", "scam", "filtered")})
    shots = part("shots")
    screen = part("screen", reads={"shots": shots.name})
    late = Part("text", "embed")
    copies = WholePart(
        "understand.duplicates",
        verdicts={"words": LedgerRow("understand.duplicates", "words", "k", "filtered", "no_fingerprint", "no media")},
    )
    world.put(copies, shots, speech, screen, safety, late)
    key = expected_keys(speech, world.store.keys(ITEMS))["clip-01"]
    fill(world.store, safety, {"clip-01": {"findings": [], "scores": [], "policy": "safety 1"}})
    fill(world.store, shots, {"clip-01": SHOTS}, key="of other settings")
    try:
        world.store.record([LedgerRow(speech.name, "clip-01", key, "failed", "corrupt_audio", "not one frame")])
        stages = {stage.stage: stage for stage in world.of("clip-01").stages}
    finally:
        world.store.delete_verdicts(speech.name, ["clip-01"])
    assert stages == {
        "ingest": StageState("ingest", "ingest", "fresh", has_row=True),
        copies.name: StageState(copies.name, copies.kind, "pending"),
        shots.name: StageState(shots.name, shots.kind, "pending", has_row=True),
        speech.name: StageState(speech.name, speech.kind, "failed", "corrupt_audio", "not one frame"),
        screen.name: StageState(screen.name, screen.kind, "pending", "", "waits for understand.shots"),
        safety.name: StageState(safety.name, safety.kind, "fresh", has_row=True, keeps_out="unsafe: scam"),
        "text": StageState("text", "embed", "filtered", "unsafe", "scam"),
    }
    words = {stage.stage: stage for stage in world.of("words").stages}
    assert words[copies.name] == StageState(copies.name, copies.kind, "filtered", "no_fingerprint", "no media")
    assert world.of("clip-01").shots == SHOTS["shots"], "a row of before is shown"


def test_a_stage_that_cannot_be_built_hides_nothing_else(world: World) -> None:
    shots = part("shots")
    world.put(shots)
    world.stages["text"] = ColdstartError("no weights of fake:16: run `coldstart models pull`")
    fill(world.store, shots, {"clip-01": SHOTS})
    pipeline = pipeline_of([shots, Part("text", "embed")])
    found = collect_dossier(world.store, pipeline, "clip-01")
    assert found is not None
    assert [(stage.stage, stage.state, stage.detail) for stage in found.stages] == [
        ("ingest", "fresh", ""),
        ("understand.shots", "fresh", ""),
        ("text", "unknown", "no weights of fake:16: run `coldstart models pull`"),
    ]


def test_an_item_that_ingest_turned_away_has_its_verdict_alone(world: World) -> None:
    world.put(part("shots"))
    found = world.of("bad")
    assert found.item == {"item_id": "bad"}
    (stage,) = found.stages
    assert (stage.stage, stage.state, stage.reason) == ("ingest", "failed", "not_found")
    assert world.find("nobody") is None


def test_as_json_it_is_the_same_and_has_no_numbers_that_json_lacks(world: World) -> None:
    quality, speech = part("quality"), part("speech")
    world.put(quality, speech)
    fill(world.store, quality, {"clip-02": {"sharpness": float("nan"), "black_share": 0.1 + 0.2, "has_audio": False}})
    fill(world.store, speech, {"clip-02": {**SPEECH, "language_confidence": float("nan")}})
    known = json.loads(json.dumps(world.of("clip-02").to_dict(), allow_nan=False))
    assert known["item_id"] == known["item"]["item_id"] == "clip-02"
    assert known["quality"] == {"black_share": 0.3, "has_audio": False}
    assert known["spoken_language_confidence"] is None
    assert known["item"]["created_at"] == "2026-09-01T07:25:00+00:00"
    assert known["item"]["media"][0]["width"] == 320
    assert known["stages"][1]["state"] == "fresh"
    assert known["duplicate_of"] is None


def test_the_workspace_makes_it_from_its_own_pipeline(ingested: Path) -> None:
    workspace = coldstart.open(ingested)
    found = workspace.dossier("clip-01")
    assert [(stage.stage, stage.state, stage.has_row) for stage in found.stages] == [
        ("ingest", "fresh", True),
        ("text", "fresh", True),
        ("index", "fresh", True),
    ]
    assert "text" in {stage.stage for stage in workspace.dossier("words").stages}


def test_an_unknown_item_is_refused_as_by_item(ingested: Path) -> None:
    workspace = coldstart.open(ingested)
    for ask in (workspace.item, workspace.dossier):
        with pytest.raises(ColdstartError) as caught:
            ask("nobody")
        assert str(caught.value) == (
            f"no item 'nobody' in workspace {ingested} (ids are such as 'words'): `coldstart status --failed "
            f"--workspace {ingested}` lists those that were skipped"
        )


def test_in_a_notebook_it_is_a_page_in_a_frame_that_runs_nothing(ingested: Path) -> None:
    html = coldstart.open(ingested).dossier("grocery-product-08")._repr_html_()
    assert html.startswith("<iframe sandbox srcdoc='&lt;!doctype html&gt;")
    assert html.count("<") == 2
    assert html.count("'") == 4

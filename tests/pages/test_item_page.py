"""The card of an item, the lanes of its timeline, and the command that prints both: what stands where, and that no text
of an item becomes markup or steers a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import screens
from hostile_page import HOSTILE, STEERING, Page
from item_rows import MATCH, SCREEN, SHOTS, SPEECH, part
from known import GatePart, WholePart, catalogue, evidence, fill, pipeline_of
from typer.testing import CliRunner

from coldstart.api import Workspace
from coldstart.cli import app
from coldstart.cli.show import _print as print_item
from coldstart.cli.show import file_name
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.pages.item import (
    FRAMES,
    LINKS,
    MOST_ROWS,
    film_strip,
    format_span,
    format_time,
    item_html,
    item_page,
    link_note,
    timeline_lanes,
)
from coldstart.sample import path as sample
from coldstart.store import freshness


def medium(role: str, name: str, duration_s: float | None = None) -> dict[str, Any]:
    return {"role": role, "uri": str(sample() / name), "width": 320, "height": 400, "duration_s": duration_s,
            "fps": 15.0, "has_audio": True}  # fmt: skip


VIDEO = medium("video", "videos/clip-02.mp4", 10.8)
PICTURE = medium("image", "images/08_Lemon.jpg")


def entry(start_s: float | None, end_s: float | None, source: str, text: str = "") -> dict[str, Any]:
    return {"start_s": start_s, "end_s": end_s, "source": source, "text": text, "confidence": 0.5}


def record(item: Mapping[str, Any] | None = None, **known: Any) -> dict[str, Any]:
    """Create the record of an item of which little is known."""
    item = {"item_id": "a", "kind": "video", "title": "A title", **(item or {})}
    empty: dict[str, Any] = {
        name: [] for name in ("timeline", "shots", "frame_times_s", "lines", "dropped", "copies", "decisions")
    }
    empty |= {name: {} for name in ("quality", "safety", "described", "coverage")}
    empty |= dict.fromkeys(("duration_s", "spoken_language", "spoken_language_confidence", "duplicate_of"))
    empty |= {"transcript": "", "screen_text": "", "stages": [stage("ingest", "fresh")]}
    return {"item_id": item["item_id"], "item": item, **empty, **known}


def stage(name: str, state: str, **known: Any) -> dict[str, Any]:
    return {"stage": name, "kind": name, "state": state, "reason": "", "detail": "", "has_row": False,
            "keeps_out": "", **known}  # fmt: skip


def link(**known: Any) -> dict[str, Any]:
    return {"item_id": "b", "title": "Other", "medium": VIDEO, "score": 0.97, "mirrored": True, "speed": 1.05,
            "changes": "mirrored", "matches": [MATCH], **known}  # fmt: skip


# -- lanes


def test_clock() -> None:
    assert [format_time(time_s) for time_s in (None, 0.0, 9.96, 59.94, 59.96, 3599.97, 7325.25)] == [
        "", "0:00.0", "0:10.0", "0:59.9", "1:00.0", "1:00:00.0", "2:02:05.2",
    ]  # fmt: skip
    assert format_span(entry(1.25, 62.0, "speech")) == "0:01.2–1:02.0"
    assert format_span(entry(None, None, "screen")) == ""


def test_lanes_are_to_scale() -> None:
    dropped = [{"start_s": 8.0, "end_s": 10.0, "text": "la la", "reason": "no_voice"}]
    timeline = [entry(0.0, 4.0, "shot"), entry(1.0, 3.0, "speech", "hello"), entry(4.0, 10.0, "shot")]
    drawn = timeline_lanes(timeline, dropped, 10.0)
    assert drawn is not None
    shots, speech = drawn["lanes"]
    assert (shots["name"], [(one["left"], one["width"]) for one in shots["rows"][0]]) == ("shots", [(0, 40), (40, 60)])
    assert speech == {
        "name": "speech",
        "rows": [
            [
                {"source": "speech", "text": "hello", "when": "0:01.0–0:03.0", "left": 10.0, "width": 20.0},
                {"source": "dropped", "text": "la la (no_voice)", "when": "0:08.0–0:10.0", "left": 80.0, "width": 20.0},
            ]
        ],
        "more": 0,
    }
    assert [(tick["left"], tick["label"]) for tick in drawn["ticks"]] == [
        (0.0, "0:00"), (20.0, "0:02"), (40.0, "0:04"), (60.0, "0:06"), (80.0, "0:08"),
    ]  # fmt: skip
    assert (drawn["overview"], drawn["width_px"], drawn["length"]) == (None, 560, "0:10.0")


def test_overlapping_entries_are_in_rows_and_the_rest_is_counted() -> None:
    lines = [entry(0.0, 5.0, "screen", str(number)) for number in range(MOST_ROWS + 2)]
    drawn = timeline_lanes([*lines, entry(5.0, 6.0, "screen", "after")], [], 6.0)
    assert drawn is not None
    (lane,) = drawn["lanes"]
    assert [[block["text"] for block in row] for row in lane["rows"]] == [["0", "after"], ["1"], ["2"], ["3"]]
    assert lane["more"] == 2


def test_two_hours_get_an_overview_and_room_for_words() -> None:
    drawn = timeline_lanes([entry(7190.0, 7260.0, "speech", "the end")], [], 7200.0)
    assert drawn is not None
    assert drawn["length"] == "2:01:00.0", "what ends later makes it longer"
    assert drawn["width_px"] == 24 * 7260
    assert [tick["label"] for tick in drawn["ticks"][:3]] == ["0:00", "0:05", "0:10"]
    assert [tick["label"] for tick in drawn["overview"]] == ["0:00", "30:00", "1:00:00", "1:30:00"]
    assert all(block["left"] + block["width"] <= 100.001 for block in drawn["lanes"][0]["rows"][0])


@pytest.mark.parametrize("timeline", [[], [entry(None, None, "screen", "a price")]], ids=["nothing", "pictures"])
def test_nothing_with_a_time_is_no_drawing(timeline: list[dict[str, Any]]) -> None:
    assert timeline_lanes(timeline, [], 10.0) is None


def test_a_moment_and_a_length_of_nought_can_be_drawn() -> None:
    drawn = timeline_lanes(
        [entry(1.0, None, "speech", "now")], [{"start_s": 2.0, "end_s": 2.0, "text": "", "reason": "x"}], 0.0
    )
    assert drawn is not None
    assert [block["left"] for block in drawn["lanes"][0]["rows"][0]] == [50.0, 100.0]
    assert timeline_lanes([entry(0.0, 0.0, "speech", "now")], [], None) is None


# -- film


def test_frames_of_a_video_are_those_of_the_times_in_their_order() -> None:
    assert [one["clock"] for one in film_strip([PICTURE, VIDEO], [7.2, 1.8], Limits(), 32)["pictures"]] == [
        "0:07.2",
        "0:01.8",
    ]
    spread = film_strip([VIDEO], [], Limits(), 32)
    assert [one["clock"] for one in spread["pictures"]][::7] == ["0:00.7", "0:10.1"]
    assert (len(spread["pictures"]), spread["reason"], spread["is_video"]) == (8, "", True)
    many = film_strip([VIDEO], [index / 10 for index in range(100)], Limits(), 16)
    assert len(many["pictures"]) == 25 <= FRAMES


def test_pictures_of_a_product_and_why_one_is_missing(tmp_path: Path) -> None:
    gone = {"role": "image", "uri": str(tmp_path.resolve() / "gone.jpg")}
    found = film_strip([PICTURE, gone], [], Limits(), 32)
    assert ([one["clock"] for one in found["pictures"]], found["reason"], found["is_video"]) == (
        [""],
        "not found",
        False,
    )
    assert film_strip([], [], Limits(), 32) == {"pictures": [], "reason": "no picture or video", "is_video": False}
    cut = tmp_path.resolve() / "cut.mp4"
    cut.write_bytes(Path(VIDEO["uri"]).read_bytes()[:200])
    assert film_strip([{**VIDEO, "uri": str(cut)}], [], Limits(), 32)["reason"] == "no video stream"


# -- the card


def test_every_part_is_on_the_card() -> None:
    known = record(
        {"media": [VIDEO], "tags": ["x", "y"], "price": 2.5, "attributes": {"size": "L"}, "description": "One\ntwo"},
        duration_s=10.8,
        timeline=[
            entry(0.0, 10.8, "shot"),
            entry(0.4, 2.3, "speech", "Red, yellow"),
            entry(1.0, 2.0, "screen", "18 kr"),
        ],
        frame_times_s=[1.8, 7.2],
        dropped=SPEECH["dropped"],
        transcript="Red, yellow",
        screen_text="18 kr",
        spoken_language="en",
        spoken_language_confidence=0.876,
        coverage={"heard_s": 10.8, "frames_read": 1},
        quality={"sharpness": 412.345, "black_share": 0.25, "has_audio": True},
        safety={
            "findings": [{"rule": "scam", "score": 0.5, "source": "screen_text", "quote": "send money", "at_s": 61.0}],
            "scores": [{"rule": "scam", "score": 0.5}],
            "policy": "safety 1",
        },
        duplicate_of=link(),
        copies=[link(item_id="c", title=None, medium=None, matches=[], mirrored=False, changes="", speed=1.0)],
        stages=[
            stage("understand.safety", "fresh", keeps_out="unsafe: scam 0.50"),
            stage("text", "filtered", reason="not_it", detail="why", has_row=True),
        ],
    )
    page = Page(item_html(known))
    text = " ".join(page.text)
    for words in (
        "A title video a understand.safety turns it away: unsafe: scam 0.50 Frames 0:01.8 0:07.2",
        "0:00.4–0:02.3 speech Red, yellow 0.50",
        "0:01.0–0:02.0 screen 18 kr 0.50",
        "0:09.0–0:10.0 Thanks for watching! no voice",
        "Transcript Red, yellow Text on screen 18 kr",
        "A copy of Other b · score 0.97 · mirrored · speed 1.05 × this item 0:00.8 0:02.5 0:04.1 Other 0:01.9 0:03.7",
        "0:00.0–0:05.0 here is 0:01.0–0:06.5 there",
        "Copies of it (1) c c · score 0.97 this item",
        "scam 0.50 screen text send money 1:01.0 Scores: scam 0.50. Policy: safety 1",
        "sharpness 412.3 black share 0.25 has audio yes",
        "One\ntwo price 2.5 tags x, y spoken language en (0.88) size L analysed 10.8 s heard, frames read 1",
        f"video 320 × 400, 0:10.8, 15 fps, sound, {VIDEO['uri']}",
        "text filtered not it why; its row of before is shown",
    ):
        assert words in text
    assert page.values("class").count("bar") == 1
    assert "left:3.7037%;width:17.5926%" in page.values("style")
    assert "0:00.4–0:02.3 Red, yellow" in page.values("title")
    assert {"time state fresh", "time state filtered"} <= set(page.values("class"))


def test_the_card_of_an_item_of_which_nothing_is_known() -> None:
    page = Page(item_html({**record(), "item": {"item_id": "a"}, "stages": []}))
    assert page.text[:4] == ["a", "a", "a", "Pictures"]
    assert "no picture or video" in page.text
    assert {"Timeline", "Transcript", "Quality", "Safety", "Discarded speech"}.isdisjoint(page.text)


def test_claims_are_printed_with_their_evidence_and_the_removed_ones_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_item(record(described={
        "status": "cut",
        "summary": "A shoe.",
        "attributes": [{"name": "colour", "value": "red", "ground": "screen_text", "detail": "Red shoes"}],
        "grounds": [{"claim": "summary", "value": "A shoe.", "ground": "title", "detail": "shoe"}],
        "cut": [{"claim": "price", "value": "9", "reason": "other_value", "detail": "the record says '19'"}],
    }))  # fmt: skip
    printed = capsys.readouterr().out
    assert re.search(r"described as +A shoe\.", printed)
    found = [row for row in screens.rows(printed) if row[0] in ("A shoe.", "colour", "price")]
    assert found == [
        ["A shoe.", "title", "shoe"],
        ["colour", "red", "screen text", "Red shoes"],
        ["price", "9", "contradict the record", "the record says '19'"],
    ]


def test_what_was_written_has_its_grounds_and_its_cuts() -> None:
    evil = "<b>red</b>"
    described = {
        "status": "cut",
        "summary": f"A {evil} shoe.",
        "attributes": [{"name": "colour", "value": evil, "ground": "screen_text", "detail": evil}],
        "keywords": [evil],
        "queries": [evil],
        "grounds": [{"claim": "summary", "value": f"A {evil} shoe.", "ground": "transcript", "detail": evil}],
        "cut": [{"claim": "price", "value": evil, "reason": "other_price", "detail": evil}],
    }
    page = item_html(record(described=described))
    assert "without what the checks removed" in page and "Removed (1)" in page
    assert "screen text" in page and "other price" in page
    assert page.count("A &lt;b&gt;red&lt;/b&gt; shoe.") == 2 and "transcript" in page
    assert "<s>&lt;b&gt;red&lt;/b&gt;</s>" in page and evil not in page


def test_no_text_becomes_markup() -> None:
    hostile, expected = (Page(item_html(_everything(text))) for text in (HOSTILE, "words"))
    assert hostile.tags == expected.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in expected.attributes]
    assert "script" not in hostile.tags
    count = sum("words" in text for text in expected.text)
    assert count > 20
    assert sum(HOSTILE in text for text in hostile.text) == count
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in hostile.attributes
    assert {source[:23] for source in hostile.values("src")} == {"data:image/jpeg;base64,"}


def _everything(text: str) -> dict[str, Any]:
    item = dict.fromkeys(("item_id", "kind", "title", "description", "category", "creator"), text)
    return record(
        {**item, "tags": [text], "attributes": {text: text}, "media": [PICTURE]},
        duration_s=2.0,
        timeline=[entry(0.0, 1.0, "speech", text), entry(0.0, 1.0, "screen", text)],
        dropped=[{"start_s": 1.0, "end_s": 2.0, "text": text, "reason": text}],
        transcript=text,
        screen_text=text,
        spoken_language=text,
        quality={text: text},
        safety={
            "findings": [{"rule": text, "score": 0.5, "source": text, "quote": text, "at_s": None}],
            "scores": [{"rule": text, "score": 0.5}],
            "policy": text,
        },
        duplicate_of=link(item_id=text, title=text, medium=PICTURE, matches=[]),
        copies=[link(item_id=text, title=text, medium=None, matches=[])] * (LINKS + 1),
        stages=[stage(text, "failed", reason=text, detail=text, keeps_out=text)],
    )


def test_a_card_is_one_file_that_any_editor_reads(tmp_path: Path) -> None:
    item_page(record({"title": STEERING}), tmp_path / "deep/card.html")
    source = (tmp_path / "deep/card.html").read_text("utf-8")
    assert "<title>red  [31m 5m\nover  ?</title>" in source
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", source)
    assert "http" not in source.replace("http-equiv", "")


# -- the command


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    extra = [{"item_id": "a/../<b>", "title": "\x1b[31mred\x9b", "description": "one\ntwo"}]
    store = catalogue(folder, ("clip-01", "clip-02"), extra)
    parts = {name: part(name) for name in ("shots", "speech", "screen", "evidence", "safety", "quality")}
    fill(store, parts["shots"], {"clip-02": SHOTS})
    fill(store, parts["speech"], {"clip-02": SPEECH})
    fill(store, parts["screen"], {"clip-02": SCREEN})
    fill(store, parts["evidence"], {"clip-02": evidence(SHOTS, SPEECH, SCREEN)})
    fill(store, parts["safety"], {"clip-02": {"findings": [], "scores": [], "policy": "safety 1"}})
    fill(store, parts["quality"], {"clip-02": {"sharpness": 12.345, "has_audio": True}})
    copy = {"arrived": 1, "duplicate_of": "clip-01", "score": 0.97, "mirrored": True, "speed": 1.05, "matches": [MATCH]}
    fill(store, WholePart("understand.duplicates"), {"clip-02": copy})
    return folder / "workspace"


@pytest.fixture
def show(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `coldstart show` in an empty folder on a pipeline of parts."""
    names = ("shots", "speech", "screen", "evidence", "safety", "quality")
    stages = [WholePart("understand.duplicates"), *(part(name) for name in names)]
    built = {one.name: one for one in (*stages, part("ingest"))} | {"ingest": part("ingest")}
    monkeypatch.setattr(freshness, "build", lambda spec, pipeline: built[spec.name])
    monkeypatch.setattr(Workspace, "_reading_pipeline", lambda self: pipeline_of(stages))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["show", "-w", str(shop), *arguments])
        if result.exception:
            raise result.exception
        return result.stdout

    return run


@pytest.mark.slow
def test_the_command_prints_what_is_known_and_writes_the_card(show: Any, tmp_path: Path) -> None:
    lines = show("clip-02").splitlines()
    assert lines[0] == "clip-02 · video · traffic lights on my plate"
    assert lines[-1] == "card: clip-02.html"
    assert [path.name for path in tmp_path.iterdir()] == ["clip-02.html"]
    begin = lines.index("timeline") + 1
    assert [re.split(" {2,}", line) for line in lines[begin : begin + 4]] == [
        ["0:00.0–0:03.6 shot", "-"],
        ["0:00.4–0:02.3 speech 0.75", "Red, yellow and green."],
        ["0:03.5–0:05.0 screen 0.50", "18.90 kr"],
        ["0:03.6–0:10.8 shot", "-"],
    ]
    cells = screens.rows("\n".join(lines))
    assert cells[0] == [
        "which one is your favourite?", "copy of", "clip-01", "0.97", "mirrored", "1.05",
        "0:00.0–0:05.0 at 0:01.0–0:06.5",
    ]  # fmt: skip
    assert [cell[:2] for cell in cells[1:-1]] == [
        ["ingest", "fresh"],
        *([f"understand.{name}", "fresh"] for name in ("duplicates", "shots", "speech", "screen", "evidence")),
        ["understand.safety", "fresh"],
        ["understand.quality", "fresh"],
    ]
    facts = [re.split(" {2,}", line) for line in lines]
    for fact in (
        ["spoken language", "en (0.90)"],
        ["analysed", "10.8 s watched, 10.8 s heard, 3.5 s voiced, frames read 4, frames skipped 2"],
        ["left out: 0:09.0–0:10.0 Thanks for watching!: no voice is heard there"],
        ["safety", "nothing found by policy safety 1"],
        ["quality", "sharpness 12.35, has_audio yes"],
    ):
        assert fact in facts


@pytest.mark.slow
def test_item_text_does_not_steer_the_terminal(show: Any, tmp_path: Path) -> None:
    printed = show("a/../<b>", "--out", "here/card.html")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", printed)
    assert printed.splitlines()[0] == "a/../<b> · product ·  [31mred"
    facts = [re.split(" {2,}", line) for line in printed.splitlines()]
    assert ["description", "one two"] in facts
    assert not any(fact[0] == "timeline" for fact in facts), "a product has none"
    assert printed.splitlines()[-1] == "card: here/card.html"
    assert (tmp_path / "here/card.html").is_file()


@pytest.mark.slow
def test_without_html_nothing_is_written(show: Any, tmp_path: Path) -> None:
    assert "card:" not in show("clip-02", "--no-html")
    known = json.loads(show("clip-02", "--json"))
    assert list(tmp_path.iterdir()) == []
    assert known["item_id"] == "clip-02"
    assert known["timeline"][1] == {
        "start_s": 0.4, "end_s": 2.3, "source": "speech", "text": "Red, yellow and green.", "confidence": 0.75,
    }  # fmt: skip
    assert json.loads(show("clip-02", "--json", "--out", "card.html")) == known
    assert [path.name for path in tmp_path.iterdir()] == ["card.html"]


@pytest.mark.slow
def test_faults_are_one_line(show: Any, shop: Path, tmp_path: Path) -> None:
    def fault(*arguments: str) -> str:
        with pytest.raises(ColdstartError) as caught:
            show(*arguments)
        return str(caught.value)

    assert fault("nobody").startswith(f"no item 'nobody' in workspace {shop}")
    assert fault("clip-02", "--out", "x.html", "--no-html") == (
        "--out x.html and --no-html exclude each other: give one of them"
    )
    folder = tmp_path / "x.html"
    folder.mkdir()
    assert fault("clip-02", "--out", str(folder)) == (
        f"cannot write {folder}: Is a directory; name another file with --out"
    )


def test_a_verdict_is_told_once_and_a_copy_says_how_it_is_searched() -> None:
    detail = "of b: 1.00 of it, mirrored"
    copy = {"state": "duplicate", "reason": "near_duplicate", "detail": detail}
    stages = [
        stage("understand.duplicates", "fresh", keeps_out=f"near_duplicate: {detail}"),
        *(stage(name, **copy) for name in ("shots", "clip")),
        stage("index", "fresh"),
    ]
    known = record({"media": [VIDEO]}, duplicate_of=link(), copies=[], stages=stages)
    page = " ".join(Page(item_html(known)).text)
    assert page.count(detail) == 1  # in the table: the box beneath says it in words
    assert "turns it away: near_duplicate" not in page
    assert page.count("as in understand.duplicates") == 2
    assert "does not look at its own title and texts; `coldstart search --copies` does." in page
    dropped = [*stages[:3], stage("index", **copy)]
    assert "the policy of copies is drop" in link_note({**known, "stages": dropped})
    assert link_note({**known, "stages": [stage("index", "fresh")]}) == ""  # policy keep
    assert link_note({**known, "duplicate_of": None}) == ""


def test_file_names_are_safe_and_differ() -> None:
    assert file_name("clip-02") == "clip-02.html"
    names = [file_name(item) for item in ("a/b", "a\\b", "../../a", "..", "ä" * 500, "x" * 500, "a b\x00", "-rf")]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.html", name) for name in names)
    assert file_name("a/b").startswith("a_b-")


@pytest.mark.slow
def test_the_stages_say_what_turns_the_item_away_and_which_rows_are_old(
    show: Any, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duplicates, shots = WholePart("understand.duplicates"), part("shots", version=2)
    safety = part("safety", GatePart, out={"clip-02": Reject("unsafe", "scam 0.93 ≥ 0.8", "filtered")})
    built = {one.name: one for one in (duplicates, shots, safety, part("speech"))} | {"ingest": part("ingest")}
    monkeypatch.setattr(freshness, "build", lambda spec, pipeline: built[spec.name])
    monkeypatch.setattr(
        Workspace, "_reading_pipeline", lambda self: pipeline_of([duplicates, shots, safety, part("speech")])
    )
    lines = show("clip-02", "--no-html").splitlines()
    assert screens.rows("\n".join(lines[lines.index("stages") :])) == [
        ["ingest", "fresh", "-", "-"],
        ["understand.duplicates", "fresh", "-", "-"],
        ["understand.shots", "pending", "-", "its row of before is shown"],
        ["understand.safety", "fresh", "-", "turns it away from later stages: unsafe: scam 0.93 ≥ 0.8"],
        ["understand.speech", "filtered", "with unsafe content", "as in understand.safety; its row of before is shown"],
    ]

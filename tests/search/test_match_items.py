"""Match by items and files, fits of weights and the command, over a small workspace of fake encoders."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from catalogue import photo
from PIL import Image
from typer.testing import CliRunner

import coldstart as library
from coldstart.api import Workspace
from coldstart.cli import app
from coldstart.errors import ColdstartError
from coldstart.search import queries
from coldstart.search.evaluate_match import evaluate_match
from coldstart.search.fusion import is_held_out

COLOURS = [
    (230, 20, 20), (20, 200, 20), (20, 20, 230), (230, 230, 20), (20, 220, 220), (220, 20, 220), (240, 240, 240),
    (120, 60, 10), (10, 90, 50), (90, 90, 90), (255, 140, 0), (60, 0, 120),
]  # fmt: skip
NAMES = [
    "strawberry jam", "green kiwi", "blue cheese", "yellow lemon", "mint syrup", "dragon fruit", "white rice",
    "brown bread", "spinach", "grey salt", "orange juice", "plum wine",
]  # fmt: skip


def film(path: Path, colours: Sequence[tuple[int, int, int]]) -> Path:
    """A second of each colour."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=4, options={"preset": "ultrafast", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for colour in colours:
            pixels = np.full((64, 64, 3), colour, np.uint8)
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve products of one colour each, and fourteen videos that show and name two of them each."""
    folder = tmp_path_factory.mktemp("videos")
    entries: list[dict[str, Any]] = []
    for number, (colour, name) in enumerate(zip(COLOURS, NAMES, strict=True)):
        Image.new("RGB", (48, 48), colour).save(folder / f"p{number}.png")
        entries.append({"item_id": f"p{number}", "kind": "product", "title": name, "image": f"p{number}.png"})
    entries.append({"item_id": "bare", "kind": "product", "title": "a gift card without a picture"})
    pairs = []
    for number in range(14):
        shown = [number % 12, (number * 5 + 3) % 12]
        film(folder / f"v{number}.mp4", [COLOURS[place] for place in shown])
        title = f"try {NAMES[shown[0]]} with {NAMES[shown[1]]}"
        entries.append({"item_id": f"v{number}", "kind": "video", "title": title, "video": f"v{number}.mp4"})
        pairs.append({"item_id": f"v{number}", "product_ids": [f"p{place}" for place in shown]})
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries), "utf-8")
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs), "utf-8")
    embed = {"stage": "embed", "encoder": "fake:32"}
    stages = {
        "ingest": {},
        "screen": {"stage": "understand.screen", "reader": "fake"},
        "evidence": {"stage": "understand.evidence"},
        "image": {**embed, "input": "image", "frames": 4},
        "text": {**embed, "input": "text", "prompt": "item_evidence"},
        "index": {},
    }
    settings = {"manifest": str(folder / "items.jsonl"), "engine": {"workers": 1, "device": "cpu"}, "stages": stages}
    library.open(folder / "workspace", create=True).run(settings)
    return folder


@pytest.fixture
def opened(folder: Path) -> Workspace:
    return library.open(folder / "workspace")


@pytest.mark.slow
def test_the_query_of_an_item_has_its_frames_its_text_and_its_lines(opened: Workspace) -> None:
    found = opened.match(item="v0", top_k=13)
    assert found.used[:2] == ["4 frames", "its text"] and "text on screen" in found.used[2]
    assert [channel["channel"] for channel in found.channels] == [
        "image→image", "image→text", "text→image", "text lines→image", "text→text", "text lines→text",
    ]  # fmt: skip
    weights = np.array([channel["weight"] for channel in found.channels])
    np.testing.assert_allclose(weights * 1.75, [2 / 3, 1 / 3, 0.05, 0.2, 0.1, 0.4], atol=1e-5)
    by_looks = opened.match(item="v0", spaces=["image"], top_k=2)
    assert {one.item_id for one in by_looks.matches} == {"p0", "p3"}
    first = next(one for one in by_looks.matches if one.item_id == "p3")
    assert first.frame is not None and first.frame.second is not None and first.frame.second >= 1
    assert first.channels["image→image"].cosine == pytest.approx(1, abs=0.02)
    bare = next(one for one in opened.match(item="v0", top_k=13).matches if one.item_id == "bare")
    assert {name.partition("→")[2] for name in bare.channels} == {"text"}
    assert json.loads(json.dumps(found.to_dict()))["candidates"] == 13


@pytest.mark.slow
def test_a_file_gives_what_the_same_item_gives(opened: Workspace, folder: Path) -> None:
    stored = opened.match(item="v3", top_k=5)
    title = opened.item("v3").title
    file = opened.match(video=folder / "v3.mp4", title=title, listen=True, top_k=5)
    assert file.used == stored.used and list(file.channels) == list(stored.channels)
    assert [one.item_id for one in file.matches] == [one.item_id for one in stored.matches]
    assert [one.score for one in file.matches] == pytest.approx([one.score for one in stored.matches], abs=2e-2)
    for one, other in zip(file.matches, stored.matches, strict=True):
        assert (one.words is None) == (other.words is None)
        if one.words and other.words:
            assert (one.words.source, one.words.second, one.words.text) == (
                other.words.source, other.words.second, other.words.text,
            )  # fmt: skip
    assert file.notes == ["speech was not read: the pipeline has no stage understand.speech"]


@pytest.mark.slow
def test_a_file_alone_is_its_frames_and_notes_what_it_lacks(opened: Workspace, folder: Path) -> None:
    found = opened.match(video=folder / "v1.mp4", spaces=["image"], top_k=2)
    assert found.used == ["4 frames"]
    assert found.notes == [
        "speech and text on screen were not read: `listen` has them read",
        "no title was given: `title` lets its words be compared",
    ]
    assert {one.item_id for one in found.matches} == {"p1", "p8"}
    titled = opened.match(video=folder / "v1.mp4", title="spinach", spaces=["text"], top_k=1)
    assert titled.used == ["its text"] and titled.matches[0].item_id == "p8"
    assert titled.matches[0].words is not None and titled.matches[0].words.source == "text"


@pytest.mark.slow
def test_a_product_may_ask_too(opened: Workspace) -> None:
    found = opened.match(item="p0", spaces=["image"], kind="video", top_k=3)
    assert found.used == ["its pictures"]
    assert all(one.item_id.startswith("v") for one in found.matches)
    assert found.matches[0].frame is not None and found.matches[0].frame.second is None
    assert "p0" not in [one.item_id for one in opened.match(item="p0", top_k=20).matches]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "match: give exactly one of item and video"),
        ({"item": "v0", "video": "x.mp4"}, "match: give exactly one of item and video"),
        ({"item": "v0", "title": "x"}, "match: title and listen are for a video file; an item has its own words"),
        ({"item": "v99"}, "item 'v99' is not in the published catalog (did you mean 'v9'?): see `coldstart show v99`"),
        ({"video": "no.mp4"}, "video no.mp4: not_found: there is no such file: give the path of one"),
        ({"item": "v0", "spaces": ["x"]}, "space 'x' is not in the published catalog: it has image, text"),
    ],
)
def test_a_faulty_query_is_an_error(opened: Workspace, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ColdstartError) as error:
        opened.match(**given)
    assert str(error.value) == message


def test_a_file_that_is_no_video_is_an_error(opened: Workspace, folder: Path, tmp_path: Path) -> None:
    photo(tmp_path / "photo.jpg", 3)
    with pytest.raises(ColdstartError, match=r"^'caf\\udce9' is no Unicode text: give it in UTF-8$"):
        opened.match(video=tmp_path / "photo.jpg", title="caf\udce9")
    for name, path in (("no", tmp_path / "photo.jpg"), ("folder", tmp_path)):
        with pytest.raises(ColdstartError, match=f"^video {path}: [a-z_]+: .+$"):
            opened.match(video=path, title=name)


@pytest.mark.slow
def test_the_calibration_is_made_once_a_publication(opened: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.match(item="v0")
    kept = opened._store.artifacts.newest("match-calibration")
    assert kept is not None
    monkeypatch.setattr("coldstart.search.match_service.calibrate_matching", lambda *_: pytest.fail("made again"))
    assert opened.match(item="v1").weights.startswith("default weights: pictures by 12 queries made of the catalogue's")


@pytest.mark.slow
def test_matching_is_evaluated_against_each_space(folder: Path) -> None:
    opened = library.open(folder / "workspace")
    found = evaluate_match(opened._matcher(), queries.read_pairs(folder / "pairs.jsonl"), clips=3)
    assert found["products"] == 13
    known, made = found["sets"]
    assert (known["name"], known["clips"], known["shown"]) == ("known", 14, 28)
    assert [one["name"] for one in known["rankings"]] == ["default", "image", "text"]
    by_name = {one["name"]: one["recall_5"]["value"] for one in known["rankings"]}
    assert by_name["image"] > 0.9 and known["baseline"] == max(("image", "text"), key=lambda name: by_name[name])
    gain = known["difference"]
    assert gain["value"] == pytest.approx(by_name["default"] - by_name[known["baseline"]])
    assert gain["low"] <= gain["value"] <= gain["high"] and known["verdict"] == "too few to judge"
    assert made["name"] == "made" and 0 < made["clips"] <= 3
    assert (
        evaluate_match(opened._matcher(), {}, clips=1)["sets"][0]["why"]
        == "no videos are known to show certain products"
    )


@pytest.mark.slow
def test_weights_are_fitted_evaluated_on_the_rest_and_stored(folder: Path, tmp_path: Path) -> None:
    opened = library.open(folder / "workspace")
    pairs = queries.read_pairs(folder / "pairs.jsonl")
    report = opened.fit_match({**pairs, "gone": frozenset({"p1"}), "v0": frozenset({"p0", "p3", "sold out"})})
    held = [item for item in pairs if is_held_out(item)]
    assert (report["held_out"], report["trained_on"]) == (len(held), 14 - len(held))
    assert (report["missing_videos"], report["missing_products"], report["exact"]) == (1, 1, True)
    assert sum(channel["weight"] for channel in report["channels"]) == pytest.approx(1, abs=1e-4)
    assert report["kept"] is True
    assert report["after"]["recall_5"]["value"] >= report["before"]["recall_5"]["value"]
    found = library.open(folder / "workspace").match(item="v5")
    assert found.weights == "fitted weights" and found.notes == []
    fitted = {channel["channel"]: channel["weight"] for channel in report["channels"]}
    assert {channel["channel"]: channel["weight"] for channel in found.channels} == pytest.approx(fitted, abs=1e-5)


def test_a_fit_on_too_few_videos_is_refused(opened: Workspace) -> None:
    with pytest.raises(ColdstartError) as error:
        opened.fit_match({"v0": ["p0"], "v1": ["p1"]})
    assert str(error.value) == (
        "2 of the videos of the pairs are in the published catalog: weights need at least 10, a part of which is held "
        "out to evaluate them"
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "Expecting value: line 1 column 1 (char 0)"),
        ('{"item_id": "a"}', "product_ids is missing"),
        ('{"item_id": [3], "product_ids": []}', "item_id is to be a text and product_ids a list"),
        ('["a"]', "it is a list"),
    ],
)
def test_a_faulty_line_of_pairs_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f'{{"item_id": "v", "product_ids": ["p"]}}\n\n{line}\n', "utf-8")
    fault = f"{path} line 3: not a JSON object with item_id and product_ids ({why})"
    with pytest.raises(ColdstartError) as error:
        queries.read_pairs(path)
    assert str(error.value) == fault
    faults: list[str] = []
    assert queries.read_pairs(path, faults.append) == {"v": frozenset({"p"})}
    assert faults == [fault]


def test_pairs_of_one_video_on_several_lines_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [("v", ["a"]), ("w", []), ("v", ["b", "a"]), (7.0, [8.0, 9, None])]
    path.write_text("".join(json.dumps({"item_id": v, "product_ids": p}) + "\n" for v, p in rows), "utf-8")
    assert queries.read_pairs(path) == {"v": frozenset({"a", "b"}), "7": frozenset({"8", "9"})}
    with pytest.raises(ColdstartError, match=r"^no file of pairs at .*nope: give JSONL with item_id and product_ids$"):
        queries.read_pairs(tmp_path / "nope")


def run(folder: Path, *arguments: object) -> str:
    result = CliRunner().invoke(app, ["match", "-w", str(folder / "workspace"), *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_the_command_prints_products_with_their_evidence(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "m.html"
    text = run(folder, "--item", "v2", "--top-k", 2, "--explain", "--out", page)
    assert "candidates: all 13 that meet the conditions, each compared" in text
    assert "frames and products: " in text
    html = page.read_text("utf-8")
    assert "<title>Products in try blue cheese with" in html and "<script" not in html
    assert re.findall(r'<span class="place">(\d)</span>', html) == ["1", "2"]
    picture = tmp_path / "m.png"
    answer = json.loads(run(folder, "--item", "v2", "--top-k", 2, "--json", "--out", picture))
    assert answer["asked"] == "v2" and len(answer["matches"]) == 2
    seconds = answer["matches"][0]["frame"]["seconds"]
    assert len(seconds) == 2 and seconds[0] == answer["matches"][0]["frame"]["second"]
    with Image.open(picture) as image:
        assert image.height > 2 * 160  # a row a product


@pytest.mark.slow
def test_the_command_fits(folder: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text((folder / "pairs.jsonl").read_text("utf-8").rstrip("\n") + "\nno JSON\n", "utf-8")
    report = json.loads(run(folder, "--fit", pairs, "--json"))
    fault = f"{pairs} line {len(pairs.read_text('utf-8').splitlines())}: not a JSON object with item_id and product_ids"
    assert [line.partition(" (")[0] for line in report["left_out"]] == [fault]
    text = run(folder, "--fit", pairs)
    assert f"note: left out: {fault} (" in text
    assert f"{report['held_out']} videos held out" in text
    assert "kept: `coldstart match` uses the fitted weights from now on" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give exactly one of --item, --video and --fit"),
        (["--item", "a", "--fit", "b"], "give exactly one of --item, --video and --fit"),
        (["--item", "a", "--listen"], "--title and --listen go with --video: an item has its own words"),
        (["--item", "a", "--out", "x.pdf"], "--out x.pdf: goes with --item or --video, and ends in .html or .png"),
        (["--fit", "a", "--out", "x.html"], "--out x.html: goes with --item or --video, and ends in .html or .png"),
    ],
)
def test_options_that_exclude_each_other(folder: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ColdstartError) as error:
        run(folder, *arguments)
    assert str(error.value) == message

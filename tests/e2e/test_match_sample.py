"""Match on the workspace of the demo: products of the sample in its videos, and whether the evidence is true."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart

import coldstart as library
from coldstart import sample
from coldstart.api import Workspace
from coldstart.search.match import Answer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.usefixtures("demo")]
VIDEOS = (1, 2, 4, 6, 7, 8, 10, 14, 15, 18, 19, 21, 27)
"""With captions, with speech, with both and with neither."""
IDS = [f"clip-{number:02d}" for number in VIDEOS]


@pytest.fixture(scope="module")
def folder(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a copy of the demo's workspace."""
    folder = tmp_path_factory.mktemp("match")
    shutil.copytree(demo / "workspace", folder / "workspace")
    return folder


@pytest.fixture(scope="module")
def workspace(folder: Path) -> Workspace:
    return library.open(folder / "workspace")


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, Any]]:
    rows = map(json.loads, (sample.path() / "truth.jsonl").read_text("utf-8").splitlines())
    return {row["item_id"]: row for row in rows if row["item_id"] in IDS}


@pytest.fixture(scope="module")
def answers(workspace: Workspace) -> dict[str, Answer]:
    return {item: workspace.match(item=item) for item in IDS}


def found(answers: dict[str, Answer], truth: dict[str, dict[str, Any]]) -> int:
    """Products among the first five that their video shows."""
    return sum(one.item_id in truth[item]["product_ids"] for item, answer in answers.items() for one in answer.matches)


def test_words_and_frames_together_find_more_than_either(
    workspace: Workspace, answers: dict[str, Answer], truth: dict[str, dict[str, Any]]
) -> None:
    shown = sum(len(row["product_ids"]) for row in truth.values())
    assert shown == 33
    by_frames = found({item: workspace.match(item=item, spaces=["image"]) for item in IDS}, truth)
    by_words = found({item: workspace.match(item=item, spaces=["text"]) for item in IDS}, truth)
    both = found(answers, truth)
    assert by_frames < both and by_words < both
    assert both >= 26


def test_the_frame_that_speaks_for_a_product_shows_it(
    answers: dict[str, Answer], truth: dict[str, dict[str, Any]]
) -> None:
    """Of the products found that the video shows: the second named lies in a shot of that product. Cartons of one brand
    are taken for each other, so not always."""
    hits = []
    for item, answer in answers.items():
        for one in answer.matches:
            if one.item_id in truth[item]["product_ids"]:
                if one.frame is None or one.frame.second is None:  # found by its words alone
                    continue
                shots = [shot for shot in truth[item]["shots"] if shot["product_id"] == one.item_id]
                hits.append(any(shot["start_s"] <= one.frame.second < shot["end_s"] for shot in shots))
    assert len(hits) >= 22
    assert sum(hits) >= 0.6 * len(hits)  # a third by chance


def test_the_caption_that_names_a_product_is_its_evidence(
    answers: dict[str, Answer], truth: dict[str, dict[str, Any]]
) -> None:
    """Of captions that are a product's name: that one is quoted, at its second."""
    for item in ("clip-01", "clip-08"):
        named = {one.title: one for one in answers[item].matches if one.item_id in truth[item]["product_ids"]}
        assert len(named) >= 2
        for caption in truth[item]["captions"]:
            title = next((title for title in named if title and caption["text"].startswith(title)), None)
            if title:
                words = named[title].words
                assert words is not None and words.source == "screen" and words.text.startswith(title)
                assert words.second == pytest.approx(caption["start_s"], abs=1.01)  # a frame a second is read


def test_a_file_that_is_listened_to_gives_what_its_item_gives(folder: Path, workspace: Workspace) -> None:
    spaces = ["image", "clip", "text"]  # a file has no description
    item = workspace.match(item="clip-19", spaces=spaces)
    video = sample.path() / "videos" / "clip-19.mp4"
    given = ["-w", folder / "workspace", "--video", video, "--title", "sauce day", "--listen", "--json"]
    given += [f"--space={space}" for space in spaces]
    done = coldstart("match", *given)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["used"] == list(item.used)
    best = {one.item_id for one in item.matches[:3]}  # in what order hangs on the tags, which a file lacks
    assert {one["item_id"] for one in answer["matches"][:3]} == best
    assert answer["notes"] == []


def test_weights_are_fitted_by_the_command(folder: Path) -> None:
    uri = folder / "workspace"
    done = coldstart("match", "-w", uri, "--fit", sample.path() / "truth.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["trained_on"] + report["held_out"] == 28
    assert report["missing_videos"] == report["missing_products"] == 0
    fitted = {channel["channel"] for channel in report["channels"]}
    assert {"clip→clip", "image→image", "text→text", "text lines→text"} <= fitted
    assert report["after"]["found_5"] >= 0.6 * report["after"]["shown"]

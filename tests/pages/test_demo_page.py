"""The page of the demo and what is chosen for it: rows that are right by the truth, and no others."""

from __future__ import annotations

import json
import shutil
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hostile_page import HOSTILE, Page
from page_checks import unknown_classes
from test_item_page import PICTURE, VIDEO

from coldstart import demo
from coldstart.cli.demo import _announce, _program
from coldstart.pages.demo import demo_html
from coldstart.sample import copies
from coldstart.search.notebook import ItemView


def known(text: str = "A title") -> dict[str, Any]:
    """Data of a page with a row in each part, `text` in the place of every text of an item."""
    film = {"title": text, "uri": VIDEO["uri"], "kind": "video", "seconds": [1.0]}
    photo = {"title": text, "uri": PICTURE["uri"], "kind": "product", "seconds": [1.0]}
    claims = [{"name": text, "value": text, "why": text}]
    return {
        "items": 98, "products": 65, "videos": 31, "queries": 28, "top_k": 5, "recall": 0.661, "chance": 0.077,
        "took": "2 min 31 s", "took_by": "from files to this page", "all_page": "neighbours.html",
        "card": "clip-19.html", "commands": [f"coldstart search --text '{text}'"],
        "found": [{**film, "products": [{**photo, "place": 1}, {**photo, "place": 2}]}],
        "words": [{**film, "query": text, "source": source, "when": "0:01.0–0:02.0", "text": text}
                  for source in ("speech", "screen")],
        "copies": [{"title": text, "original": text, "change": text, "score": 0.97,
                    "copy": {**film, "seconds": [1.0, 2.0, 3.0]}, "of": {**film, "seconds": [1.0, 2.0, 3.0]}}],
        "described": [{**film, "statements": [{"text": text, "why": text}], "claims": claims}],
        "liked": [photo], "recommended": [{**photo, "why": text}, {**film, "why": text}],
    }  # fmt: skip


@pytest.mark.slow
def test_every_part_is_on_the_page_and_has_its_pictures() -> None:
    source = demo_html(known())
    page = Page(source)
    text = " ".join(page.text)
    assert "1 of 28 videos are shown here" in text
    assert "98 items, 2 of them copies of others 2 min 31 s from files to this page 0.66" in text
    assert "place 1 of 65 for “A title”" in text and "heard 0:01.0–0:02.0" in text and "on screen 0:01.0" in text
    assert "These 1 were chosen beforehand" in text and "liked (made up)" in text
    assert page.tags.count("img") == 2 * 2 + 2 + 6 + 1 + 3 == sum(bool(alt) for alt in page.values("alt"))
    assert page.values("href") == ["neighbours.html", "clip-19.html", "neighbours.html"]
    assert unknown_classes(source) == set()


def test_a_part_without_rows_is_left_out() -> None:
    rows = {"found": [], "words": [], "copies": [], "described": [], "liked": [], "recommended": []}
    text = " ".join(Page(demo_html({**known(), **rows})).text)
    for part in ("found in videos", "only spoken or on screen", "Copies", "Descriptions", "made-up user"):
        assert part not in text
    assert "Go on" in text


@pytest.mark.slow
def test_no_text_becomes_markup() -> None:
    hostile, expected = Page(demo_html(known(HOSTILE))), Page(demo_html(known("words")))
    assert hostile.tags == expected.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in expected.attributes]


def test_descriptions_stand_with_the_evidence_of_each_statement() -> None:
    grounds = [
        {"claim": "sort", "value": "tomato", "ground": "predicted", "detail": "0.97 by image"},
        {"claim": "summary", "value": "A dinner video.", "ground": "facts", "detail": "record: category"},
        {"claim": "summary", "value": "It mentions tomato.", "ground": "transcript", "detail": "tomato"},
        {"claim": "summary", "value": "It is ripe.", "ground": "description", "detail": "a sentence of its own"},
    ]
    rows = [
        {
            "item_id": item,
            "summary": "A dinner video.",
            "grounds": grounds,
            "attributes": [{"name": "sort", "value": "tomato", "ground": "predicted", "detail": "0.97 by image"}],
        }
        for item in (demo.CARD, "office")
    ]
    table: Any = SimpleNamespace(to_pylist=lambda: deepcopy(rows))
    workspace: Any = SimpleNamespace(table=lambda name: table)
    (shown,) = demo._descriptions(workspace, {demo.CARD: ItemView({"title": "t", "kind": "video", "media": []})})
    assert [one["why"] for one in shown["statements"]] == ["record: category", "heard: tomato", "of the seller"]
    assert [one["why"] for one in shown["claims"]] == ["predicted: 0.97 by image"]


def test_the_shortest_part_with_all_words_is_quoted() -> None:
    text = "Mine tomato for the sauce, beef tomato for the burgers."
    start, end = demo._shortest(text, {"beef", "tomato", "for", "the", "burgers"})
    assert text[start:end] == "beef tomato for the burgers"


def test_a_command_is_named_so_that_it_works_when_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "a b" / ".venv" / "bin"
    home.mkdir(parents=True)
    program = home / "coldstart"
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(home / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.chdir(home.parent.parent)
    assert _program() == ".venv/bin/coldstart"
    monkeypatch.chdir(tmp_path)
    assert _program() == "'a b/.venv/bin/coldstart'"
    monkeypatch.chdir("/")
    assert _program().strip("'") == str(program).lstrip("/")
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    assert _program() == "coldstart"
    other = tmp_path / "coldstart"
    other.touch()
    monkeypatch.setattr(shutil, "which", lambda name: str(other))
    monkeypatch.chdir(home)
    assert _program() == "./coldstart"
    monkeypatch.chdir(home.parent)
    assert _program() == "bin/coldstart"


def test_the_time_is_said_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _announce(tmp_path)
    assert capsys.readouterr().err.startswith("about 3 minutes on two cores (")
    (tmp_path / "index.html").touch()
    _announce(tmp_path)
    assert "only what is missing or changed is done" in capsys.readouterr().err


@pytest.mark.slow
def test_the_catalogue_is_the_sample_and_copies_that_are_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    manifest = copies.write_catalogue(folder)
    rows = {row["item_id"]: row for row in map(json.loads, manifest.read_text("utf-8").splitlines())}
    assert len(rows) == 98
    for row in rows.values():
        assert all(Path(medium["uri"]).is_file() for medium in row["media"])
    (first, second) = (probe(rows[item]["media"][0]["uri"]) for item in copies.COPIES)
    (mirrored, faster) = (probe(rows[original]["media"][0]["uri"]) for original, _, _ in copies.COPIES.values())
    assert first[0] == pytest.approx(mirrored[0], abs=0.1)
    assert second[0] == pytest.approx(faster[0] / 1.1, abs=0.1)
    assert np.abs(first[1][:, ::-1] - mirrored[1]).mean() < 10 < np.abs(first[1] - mirrored[1]).mean()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}
    copies.write_catalogue(folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix == ".mp4"} == before


def probe(uri: str) -> tuple[float, np.ndarray]:
    """Length in seconds and the first frame."""
    with av.open(uri) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream)).to_ndarray(format="rgb24").astype(np.float32)
        return float(stream.duration * stream.time_base), frame

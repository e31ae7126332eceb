"""A workspace whose stored settings no longer resolve answers from what it holds, and says how to mend it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart as cli
from catalogue import write_manifest

import coldstart
from coldstart.errors import ColdstartError

ROWS = [
    {"item_id": "a", "title": "red mug", "price": 3},
    {"item_id": "b", "title": "blue mug", "price": 5},
    {"item_id": "c", "title": "green plate", "price": 8, "kind": "product"},
]


def _settings(manifest: Path, **stages: Any) -> dict[str, Any]:
    text = {"stage": "embed", "encoder": "fake:8", "input": "text"}
    return {
        "manifest": str(manifest),
        "engine": {"workers": 1, "device": "cpu"},
        "stages": {"ingest": {}, "text": text, "more": {**text, "encoder": "fake:16"}, "index": {}, **stages},
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unresolved")
    settings = _settings(write_manifest(folder / "items.jsonl", ROWS))
    coldstart.open(folder / "w", create=True).run(settings)
    return folder / "w"


def _plant(made: Path, change: Any) -> coldstart.Workspace:
    opened = coldstart.open(made)
    settings = json.loads(json.dumps(_settings(made.parent / "items.jsonl")))
    change(settings)
    with opened._store.lock():
        opened._store.save_pipeline("planted", settings)
    opened.trust()
    return coldstart.open(made)


def _gone_encoder(settings: dict[str, Any]) -> None:
    settings["stages"]["more"]["encoder"] = "acme:REST"


def _renamed_setting(settings: dict[str, Any]) -> None:
    settings["stages"]["more"]["framez"] = 3


def _gone_file(settings: dict[str, Any]) -> None:
    settings["stages"]["more"]["prompt"] = "/nowhere/mine.md"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_gone_encoder, "encoder 'acme:REST' is unknown"),
        (_renamed_setting, "unknown setting more.framez (did you mean 'frames'?)"),
        (_gone_file, "/nowhere/mine.md"),
    ],
)
def test_it_answers_and_says_how_to_mend_it(
    made: Path, change: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldstart.embed.spaces._LOADED_BY_NAME", ())
    opened = _plant(made, change)
    reports = {report.stage: (report.balance.fresh, fault in report.fault) for report in opened.status()}
    assert reports == {"ingest": (3, False), "text": (3, False), "more": (0, True), "index": (0, False)}
    notes = opened.setting_notes()
    assert notes[0].startswith("more: ") and fault in notes[0]
    assert f"`coldstart run PIPELINE --workspace {opened.uri}`" in notes[-1]
    if change is not _gone_file:  # then the encoder is there, and only the prompt is not
        hits = opened.search(text="red mug")
        assert hits[0].item_id == "a" and not any("more" in hit.ranks for hit in hits)
        assert fault in hits.notes[0] and hits.notes[0].startswith("space more is not searched: ")
        with pytest.raises(ColdstartError):
            opened.search(text="red mug", spaces=["more"])
    assert {state.stage: state.state for state in opened.dossier("a").stages}["text"] == "fresh"
    with pytest.raises(ColdstartError):
        opened.run()
    assert cli("status", "--workspace", made).returncode == 0


@pytest.mark.slow
def test_words_alone_answer_where_no_space_does(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise ColdstartError("its encoder has gone")

    monkeypatch.setattr("coldstart.api.search.SearchMethods.encoder_for", gone)
    hits = coldstart.open(made).search(text="mug")
    assert sorted(hit.item_id for hit in hits) == ["a", "b"]
    assert hits.notes == (
        "space more is not searched: its encoder has gone",
        "space text is not searched: its encoder has gone",
        "found by words alone",
    )
    with pytest.raises(ColdstartError, match=r"no space answers a image query.*its encoder has gone"):
        coldstart.open(made).search(image=made / "x.jpg")


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        ({"kind": "video"}, "nothing found: no item is of kind video; the catalog has 3 of kind product"),
        ({"where": "price < 1"}, "nothing found: none of the 3 items meets --where 'price < 1': loosen it"),
        (
            {"kind": "product", "where": "price < 1"},
            "nothing found: none of the 3 items of kind product (of 3) meets --where 'price < 1': loosen it",
        ),
        (
            {"where": "price > 7", "spaces": ()},
            "nothing found: none of the 1 items that the filters leave (of 3) has a vector in these spaces, or a "
            "word of "
            "the query",
        ),
    ],
)
def test_an_empty_result_says_which_filter_left_nothing(made: Path, filters: dict[str, Any], why: str) -> None:
    _plant(made, lambda settings: None)
    assert coldstart.open(made).search(text="mug", **filters).notes == (why,)

"""Every page: the style sheet has a rule for each class, and a browser lays it out without overlaps, missing pictures
or a scroll bar below."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from behaviour_world import world
from page_checks import CHROMIUM, laid_out, unknown_classes
from paths import ROOT
from test_demo_page import known as demo_record
from test_item_page import PICTURE, SCREEN, SPEECH, VIDEO, entry, link, record, stage

from coldstart.pages import SheetRow, Tile, neighbours_html
from coldstart.pages.demo import demo_html
from coldstart.pages.item import item_html
from coldstart.pages.sheet import match_sheet


def _tests_of(room: str, module: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tests" / room)
    return importlib.import_module(module)


def item(_: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    known = record(
        {"media": [VIDEO], "tags": ["x", "y"], "description": "One\ntwo", "creator": "W" * 80},
        duration_s=10.8,
        timeline=[
            entry(0.0, 10.8, "shot"),
            entry(0.4, 2.3, "speech", "Red, yellow and green, and a sentence that does not end soon"),
            entry(1.0, 2.0, "screen", "18 kr"),
        ],
        dropped=SPEECH["dropped"],
        screen_text=SCREEN.get("text") or "18 kr",
        transcript="Red, yellow " * 40,
        quality={"sharpness": 412.345, "black_share": 0.25, "has_audio": True},
        described={
            "status": "cut", "summary": "A red pepper.", "keywords": ["pepper"], "queries": ["red pepper"],
            "attributes": [{"name": "colour", "value": "red", "ground": "screen_text", "detail": "18 kr"}],
            "cut": [{"claim": "price", "value": "17", "reason": "other_price", "detail": "the record says 18"}],
        },
        safety={"findings": [], "scores": [{"rule": "scam", "score": 0.5}], "policy": "safety 1"},
        duplicate_of=link(),
        copies=[link(item_id="c", title=None, medium=PICTURE, matches=[])],
        stages=[stage("understand.safety", "fresh", keeps_out="unsafe: scam 0.50"),
                stage("a.long.name.of.a.stage", "filtered", reason="not_it", detail="why " * 30, has_row=True)],
    )  # fmt: skip
    return item_html(known)


def neighbours(folder: Path, _: pytest.MonkeyPatch) -> str:
    video = Tile("traffic lights on my plate", VIDEO["uri"], "video", "speech")
    hit = Tile("Lemon", PICTURE["uri"], "product", "cosine 0.81\nin the video")
    rows = [
        SheetRow(video, [hit] * 5),
        SheetRow(Tile("pull a leaf", None, "text", ""), [video, Tile("gone", None, "product", "W" * 60)]),
        SheetRow(hit, []),
    ]
    neighbours_html(rows, folder / "neighbours.html", "Videos and products")
    return (folder / "neighbours.html").read_text("utf-8")


def matches(folder: Path, _: pytest.MonkeyPatch) -> str:
    found = {
        "item_id": "p", "title": "Lemon", "uri": PICTURE["uri"], "kind": "product", "score": 2.5, "price": 3.0,
        "frame": {"second": 1.0, "seconds": [1.0, 5.0, 9.0], "cosine": 0.7, "channel": "image→image"},
        "words": {"source": "speech", "second": 1.0, "text": "a lemon", "cosine": 0.5, "channel": "text→text"},
        "channels": {
            f"a long name of a space→another {place}": {"rank": place, "weight": 0.1, "support": 0.5}
            for place in range(1, 12)
        },
    }  # fmt: skip
    answer = {
        "matches": [found, {**found, "words": None, "score": 0.01}],
        "notes": ["no words of this video stand out"],
    }
    match_sheet(answer, VIDEO["uri"], "my plate", folder / "match.html")
    return (folder / "match.html").read_text("utf-8")


def demo(_: Path, __: pytest.MonkeyPatch) -> str:
    return demo_html(demo_record("W" * 60 + " and a title of some words"))


def ablation(_: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    page: str = _tests_of("ablation", "test_ablation_page", monkeypatch).ablation_html(
        _tests_of("ablation", "test_ablation_page", monkeypatch).known()
    )
    return page


def descriptions(_: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    room = _tests_of("describe", "test_descriptions_page", monkeypatch)
    page: str = room.descriptions_html(room.known())
    return page


def alignment(_: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    room = _tests_of("align", "test_alignment_page", monkeypatch)
    page: str = room.alignment_html(room.known())
    return page


def recommendations(_: Path, __: pytest.MonkeyPatch) -> str:
    from coldstart.recommend.evaluate import EvaluateSettings, evaluate
    from coldstart.recommend.evaluate.page import recommend_html

    small = world(users=60, items=100, per_user=12)
    methods = ("random", "popularity", "content_mean", "ridge")
    settings = EvaluateSettings(methods=methods, teacher="pure_svd", dim=16, draws=100, seeds=2)
    return recommend_html(evaluate(small.interactions, small.content, "coldrec", settings).to_dict())


Make = Callable[[Path, pytest.MonkeyPatch], str]
LIGHT: list[Make] = [item, neighbours, matches, demo]
HEAVY: list[Make] = [ablation, descriptions, alignment, recommendations]


@pytest.mark.parametrize("make", LIGHT)
def test_the_style_sheet_has_a_rule_for_every_class(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unknown_classes(make(tmp_path, monkeypatch)) == set()


def test_a_match_shows_seconds_words_and_score_and_is_faint_where_next_to_nothing_speaks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = matches(tmp_path, monkeypatch)
    for words in ("most alike: frame at 0:01.0", "“a lemon” (speech 0:01.0)", "price 3.00", "score 2.50"):
        assert words in page
    assert "→" not in page and "cosine" not in page  # names of spaces are for developers
    assert page.count('<section class="single faint">') == page.count("next to nothing in the video") == 1


def test_a_class_without_a_rule_is_seen() -> None:
    style = "<style>.media.film img { color: red } @media print { .none { margin: .5em } }</style>"
    assert unknown_classes(f'{style}<p class="mediafilm none"></p><p class="media">') == {"mediafilm"}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: pages are not laid out")
def test_a_browser_lays_out_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {make.__name__: make(tmp_path.resolve(), monkeypatch) for make in (*LIGHT, *HEAVY)}
    assert {name: unknown_classes(source) for name, source in pages.items()} == {name: set() for name in pages}
    found = laid_out(pages, tmp_path)
    assert len(found) == 2 * len(pages)
    for one in found:
        page = f"{one['name']} at {one['width']} px"
        assert one["scroll"] <= one["width"], f"{page} scrolls sideways"
        assert one["overlaps"] == [], page
        assert (one["broken"], one["unnamed"]) == (0, 0), page
        assert one["texts"] > 10, page
    assert min(one["images"] for one in found if one["name"] in ("item", "neighbours", "matches")) > 5

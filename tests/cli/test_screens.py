"""Screens: no table is wider than the terminal, the column that tells rows apart stays, wide letters count two."""

from __future__ import annotations

import json
import random
import runpy
from pathlib import Path

import pytest
import screens
import yaml
from rich.cells import cell_len
from typer.testing import CliRunner

from coldstart.cli import app, output, tables
from coldstart.engine.local import PassReport
from coldstart.engine.report import RunReport, StageReport, fitted_report
from coldstart.store.freshness import Balance

WIDTHS = (40, 80, 200)
TITLES = (
    "red apple jacket with a hood and a very long title that no terminal has room for",
    "とても長い日本語の商品名" * 4,
)
PATHS = ("workspace ", "folder: ", "card: ", "done in ", "/")
"""Beginnings of lines that are not broken: what they name is pasted."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of items with long titles in wide letters, one of them with a fault, and of interactions."""
    folder = tmp_path_factory.mktemp("shop")
    items = [
        {"item_id": f"sku-{n}", "title": f"{TITLES[n % 2]} {n}", "category": "Clothes for rain", "price": 9.5 + n}
        for n in range(6)
    ]
    items.append({"item_id": "bad", "title": "lamp", "price": -3})
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items), "utf-8")
    settings = {
        "manifest": "items.jsonl",
        "max_failed": 0.5,
        "engine": {"workers": 1, "device": "cpu"},
        "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:16", "input": "text"}, "index": {}},
    }
    (folder / "shop.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    result = CliRunner().invoke(app, ["run", str(folder / "shop.yaml"), "-w", str(folder / "w")])
    assert result.exit_code == 0, result.output
    return folder


def screen(shop: Path, width: int, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "-w", str(shop / "w")], env={"COLUMNS": str(width)})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (("search", "--text", "jacket"), ("red apple jacket", "とても長い日本語")),
        (("search", "--text", "jacket", "--explain"), ("red apple jacket", "rank: text")),
        (("status",), ("ingest", "text", "index", "1 with an unreadable row", "next: coldstart status --failed")),
        (("status", "--failed"), ("bad", "unreadable row")),
        (("show", "sku-1", "--no-html"), ("とても長い日本語", "ingest")),
        (("index", "--history"), ("pub-000001",)),
        (("run",), ("ingest", "text", "index")),
    ],
)
def test_a_command_fits_the_terminal(shop: Path, width: int, arguments: tuple[str, ...], seen: tuple[str, ...]) -> None:
    text = screen(shop, width, *arguments)
    lines = [line for line in text.splitlines() if not line.startswith(PATHS)]
    assert max(map(cell_len, lines)) <= width, text
    assert [part for part in seen if part not in text] == []
    assert "\x1b" not in text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("arguments", [("models",), ("prompts",)])
def test_a_command_without_a_workspace_fits_the_terminal(width: int, arguments: tuple[str, ...]) -> None:
    text = CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(width)}).stdout
    assert max(cell_len(line) for line in text.splitlines() if " " in line and not line.startswith(PATHS)) <= width
    assert ("all-MiniLM-L6-v2" if arguments == ("models",) else "describe_product_long") in text


def test_any_table_fits_any_width() -> None:
    draw = random.Random(5)
    letters = ("a", "ü", "長", "🍎", " ", "\n", "\t", "\x1b")
    for _ in range(200):
        count = draw.randint(1, 8)
        columns = [f"column {place}"[: draw.randint(1, 9)] + str(place) for place in range(count)]
        kinds = [draw.choice(("text", "int", "float", "none")) for _ in columns]
        rows = [[_cell(draw, kind, letters) for kind in kinds] for _ in range(draw.randint(0, 4))]
        width = draw.randint(20, 120)
        whole = draw.sample(columns, draw.randint(0, count))
        main, below = draw.choice([None, *columns]), draw.choice([None, *columns])
        lines = list(tables.table_lines(columns, rows, width, main, whole, below=below))
        assert all(cell_len(line) <= width for line in lines), lines
        assert not any(letter in line for line in lines for letter in "\n\t\x1b")


def _cell(draw: random.Random, kind: str, letters: tuple[str, ...]) -> object:
    match kind:
        case "int":
            return draw.randint(-5, 10**6)
        case "float":
            return draw.random() * 10 ** draw.randint(-6, 6)
        case "none":
            return None
    return "".join(draw.choices(letters, k=draw.randint(0, 60)))


def test_columns_are_aligned_by_cells_and_numbers_to_the_right() -> None:
    rows = [["長い名前", 5, 2.5, "0.5000"], ["b", 1234, 10.0, "12.0000"], ["c", None, None, "-"]]
    assert list(tables.table_lines(["title", "n", "price", "score"], rows, 80)) == [
        "title         n  price    score",
        "────────  ─────  ─────  ───────",
        "長い名前      5   2.50   0.5000",
        "b         1,234  10.00  12.0000",
        "c             -      -        -",
    ]


def test_a_narrow_table_is_a_list_and_spares_its_columns_before() -> None:
    columns, row = ["", "title", "price", "item", "creator"], [[1, "a jacket of rain and wind", 9.5, "sku-123", "me"]]
    laid = {
        width: list(tables.table_lines(columns, row, width, "title", ("item",), ("creator",))) for width in (60, 47, 30)
    }
    assert laid[60][2] == "1  a jacket of rain and wind   9.50  sku-123  me"
    assert laid[47][2] == "1  a jacket of rain and wind   9.50  sku-123"
    assert laid[30] == ["1. a jacket of rain and wind", "  price 9.50, item sku-123", "  creator me"]


def test_a_sentence_goes_below_its_row_where_it_has_no_room() -> None:
    columns = ["", "title", "item", "reason"]
    rows = [[1, "Lime", "sku-9", "both are in Fruit and have the tag sour"], [2, "Kiwi", "sku-7", None]]
    laid = {
        width: list(tables.table_lines(columns, rows, width, "title", ("item",), below="reason"))
        for width in (60, 32, 20)
    }
    assert laid[60][2] == "1  Lime   sku-9  both are in Fruit and have the tag sour"
    assert laid[32][:5] == [
        "   title  item",
        "─  ─────  ─────",
        "1  Lime   sku-9",
        "   both are in Fruit and have",
        "   the tag sour",
    ]
    assert laid[32][5:] == ["2  Kiwi   sku-7"]
    listed = list(
        tables.table_lines(["item", "reason"], [["sku-9", rows[0][3]]], 24, "item", ("item",), below="reason")
    )
    assert listed == ["sku-9", "  both are in Fruit and", "  have the tag sour"]


def test_a_cell_is_cut_and_not_folded() -> None:
    rows = [["a long title of a jacket that has no end", "sku-1"]]
    assert (
        list(tables.table_lines(["title", "item"], rows, 30, "title", ("item",)))[-1]
        == "a long title of a jack…  sku-1"
    )


def test_facts_are_wrapped_beside_their_names_or_below_them() -> None:
    facts = [("language", "en"), ("what was heard", "mine tomato for the sauce and beef tomato for the burgers")]
    assert list(tables.fact_lines(facts, 50)) == [
        "language        en",
        "what was heard  mine tomato for the sauce and beef",
        "                tomato for the burgers",
    ]
    assert list(tables.fact_lines(facts, 30))[:2] == ["language", "  en"]


def test_piped_output_has_a_width_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output.table(("title", "detail"), [["a", "x" * 400]])
    assert screens.widest(capsys.readouterr().out) == tables.PIPED_WIDTH
    output.note("word " * 100)
    assert len(capsys.readouterr().out.splitlines()) == 1, "a line stays a line"


@pytest.mark.parametrize(("environment", "styled"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_has_bold_headers_unless_it_wants_none(
    environment: dict[str, str], styled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    first = next(tables.table_lines(["title"], [["a"]], 80))
    assert ("\x1b[1m" in first) == styled


def test_status_says_what_a_gate_keeps_out_once_and_which_fit_is_older(capsys: pytest.CaptureFixture[str]) -> None:
    class Fit:
        name, kind = "finetune.describe", "finetune.describe"

        def expected(self, _: object) -> tuple[dict[str, str], dict[str, object]]:
            return {"a": "new", "b": "same"}, {}

        def present(self, _: object) -> dict[str, str]:
            return {"a": "old", "b": "same"}

        def run(self, *_: object) -> tuple[int, list[str]]:
            return 0, []

        refit = run

    class Unfitted(Fit):
        def present(self, _: object) -> dict[str, str]:
            return {}

    older, never = (fitted_report(None, stage()) for stage in (Fit, Unfitted))  # type: ignore[arg-type]
    assert older.fit_in_use and "1 item is new or changed since its fit" in older.notes[0]
    assert older.refit_command == "coldstart finetune describe"
    assert not never.fit_in_use and not never.refit_command and never.balance.pending == 2

    kept_out = Balance(fresh=2, duplicate=1, reasons={"near_duplicate": 1})
    stages = [StageReport(name, "embed", kept_out) for name in ("image", "clip", "text")]
    output.print_balance(
        [*stages, StageReport("shots", "shots", Balance(reasons={"no_video": 1, "near_duplicate": 1}))]
    )
    said = capsys.readouterr()
    assert (said.out + said.err).count("a copy of another item") == 1
    assert "shots: 1 without a video\n" in said.out + said.err


def test_a_run_over_fits_shows_what_is_new_and_no_old_report(capsys: pytest.CaptureFixture[str]) -> None:
    new = Balance(fresh=9, filtered=3, reasons={"no_interactions": 3})
    stages = [
        StageReport("title", "embed", Balance(fresh=12), PassReport(done=3, seconds=200.0)),
        StageReport("text", "embed", Balance(fresh=12), PassReport(done=3, seconds=6.0)),
        StageReport("align", "align.behaviour", new, notes=["fit of 2026-11-20 10:00 UTC in use\nfitted on 9 likes"]),
    ]
    output.print_run(RunReport(stages, 206.0, ()))
    shown = capsys.readouterr().out
    ((head, *rows),) = screens.tables(shown)
    assert head == ["stage", "done now", "rate", "items", "fresh", "new"]
    assert [row[2] for row in rows] == ["-", "0.5/s", "-"] and rows[2][-1] == "3"
    assert "align: 3 new to the fit, without interactions in its training window\n" in shown
    assert "align: fit of 2026-11-20 10:00 UTC in use\n" in shown and "9 likes" not in shown

    output.print_balance([StageReport("a", "x", Balance(filtered=4, reasons={"no_interactions": 3, "no_video": 1}))])
    ((head, row),) = screens.tables(capsys.readouterr().out)
    assert dict(zip(head, row, strict=True)) == {"stage": "a", "items": "4", "fresh": "0", "new": "3", "filtered": "1"}


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    monkeypatch.setattr("coldstart.cli.main", lambda: ran.append(1))
    runpy.run_module("coldstart", run_name="__main__")
    assert ran == [1]

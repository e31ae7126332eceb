"""What was measured in full stays, and the page and its picture are made of what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as house
from benchmarks import page, plot, results
from benchmarks.report import Row, against
from benchmarks.results import Form, Record


def record(form: Form, figure: float, date: str = "2026-11-22") -> Record:
    row = against("peer", "a against b", "ten files", [figure, figure + 1, figure + 2], [1.0] * 3, "at least 3")
    return Record(form, date, 12.3, "a machine, 2 cores", {"torch": "2.14"}, (row,))


def test_a_short_run_never_takes_the_place_of_a_full_one(tmp_path: Path) -> None:
    results.save("one", record("short", 1.0), tmp_path)
    assert results.best("one", tmp_path) == record("short", 1.0)
    results.save("one", record("full", 2.0), tmp_path)
    results.save("one", record("short", 9.0, "2026-11-23"), tmp_path)
    assert results.best("one", tmp_path) == record("full", 2.0)
    results.save("one", record("full", 4.0), tmp_path)
    assert results.best("one", tmp_path) == record("full", 4.0)
    assert results.best("another", tmp_path) is None


def test_the_page_groups_by_area_and_says_form_date_and_environment(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('"""Claim: one is faster.\n\nMore of it.\n"""\n')
    made = page.page(
        {"Speed": ("one", "two"), "Rest": ("three",)},
        {"one": record("short", 1.0), "two": record("full", 3.0)},
        tmp_path,
    )
    assert made.startswith(page.HEAD)
    assert made.removeprefix(page.HEAD) == (
        "\n1 of 2 goals that are numbers are met.\n\nMissed:\n\n"
        "- `one`: a against b: 2.00, goal at least 3\n\n"
        "![Shares of limits and ratios to peers](ratios.png)\n\n"
        "## Speed\n\n"
        "### one\n\nOne is faster.\n\n"
        "`python -m benchmarks one`, **short form only**, 2026-11-22, 12 s, environment 1\n\n"
        "| claim | setting | figure | interval | goal | met |\n|---|---|---|---|---|---|\n"
        "| a against b | ten files | 2.00 | 1.00 to 3.00 | at least 3 | **no** |\n\n"
        "### two\n\n\n\n"
        "`python -m benchmarks --full two`, full form, 2026-11-22, 12 s, environment 1\n\n"
        "| claim | setting | figure | interval | goal | met |\n|---|---|---|---|---|---|\n"
        "| a against b | ten files | 4.00 | 3.00 to 5.00 | at least 3 | yes |\n\n"
        "Not measured yet: `three`.\n\n"
        "## Environments\n\n"
        "1. a machine, 2 cores · torch 2.14\n"
    )


def test_bars_are_what_is_held_to_a_limit_or_a_peer() -> None:
    rows = [(row, False) for row in record("full", 2.0).rows] + [(Row("told", "", "3", "", "at least 2"), True)]
    assert plot.bars(rows, "peer") == [plot.Bar("a against b", 3.0, 2.0, 4.0, 3.0, False)]
    assert plot.bars(rows, "limit") == []


@pytest.mark.slow
def test_the_picture_is_small(tmp_path: Path) -> None:
    rows = [(row, True) for row in record("short", 2.0).rows]
    assert plot.draw(rows, tmp_path / "ratios.png")
    assert 1_000 < (tmp_path / "ratios.png").stat().st_size < 100_000
    assert not plot.draw([], tmp_path / "none.png")


def test_a_benchmark_that_fails_is_named_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        house.run("no_such_benchmark", False) == "ModuleNotFoundError: No module named 'benchmarks.no_such_benchmark'"
    )
    monkeypatch.setitem(house.LIMIT_S, False, 0.01)
    assert house.run("no_such_benchmark", False) == "stopped after 0 s"
    assert house.run("no_such_benchmark", False, 0.0) == "not started: the 30 minutes are over"


def test_every_benchmark_of_the_house_is_a_file_and_stands_once() -> None:
    assert len(set(house.MODULES)) == len(house.MODULES)
    kept = {path.stem for path in results.FOLDER.glob("*.json")}
    assert kept <= set(house.MODULES)

"""Full measurements stay; the page leads with the goals, and every benchmark is on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import page, plot, results
from benchmarks.areas import AREAS, MODULES
from benchmarks.goals import goal_table, goals
from benchmarks.report import Row, against
from benchmarks.results import CHANGED, Form, Kept, Record

FOLDER = Path(results.__file__).resolve().parent


def record(form: Form, figure: float, date: str = "2026-11-22") -> Record:
    row = against("peer", "a against b", "ten files", [figure, figure + 1, figure + 2], [1.0] * 3, "at least 3")
    return Record(form, date, 12.3, "a machine, 2 cores", {"torch": "2.14"}, (row,))


def test_a_short_run_never_takes_the_place_of_a_full_one(tmp_path: Path) -> None:
    results.save("one", record("short", 1.0), tmp_path)
    assert results.kept("one", folder=tmp_path) == Kept(None, record("short", 1.0))
    results.save("one", record("full", 2.0), tmp_path)
    results.save("one", record("short", 9.0, "2026-11-23"), tmp_path)
    found = results.kept("one", folder=tmp_path)
    assert found == Kept(record("full", 2.0), record("short", 9.0, "2026-11-23"))
    assert found.record == record("full", 2.0)
    assert results.kept("another", folder=tmp_path) is None


def test_a_newer_short_form_stands_beside_a_full_one_of_older_code() -> None:
    full, short = record("full", 2.0), record("short", 9.0, "2026-11-23")
    assert Kept(full, short).newer is None
    assert Kept(full, short, CHANGED).newer == short
    assert Kept(full, record("short", 9.0), CHANGED).newer is None
    assert Kept(None, short, CHANGED).newer is None


def test_commits_since_a_measurement_are_counted() -> None:
    if not results.commit():
        pytest.skip("not a repository")
    long_ago = record("full", 2.0, "1999-01-01")
    assert results.changes(long_ago, ("benchmarks",)) > 0
    assert results.changes(long_ago, ()) == 0
    assert results.changes(record("full", 2.0, "2098-01-01"), ("benchmarks",)) == 0
    now = Record(**{**vars(long_ago), "commit": results.commit()})
    assert results.changes(now, ("benchmarks",)) == 0
    lost = Record(**{**vars(long_ago), "commit": "0" * 40})
    assert results.changes(lost, ("benchmarks",)) == results.changes(long_ago, ("benchmarks",))


def test_rows_with_one_goal_are_one_line_of_the_farthest() -> None:
    rows = (
        Row("quick", "", "0.2", "", "at most 0.6"),
        Row("slow", "", "0.9 s", "", "at most 0.6"),
        Row("less bad", "", "0.7", "", "at most 0.6"),
        Row("gain", "", "+0.015", "", "at least 0"),
        Row("loss", "", "-0.008", "", "at least 0"),
        Row("words", "", "3", "", "about 3"),
    )
    full = Record("full", "2026-11-22", 1.0, "a machine", {}, rows)
    short = Record("short", "2026-11-23", 1.0, "a machine", {}, (rows[0], Row("new", "", "5 ms", "", "at most 4 ms")))
    found = goals({"one": Kept(full, short, CHANGED)})
    assert [(goal.row.claim, goal.of, goal.missed, goal.met) for goal in found] == [
        ("slow", 3, 2, False),
        ("loss", 2, 1, False),
        ("new", 1, 1, False),
    ]
    assert goal_table(found) == (
        "| claim | figure | goal | met | measured |\n"
        "|---|---|---|---|---|\n"
        "| [one](#one): slow (the farthest of 3, 2 missed) | 0.9 s | at most 0.6 | **no** "
        "| 2026-11-22, **older code**; newer short form 0.2 |\n"
        "| [one](#one): loss (the farthest of 2, 1 missed) | -0.008 | at least 0 | **no** "
        "| 2026-11-22, **older code** |\n"
        "| [one](#one): new | 5 ms | at most 4 ms | **no** | 2026-11-23, **short form** |"
    )


def test_the_page_leads_with_the_goals_and_says_form_date_and_environment(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('"""Claim: one is faster.\n\nMore of it.\n"""\n')
    made = page.page(
        {"Speed": ("one", "two"), "Rest": ("three",)},
        {"one": Kept(None, record("short", 1.0)), "two": Kept(record("full", 3.0), changes=CHANGED)},
        tmp_path,
    )
    table = "| claim | setting | figure | interval | goal | met |\n|---|---|---|---|---|---|\n"
    assert made == "\n".join(
        [
            page.HEAD,
            "**1 of 2 goals are met**, 1 missed; 1 of these figures are of a short form only, 1 of older code. "
            "Nothing here was ever run on a GPU.\n",
            "| claim | figure | goal | met | measured |\n|---|---|---|---|---|\n"
            "| [one](#one): a against b | 2.00 | at least 3 | **no** | 2026-11-22, **short form** |\n"
            "| [two](#two): a against b | 4.00 | at least 3 | yes | 2026-11-22, **older code** |\n",
            page.PICTURE,
            page.READING,
            "## Speed\n",
            "### one\n\nOne is faster.\n",
            "`python -m benchmarks one`, **short form only**, 2026-11-22, 12 s, environment 1\n\n"
            f"{table}| a against b | ten files | 2.00 | 1.00 to 3.00 | at least 3 | **no** |\n",
            "### two\n\n\n",
            "`python -m benchmarks --full two`, full form, 2026-11-22, 12 s, environment 1, "
            f"**older code**: {CHANGED} commits since\n\n"
            f"{table}| a against b | ten files | 4.00 | 3.00 to 5.00 | at least 3 | yes |\n",
            "## Rest\n",
            "### three\n\n\n",
            "Not measured yet.\n",
            "## Time\n",
            "The short forms that were measured take 0 minutes: one 12 s.\n",
            "Without a time of a short form: two, three.\n",
            "## Environments\n",
            "1. a machine, 2 cores · torch 2.14\n",
        ]
    )


def test_bars_are_goals_in_the_order_of_what_is_reached() -> None:
    rows = (
        Row("a `limit`", "", "0.50", "", "at least 1.0 (reference 0.4)"),
        Row("zero", "", "0", "", "at most 0"),
        Row("c " * 100 + "the measure", "", "2", "", "at most 4"),
    )
    found = goals({"one": Kept(Record("full", "2026-11-22", 1.0, "a machine", {}, rows), changes=CHANGED)})
    best, worst = plot.bars(found)
    assert (best.reached, best.met, best.faint, best.hollow) == (2.0, True, True, False)
    assert best.label.startswith("one: c c") and best.label.endswith("the measure")
    assert len(best.label) <= plot.WIDTH + 3
    assert worst == plot.Bar("one: a limit", 0.5, "0.50   (at least 1.0)", False, True, False)


@pytest.mark.slow
def test_the_picture_is_small(tmp_path: Path) -> None:
    made = plot.bars(goals({"one": Kept(None, record("short", 2.0))}))
    assert plot.draw(made, tmp_path / "ratios.png")
    assert 1_000 < (tmp_path / "ratios.png").stat().st_size < 100_000
    assert not plot.draw([], tmp_path / "none.png")


def test_every_benchmark_is_in_one_area_and_on_the_page() -> None:
    files = {path.stem for path in FOLDER.glob("*.py") if "\ndef run(short: bool" in path.read_text("utf-8")}
    assert sorted(MODULES) == sorted(files)
    assert {path.stem for path in results.FOLDER.glob("*.json")} <= files
    headings = {line[4:] for line in (FOLDER / "README.md").read_text("utf-8").splitlines() if line.startswith("### ")}
    assert headings == files, "write the page anew: python -m benchmarks --page"


def test_the_code_that_areas_measure_is_there() -> None:
    for area in AREAS.values():
        assert all((FOLDER.parent / path).exists() for path in area.code)

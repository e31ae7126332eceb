"""What a dry run says, on stages whose costs are known."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import platformdirs
import pyarrow as pa
import pytest
import screens

import coldstart
from coldstart.cli import output
from coldstart.core.pipeline import Engine
from coldstart.core.stage import MapStageDefaults, Reject, Row, Work
from coldstart.engine.estimate import probe as probe_module
from coldstart.engine.estimate.forecast import parse_machine
from coldstart.engine.estimate.probe import probe
from coldstart.engine.estimate.report import (
    Assumption,
    ComparedTimes,
    Comparison,
    Estimate,
    OtherMachine,
    StageEstimate,
)


class Clock:
    """Time that passes where a stage says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    process_time = monotonic = perf_counter


class Stage(MapStageDefaults):
    """Weights take 7 s, a batch 1 s and 0.1 s for each unit of cost; preparing an item takes 0.02 s."""

    name = kind = "slow"
    table = "stage.slow"
    schema = pa.schema([("item_id", pa.string()), ("row_key", pa.string()), ("value", pa.float64())])
    batch_cost = 10.0
    deadline_s = 60.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loaded = False
        self.batches: list[int] = []

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def preparer(self) -> Any:
        def prepare(row: Row) -> tuple[Any, float]:
            self._clock.now += 0.02
            if row["value"] < 0:
                raise Reject("too_small")
            return row["value"], 1.0

        return prepare

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        self._clock.now += (0 if self._loaded else 7) + 1 + 0.1 * len(batch)
        self._loaded = True
        self.batches.append(len(batch))
        return [{"value": value} for value in batch]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(probe_module, "time", made)
    return made


def work(*values: float) -> list[Work]:
    return [Work(f"i{place}", "k", {"value": value}) for place, value in enumerate(values)]


def test_weights_count_once_and_batches_are_of_the_true_size(clock: Clock) -> None:
    stage = Stage(clock)
    found = probe(stage, work(*range(40)), Engine(workers=1), seconds=20)
    assert stage.batches[:4] == [1, 1, 10, 10]
    assert found.load_s == pytest.approx(7)
    assert list(found.rates) == pytest.approx([0.2] * len(found.rates))
    assert found.busy == pytest.approx(1)
    assert [item.prepare_s for item in found.items] == pytest.approx([0.02] * 40)
    assert sum(item.done for item in found.items) == len(found.made) >= 20


def test_items_that_are_turned_away_are_counted_and_never_computed(clock: Clock) -> None:
    stage = Stage(clock)
    found = probe(stage, work(1, -1, 2), Engine(workers=1), seconds=20)
    assert [item.lost for item in found.items] == [False, True, False]
    assert all(item.done for item in found.items)
    assert stage.batches == [1, 1, 2, 2]


def test_a_slow_stage_is_probed_on_few_items(clock: Clock) -> None:
    found = probe(Stage(clock), work(*range(40)), Engine(workers=1), seconds=0.01)
    assert len(found.items) == probe_module.FEWEST
    assert 1 <= sum(item.done for item in found.items) <= 2


# -- in a workspace


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    items = [{"item_id": f"p{place}", "title": f"thing {place}", "price": place - 2} for place in range(20)]
    (tmp_path / "items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items), "utf-8")
    return tmp_path


def settings(folder: Path) -> dict[str, Any]:
    return {
        "manifest": str(folder / "items.jsonl"),
        "max_failed": 0.5,
        "engine": {"workers": 1, "device": "cpu"},
        "stages": {
            "ingest": {},
            "text": {"stage": "embed", "encoder": "fake:16", "input": "text"},
            "again": {"stage": "embed", "encoder": "fake:8", "input": "text"},
            "index": {},
        },
    }


@pytest.mark.slow
def test_stages_are_probed_on_what_those_before_them_made(shop: Path) -> None:
    workspace = coldstart.open(shop / "w", create=True)
    pipeline = workspace.pipeline(settings(shop))
    found = workspace.estimate(pipeline)
    assert workspace.tables() == []
    told = [(stage.stage, stage.rows, stage.probed, stage.lost) for stage in found.stages]
    assert told == [("ingest", 20, 20, 2), ("text", 18, 18, 0), ("again", 18, 18, 0), ("index", 18, 0, 0)]
    assert found.left_out == []
    catalogue_wide = [one.what.partition(",")[0] for one in found.assumptions if ", besides" in one.what]
    assert catalogue_wide == ["index"], "the pipeline has neither labels nor copies"
    assert all(stage.seconds is not None and stage.seconds > 0 for stage in found.stages)

    ran = workspace.run(pipeline)
    assert ran.estimated is not None
    assert [(stage.stage, stage.rows) for stage in ran.estimated.stages][:3] == [
        ("ingest", 20),
        ("text", 18),
        ("again", 18),
    ]
    assert ran.to_dict()["estimated"]["estimated_s"] == found.seconds
    assert [stage.rows for stage in workspace.estimate(pipeline).stages] == [0, 0, 0, 0]


@pytest.mark.slow
def test_rows_that_are_there_are_read_and_only_stale_ones_counted(shop: Path) -> None:
    workspace = coldstart.open(shop / "w", create=True)
    pipeline = workspace.pipeline(settings(shop))
    workspace.run(pipeline, only=["ingest", "text"])
    tables = workspace.tables()
    found = workspace.estimate(pipeline)
    assert [(s.stage, s.rows, s.probed) for s in found.stages] == [
        ("ingest", 0, 0),
        ("text", 0, 0),
        ("again", 18, 18),
        ("index", 18, 0),
    ]
    assert workspace.tables() == tables
    assert [(s.stage, s.rows) for s in workspace.estimate(pipeline, only=["again"]).stages] == [("again", 18)]
    limited = workspace.estimate(pipeline, start="again", limit=5, on="h100x8")
    assert [s.rows for s in limited.stages] == [5, 18]
    assert limited.seconds_there is not None


# -- what is printed


def test_an_estimate_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    there = parse_machine("from=h100,price=3")
    estimate = Estimate(
        [
            StageEstimate(
                "image", 20_000, 64, 2, 11_160.0, 9_360.0, 14_040.0, 0.0, 2_300_000_000, None, 48_000_000, "model",
                other=OtherMachine(360.0, 300.0, 420.0, 0.1, "decode"),
            ),
            StageEstimate("fit", 20_000, note="not estimated: a fit whose time follows from what it finds"),
            StageEstimate("text", 0),
        ],
        upkeep_s=1.0,
        left_out=["fit"],
        assumptions=[Assumption("cores here", "2", "the system")],
        on=there,
    )  # fmt: skip
    output.print_estimate(estimate, json=False)
    printed = capsys.readouterr().out
    for cells in (
        ("image", "20,000", "64", "2", "3.1 h (2.6 h to 3.9 h)", "2 GB", "48 MB", "model"),
        ("image", "6.0 min (5.0 min to 7.0 min)", "0.1", "decode"),
        ("fit", "20,000", "0", "0", "-", "-", "-", "not estimated"),
        ("text", "0", "0", "0", "-", "-", "-", "nothing to do"),
    ):
        assert list(cells) in screens.rows(printed), printed
    assert re.search("^cores here +2 \\(the system\\)$", printed, re.MULTILINE)
    assert printed.splitlines()[-4:] == [
        "fit: not estimated: a fit whose time follows from what it finds",
        "in all 3.1 h (2.6 h to 3.9 h) without fit, which could not be estimated; memory 2 GB, disk 48 MB",
        "on from=h100,price=3 6.0 min without fit, which could not be estimated: 0.1 GPU-hours, 0.30 at 3 an hour",
        "dry run: nothing was written",
    ]


def test_a_comparison_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    stages = [ComparedTimes("ingest", 10.0, 8.0, 100, 100), ComparedTimes("text", 20.0, 25.0, 100, 97)]
    output.print_comparison(Comparison(stages, 30.0, 33.0, ["fit"]))
    assert capsys.readouterr().out == (
        "estimated 30.0 s for 33.0 s without fit, 0.91 of it; furthest off: text 20.0 s for 25.0 s, ingest 10.0 s for "
        "8.0 s\n"
    )

"""Stages that read stages, and gates that keep items from the stages after them: keys and states through a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coldstart.core.pipeline import Engine, Media, Pipeline, StageSpec
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import Gate, MapStage, MapStageDefaults, Reject, Row
from coldstart.engine.run import _run_stage
from coldstart.engine.work import Scope, sources, stale_work
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState


def length(row: Row) -> tuple[Row, float]:
    """The number of letters of an item's word, and of what the stage it reads found."""
    if row["word"] == "bad":
        raise Reject("bad_word", "bad")
    read = row.get("first")
    return {"size": len(row["word"]), "read": None if read is None else read["size"]}, 1.0


@dataclass
class Measure(MapStageDefaults):
    """A map stage over words."""

    name: str
    scale: int = 1
    reads: Mapping[str, str] = field(default_factory=dict)
    kind = "measure"
    batch_cost = 100.0
    deadline_s = 10.0
    schema = pa.schema([("item_id", pa.string()), ("row_key", pa.string()), ("size", pa.int64()), ("read", pa.int64())])

    @property
    def table(self) -> str:
        return f"stage.{self.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"name": self.name, "scale": self.scale}

    def preparer(self) -> Any:
        return length

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        return [{**row, "size": row["size"] * self.scale} for row in batch]


@dataclass
class Barrier(Measure):
    """Keeps long words from the stages after it."""

    longest: int = 100
    state: Any = "filtered"

    def blocked(self, workspace: Store) -> dict[str, Reject]:
        if not workspace.has(self.table):
            return {}
        rows = workspace.read(self.table, ["item_id", "size"]).to_pylist()
        return {
            row["item_id"]: Reject("too_long", f"{row['size']} > {self.longest}", self.state)
            for row in rows
            if row["size"] > self.longest
        }


class World:
    """A workspace of words and a pipeline of such stages."""

    def __init__(self, folder: Path, words: Mapping[str, str]) -> None:
        self.store = Store(folder, create=True)
        self.put(words)

    def put(self, words: Mapping[str, str]) -> None:
        table = {"item_id": list(words), "row_key": [f"key {w}" for w in words.values()], "word": list(words.values())}
        self.store.merge(ITEMS, pa.table(table))

    def pipeline(self, stages: Sequence[Measure]) -> Pipeline:
        specs = tuple(StageSpec(stage.name, stage.kind, None) for stage in stages)
        return Pipeline("test", None, 0.0, Media(), Engine(workers=1), specs, {})

    def pipeline_state(self, stages: Sequence[Measure]) -> PipelineState:
        return PipelineState(self.store, self.pipeline(stages), {stage.name: stage for stage in stages})  # type: ignore[misc]

    def run(self, stages: Sequence[Measure], scope: Scope | None = None) -> dict[str, int]:
        """Run all; name -> rows done."""
        done = {}
        for stage in stages:
            report = _run_stage(
                self.store,
                self.pipeline(stages),
                stage,
                self.pipeline_state(stages),
                scope or Scope(),
                SilentProgress(),
            )
            assert report.balance.total == self.store.count(ITEMS)
            done[stage.name] = report.ran.done
        return done

    def rows(self, stage: Measure, column: str) -> dict[str, Any]:
        rows = self.store.read(stage.table)
        return dict(zip(rows["item_id"].to_pylist(), rows[column].to_pylist(), strict=True))

    def balance(self, stages: Sequence[Measure], name: str) -> tuple[int, ...]:
        found = self.pipeline_state(stages).of(name).balance
        return found.fresh, found.failed, found.filtered, found.duplicate, found.pending


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, {"a": "one", "b": "three", "c": "bad"})


def test_the_stages_of_these_tests_keep_the_protocols() -> None:
    assert isinstance(Measure("x"), MapStage) and not isinstance(Measure("x"), Gate)
    assert isinstance(Barrier("x"), Gate)


def test_a_stage_gets_the_rows_it_reads_and_none_of_an_item_turned_away(world: World) -> None:
    first = Barrier("first", longest=100)
    second = Measure("second", reads={"first": "first"})
    assert world.run([first, second]) == {"first": 2, "second": 2}
    assert world.rows(second, "read") == {"a": 3, "b": 5}
    pipeline_state = world.pipeline_state([first, second])
    work = list(
        stale_work(world.store, pipeline_state.of("second").expected, ["a", "c"], sources(second, pipeline_state))
    )
    found = [entry.row["first"] for entry in work if isinstance(entry.row, dict)]
    assert found[0]["size"] == 3 and found[1] is None


@pytest.mark.slow
def test_what_changes_above_makes_what_is_read_from_it_stale(world: World) -> None:
    second = Measure("second", reads={"first": "first"})
    world.run([Measure("first"), second])
    again = [Measure("first", scale=2), second]
    assert world.balance(again, "second") == (0, 0, 0, 0, 3), "at once, not only after the first was made anew"
    assert world.run(again) == {"first": 2, "second": 2}
    assert world.rows(second, "read") == {"a": 6, "b": 10}
    assert world.run(again) == {"first": 0, "second": 0}


@pytest.mark.slow
def test_an_item_waits_for_the_stage_it_is_read_from(world: World) -> None:
    stages = [Measure("first"), Measure("second", reads={"first": "first"})]
    assert world.run(stages, Scope(limit=1)) == {"first": 1, "second": 1}
    world.put({"d": "twelve"})
    assert world.pipeline_state(stages).of("second").waiting == {"b", "c", "d"}
    assert world.balance(stages, "second") == (1, 0, 0, 0, 3)
    assert world.run(stages) == {"first": 2, "second": 2}


def test_a_mended_item_above_is_read_anew(world: World) -> None:
    stages = [Measure("first"), Measure("second", reads={"first": "first"})]
    world.run(stages)
    assert world.balance(stages, "second") == (2, 1, 0, 0, 0)
    world.store.delete_verdicts("first", ["c"])
    assert world.balance(stages, "second") == (2, 0, 0, 0, 1)


@pytest.mark.slow
def test_a_gate_closes_all_later_stages_and_opens_again(world: World) -> None:
    late = Measure("late")
    shut, open_ = Barrier("gate", longest=4), Barrier("gate", longest=9)
    assert world.run([shut, late]) == {"gate": 2, "late": 1}
    assert world.balance([shut, late], "gate") == (2, 1, 0, 0, 0)
    assert world.balance([shut, late], "late") == (1, 1, 1, 0, 0)
    row = world.store.verdicts("late")["b"]
    assert (row.state, row.reason, row.detail) == ("filtered", "too_long", "5 > 4")
    assert world.run([open_, late]) == {"gate": 0, "late": 1}, "another threshold makes no row of the gate anew"
    assert world.rows(late, "size") == {"a": 3, "b": 5}
    assert "b" not in world.store.verdicts("late")
    assert world.run([shut, late]) == {"gate": 0, "late": 0}
    assert world.balance([shut, late], "late") == (1, 1, 1, 0, 0), "its row stays and does not count"
    assert world.run([open_, late]) == {"gate": 0, "late": 0}, "and is there when the gate opens"
    assert world.balance([open_, late], "late") == (2, 1, 0, 0, 0)


def test_the_first_gate_gives_the_reason_and_later_gates_judge_duplicates_too(world: World) -> None:
    copies = Barrier("copies", longest=4, state="duplicate")
    quality = Barrier("quality", longest=2)
    late = Measure("late")
    assert world.run([copies, quality, late]) == {"copies": 2, "quality": 2, "late": 0}
    assert world.balance([copies, quality, late], "late") == (0, 1, 1, 1, 0)
    verdicts = world.store.verdicts("late")
    assert (verdicts["a"].state, verdicts["b"].state) == ("filtered", "duplicate")
    pipeline_state = world.pipeline_state([copies, quality, late])
    assert pipeline_state.blocked("late")["b"].state == "duplicate"
    assert pipeline_state.blocked("late", ignoring=("duplicate",))["b"].detail == "5 > 2"

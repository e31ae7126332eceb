"""A stage for the tests of the Ray engine, and what builds it in another process. Workers import this module."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from preparers import act

from coldstart.core import pipeline as pipelines
from coldstart.core.pipeline import Pipeline
from coldstart.core.stage import MapStageDefaults, Reject, Row
from coldstart.store import ITEMS, Store
from coldstart.store.fits import with_fits
from coldstart.store.freshness import PipelineState

ITEM_SCHEMA = pa.schema([("item_id", pa.string()), ("row_key", pa.string()), ("title", pa.string())])


def fill(store: Store, titles: Mapping[str, str]) -> None:
    """Items of these titles; their keys follow from them."""
    rows = [{"item_id": item, "row_key": f"{item}:{title}", "title": title} for item, title in titles.items()]
    store.merge(ITEMS, pa.Table.from_pylist(rows, schema=ITEM_SCHEMA))


def prepare(row: Row) -> tuple[Any, float]:
    """`act` of the word before the number in the title; what only `compute` does is handed on."""
    word, _, number = row["title"].rpartition(" ")
    return act({"act": word, "value": (word, float(number), row.get("square"))})


@dataclass
class Squares(MapStageDefaults):
    """Squares the number in an item's title; its word says what goes wrong."""

    name: str = "square"
    reads: Mapping[str, str] = field(default_factory=dict)
    isolated: bool = False
    version: int = 1
    deaths: str = ""
    kind = "square"
    batch_cost = 4.0
    deadline_s = 0.5
    schema = pa.schema(
        [("item_id", pa.string()), ("row_key", pa.string()), ("value", pa.float64()), ("read", pa.float64())],
        metadata={"passport": "squares"},
    )

    @property
    def table(self) -> str:
        return f"stage.{self.name}"

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def preparer(self) -> Any:
        return prepare

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        return [self._one(*sample) for sample in batch]

    def _one(self, word: str, number: float, read: Row | None) -> Row | Reject:
        if word == "nan":
            return Reject("bad_vector", "nan")
        if word == "fault":
            raise ZeroDivisionError("a fault")
        if word == "kill_once" and not Path(self.deaths).exists():
            Path(self.deaths).touch()
            word = "kill"
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"value": number**2, "read": None if read is None else read["value"]}

    def notes(self, workspace: Any) -> list[str]:
        return [f"{workspace.count(self.table)} squares"]


@dataclass(frozen=True)
class Recipe:
    """Builds one of several `Squares`; they stand in no pipeline file."""

    uri: str
    stage: Squares
    before: tuple[Squares, ...] = ()

    def build(self, **engine: Any) -> Squares:
        return self.stage

    def pipeline(self, **engine: Any) -> Pipeline:
        return with_fits(pipelines.load({"stages": {"ingest": {}}}), self.store())

    def pipeline_state(self, view: Any, blocked: Any = None) -> PipelineState:
        return PipelineState(view, self.pipeline(), {one.name: one for one in (self.stage, *self.before)}, blocked)

    def store(self) -> Store:
        return Store(self.uri)

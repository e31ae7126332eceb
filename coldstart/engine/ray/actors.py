"""Prepare and compute in the actors of a Ray cluster, on cores and where the model is. Imports no Ray.

Items travel in parts: an Arrow table of at most `RayCluster.part` items goes in and one comes out, and nothing between.
So a part that is done again after an actor died gives the same items again, none twice and none left out.
"""

from __future__ import annotations

import os
import pickle
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from coldstart.core.item_fields import select_fields
from coldstart.core.keys import stage_key
from coldstart.core.stage import LedgerRow, MapStage, Reject, Row, Work
from coldstart.engine.ipc import StageFactory, picklable_error
from coldstart.engine.local import Batcher, Result
from coldstart.engine.workers import Pool, Prepared, prepare_here, prepare_isolated
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS
from coldstart.store.fragments import TableVersion, read_rows_at, write_fragments

PREPARED = pa.schema(
    [
        ("part", pa.int64()),
        ("item_id", pa.string()),
        ("key", pa.string()),
        ("old", pa.uint64()),
        ("recorded", pa.bool_()),
        ("cost", pa.float64()),
        ("data", pa.large_binary()),
    ]
)
"""`old`: address of the row that is to be replaced; `recorded`: the ledger has a row of the item; `data`: pickled."""


@dataclass(frozen=True)
class ActorConfig:
    """Settings of the actors of one stage.

    Attributes:
        key: of the stage, as the driver computes it; an actor that computes another has other libraries or weights.
        places: tables that rows are read from, by name; `target`: the one that rows are written to.
        reads: field -> table of the stages read.
        workers: processes of one preparing actor; `memory_bytes`: at which one of them is stopped.
        device: setting of the computing actors.
    """

    recipe: StageFactory
    key: str
    places: dict[str, TableVersion]
    target: TableVersion
    reads: dict[str, str]
    workers: int
    memory_bytes: int
    device: str

    def stage(self, **engine: Any) -> MapStage:
        """Build the stage in this process.

        Raises:
            ColdstartError: its rows would carry another key than the driver's.
        """
        stage: MapStage = self.recipe.build(devices=1, **engine)
        check_same_key(stage, self.key)
        return stage


def check_same_key(stage: MapStage, key: str) -> None:
    """Check that this process gives the stage's rows the driver's key; raises `ColdstartError` otherwise."""
    if stage_key(stage.kind, stage.version, stage.fingerprint()) != key:
        raise ColdstartError(
            f"worker {os.uname().nodename} would make other rows of stage {stage.name!r} than the driver: its "
            "libraries or model weights differ; install the same versions and `coldstart models pull` on all nodes"
        )


@dataclass(frozen=True)
class PartOutcome:
    """Result of one part.

    Attributes:
        actor: who computed it, in `compute_s`.
        fragments: of the rows made, for `fragments.commit`; gone: addresses of the rows that they replace, and of those
            of items that were turned away.
        settled: items with a row now and a verdict from before.
        fault: of the program or its set-up; what was made before it counts.
    """

    part: int
    actor: str = ""
    done: int = 0
    cost: float = 0.0
    compute_s: float = 0.0
    fragments: Sequence[str] = ()
    gone: Sequence[int] = ()
    verdicts: Sequence[LedgerRow] = ()
    settled: Sequence[str] = ()
    fault: Exception | None = None


class Preparer:
    """Actor that reads the rows of a part and prepares them, isolated stages in worker processes with a deadline."""

    def __init__(self, order: ActorConfig) -> None:
        self._order = order
        self._pool: Pool | None = None
        self._stage: MapStage | None = None

    def __call__(self, part: pa.Table) -> pa.Table:
        """`PREPARED`, in the order of `part`; or one row of its number and a pickled fault."""
        try:
            return self._prepare(part)
        except Exception as error:
            if self._pool is not None:  # it may still be at work on others of the part
                self._pool.stop()
                self._pool = None
            return fault_part(part["part"][0].as_py(), error)

    def _prepare(self, part: pa.Table) -> pa.Table:
        if self._stage is None:
            self._stage = self._order.stage(device="cpu")
        work = list(self._work(part))
        if self._stage.isolated:
            if self._pool is None:
                self._pool = Pool(self._stage, self._order.workers, self._order.memory_bytes)
            ready = prepare_isolated(self._stage, work, self._order.workers, lambda: len(work), self._pool)
        else:
            ready = prepare_here(self._stage, work)
        found: dict[str, Prepared] = {step[0].item_id: step for step in ready}
        steps = [found[entry.item_id] for entry in work]
        made = {
            "part": part["part"],
            "item_id": part["item_id"],
            "key": part["key"],
            "old": part["old"],
            "recorded": part["recorded"],
            "cost": [cost for _, _, cost in steps],
            "data": [pickle.dumps(data, protocol=5) for _, data, _ in steps],
        }
        return pa.table(made, schema=PREPARED)

    def _work(self, part: pa.Table) -> Iterator[Work]:
        ids, keys = part["item_id"].to_pylist(), part["key"].to_pylist()
        if "row" in part.column_names:  # a source brings its own
            for item_id, key, row in zip(ids, keys, part["row"].to_pylist(), strict=True):
                yield Work(item_id, key, pickle.loads(row))
            return
        assert self._stage is not None, "it is built before"
        rows = read_rows_at(self._order.places[ITEMS], part["at"].to_pylist())
        if self._stage.item_fields is not None:
            rows = [select_fields(row, self._stage.item_fields) for row in rows]
        for name, table in self._order.reads.items():
            addresses = part[f"at.{name}"].to_pylist()
            read = iter(read_rows_at(self._order.places[table], [at for at in addresses if at is not None]))
            for row, address in zip(rows, addresses, strict=True):
                row[name] = None if address is None else next(read)
        for item_id, key, row in zip(ids, keys, rows, strict=True):
            yield Work(item_id, key, row)


class Computer:
    """Actor that computes prepared parts in batches, with the model loaded once, and writes their rows as fragments."""

    def __init__(self, order: ActorConfig) -> None:
        self._order = order
        self._name = uuid.uuid4().hex
        self._batcher: Batcher | None = None

    def __call__(self, part: pa.Table) -> pa.Table:
        """Compute one part; returns one row: a pickled `PartOutcome`."""
        began = time.monotonic()
        making = _Making(part["part"][0].as_py())
        try:
            self._compute(part, making)
        except Exception as error:
            making.fault = picklable_error(error)
        try:
            outcome = self._written(making, time.monotonic() - began)
        except Exception as error:
            outcome = PartOutcome(making.part, self._name, fault=picklable_error(error))
        return pa.table({"outcome": pa.array([pickle.dumps(outcome)], pa.large_binary())})

    def _compute(self, part: pa.Table, making: _Making) -> None:
        if fault := _fault_of(part):
            raise fault
        if self._batcher is None:
            self._stage = self._order.stage(device=self._order.device)
            self._batcher = Batcher(self._stage)
        making.given = part.select(["item_id", "old", "recorded"])
        columns = (part[name].to_pylist() for name in ("item_id", "key", "cost"))
        for item_id, key, cost, data in zip(*columns, part["data"], strict=True):
            self._batcher.take(Work(item_id, key, {}), pickle.loads(data.as_buffer()), cost)
            if self._batcher.full:
                making.results += self._batcher.compute()
        making.results += self._batcher.compute()

    def _written(self, making: _Making, seconds: float) -> PartOutcome:
        if not making.results:
            return PartOutcome(making.part, self._name, compute_s=seconds, fault=making.fault)
        stage = self._stage
        rows: list[Row] = []
        verdicts = []
        for work, result, _ in making.results:
            if isinstance(result, Reject):
                verdicts.append(
                    LedgerRow(stage.name, work.item_id, work.key, result.state, result.reason, result.detail)
                )
            else:
                rows.append({**result, "item_id": work.item_id, stage.key_column: work.key})
        made = {row["item_id"] for row in rows}
        ended = made | {row.item_id for row in verdicts}
        given = making.given.to_pylist()
        return PartOutcome(
            making.part,
            self._name,
            done=len(rows),
            cost=sum(cost for _, _, cost in making.results),
            compute_s=seconds,
            fragments=write_fragments(self._order.target, pa.Table.from_pylist(rows, schema=stage.schema))
            if rows
            else (),
            gone=[row["old"] for row in given if row["old"] is not None and row["item_id"] in ended],
            verdicts=verdicts,
            settled=[row["item_id"] for row in given if row["recorded"] and row["item_id"] in made],
            fault=making.fault,
        )


@dataclass
class _Making:
    part: int
    given: Any = None
    results: list[Result] = field(default_factory=list)
    fault: Exception | None = None


def fault_part(part: int, error: Exception) -> pa.Table:
    """Build a part that carries a fault instead of prepared items."""
    row = {"part": part, "data": pickle.dumps(picklable_error(error))}
    return pa.Table.from_pylist([row], schema=PREPARED)


def _fault_of(part: pa.Table) -> Exception | None:
    if part["item_id"][0].is_valid:
        return None
    error: Exception = pickle.loads(part["data"][0].as_py())
    return error

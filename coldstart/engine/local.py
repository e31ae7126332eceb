"""The local engine: one map stage over its stale rows, on one machine.

Worker processes prepare, this process computes and commits. The engine knows batches, budgets and keys; it knows
nothing of pictures, texts or models.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from coldstart.engine.progress import Progress
from coldstart.engine.workers import prepare_here, prepare_isolated
from coldstart.engine.writer import Writer
from coldstart.pipeline import Engine
from coldstart.stage import MapStage, Reject, Row, SourceStage, Work
from coldstart.workspace import ITEMS, Store

_READ_CHUNK = 2000


@dataclass(frozen=True)
class Ran:
    """What one pass over a stage did.

    Attributes:
        done: rows made; `lost`: items turned away.
        seconds: wall time; of it `wait_s` the model waited for data and `compute_s` it worked.
        commits: writes to the store.
        cost: sum of the stage's own unit (images, tokens) over the rows made.
    """

    done: int = 0
    lost: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0
    compute_s: float = 0.0
    commits: int = 0
    cost: float = 0.0


def run_map(
    workspace: Store,
    stage: MapStage,
    work: Iterable[Work],
    total: int | None,
    settings: Engine,
    progress: Progress,
) -> Ran:
    """Do the work and commit it as it comes.

    Args:
        work: what to do, in any order.
        total: how much that is, for the progress bar; None where it is not known.

    Raises:
        ColdstartError: a set-up fault, such as missing weights.
        Exception: any fault of the program, after all finished rows were committed.
    """
    began = time.monotonic()
    batcher = _Batcher(stage)
    wait_s = compute_s = cost_done = 0.0
    done = lost = 0

    def ahead() -> int:
        return max(2 * settings.workers, int(2 * batcher.budget / max(batcher.mean_cost, 1e-9)))

    prepared = prepare_isolated(stage, work, settings.workers, ahead) if stage.isolated else prepare_here(stage, work)
    writer = Writer(workspace, stage, commit_rows=settings.commit_rows, commit_s=settings.commit_s)
    with progress.meter(stage.name, total) as meter, closing(prepared), writer:
        while True:
            asked = time.monotonic()
            step = next(prepared, None)
            wait_s += time.monotonic() - asked
            if step is not None:
                batcher.take(*step)
                if not batcher.full:
                    continue
            computing = time.monotonic()
            results = batcher.compute()
            compute_s += time.monotonic() - computing
            turned_away = 0
            for entry, result, cost in results:
                writer.add(entry, result)
                turned_away += isinstance(result, Reject)
                cost_done += cost
            done += len(results) - turned_away
            lost += turned_away
            meter.advance(len(results), turned_away, wait_s / max(time.monotonic() - began, 1e-9))
            if step is None:
                break
    return Ran(done, lost, time.monotonic() - began, wait_s, compute_s, writer.commits, cost_done)


class _Batcher:
    """Gathers prepared items up to the stage's budget and computes them, in halves when memory runs out."""

    def __init__(self, stage: MapStage) -> None:
        self._stage = stage
        self.budget = stage.batch_cost
        self._samples: list[tuple[Work, Any, float]] = []
        self._verdicts: list[tuple[Work, Row | Reject, float]] = []
        self._cost = 0.0
        self._taken = 0
        self._taken_cost = 0.0

    @property
    def mean_cost(self) -> float:
        return self._taken_cost / self._taken if self._taken else 1.0

    @property
    def full(self) -> bool:
        return self._cost >= self.budget or len(self._verdicts) >= _READ_CHUNK

    def take(self, work: Work, data: Any, cost: float) -> None:
        if isinstance(data, Reject):
            self._verdicts.append((work, data, 0.0))
            return
        self._samples.append((work, data, cost))
        self._cost += cost
        self._taken += 1
        self._taken_cost += cost

    def compute(self) -> list[tuple[Work, Row | Reject, float]]:
        samples, verdicts = self._samples, self._verdicts
        self._samples, self._verdicts, self._cost = [], [], 0.0
        results = self._compute([data for _, data, _ in samples], [cost for _, _, cost in samples])
        made = [(work, result, cost) for (work, _, cost), result in zip(samples, results, strict=True)]
        return verdicts + made

    def _compute(self, batch: list[Any], costs: list[float]) -> list[Row | Reject]:
        if not batch:
            return []
        try:
            results = self._stage.compute(batch)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            shortage = str(error).partition("\n")[0]
        else:
            if len(results) != len(batch):
                raise ValueError(f"stage {self._stage.name!r} gave {len(results)} results for {len(batch)} samples")
            return results
        # outside `except`, so that the failed attempt's tensors are free before the next one
        if len(batch) == 1:
            return [Reject("out_of_memory", shortage)]
        half = len(batch) // 2
        self.budget = min(self.budget, max(sum(costs[:half]), 1.0))
        return self._compute(batch[:half], costs[:half]) + self._compute(batch[half:], costs[half:])


def _is_out_of_memory(error: Exception) -> bool:
    """By name, so that the engine needs no torch: its CUDA error, and the message of its CPU allocator."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


@dataclass(frozen=True)
class Scope:
    """Which of the rows that are stale a run does.

    Attributes:
        limit: at most so many a stage.
        retry: states (`failed`, …) whose verdicts are set aside.
        among: only these items; None for all.
        refit: let fit stages learn from rows that came or changed since they last did.
    """

    limit: int | None = None
    retry: frozenset[str] = frozenset()
    among: frozenset[str] | None = None
    refit: bool = False

    def choose(self, stale: Sequence[str]) -> Sequence[str]:
        """The part of `stale` that is in scope, in its order."""
        chosen = stale if self.among is None else [item for item in stale if item in self.among]
        return chosen[: self.limit]


@dataclass(frozen=True)
class Source:
    """Rows that a stage reads besides the items: the field they are put under, their table, and the items whose row
    there is fresh."""

    field: str
    table: str
    fresh: frozenset[str]


def stale_work(
    workspace: Store, expected: Mapping[str, str], stale: Sequence[str], sources: Sequence[Source] = ()
) -> Iterator[Work]:
    """Items of a map stage with their rows and those of the stages it reads, in chunks."""
    for start in range(0, len(stale), _READ_CHUNK):
        ids = stale[start : start + _READ_CHUNK]
        rows = _by_item(workspace, ITEMS, ids)
        for source in sources:
            found = _by_item(workspace, source.table, [item for item in ids if item in source.fresh])
            for item_id in ids:
                rows[item_id][source.field] = found.get(item_id)
        for item_id in ids:
            yield Work(item_id, expected[item_id], rows[item_id])


def _by_item(workspace: Store, table: str, ids: Sequence[str]) -> dict[str, Row]:
    return {row["item_id"]: row for row in workspace.read(table, ids=ids).to_pylist()} if ids else {}


class SourceWork:
    """The rows of a source that are not settled and in scope; iterate once.

    Attributes:
        recorded: the ledger rows of the stage, by item.
        pending: after the iteration, the items that are not settled and were left out.
    """

    def __init__(self, workspace: Store, stage: SourceStage, scope: Scope) -> None:
        self.recorded = workspace.verdicts(stage.name)
        self.pending: set[str] = set()
        self._present = workspace.keys(stage.table, stage.key_column)
        self._settled = {item: row.row_key for item, row in self.recorded.items() if row.state not in scope.retry}
        self._stage = stage
        self._scope = scope

    def __iter__(self) -> Iterator[Work]:
        given = 0
        for entry in self._stage.entries():
            if entry.key in (self._present.get(entry.item_id), self._settled.get(entry.item_id)):
                continue
            left_out = self._scope.among is not None and entry.item_id not in self._scope.among
            if left_out or (self._scope.limit is not None and given >= self._scope.limit):
                self.pending.add(entry.item_id)
                continue
            given += 1
            yield entry

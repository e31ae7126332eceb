"""Run one map stage over its stale rows on this machine.

Worker processes prepare; this process computes, in batches as large as the stage's budget and the device's memory
allow, and commits. Knows batches, budgets and keys; knows nothing of pictures, texts or models.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coldstart.core.pipeline import Engine
from coldstart.core.progress import Progress
from coldstart.core.stage import MapStage, Reject, Row, Work
from coldstart.engine.workers import prepare_here, prepare_isolated

if TYPE_CHECKING:
    from coldstart.store import Store


_MOST_VERDICTS = 2000

Result = tuple[Work, Row | Reject, float]
"""The work, its row or the verdict on it, its cost."""


class Batcher:
    """Batches of prepared items up to the stage's budget, computed in halves when memory runs out."""

    def __init__(self, stage: MapStage) -> None:
        self._stage = stage
        self.budget = stage.batch_cost
        self._samples: list[tuple[Work, Any, float]] = []
        self._verdicts: list[Result] = []
        self._cost = 0.0
        self._taken = 0
        self._taken_cost = 0.0

    @property
    def mean_cost(self) -> float:
        """Mean cost of the items taken so far; 1 before any."""
        return self._taken_cost / self._taken if self._taken else 1.0

    @property
    def full(self) -> bool:
        """True once the budget of the batch is reached."""
        return self._cost >= self.budget or len(self._verdicts) >= _MOST_VERDICTS

    def take(self, work: Work, data: Any, cost: float) -> None:
        """Add a prepared item, or the verdict on it."""
        if isinstance(data, Reject):
            self._verdicts.append((work, data, 0.0))
            return
        self._samples.append((work, data, cost))
        self._cost += cost
        self._taken += 1
        self._taken_cost += cost

    def compute(self) -> list[Result]:
        """Compute the batch and start a new one."""
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
    """Tell whether memory ran out, by the name of torch's CUDA error and the message of its CPU allocator."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


@dataclass(frozen=True)
class PassReport:
    """Work of one pass over a stage.

    Attributes:
        done: rows made; `lost`: items turned away.
        seconds: wall time; of it `wait_s` the model waited for data and `compute_s` it worked.
        start_s: the part of `wait_s` until the first item was ready: worker processes that start.
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
    start_s: float = 0.0


@dataclass(frozen=True)
class Step:
    """Results of some of the work, and the seconds since the step before that the model waited and worked.

    Of several models at once, the seconds are the mean over them. `start_s`: part of the waiting until the very first
    item was ready.
    """

    results: Sequence[Result]
    wait_s: float
    compute_s: float
    start_s: float = 0.0


Producer = Callable[[MapStage, Iterable[Work], Engine], Generator[Step]]
"""Function that does the work, each item once and in any order, and yields results as they come; stops when closed."""


def run_map(
    workspace: Store,
    stage: MapStage,
    work: Iterable[Work],
    total: int | None,
    settings: Engine,
    progress: Progress,
    produce: Producer | None = None,
) -> PassReport:
    """Do the work and commit results as they come.

    Args:
        work: what to do, in any order.
        total: how much that is, for the progress bar; None where it is not known.
        produce: who does it; this process and its workers by default.

    Raises:
        ColdstartError: a set-up fault, such as missing weights.
        Exception: any fault of the program, after all finished rows were committed.
    """
    from coldstart.engine.work import Writer

    began = time.monotonic()
    wait_s = compute_s = start_s = cost_done = 0.0
    done = lost = 0
    steps = (produce or produce_here)(stage, work, settings)
    writer = Writer(workspace, stage, commit_rows=settings.commit_rows, commit_s=settings.commit_s)
    with progress.meter(stage.name, total) as meter, closing(steps), writer:
        for step in steps:
            turned_away: Counter[str] = Counter()
            for entry, result, cost in step.results:
                writer.add(entry, result)
                if isinstance(result, Reject):
                    turned_away[result.reason] += 1
                cost_done += cost
            wait_s += step.wait_s
            compute_s += step.compute_s
            start_s += step.start_s
            done += len(step.results) - turned_away.total()
            lost += turned_away.total()
            meter.advance(len(step.results), turned_away, wait_s / max(time.monotonic() - began, 1e-9))
    seconds = time.monotonic() - began
    return PassReport(done, lost, seconds, wait_s, compute_s, writer.commits, cost_done, start_s)


def produce_here(stage: MapStage, work: Iterable[Work], settings: Engine) -> Generator[Step]:
    """Prepare in worker processes (or here, for stages that touch no media) and compute in this process."""
    batcher = Batcher(stage)

    def ahead() -> int:
        return max(2 * settings.workers, int(2 * batcher.budget / max(batcher.mean_cost, 1e-9)))

    prepared = (
        prepare_isolated(stage, work, settings.workers, ahead, memory_bytes=settings.worker_memory_bytes)
        if stage.isolated
        else prepare_here(stage, work)
    )
    wait_s = start_s = 0.0
    first = True
    with closing(prepared):
        while True:
            requested_at = time.monotonic()
            step = next(prepared, None)
            wait_s += time.monotonic() - requested_at
            if first:
                start_s, first = wait_s, False
            if step is not None:
                batcher.take(*step)
                if not batcher.full:
                    continue
            computing = time.monotonic()
            results = batcher.compute()
            yield Step(results, wait_s, time.monotonic() - computing, start_s)
            wait_s = start_s = 0.0
            if step is None:
                return

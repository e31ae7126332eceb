"""Probe a map stage: do a few of its items and measure each step, and the most memory that it holds.

Costs that occur once (worker processes that start, weights that load, the first batch of a shape) are kept apart from
those of every item. Batches are of the stage's own size where the time allows.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psutil
import pyarrow as pa

from coldstart.core.pipeline import Engine
from coldstart.core.stage import MapStage, Prepare, Reject, Row, Work
from coldstart.engine.workers import prepare_here, prepare_isolated

FEWEST = 6
"""Items that are prepared however long they take."""

_ROUNDS = 5
"""Batches whose rates are compared at most."""

_DISPATCH_S = 0.005
"""What handing one item to a worker may take at most: more is a pool that runs dry, which a long run does not."""


@dataclass(frozen=True)
class Timed:
    """Preparer that also returns the seconds of each item; picklable."""

    prepare: Prepare

    def __call__(self, row: Row) -> tuple[Any, float]:
        began = time.perf_counter()
        try:
            data, cost = self.prepare(row)
        except Reject as reject:
            data, cost = reject, 0.0
        return (data, time.perf_counter() - began), cost


class _TimedStage:
    """Part of a stage that workers need, its preparer timed."""

    def __init__(self, stage: MapStage) -> None:
        self._stage = stage
        self.name = stage.name
        self.deadline_s = stage.deadline_s

    def preparer(self) -> Prepare:
        return Timed(self._stage.preparer())


@dataclass(frozen=True)
class ProbedItem:
    """Probed item: its seconds on a worker, its cost in the stage's unit, and whether it was turned away.

    `done` is false for one that was prepared and never computed, since the time was up.
    """

    work: Work
    prepare_s: float
    cost: float
    lost: bool
    done: bool = True


@dataclass(frozen=True)
class Probe:
    """Measurements of a stage on some items.

    Attributes:
        items: those that were done; `made`: the results of those that were not turned away.
        start_s: until the workers stood ready; `load_s`: weights, and what the first batch took more than a later one.
        dispatch_s: of this process for each item that a worker prepares.
        rates: seconds of the model for each unit of cost, one a batch.
        busy: cores of this process that were busy while the model worked.
        row_bytes: mean size of a row that was made.
        peak_bytes: of this process and its workers; `worker_bytes`: of one worker; `model_bytes`: what this process
            grew by; `gpu_bytes`: on the CUDA device, where one was used.
    """

    items: Sequence[ProbedItem]
    made: Sequence[tuple[Work, Row | Reject]]
    start_s: float = 0.0
    load_s: float = 0.0
    dispatch_s: float = 0.0
    rates: Sequence[float] = ()
    busy: float = 1.0
    row_bytes: float = 0.0
    peak_bytes: int = 0
    worker_bytes: int = 0
    model_bytes: int = 0
    gpu_bytes: int | None = None


def probe(stage: MapStage, work: Sequence[Work], settings: Engine, seconds: float) -> Probe:
    """Do some of the work, from its start on, for about so many seconds: half to prepare, half to compute.

    Raises:
        Exception: as the stage.
    """
    with Memory() as memory:
        before = memory.peak
        prepared, start_s, dispatch_s = _prepare(stage, work, settings, seconds / 2)
        samples = [(item, data) for item, data in prepared if not isinstance(data, Reject)]
        model = _Model(stage, seconds / 2)
        results = model.run(samples)
    made: list[tuple[Work, Row | Reject]] = [(item.work, data) for item, data in prepared if isinstance(data, Reject)]
    made += [(item.work, result) for item, result in results]
    lost = {work.item_id for work, result in made if isinstance(result, Reject)}
    done = {work.item_id for work, _ in made}
    rows = [{"item_id": one.item_id, **row} for one, row in made if not isinstance(row, Reject)]
    return Probe(
        [ProbedItem(i.work, i.prepare_s, i.cost, i.work.item_id in lost, i.work.item_id in done) for i, _ in prepared],
        made,
        start_s=start_s,
        load_s=model.load_s,
        dispatch_s=dispatch_s,
        rates=model.rates,
        busy=model.busy,
        row_bytes=pa.Table.from_pylist(rows, schema=stage.schema).nbytes / len(rows) if rows else 0.0,
        peak_bytes=memory.peak,
        worker_bytes=memory.worker,
        model_bytes=max(memory.peak - before, 0),
        gpu_bytes=memory.gpu,
    )


def _prepare(
    stage: MapStage, work: Sequence[Work], settings: Engine, seconds: float
) -> tuple[list[tuple[ProbedItem, Any]], float, float]:
    """Prepare items; returns their data, seconds until the workers were ready, and seconds to hand over one item."""
    timed: Any = _TimedStage(stage)
    stop_at = float("inf")

    def some() -> Iterator[Work]:
        for taken_up, entry in enumerate(work, start=1):
            if taken_up > FEWEST and time.monotonic() > stop_at:
                return
            yield entry

    workers = settings.workers
    steps = (
        prepare_isolated(timed, some(), workers, lambda: 2 * workers, memory_bytes=settings.worker_memory_bytes)
        if stage.isolated
        else prepare_here(timed, some())
    )
    found: list[tuple[ProbedItem, Any]] = []
    began = time.monotonic()
    first_at = last_at = began
    with closing(steps):
        for entry, answer, cost in steps:
            last_at = time.monotonic()
            if not found:
                first_at = last_at
                stop_at = first_at + seconds
            # a verdict from before the worker, or the worker's own end, comes without a time
            data, took = answer if isinstance(answer, tuple) else (answer, 0.0)
            found.append((ProbedItem(entry, took, cost, False), data))
    if not stage.isolated or not found:
        return found, 0.0, 0.0
    times = [item.prepare_s for item, _ in found]
    start_s = max(first_at - began - times[0], 0.0)
    idle = max(last_at - first_at - sum(times[1:]) / workers, 0.0)
    return found, start_s, min(idle / max(len(times) - 1, 1), _DISPATCH_S)


class _Model:
    """Timed model: computes samples in batches of the stage's size while there is time."""

    def __init__(self, stage: MapStage, seconds: float) -> None:
        self._stage = stage
        self._left = seconds
        self._wall_s = self._cpu_s = 0.0
        self.load_s = 0.0
        self.rates: list[float] = []

    @property
    def busy(self) -> float:
        """Mean number of cores that were busy while the model worked."""
        return self._cpu_s / self._wall_s if self._wall_s else 1.0

    def run(self, samples: Sequence[tuple[ProbedItem, Any]]) -> list[tuple[ProbedItem, Row | Reject]]:
        """Compute results, in the order of the samples, of as many as there is time for."""
        done: list[tuple[ProbedItem, Row | Reject]] = []
        if not samples:
            return done
        _, first_s = self._time(samples[:1])  # loads the weights
        _, again_s = self._time(samples[:1])
        self.load_s = max(first_s - again_s, 0.0)
        self._wall_s = self._cpu_s = 0.0
        rate = again_s / max(samples[0][0].cost, 1e-9)
        while len(done) < len(samples) and (not done or self._left > 0) and len(self.rates) < _ROUNDS:
            # a batch takes less for each item than one item alone, by which the rate is known at first
            budget = min(self._stage.batch_cost, (1 if done else 2) * self._left / max(rate, 1e-9))
            batch = _up_to(samples[len(done) :], budget)
            results, took = self._time(batch)
            self._left -= took
            if not done and took < self._left:  # the first of its shape lays out memory: what a later one takes counts
                self.load_s += took
                results, took = self._time(batch)
                self._left -= took
                self.load_s = max(self.load_s - took, 0.0)
            done += [(item, result) for (item, _), result in zip(batch, results, strict=True)]
            if cost := sum(item.cost for item, _ in batch):
                rate = took / cost
                self.rates.append(rate)
        return done

    def _time(self, batch: Sequence[tuple[ProbedItem, Any]]) -> tuple[list[Row | Reject], float]:
        began, used = time.perf_counter(), time.process_time()
        results = self._stage.compute([data for _, data in batch])
        took = time.perf_counter() - began
        self._wall_s += took
        self._cpu_s += time.process_time() - used
        return results, took


def _up_to(samples: Sequence[tuple[ProbedItem, Any]], budget: float) -> Sequence[tuple[ProbedItem, Any]]:
    """Fill a batch as the engine does: until the budget is reached; at least one."""
    cost = 0.0
    for place, (item, _) in enumerate(samples, start=1):
        cost += item.cost
        if cost >= budget:
            return samples[:place]
    return samples


_EVERY_S = 0.05


class Memory:
    """Watch of the memory in use within its `with` block.

    Attributes:
        peak: bytes of this process and all its children together, at most.
        worker: of the largest child alone.
        gpu: bytes that torch held on the current CUDA device at most; None where there is none in use.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0
        self.worker = 0
        self.gpu: int | None = None

    def __enter__(self) -> Self:
        if cuda := _cuda():
            cuda.reset_peak_memory_stats()
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if cuda := _cuda():
            self.gpu = int(cuda.max_memory_allocated()) or None

    def _watch(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._sample()

    def _sample(self) -> None:
        own = self._process.memory_info().rss
        children = []
        for child in self._process.children(recursive=True):
            try:
                children.append(child.memory_info().rss)
            except psutil.NoSuchProcess:  # it ended meanwhile
                continue
        self.peak = max(self.peak, own + sum(children))
        self.worker = max(self.worker, *children, 0) if children else self.worker


def _cuda() -> Any:
    """Return `torch.cuda` where a model has imported torch and a device is present; the engine itself needs none."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None

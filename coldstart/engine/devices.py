"""Spread a stage over several devices of one machine: a process each prepares and computes; this one alone commits.

Work goes out in small parcels as processes request it, so that a slow device delays no other. A process that dies is
started again, and its items are done again. Items that a process held at two deaths are done apart from the rest, in
ever smaller groups, until the item that kills its process is alone and is turned away. Every process is a plain one and
not a rank of a process group, whose members end together.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from queue import SimpleQueue
from typing import Any

from coldstart.core import device as device_module
from coldstart.core.device import share_cores
from coldstart.core.pipeline import Engine, Pipeline
from coldstart.core.stage import MapStage, Reject, Work
from coldstart.engine import device_process
from coldstart.engine.device_process import BatchResult, DeviceSlot, Fault, Ready, WorkerConfig
from coldstart.engine.ipc import StageFactory
from coldstart.engine.local import Producer, Result, Step
from coldstart.engine.recipe import Recipe
from coldstart.errors import ColdstartError
from coldstart.store import Store

_PARCEL = 16
_MOST_VERDICTS = 2000
_LARGE_BATCH = 64
_PARTS = 8
_MOST_DEATHS = 5
_GRACE_S = 10.0


def device_slots(settings: Engine) -> list[DeviceSlot]:
    """Choose the device and cores of each process, by the settings of the engine.

    Raises:
        ColdstartError: this machine has not so many devices.
    """
    names = device_module.choose_devices(settings.device, settings.devices)
    found = []
    for name, share in zip(names, share_cores(len(names)), strict=True):
        kind, _, number = name.partition(":")
        cuda = device_module.visible_cuda(int(number or 0)) if kind == "cuda" else None
        found.append(DeviceSlot(name, kind, share, cuda))
    return found


def with_first_device(pipeline: Pipeline) -> Pipeline:
    """Set the first of a pipeline's devices for this process itself, which computes small stages and fits.

    Raises:
        ColdstartError: this machine has not so many devices.
    """
    engine = pipeline.engine
    if engine.devices == 1 or engine.name != "local":
        return pipeline
    first = device_slots(engine)[0]
    device = first.device if isinstance(engine.devices, int | str) else first.name
    return replace(pipeline, engine=engine.model_copy(update={"device": device}))


def device_producer(workspace: Store, pipeline: Pipeline, stage: MapStage, total: int | None) -> Producer | None:
    """Choose the producer of a stage on the devices of the pipeline; None: this process.

    A stage that uses no device, or has less than two batches for each, is done sooner than processes start.

    Args:
        total: number of items to do; None if unknown.
    """
    if pipeline.engine.devices == 1 or pipeline.engine.name != "local" or not stage.on_device:
        return None
    chosen = device_slots(pipeline.engine)
    few = 2 * len(chosen) * min(max(stage.batch_cost, 1.0), _LARGE_BATCH)
    if len(chosen) < 2 or (total is not None and total < few):
        return None
    return OnDevices(Recipe.of(workspace, pipeline, stage.name), chosen)


@dataclass(frozen=True)
class OnDevices:
    """A `Producer` over several device slots."""

    recipe: StageFactory
    slots: Sequence[DeviceSlot]

    def __call__(self, stage: MapStage, work: Iterable[Work], settings: Engine) -> Generator[Step]:
        """Do the work on the devices.

        Raises:
            ColdstartError: a set-up fault in a process; or processes die one after another.
            Exception: a fault of the program in a process.
        """
        pool = _DevicePool(self.recipe, self.slots, work, settings)
        try:
            yield from pool.steps()
        finally:
            pool.stop()


@dataclass
class _Worker:
    """One process and the work that it holds by number.

    Attributes:
        wants: it takes more work; apart: it holds items that are done apart from the rest.
        failures_in_a_row: deaths since its last result; said: last error that it sent.
    """

    slot: DeviceSlot
    process: Any
    pipe: Any
    held: dict[int, Work] = field(default_factory=dict)
    wants: bool = False
    apart: bool = False
    failures_in_a_row: int = 0
    last_error: str = ""


class _DevicePool:
    def __init__(
        self, recipe: StageFactory, chosen: Sequence[DeviceSlot], work: Iterable[Work], settings: Engine
    ) -> None:
        self._recipe = recipe
        self._source: Iterator[Work] | None = iter(work)
        self._numbers = count()
        self._retries: deque[tuple[int, Work]] = deque()
        self._groups: deque[list[tuple[int, Work]]] = deque()
        self._deaths: dict[int, int] = {}
        self._verdicts: list[Result] = []
        self._inbox: SimpleQueue[tuple[_Worker, Any]] = SimpleQueue()
        self._count = len(chosen)
        narrow = _dtype(chosen[0], settings.dtype)
        self._engine = {
            "devices": 1,
            "dtype": narrow,
            "workers": max(1, settings.workers // len(chosen)),
            "worker_memory_bytes": settings.worker_memory_bytes,
        }
        self._worked = False
        self._slots = chosen
        self._workers: list[_Worker] = []

    def steps(self) -> Generator[Step]:
        """Yield steps until all work is done."""
        for slot in self._slots:
            self._workers.append(self._start(slot))
        while True:
            self._feed()
            if self._verdicts:
                yield Step(self._verdicts, 0.0, 0.0)
                self._verdicts = []
                continue
            if self._source is None and not (
                self._retries or self._groups or any(worker.held for worker in self._workers)
            ):
                return
            worker, message = self._inbox.get()
            if isinstance(message, Ready):
                worker.wants = self._worked = True
            elif isinstance(message, BatchResult):
                yield self._step(worker, message)
            elif isinstance(message, Fault) and not message.device:
                while not self._inbox.empty():  # what others finished meanwhile is kept
                    other, last = self._inbox.get()
                    if isinstance(last, BatchResult):
                        yield self._step(other, last)
                raise message.error
            elif isinstance(message, Fault):
                worker.last_error = str(message.error).partition("\n")[0]
            elif worker in self._workers:
                self._replace(worker)

    def stop(self) -> None:
        """End the processes at once."""
        for worker in self._workers:
            _send(worker, None)
        deadline = time.monotonic() + _GRACE_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _step(self, worker: _Worker, result: BatchResult) -> Step:
        results = [(worker.held.pop(number), result, cost) for number, result, cost in result.results]
        if results:
            worker.failures_in_a_row = 0
        parts = (result.wait_s, result.compute_s, result.start_s)
        return Step(results, *(seconds / self._count for seconds in parts))

    def _feed(self) -> None:
        """Answer every process that wants work."""
        for worker in self._workers:
            if not worker.wants:
                continue
            if self._groups:
                parcel = [] if worker.held else self._groups.popleft()
                worker.apart = bool(parcel) or worker.apart
            elif worker.apart and worker.held:
                parcel = []
            else:
                worker.apart = False
                parcel = self._draw()
                if not parcel and (self._source is not None or not worker.held):
                    continue
            worker.wants = False
            worker.held.update(parcel)
            _send(worker, [(number, entry.row) for number, entry in parcel])

    def _draw(self) -> list[tuple[int, Work]]:
        """Draw the next parcel; items that were turned away beforehand go to the verdicts."""
        parcel: list[tuple[int, Work]] = []
        while len(parcel) < _PARCEL and self._retries:
            parcel.append(self._retries.popleft())
        while len(parcel) < _PARCEL and len(self._verdicts) < _MOST_VERDICTS and self._source is not None:
            entry = next(self._source, None)
            if entry is None:
                self._source = None
            elif isinstance(entry.row, Reject):
                self._verdicts.append((entry, entry.row, 0.0))
            else:
                parcel.append((next(self._numbers), entry))
        return parcel

    def _replace(self, dead: _Worker) -> None:
        """Start a process in the place of one that died, and queue its items again."""
        dead.process.join()
        code = dead.process.exitcode
        cause = dead.last_error or f"it ended with exit code {code}"
        if not self._worked:
            raise ColdstartError(
                f"no process starts for {dead.slot.name} ({cause}): in a script of your own, run the pipeline under "
                '`if __name__ == "__main__":`; otherwise see `coldstart doctor`'
            )
        failures_in_a_row = dead.failures_in_a_row + 1
        if dead.apart and len(dead.held) == 1:
            entry = next(iter(dead.held.values()))
            detail = f"the process of {dead.slot.name} died whenever it worked on it: {cause}"
            self._verdicts.append((entry, Reject("device_process_died", detail), 0.0))
            failures_in_a_row = 0
        else:
            self._do_again(dead.held)
        position = self._workers.index(dead)
        del self._workers[position]
        if failures_in_a_row < _MOST_DEATHS:
            self._workers.insert(position, self._start(dead.slot))
            self._workers[position].failures_in_a_row = failures_in_a_row
        elif not self._workers:
            raise ColdstartError(
                f"the process of {dead.slot.name} died {failures_in_a_row} times without making a row ({cause}): is "
                "there memory for its model? see `coldstart doctor`, and try `--set engine.devices=1`"
            )

    def _do_again(self, held: dict[int, Work]) -> None:
        suspects = []
        for number, entry in held.items():
            self._deaths[number] = self._deaths.get(number, 0) + 1
            if self._deaths[number] == 1:
                self._retries.append((number, entry))
            else:
                suspects.append((number, entry))
        size = -(-len(suspects) // _PARTS)
        self._groups.extend(suspects[start : start + size] for start in range(0, len(suspects), max(size, 1)))

    def _start(self, slot: DeviceSlot) -> _Worker:
        # spawn: a forked child would inherit the threads and locks of torch and lance in an unknown state
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=device_process.main, args=(theirs,), name=f"coldstart {slot.name}")
        began = time.monotonic()
        process.start()
        theirs.close()
        worker = _Worker(slot, process, ours)
        _send(worker, slot)
        _send(worker, WorkerConfig(self._recipe, {**self._engine, "device": slot.device}, began))
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        """Put the messages of a process into the inbox, and None when it has died; so no process waits for a commit."""
        try:
            while True:
                self._inbox.put((worker, worker.pipe.recv()))
        except (EOFError, OSError):
            self._inbox.put((worker, None))
            worker.pipe.close()


def _send(worker: _Worker, message: Any) -> None:
    with suppress(OSError):  # it died; `_listen` says so
        worker.pipe.send(message)


def _dtype(slot: DeviceSlot, dtype: str) -> str:
    """Choose one number format for all: two processes that measure may differ on a busy machine."""
    if dtype != "auto":
        return dtype
    here = device_module.choose_device(slot.device if slot.cuda is None else slot.name)
    return str(device_module.choose_dtype(here)).removeprefix("torch.")

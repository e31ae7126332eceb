"""Prepare items in worker processes, where whatever a decoder does costs one item."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from coldstart.core.sections import WORKER_MEMORY_BYTES
from coldstart.core.stage import MapStage, Prepare, Reject, Row, Work
from coldstart.engine import one_pass
from coldstart.engine.worker_process import Answer, Done, Fault, ProgramFault, WorkerProcess
from coldstart.errors import ColdstartError
from coldstart.media.one_pass import SharedData

Prepared = tuple[Work, Any, float]
"""The work, its data (or the verdict on it), its cost."""

_MAX_STRIKES = 2
_SHARED = -1  # strikes of an item that is prepared for other stages, too
_MAX_LOST = 5
_reusable: ContextVar[list[WorkerGroup] | None] = ContextVar("_reusable", default=None)


@contextmanager
def reuse_workers(kept: WorkerGroups | None = None) -> Iterator[None]:
    """Reuse worker processes of a stage that ended well for the next one, since each takes a second to start.

    Args:
        kept: idle processes of an earlier block, which stay in the list for the next one; by default they are stopped.
    """
    groups: WorkerGroups = [] if kept is None else kept
    token = _reusable.set(groups)
    try:
        yield
    finally:
        _reusable.reset(token)
        if kept is None:
            for group in groups:
                group.stop()


def prepare_here(stage: MapStage, work: Iterable[Work]) -> Generator[Prepared]:
    """Prepare in this process, in order: for stages that touch no media."""
    prepare = stage.preparer()
    for entry in work:
        if isinstance(entry.row, Reject):
            yield entry, entry.row, 0.0
            continue
        try:
            data, cost = prepare(entry.row)
        except Reject as reject:
            yield entry, reject, 0.0
        else:
            yield entry, data, cost


def prepare_isolated(
    stage: MapStage,
    work: Iterable[Work],
    workers: int,
    ahead: Callable[[], int],
    pool: Pool | None = None,
    memory_bytes: int = WORKER_MEMORY_BYTES,
) -> Generator[Prepared]:
    """Prepare in `workers` processes; results come as they are ready, so a slow item holds up no other.

    Args:
        ahead: number of items that may be in preparation or waiting; called before each is taken.
        pool: used and left running, for who prepares again and again; one of its own by default.
        memory_bytes: resident memory at which a worker of an own pool is stopped.

    An item over the deadline is turned away as `decode_timeout`, one that takes too much memory as `out_of_memory`, one
    that kills its process or raises anything else, and does so again in a second try, as `decoder_fault`. Its verdict
    stands until its bytes or the stage change, so no item holds up later runs. An item that the preparer calls
    `harmless`, since it decodes nothing of it, is prepared here.

    Raises:
        ColdstartError: no worker process starts, or a set-up fault in one.
        AssertionError: of this package.
        OSError: the machine's disk is full, or it has no more file handles.
    """
    source = iter(work)
    own = pool is None
    prepare = stage.preparer()
    passes = one_pass.current()
    harmless: Callable[[Row], bool] = getattr(prepare, "harmless", _never)
    pool = pool or Pool(stage, workers, memory_bytes)
    try:
        while True:
            while pool.pending < max(ahead(), workers) and (entry := next(source, None)) is not None:
                if isinstance(entry.row, Reject):
                    yield entry, entry.row, 0.0
                elif (kept := passes.take(stage.name, entry)) is not None:
                    yield entry, *kept
                elif harmless(entry.row):
                    yield entry, *prepare(entry.row)
                else:
                    pool.take(entry)
            if not pool.pending:
                return
            yield pool.next()
    finally:
        if own:
            pool.release()


def _never(row: Row) -> bool:
    return False


class Pool:
    """Pool of worker processes for one stage, which start with the first item.

    An item is first prepared in one pass with later stages of the run that need it (`coldstart.engine.one_pass`); where
    that fails it is prepared for this stage alone, so that no other stage's work costs an item a strike.
    """

    def __init__(self, stage: MapStage, workers: int, memory_bytes: int = WORKER_MEMORY_BYTES) -> None:
        self._stage = stage.name
        self._passes = one_pass.current()
        self._prepare = stage.preparer()
        self._deadline_s = stage.deadline_s
        self._workers = workers
        self._memory_bytes = memory_bytes
        self._group: WorkerGroup | None = None
        self._pending: dict[int, tuple[Work, int]] = {}  # with the strikes so far
        self._taken = 0

    @property
    def pending(self) -> int:
        """Number of items in preparation or ready."""
        return len(self._pending)

    def take(self, entry: Work) -> None:
        """Queue an item for the workers."""
        shared = self._passes.share(self._stage, self._prepare, entry, self._deadline_s)
        if shared is None:
            self._schedule(entry, 0, self._prepare, self._deadline_s)
        else:
            self._schedule(entry, _SHARED, *shared)

    def _schedule(self, entry: Work, strikes: int, prepare: Prepare, deadline_s: float) -> None:
        if self._group is None:
            self._group = _start(self._workers, self._memory_bytes, self._prepare)
        assert not isinstance(entry.row, Reject)
        self._taken += 1
        self._pending[self._taken] = entry, strikes
        self._group.tasks.put(_Task(self._taken, prepare, entry.row, deadline_s))

    def next(self) -> Prepared:
        """Wait for the next item that is ready; one must be in preparation or ready."""
        assert self._group is not None
        while True:
            number, answer = self._group.ready.get()
            entry, strikes = self._pending.pop(number)
            match answer:
                case Done(SharedData() as shared, cost):
                    self._passes.keep(self._stage, entry, shared)
                    return entry, shared.data, cost
                case Done(data, cost):
                    return entry, data, cost
                case ProgramFault(error):
                    raise error
                case _ if strikes == _SHARED:
                    self._schedule(entry, 0, self._prepare, self._deadline_s)
                case Reject():
                    return entry, answer, 0.0
                case Fault(verdict):
                    if strikes + 1 >= _MAX_STRIKES:
                        return entry, verdict, 0.0
                    self._schedule(entry, strikes + 1, self._prepare, self._deadline_s)

    def release(self) -> None:
        """Leave idle processes to the next stage within `reuse_workers`, and stop them otherwise."""
        reusable = _reusable.get()
        if reusable is not None and self._group is not None and not self._pending:
            reusable.append(self._group)
            self._group = None
        self.stop()

    def stop(self) -> None:
        """Stop the processes, whatever they are at."""
        if self._group is not None:
            self._group.stop()
            self._group = None
            self._pending.clear()


@dataclass(frozen=True)
class _Task:
    number: int
    prepare: Prepare
    row: Row
    deadline_s: float


class WorkerGroup:
    """Worker processes with a thread each that hands them tasks; the first is given, the others start when needed."""

    def __init__(self, size: int, memory_bytes: int, first: WorkerProcess) -> None:
        self.size, self.memory_bytes = size, memory_bytes
        self.tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self.ready: queue.SimpleQueue[tuple[int, Answer]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._feed, args=(first if place == 0 else None,), daemon=True)
            for place in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def _feed(self, process: WorkerProcess | None) -> None:
        while (task := self.tasks.get()) is not None and not self._stop.is_set():
            answer: Answer | None = None
            lost = 0
            while answer is None and not self._stop.is_set():
                try:
                    if process is not None and not process.usable:
                        process.kill()
                        process = None
                    if process is None:
                        process = WorkerProcess(task.prepare, self.memory_bytes)
                    answer = process.prepare(task.prepare, task.row, task.deadline_s, self._stop)
                except Exception as error:  # whoever waits for the item is told
                    answer = ProgramFault(error)
                lost += 1
                if answer is None and lost > _MAX_LOST:
                    answer = ProgramFault(
                        ColdstartError(
                            f"worker processes died {lost} times before they got an item: is there memory for "
                            f"{self.size} of them? see `coldstart doctor`, and try `--set engine.workers=1`"
                        )
                    )
            if answer is not None:
                self.ready.put((task.number, answer))
        if process is not None:
            process.close()

    def stop(self) -> None:
        """Stop the processes; tasks without an answer get none."""
        self._stop.set()
        for _ in self._threads:
            self.tasks.put(None)
        for thread in self._threads:
            thread.join()


WorkerGroups: TypeAlias = list[WorkerGroup]


def _start(workers: int, memory_bytes: int, prepare: Prepare) -> WorkerGroup:
    reusable = _reusable.get() or []
    for group in reusable:
        if (group.size, group.memory_bytes) == (workers, memory_bytes):
            reusable.remove(group)
            return group
    return WorkerGroup(workers, memory_bytes, WorkerProcess(prepare, memory_bytes))

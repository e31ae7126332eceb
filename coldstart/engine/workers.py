"""Prepare items in worker processes, where a hang or a crash of a decoder costs one item."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from coldstart.core.stage import MapStage, Prepare, Reject, Work
from coldstart.errors import ColdstartError

Prepared = tuple[Work, Any, float]
"""The work, its data (or the verdict on it), its cost."""

_Future: TypeAlias = ProcessFuture[tuple[Any, float]]
_NICE = 5
"""How far workers stand back: enough for the model to go first, too little for a deadline to pass meanwhile."""
_START_DEADLINE_S = 120.0
_MAX_BREAKS = 5
_reusable: ContextVar[dict[int, ProcessPool] | None] = ContextVar("_kept", default=None)


@contextmanager
def reuse_workers() -> Iterator[None]:
    """Reuse worker processes of a stage that ended well for the next one, since each takes a second to start."""
    pools: dict[int, ProcessPool] = {}
    token = _reusable.set(pools)
    try:
        yield
    finally:
        _reusable.reset(token)
        for pool in pools.values():
            pool.stop()
            pool.join()


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
    stage: MapStage, work: Iterable[Work], workers: int, ahead: Callable[[], int], pool: Pool | None = None
) -> Generator[Prepared]:
    """Prepare in `workers` processes; results come as they are ready, so a slow item holds up no other.

    Args:
        ahead: number of items that may be in preparation or waiting; called before each is taken.
        pool: of as many, used and left running, for who prepares again and again; one of its own by default.

    An item over the deadline is turned away as `decode_timeout`, one whose process dies as `decoder_crashed`; any
    other exception is a fault of the program and is raised here.

    Raises:
        ColdstartError: no worker process starts, or none lives.
    """
    source = iter(work)
    own = pool is None
    pool = pool or Pool(stage, workers)
    try:
        while True:
            while pool.flying < max(ahead(), workers) and (entry := next(source, None)) is not None:
                if isinstance(entry.row, Reject):
                    yield entry, entry.row, 0.0
                else:
                    pool.take(entry)
            if not pool.flying:
                return
            yield pool.next()
    finally:
        if own:
            pool.release()


class Pool:
    """Pool of worker processes that start with the first item, and start anew if they break.

    A worker that dies fails its own task, except where it dies before its pool has noted which task that was: then
    the pool breaks and all its tasks come back without an answer. They are given to a new one.
    """

    def __init__(self, stage: MapStage, workers: int) -> None:
        self._prepare = stage.preparer()
        self._deadline_s = stage.deadline_s
        self._workers = workers
        self._processes: ProcessPool | None = None
        self._ready: queue.SimpleQueue[_Future] = queue.SimpleQueue()
        self._flying: dict[_Future, Work] = {}
        self._breaks = 0

    @property
    def flying(self) -> int:
        """Number of items in preparation or ready."""
        return len(self._flying)

    def take(self, entry: Work) -> None:
        if self._processes is None:
            self._processes = _start(self._workers, self._prepare)
        elif not self._processes.active:
            self._restart()
        future = self._processes.schedule(self._prepare, args=(entry.row,), timeout=self._deadline_s)
        self._flying[future] = entry
        future.add_done_callback(self._ready.put)

    def next(self) -> Prepared:
        """Wait for the next item that is ready; one must be in preparation or ready."""
        assert self._processes is not None
        while True:
            try:
                future = self._ready.get(timeout=1.0)
            except queue.Empty:
                broken = not self._processes.active
            else:
                broken = future in self._flying and isinstance(future.exception(), BrokenProcessPool)
                if future in self._flying and not broken:
                    self._breaks = 0
                    return (self._flying.pop(future), *_outcome(future, self._deadline_s))
            if broken:
                self._restart()

    def _restart(self) -> None:
        self._breaks += 1
        if self._breaks > _MAX_BREAKS:
            raise ColdstartError(
                f"worker processes died {self._breaks} times without preparing an item: is there memory for "
                f"{self._workers} of them? see `coldstart doctor`, and try `--set engine.workers=1`"
            )
        self.stop()
        lost = [
            future for future in self._flying if not future.done() or isinstance(future.exception(), BrokenProcessPool)
        ]
        for entry in [self._flying.pop(future) for future in lost]:
            self.take(entry)

    def release(self) -> None:
        """Leave idle processes to the next stage within `reuse_workers`, and stop them otherwise."""
        reusable = _reusable.get()
        if reusable is None or self._processes is None or self._flying or not self._processes.active:
            self.stop()
        else:
            reusable[self._workers] = self._processes
            self._processes = None

    def stop(self) -> None:
        if self._processes is not None:
            self._processes.stop()
            self._processes.join()
            self._processes = None


def _outcome(future: _Future, deadline_s: float) -> tuple[Any, float]:
    try:
        data, cost = future.result()
        return data, cost
    except Reject as reject:
        return reject, 0.0
    except TimeoutError:
        return Reject("decode_timeout", f"took more than {deadline_s:g} s"), 0.0
    except ProcessExpired as death:
        return Reject("decoder_crashed", f"the worker process died with exit code {death.exitcode}"), 0.0


def _start(workers: int, prepare: Prepare) -> ProcessPool:
    """Start a pool and check it: without the check, a broken set-up would look like a catalogue of bad media."""
    reusable = (_reusable.get() or {}).pop(workers, None)
    if reusable is not None and reusable.active:
        return reusable
    # spawn: a forked child would inherit the threads and locks of torch and lance in an unknown state
    pool = ProcessPool(max_workers=workers, initializer=_give_way, context=multiprocessing.get_context("spawn"))
    try:
        pool.schedule(_loads, args=(prepare,), timeout=_START_DEADLINE_S).result()
    except (BrokenProcessPool, ProcessExpired, TimeoutError) as error:
        pool.stop()
        pool.join()
        raise ColdstartError(
            f"no worker process starts ({error or 'time-out'}): in a script of your own, run the pipeline under "
            '`if __name__ == "__main__":`; otherwise see `coldstart doctor`'
        ) from error
    return pool


def _give_way() -> None:
    """Lower the priority of a worker below the model's.

    On a CPU the model's threads wait for each other, so that one that is delayed by a decoder delays all. While the
    model waits for data, workers have the machine to themselves.
    """
    if hasattr(os, "nice"):
        os.nice(_NICE)


def _loads(prepare: Prepare) -> bool:
    return callable(prepare)

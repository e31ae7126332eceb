"""Prepare items in worker processes, where a hang or a crash of a decoder costs one item."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Generator, Iterable
from typing import Any

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from coldstart.errors import ColdstartError
from coldstart.stage import MapStage, Prepare, Reject, Work

Prepared = tuple[Work, Any, float]
"""The work, its data (or the verdict on it), its cost."""

_START_DEADLINE_S = 120.0


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
    stage: MapStage, work: Iterable[Work], workers: int, ahead: Callable[[], int]
) -> Generator[Prepared]:
    """Prepare in `workers` processes; results come as they are ready, so a slow item holds up no other.

    Args:
        ahead: how many items may be in preparation or waiting; asked before each is taken on.

    An item over the deadline is turned away as `decode_timeout`, one whose process dies as `decoder_crashed`; any
    other exception is a fault of the program and is raised here.

    Raises:
        ColdstartError: no worker process starts.
    """
    prepare = stage.preparer()
    ready: queue.SimpleQueue[tuple[Work, ProcessFuture[tuple[Any, float]]]] = queue.SimpleQueue()
    pool: ProcessPool | None = None
    try:
        flying = 0
        source = iter(work)
        exhausted = False
        while True:
            while not exhausted and flying < max(ahead(), workers):
                entry = next(source, None)
                if entry is None:
                    exhausted = True
                elif isinstance(entry.row, Reject):
                    yield entry, entry.row, 0.0
                else:
                    pool = pool or _start(workers, prepare)
                    future = pool.schedule(prepare, args=(entry.row,), timeout=stage.deadline_s)
                    future.add_done_callback(lambda done, entry=entry: ready.put((entry, done)))
                    flying += 1
            if not flying:
                return
            entry, future = ready.get()
            flying -= 1
            yield (entry, *_outcome(future, stage.deadline_s))
    finally:
        if pool is not None:
            pool.stop()
            pool.join()


def _outcome(future: ProcessFuture[tuple[Any, float]], deadline_s: float) -> tuple[Any, float]:
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
    """A pool that is known to work: without the check, a broken set-up would look like a catalogue of bad media."""
    # spawn: a forked child would inherit the threads and locks of torch and lance in an unknown state
    pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))
    try:
        pool.schedule(_loads, args=(prepare,), timeout=_START_DEADLINE_S).result()
    except (ProcessExpired, TimeoutError) as error:
        pool.stop()
        raise ColdstartError(
            f"no worker process starts ({error or 'time-out'}): in a script of your own, run the pipeline under "
            '`if __name__ == "__main__":`; otherwise see `coldstart doctor`'
        ) from error
    return pool


def _loads(prepare: Prepare) -> bool:
    return callable(prepare)

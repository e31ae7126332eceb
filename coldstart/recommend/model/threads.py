"""Run independent fits side by side, each on its share of the cores.

The trainings of mappers take steps that are too small for several threads, and the factorisations between them leave
cores idle at their ends: two fits at once use two cores better than one fit on both. Each task draws its random numbers
from generators of its own, so that the results are those of one task after the other, but for the rounding of BLAS.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

Task = Callable[[], Any]
_own = threading.local()
_random = threading.Lock()


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def side_by_side(most: int) -> Iterator[Callable[[Sequence[Task]], list[Any]]]:
    """Open up to `most` threads, no more than cores, each with its share of the threads of BLAS and torch.

    Yields:
        a function that runs tasks and returns their results in order. Where one fails, or the caller is interrupted,
        the others end at their next `stop_if_cancelled`, and the error is raised.
    """
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    workers, stop = max(1, min(most, cores())), threading.Event()
    if workers == 1:
        yield lambda tasks: [task() for task in tasks]
        return
    before, share = torch.get_num_threads(), max(1, cores() // workers)

    def begin() -> None:
        _own.stop = stop
        torch.set_num_threads(share)

    with threadpool_limits(share, "blas"), ThreadPoolExecutor(workers, initializer=begin) as pool:

        def run(tasks: Sequence[Task]) -> list[Any]:
            futures = [pool.submit(task) for task in tasks]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                failed = [one.exception() for one in futures if one.done() and one.exception() is not None]
                if failed and failed[0] is not None:
                    raise failed[0]
                return [one.result() for one in futures]
            except BaseException:
                stop.set()
                for one in futures:
                    one.cancel()
                raise

        try:
            yield run
        finally:
            torch.set_num_threads(before)


def stop_if_cancelled() -> None:
    """Raise `CancelledError` in a task whose results nobody waits for any more."""
    stop = getattr(_own, "stop", None)
    if stop is not None and stop.is_set():
        raise CancelledError


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Draw the first weights of a network by a seed, and leave torch's own generator as it was.

    That generator is one for all threads, so that one task at a time draws.
    """
    import torch

    with _random, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

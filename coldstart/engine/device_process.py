"""One device's process: it builds the stage for its device, asks for work, prepares, computes and sends back.

Loads little before it has settled on its share of the cores, since numpy and torch count cores when they load.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from coldstart.core.device import CoreShare, apply_share
from coldstart.engine.ipc import StageFactory, picklable_error
from coldstart.errors import ColdstartError

_GRACE_S = 5.0


@dataclass(frozen=True)
class DeviceSlot:
    """Where one process computes.

    Attributes:
        name: for messages.
        device: as the process itself calls it; of the CUDA devices it sees one alone.
        cuda: what `CUDA_VISIBLE_DEVICES` is to be; None off CUDA.
    """

    name: str
    device: str
    share: CoreShare
    cuda: str | None = None


@dataclass(frozen=True)
class WorkerConfig:
    """What a process is to do.

    Attributes:
        engine: settings of its engine, such as its share of the workers.
        began: `time.monotonic()` when it was started.
    """

    recipe: StageFactory
    engine: dict[str, Any]
    began: float


@dataclass(frozen=True)
class Ready:
    """The process takes more work."""


@dataclass(frozen=True)
class BatchResult:
    """A step: numbers of the work, what was made of it, its cost; and the seconds of `Step`."""

    results: Sequence[tuple[int, Any, float]]
    wait_s: float
    compute_s: float
    start_s: float


@dataclass(frozen=True)
class Fault:
    """What went wrong. `device`: the device did, and not the program or its set-up; the process ends."""

    error: BaseException
    device: bool = False


def main(pipe: Connection) -> None:
    """Receives its `Place`, its `Order`, and lists of (number, row) to work on; an empty list: finish what is there.
    Sends `Want`, `Made` and `Fault`. Ends when the pipe does, or on None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle: it closes the pipe
    signal.signal(signal.SIGTERM, _leave)
    place: DeviceSlot = pipe.recv()
    apply_share(place.share)
    if place.cuda is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.cuda
    try:
        order: WorkerConfig = pipe.recv()
        parcels: SimpleQueue[list[tuple[int, Any]]] = SimpleQueue()
        threading.Thread(target=_listen, args=(pipe, parcels), daemon=True).start()
        if place.cuda is not None:
            from coldstart.core.device import pin_near_device

            pin_near_device(place.cuda)
        _work(pipe, order, parcels)
    except (BrokenPipeError, ConnectionResetError, EOFError):  # the parent is gone
        return
    except Exception as error:
        on_device = _is_device_fault(error)
        pipe.send(Fault(_told(error), on_device))
        if on_device:
            os._exit(1)  # after such a fault the driver may hang at a clean exit


def _work(pipe: Connection, order: WorkerConfig, parcels: SimpleQueue[list[tuple[int, Any]]]) -> None:
    from coldstart.core.pipeline import Engine
    from coldstart.core.stage import Work
    from coldstart.engine.local import produce_here
    from coldstart.engine.workers import reuse_workers

    stage = order.recipe.build(**order.engine)
    settings = Engine(**order.engine)
    waiting = False
    start_s = time.monotonic() - order.began

    def incoming() -> Iterator[Work]:
        """Work until the parent has no more to give for now; the next parcel is asked for when one is begun."""
        nonlocal waiting
        while True:
            if not waiting:
                pipe.send(Ready())
            waiting = False
            parcel = parcels.get()
            if not parcel:
                return
            pipe.send(Ready())
            waiting = True
            for number, row in parcel:
                yield Work(str(number), "", row)  # the parent knows what they are called

    with reuse_workers():
        while True:
            with closing(produce_here(stage, incoming(), settings)) as steps:
                for step in steps:
                    results = [(int(work.item_id), result, cost) for work, result, cost in step.results]
                    pipe.send(BatchResult(results, step.wait_s + start_s, step.compute_s, step.start_s + start_s))
                    start_s = 0.0


def _listen(pipe: Connection, parcels: SimpleQueue[list[tuple[int, Any]]]) -> None:
    """Hands on what comes, and ends the process when the parent says so or is gone, whatever it is at."""
    try:
        while (parcel := pipe.recv()) is not None:
            parcels.put(parcel)
    except (EOFError, OSError):
        pass
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)


def _leave(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def _is_device_fault(error: Exception) -> bool:
    """By name, so that the engine needs no torch. Memory that ran out is not one: the batch is halved."""
    return type(error).__name__ == "AcceleratorError" or str(error).startswith(("CUDA error", "CUDA driver error"))


def _told(error: Exception) -> Exception:
    """As it crosses to the parent: a fault of the program with the trace of this process as a note."""
    if not isinstance(error, ColdstartError):
        error.add_note("in the process of its device:\n" + "".join(traceback.format_exception(error)))
    return picklable_error(error)

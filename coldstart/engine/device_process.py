"""Run the process of one device: build the stage for it, request work, prepare, compute and send results.

Imports little before its share of the cores is applied, since numpy and torch count cores when they are imported.
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
    """Device and cores of one process.

    Attributes:
        name: for messages.
        device: name within the process, which sees one CUDA device alone.
        cuda: its `CUDA_VISIBLE_DEVICES`; None off CUDA.
    """

    name: str
    device: str
    share: CoreShare
    cuda: str | None = None


@dataclass(frozen=True)
class WorkerConfig:
    """Stage and engine settings of one process.

    Attributes:
        engine: settings of its engine, such as its share of the workers.
        began: `time.monotonic()` when it was started.
    """

    recipe: StageFactory
    engine: dict[str, Any]
    began: float


@dataclass(frozen=True)
class Ready:
    """Message of a process that takes more work."""


@dataclass(frozen=True)
class BatchResult:
    """Results of a batch: number of the work, its result and its cost; and the seconds of `Step`."""

    results: Sequence[tuple[int, Any, float]]
    wait_s: float
    compute_s: float
    start_s: float


@dataclass(frozen=True)
class Fault:
    """Error of a process. `device`: a fault of the device, not of the program or its set-up; the process ends."""

    error: BaseException
    device: bool = False


def main(pipe: Connection) -> None:
    """Receive a `DeviceSlot`, a `WorkerConfig` and lists of (number, row), and send `Ready`, `BatchResult` and `Fault`.

    An empty list means: finish the items at hand. Ends when the pipe does, or on None.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle: it closes the pipe
    signal.signal(signal.SIGTERM, _leave)
    slot: DeviceSlot = pipe.recv()
    apply_share(slot.share)
    if slot.cuda is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.cuda
    try:
        config: WorkerConfig = pipe.recv()
        parcels: SimpleQueue[list[tuple[int, Any]]] = SimpleQueue()
        threading.Thread(target=_listen, args=(pipe, parcels), daemon=True).start()
        if slot.cuda is not None:
            from coldstart.core.device import pin_near_device

            pin_near_device(slot.cuda)
        _work(pipe, config, parcels)
    except (BrokenPipeError, ConnectionResetError, EOFError):  # the parent is gone
        return
    except Exception as error:
        on_device = _is_device_fault(error)
        pipe.send(Fault(_sendable_error(error), on_device))
        if on_device:
            os._exit(1)  # after such a fault the driver may hang at a clean exit


def _work(pipe: Connection, config: WorkerConfig, parcels: SimpleQueue[list[tuple[int, Any]]]) -> None:
    from coldstart.core.pipeline import Engine
    from coldstart.core.stage import Work
    from coldstart.engine.local import produce_here
    from coldstart.engine.workers import reuse_workers

    stage = config.recipe.build(**config.engine)
    settings = Engine(**config.engine)
    waiting = False
    start_s = time.monotonic() - config.began

    def incoming() -> Iterator[Work]:
        """Yield work until the parent has none for now; requests the next parcel when it begins one."""
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
                yield Work(str(number), "", row)  # the parent knows their ids

    with reuse_workers():
        while True:
            with closing(produce_here(stage, incoming(), settings)) as steps:
                for step in steps:
                    results = [(int(work.item_id), result, cost) for work, result, cost in step.results]
                    pipe.send(BatchResult(results, step.wait_s + start_s, step.compute_s, step.start_s + start_s))
                    start_s = 0.0


def _listen(pipe: Connection, parcels: SimpleQueue[list[tuple[int, Any]]]) -> None:
    """Queue incoming parcels, and end the process at once when the parent says so or is gone."""
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
    """Tell whether an error is the device's, by name, so that the engine needs no torch.

    Memory that ran out is no such error: the batch is halved.
    """
    return type(error).__name__ == "AcceleratorError" or str(error).startswith(("CUDA error", "CUDA driver error"))


def _sendable_error(error: Exception) -> Exception:
    """Prepare an error for the parent: a fault of the program has the trace of this process as a note."""
    if not isinstance(error, ColdstartError):
        error.add_note("in the process of its device:\n" + "".join(traceback.format_exception(error)))
    return picklable_error(error)

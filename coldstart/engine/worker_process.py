"""Run `prepare` in a worker process, and watch it from outside: its processor time, its memory, its death.

The process answers whatever its decoders throw. What it does not survive is seen by the parent, which kills it where
it takes too long or too much. Workers import this module: it needs neither torch nor Arrow.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from coldstart.core.extras import missing_extra
from coldstart.core.stage import Prepare, Reject, Row
from coldstart.engine.ipc import picklable_error
from coldstart.errors import ColdstartError
from coldstart.media.faults import costs_the_run, fault_of


@dataclass(frozen=True)
class Done:
    """Data that `prepare` made of an item, and their cost."""

    data: Any
    cost: float


@dataclass(frozen=True)
class Fault:
    """Failed try of an item, and the verdict on it, should it fail again."""

    verdict: Reject


@dataclass(frozen=True)
class ProgramFault:
    """Exception that costs the run: a fault of this program or of the machine, not of the item."""

    error: BaseException


Answer: TypeAlias = Done | Reject | Fault | ProgramFault

_NICE = 5
"""Added to the nice value of workers, so that the model goes first."""
_OOM_SCORE = "500"
"""Where the machine's memory runs out, the kernel ends a worker before the process that holds the model."""
_START_DEADLINE_S = 120.0
_STOP_S = 2.0
_TICK_S = 0.1
_WALL_PER_DEADLINE = 10.0
"""Wall time that a processor second may take: a busy machine turns no item away, a decoder that waits for ever ends."""
_FAULTS = {"decoder_fault", "out_of_memory"}
_children = threading.Lock()
"""Held while a process is started or reaped: `multiprocessing` lets two threads wait for one child."""


class WorkerProcess:
    """Process that prepares one item at a time.

    Args:
        memory_bytes: resident memory at which it is killed.

    Raises:
        ColdstartError: the process does not start, or cannot load `prepare`: without this check, a broken set-up would
            look like a catalogue of bad media.
    """

    def __init__(self, prepare: Prepare, memory_bytes: int) -> None:
        # spawn: a forked child would inherit the threads and locks of torch and lance in an unknown state
        context = multiprocessing.get_context("spawn")
        self._memory_bytes = memory_bytes
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), name="coldstart-worker", daemon=True)
        with _children:
            self._process.start()
        theirs.close()
        try:
            self._usage = psutil.Process(self._process.pid)
            self._pipe.send((prepare, None))
            found = self._pipe.recv() if self._pipe.poll(_START_DEADLINE_S) else Reject("", "time-out")
        except (EOFError, OSError, psutil.NoSuchProcess):
            found = Reject("", f"it ended with exit code {self._reap()}")
        if not isinstance(found, Done):
            self.kill()
            why = found.error if isinstance(found, ProgramFault) else found.detail
            raise ColdstartError(
                f"no worker process starts ({why}): in a script of your own, run the pipeline under "
                '`if __name__ == "__main__":`; otherwise see `coldstart doctor`'
            )

    @property
    def usable(self) -> bool:
        """False once the process ended, or holds half of its memory for good: the next item gets a new one."""
        try:
            return self._process.exitcode is None and self._usage.memory_info().rss <= self._memory_bytes // 2
        except psutil.Error:
            return False

    def prepare(self, prepare: Prepare, row: Row, deadline_s: float, stop: threading.Event) -> Answer | None:
        """Prepare an item; None where the process had died before it got the item, or `stop` was set."""
        try:
            began, began_cpu_s = time.monotonic(), self._cpu_s()
            self._pipe.send((prepare, row))
        except (OSError, psutil.Error):
            self.kill()
            return None
        try:
            while not self._pipe.poll(_TICK_S):
                if stop.is_set():
                    self.kill()
                    return None
                over = self._over(time.monotonic() - began, began_cpu_s, deadline_s)
                if over is not None:
                    self.kill()
                    return over
            answer: Answer = self._pipe.recv()
        except (EOFError, OSError):
            return Fault(Reject("decoder_fault", _death(self._reap())))
        except Exception as error:  # the answer cannot be loaded here
            return ProgramFault(error)
        return answer

    def _over(self, wall_s: float, began_cpu_s: float, deadline_s: float) -> Reject | None:
        try:
            cpu_s, memory_bytes = self._cpu_s() - began_cpu_s, self._usage.memory_info().rss
        except psutil.Error:
            return None  # it died: the pipe says so
        if memory_bytes > self._memory_bytes:
            return Reject(
                "out_of_memory",
                f"its worker grew to {memory_bytes} bytes; the limit is {self._memory_bytes} "
                "(engine.worker_memory_bytes)",
            )
        if cpu_s > deadline_s:
            return Reject("decode_timeout", f"took more than {deadline_s:g} s of processor time")
        if wall_s > _WALL_PER_DEADLINE * deadline_s:
            return Reject("decode_timeout", f"took more than {_WALL_PER_DEADLINE * deadline_s:g} s")
        return None

    def _cpu_s(self) -> float:
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """Tell the process to end; `kill` waits for it."""
        self._pipe.close()
        self._process.join(_STOP_S)
        self.kill()

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._reap()
        self._pipe.close()

    def _reap(self) -> int | None:
        wait([self._process.sentinel], _STOP_S)
        with _children:
            self._process.join(_STOP_S)
            return self._process.exitcode


def _death(exitcode: int | None) -> str:
    how = f"exit code {exitcode}"
    if exitcode is not None and exitcode < 0:
        how += f", {signal.strsignal(-exitcode)}"
    return f"the worker process died ({how})"


def serve(pipe: Connection) -> None:
    """Prepare what comes through the pipe until it closes: the body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _lower_priority()
    while True:
        try:
            received = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            answer = pickle.dumps(_answer(received), protocol=pickle.HIGHEST_PROTOCOL)
        except MemoryError as error:
            answer = pickle.dumps(Fault(fault_of(error)))
        except Exception as error:  # data that no other process could read
            answer = pickle.dumps(ProgramFault(picklable_error(error)))
        try:
            pipe.send_bytes(answer)
        except OSError:  # the parent is gone
            return


def _end_with_parent() -> None:
    """End the process when its parent was killed, whatever a decoder is at: nobody is left who holds its deadline."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _lower_priority() -> None:
    """Lower the priority of a worker below the model's.

    On a CPU the model's threads wait for each other, so that one that is delayed by a decoder delays all. While the
    model waits for data, workers have the machine to themselves.
    """
    if hasattr(os, "nice"):
        os.nice(_NICE)
    with suppress(OSError):  # there is no such file but on Linux
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def _answer(received: bytes) -> Answer:
    try:
        prepare, row = pickle.loads(received)
    except Exception as error:
        return ProgramFault(missing_extra(error) or ImportError(f"{type(error).__name__}: {error}"))
    if row is None:
        return Done(None, 0.0)
    try:
        return Done(*prepare(row))
    except Reject as reject:
        return Fault(reject) if reject.reason in _FAULTS else reject
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        return ProgramFault(missing) if missing else Fault(fault_of(error))
    except BaseException as error:  # panics of Rust libraries are no `Exception`
        if isinstance(error, Exception) and costs_the_run(error):
            error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
            return ProgramFault(picklable_error(error))
        return Fault(fault_of(error))

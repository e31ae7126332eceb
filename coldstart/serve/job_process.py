"""Do the work of jobs in a process of its own: models, decoders and their memory stay away from who answers requests.

The process is started once, keeps its models between jobs, and ends with its parent. A crash costs the jobs that it
held one try; whoever answers requests never notices. It is no daemon of `multiprocessing`, since it has worker
processes of its own.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from coldstart.core.error_fields import error_fields
from coldstart.errors import ColdstartError, machine_fault

if TYPE_CHECKING:
    from coldstart.review.decide import DecisionReport

_NICE = 5
"""Added to the nice value: queries go first."""
_STOP_S = 5.0
_TICK_S = 0.2
_GROWTH_BYTES = 2 * 2**30
"""Memory by which the process may grow from its first batch on, before it is ended and a new one takes its place."""

Batch = tuple[Sequence[Any], Mapping[str, str]]
"""Rows of one job, and its files: name -> path."""


class Worker(Protocol):
    """Work of the jobs of one workspace; each method returns one result a batch, in their order."""

    def warm(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]: ...

    def items(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]: ...

    def interactions(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]: ...

    def impressions(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]: ...

    def removal(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]: ...

    def decisions(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]: ...


class WorkspaceWorker:
    """Worker over a workspace, which keeps its models from one batch to the next."""

    def __init__(self, uri: str) -> None:
        import coldstart

        self._workspace = coldstart.open(uri)
        self._models: AbstractContextManager[None] | None = None

    def warm(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        """Load the models of the pipeline, before the first item."""
        self._keep_models(load=True)
        return []

    def _keep_models(self, *, load: bool = False) -> None:
        if self._models is None:
            self._models = self._workspace.keep_warm(load=load)
            self._models.__enter__()

    def items(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        """Add the rows of all batches at once."""
        self._keep_models()
        reports = self._workspace.add_item_batches(batches, progress=progress)
        return [
            {
                "items": [asdict(one) for one in report.items],
                "states": report.states,
                "publication": report.publication,
                "seconds": round(report.seconds, 3),
                "notes": list(report.notes),
            }
            for report in reports
        ]

    def interactions(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        """Add the rows of all batches; see `_logged`."""
        return _logged(self._workspace.add_interactions, batches, progress)

    def impressions(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        """Add the rows of all batches; see `_logged`."""
        return _logged(self._workspace.add_impressions, batches, progress)

    def removal(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        """Remove the items of all batches at once."""
        named = list(dict.fromkeys(str(item) for rows, _ in batches for item in rows))
        publication = None
        unknown, already = set(named), set[str]()
        try:
            report = self._workspace.remove(named)
        except ColdstartError as error:
            if "nothing was removed" not in str(error):
                raise
        else:
            publication, unknown, already = report.publication, {*report.unknown}, {*report.already}
        return [
            {
                "items": [
                    {
                        "item_id": str(item),
                        "state": "unknown" if item in unknown else "removed",
                        "before": item in already,
                    }
                    for item in rows
                ],
                "publication": publication,
            }
            for rows, _ in batches
        ]

    def decisions(self, batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
        """Decide, or undo, in the order of the rows; those that follow one another are done at once."""
        self._keep_models()
        rows = [dict(row) for rows, _ in batches for row in rows]
        done: list[dict[str, Any]] = []
        for undo, group in groupby(rows, key=lambda row: row["action"] == "undo"):
            own = list(group)
            done += self._undone(own, progress) if undo else self._decided(own, progress)
        publication = next((one["publication"] for one in reversed(done) if one["publication"]), None)
        found = []
        for own_rows, _ in batches:
            own_done, done = done[: len(own_rows)], done[len(own_rows) :]
            for one in own_done:
                one.pop("publication")
            found.append({"items": own_done, "publication": publication})
        return found

    def _decided(self, rows: list[dict[str, Any]], progress: Any) -> list[dict[str, Any]]:
        try:
            reports = self._workspace.decide_many(rows, progress=progress)
        except ColdstartError as error:
            if _concerns_all(error):
                raise
            if len(rows) > 1:  # one of them has a fault: halves find it in few tries, and keep the order
                half = len(rows) // 2
                return self._decided(rows[:half], progress) + self._decided(rows[half:], progress)
            return [_refused(rows[0], error)]
        return [_decision(report, "decided") for report in reports]

    def _undone(self, rows: list[dict[str, Any]], progress: Any) -> list[dict[str, Any]]:
        found = []
        for row in rows:
            try:
                report = self._workspace.undo_decision(
                    row["decision_id"], reason=row["reason"], by=row["by"], progress=progress
                )
            except ColdstartError as error:
                if _concerns_all(error):
                    raise
                found.append(_refused(row, error))
            else:
                found.append(_decision(report, "undone"))
        return found


def _logged(add: Callable[..., Any], batches: Sequence[Batch], progress: Any) -> list[dict[str, Any]]:
    """Add the rows of all batches to a log at once; batch by batch only where some are rejected, or all are refused
    together, to tell whose they are."""
    try:
        together = add([row for rows, _ in batches for row in rows], progress=progress)
    except ColdstartError as error:
        if len(batches) < 2 or _concerns_all(error):
            raise
        together = None
    if together is not None and not together.rejected:
        return [{"rows": len(rows), "accepted": len(rows), "rejected": {}, "examples": {}} for rows, _ in batches]
    found: list[dict[str, Any]] = []
    for rows, _ in batches:
        try:
            own = add(rows) if len(batches) > 1 else together
        except ColdstartError as error:
            if _concerns_all(error):
                raise
            found.append({"rows": len(rows), "accepted": 0, "rejected": {}, "examples": {}, "fault": str(error)})
            continue
        examples = {
            reason: [{"row": row - 1, "value": value} for row, value in some] for reason, some in own.examples.items()
        }
        accepted = own.rows - sum(own.rejected.values())
        found.append({"rows": own.rows, "accepted": accepted, "rejected": dict(own.rejected), "examples": examples})
    return found


def _concerns_all(error: ColdstartError) -> bool:
    """Tell whether an error is no refusal of one job or decision: another process writes, or what is recorded waits."""
    from coldstart.review.decide import NotInEffect

    return error.kind == "busy" or isinstance(error, NotInEffect) or machine_fault(error) is not None


def _decision(report: DecisionReport, state: str) -> dict[str, Any]:
    """Tell what a decision did: to it, and to the item."""
    decision, outcome = report.decision, report.outcome
    return {
        "decision_id": decision.decision_id,
        "item_id": decision.item_id,
        "action": decision.action if state == "decided" else "undo",
        "state": state,
        "item_state": "gone" if outcome is None else outcome.state,
        "reason": "" if outcome is None else outcome.reason,
        "detail": "" if outcome is None else outcome.detail,
        "publication": report.publication,
    }


def _refused(row: Mapping[str, Any], error: ColdstartError) -> dict[str, Any]:
    names = ("decision_id", "item_id", "action")
    own = {name: row.get(name) for name in names}
    return {**own, "state": "refused", "reason": error_fields(error)["kind"], "detail": str(error), "publication": None}


Open = Callable[[str], Worker]


@dataclass(frozen=True)
class Failure:
    """Error of a batch: `kind` and message, and whether it may pass by itself."""

    kind: str | None
    message: str
    passes: bool

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        return {"kind": self.kind, "message": self.message}


class ProcessDied(Exception):  # noqa: N818  (an event of the process, which the queue counts)
    """The process ended while it held a batch."""


class JobProcess:
    """Process that does one batch at a time; it starts with the first one.

    Args:
        uri: the workspace.
        open_worker: makes the `Worker` there; a function of a module, so that the process can import it.
        growth_bytes: see `_GROWTH_BYTES`.
    """

    def __init__(self, uri: str, open_worker: Open = WorkspaceWorker, growth_bytes: int = _GROWTH_BYTES) -> None:
        self._uri = uri
        self._growth_bytes = growth_bytes
        self._first_bytes = 0
        self._open = open_worker
        self._process: Any = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Process number; None while it does not run."""
        return None if self._process is None else self._process.pid

    def run(
        self,
        kind: str,
        batches: Sequence[Batch],
        on_progress: Callable[[str, int, int | None], None],
        stop: threading.Event,
    ) -> list[dict[str, Any]] | Failure:
        """Do a batch; returns one result a job, or why it failed as a whole.

        Raises:
            ProcessDied: the process ended, or `stop` was set and it was ended.
        """
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send((kind, batches))
            while True:
                while not self._pipe.poll(_TICK_S):
                    if stop.is_set():
                        raise EOFError
                name, *values = self._pipe.recv()
                if name == "progress":
                    on_progress(*values)
                else:
                    found: list[dict[str, Any]] | Failure = values[0]
                    break
        except (EOFError, OSError) as error:
            code = self.stop()
            raise ProcessDied(f"the process of the queue ended with exit code {code}") from error
        self._bound_memory()
        return found

    def _bound_memory(self) -> None:
        """End a process that grew too far; libraries keep memory that no batch needs any more."""
        import psutil

        with suppress(psutil.Error):
            now = psutil.Process(self.pid).memory_info().rss
            self._first_bytes = self._first_bytes or now
            if now - self._first_bytes > self._growth_bytes:
                self.stop()

    def _start(self) -> None:
        self.stop()
        self._first_bytes = 0
        context = multiprocessing.get_context("spawn")  # a forked child would inherit the threads of the server
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._uri, self._open), name="coldstart-jobs")
        self._process.start()
        theirs.close()
        atexit.register(self.stop)  # a program that fails would wait for the process at its end

    def stop(self) -> int | None:
        """End the process, and return its exit code."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if process is None:
            return None
        process.join(0 if process.is_alive() else _STOP_S)
        if process.is_alive():
            process.terminate()
            process.join(_STOP_S)
        if process.is_alive():
            process.kill()
            process.join()
        code: int | None = process.exitcode
        return code


class _PipeProgress:
    """Progress that goes to the parent: a stage, how much is done, and of how much."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def meter(self, name: str, total: int | None) -> _PipeMeter:
        """Open a meter of one stage."""
        return _PipeMeter(self._pipe, name, total)


class _PipeMeter:
    def __init__(self, pipe: Connection, name: str, total: int | None) -> None:
        self._pipe, self._name, self._total, self._done = pipe, name, total, 0
        self._send()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def advance(self, done: int, skipped: Any, wait_share: float) -> None:
        """Count items that ended."""
        self._done += done
        self._send()

    def _send(self) -> None:
        with suppress(OSError):  # the parent is gone; this process ends with it
            self._pipe.send(("progress", self._name, self._done, self._total))


def _serve(pipe: Connection, uri: str, open_worker: Open) -> None:
    """Do batches until the pipe closes: the body of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(_NICE)
    worker: Worker | None = None
    while True:
        try:
            kind, batches = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # worker processes end with this one
        found: list[dict[str, Any]] | Failure
        try:
            worker = worker or open_worker(uri)
            found = getattr(worker, kind)(batches, _PipeProgress(pipe))
        except Exception as error:
            found = _failure(error)
        with suppress(OSError):
            pipe.send(("result", found))


def _failure(error: Exception) -> Failure:
    fault = machine_fault(error)
    if fault is not None:
        return Failure("machine", str(fault), passes=True)
    if isinstance(error, ColdstartError):
        return Failure(error.kind, str(error), passes=error.kind == "busy")
    return Failure("internal", f"{type(error).__name__}: {error}"[:500], passes=False)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

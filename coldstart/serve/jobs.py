"""Take in items, logs, removals and decisions, and do them later: a queue on disk, worked off by a process.

    queue = JobQueue("shop.workspace.queue", "shop.workspace")
    queue.start()
    job = queue.submit_items([{"item_id": "n1", "title": "Oat drink", "image": "photo.jpg"}], {"photo.jpg": data})
    queue.get(job.id).state

A job that was accepted survives a kill of the server at any moment, and its work is done once: items are added by
their content, interactions by user, item, time and event, impressions by request and item, and a removal that is
repeated changes nothing. Jobs of one kind are done together, in the order in which they came.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from coldstart.errors import ColdstartError
from coldstart.serve.job_process import Batch, Failure, JobProcess, Open, ProcessDied, WorkspaceWorker
from coldstart.serve.spool import Job, Kind, Spool, SpoolLimits, State, UploadedFile

MOST_ROWS: Mapping[Kind, int] = {
    "items": 256, "interactions": 10_000, "impressions": 10_000, "removal": 10_000, "decisions": 256
}  # fmt: skip
"""Rows of a submission, and of the jobs that are done together."""
_BACKOFF_S = (0.5, 10.0)
_IDLE_S = 900.0
_CRASHES = 2
_ALONE_AFTER = 2
"""Starts without an end from which on a job is done apart from others: it may be what ends them."""
_MOST_PAGE = 500
_Jobs: TypeAlias = list[Job]


@dataclass(frozen=True)
class Running:
    """Batch that is being done: its jobs, the stage it is at, and how much of that is done; `total` may be unknown."""

    jobs: tuple[str, ...]
    rows: int
    since: float
    stage: str = ""
    done: int = 0
    total: int | None = None


class JobQueue:
    """Queue of the writes to one workspace; any thread may call it.

    Args:
        folder: of the queue, on a disk of this machine; only one server may work it off at a time.
        workspace_uri: the workspace that the jobs are for.
        limits: of the queue, and how long finished jobs are kept.
        idle_s: seconds without a job after which the process with the models is ended, to free its memory.
        open_worker: makes what does the jobs; for tests.

    Raises:
        ColdstartError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        workspace_uri: str,
        *,
        limits: SpoolLimits | None = None,
        idle_s: float = _IDLE_S,
        open_worker: Open = WorkspaceWorker,
    ) -> None:
        self._spool = Spool(Path(folder), limits)
        self._process = JobProcess(workspace_uri, open_worker)
        self._idle_s = idle_s
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._kill = threading.Event()
        self._thread: threading.Thread | None = None
        self._held: Any = None
        self._running: Running | None = None
        self._fault: str | None = None
        self._warm = False
        self._ready = True

    # -- submissions

    def submit_items(
        self,
        rows: Sequence[Mapping[str, Any]],
        files: Mapping[str, UploadedFile] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Accept items to add or change; on the disk when this returns.

        Args:
            rows: as for `Workspace.add_items`, of plain JSON values.
            files: the name by which rows refer to a file -> the file, which is copied.
            idempotency_key: a key of the sender's; the same again returns the first job.

        Raises:
            ColdstartError: too many rows, the queue is full (`busy`), or the key was used for something else.
        """
        return self._submit("items", rows, files or {}, idempotency_key)

    def submit_interactions(self, rows: Sequence[Mapping[str, Any]], idempotency_key: str | None = None) -> Job:
        """Accept interactions, as for `Workspace.add_interactions`; one without a time gets that of now."""
        return self._submit("interactions", _timed(rows), {}, idempotency_key, given=rows)

    def submit_impressions(self, rows: Sequence[Mapping[str, Any]], idempotency_key: str | None = None) -> Job:
        """Accept impressions, as for `Workspace.add_impressions`; one without a time gets that of now."""
        return self._submit("impressions", _timed(rows), {}, idempotency_key, given=rows)

    def submit_removal(self, ids: Sequence[str], idempotency_key: str | None = None) -> Job:
        """Accept ids of items to remove."""
        return self._submit("removal", ids, {}, idempotency_key)

    def submit_decisions(self, rows: Sequence[Mapping[str, Any]], idempotency_key: str | None = None) -> Job:
        """Accept decisions; they are done in their order, and one that is refused keeps no other back.

        Args:
            rows: the parts of `Workspace.decide`, or the action `undo` with `decision_id`, `reason` and `by`.
        """
        return self._submit("decisions", rows, {}, idempotency_key)

    def _submit(
        self,
        kind: Kind,
        rows: Sequence[Any],
        files: Mapping[str, UploadedFile],
        key: str | None,
        given: Sequence[Any] | None = None,
    ) -> Job:
        most = MOST_ROWS[kind]
        if not 0 < len(rows) <= most:
            raise ColdstartError(f"{len(rows):,} rows of {kind}: send 1 to {most:,} at a time", kind="input")
        if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
            raise ColdstartError(f"idempotency key {key[:80]!r}: give 1 to 200 printable characters", kind="input")
        job = self._spool.add(kind, list(rows), files, key, compared=list(given if given is not None else rows))
        self._wake.set()
        return job

    # -- reading

    def get(self, job_id: str) -> Job:
        """Read a job; raises `ColdstartError` (`not_found`) where there is none of that id."""
        return self._spool.get(job_id)

    def list(
        self, state: State | None = None, cursor: str | None = None, limit: int = 50
    ) -> tuple[Sequence[Job], str | None]:
        """List jobs, newest first, with the cursor of the next page; None after the last."""
        return self._spool.page(state, cursor, max(1, min(limit, _MOST_PAGE)))

    def counts(self) -> dict[str, int]:
        """Count jobs by state."""
        return self._spool.counts()

    @property
    def running(self) -> Running | None:
        """Batch that is being done, with its progress; None between batches."""
        return self._running

    @property
    def fault(self) -> str | None:
        """Fault that keeps the queue from working, if there is one; jobs are accepted all the same."""
        return self._fault

    @property
    def ready(self) -> bool:
        """False while the models are loaded that `start` was to load."""
        return self._ready

    # -- work

    def start(self, *, warm: bool = False) -> None:
        """Work the queue off in a thread and a process of its own; jobs that an earlier server had begun come first.

        Args:
            warm: load the models now, and not with the first item, and keep them; `ready` tells when they are loaded.

        Raises:
            ColdstartError: another server works this queue off.
        """
        from filelock import FileLock, Timeout

        if self._thread is not None:
            return
        held = FileLock(self._spool.folder / "worker.lock", thread_local=False)
        try:
            held.acquire(timeout=0)
        except Timeout:
            raise ColdstartError(
                f"another server takes in items, by the queue {self._spool.folder}: stop it, or serve with --read-only",
                kind="busy",
            ) from None
        self._held = held
        self._stop.clear()
        self._kill.clear()
        self._spool.requeue_interrupted()
        self._warm, self._ready = warm, not warm
        self._thread = threading.Thread(target=self._work, name="coldstart-jobs", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Stop working: the batch that runs may end within `timeout` seconds, and is queued again otherwise."""
        if self._thread is None:
            return
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)
        self._kill.set()
        self._thread.join()
        self._thread = None
        self._process.stop()
        self._held.release()

    def close(self) -> None:
        """Stop, and close the database."""
        self.stop()
        self._spool.close()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no job is open; False where `timeout` seconds did not do."""
        ends = time.monotonic() + timeout
        while self._spool.oldest_open() is not None:
            if time.monotonic() > ends:
                return False
            time.sleep(0.02)
        return True

    def _work(self) -> None:
        pause, last = 0.0, time.monotonic()
        if self._warm:
            with suppress(ProcessDied, OSError):  # the first job shows what is wrong
                self._process.run("warm", [], lambda *_: None, self._kill)
            self._ready = True
        while not self._stop.is_set():
            self._wake.clear()
            batch: Sequence[Job] = ()
            try:
                batch = self._next_batch()
                if batch:
                    pause = self._do(batch, pause)
                    last = time.monotonic()
                    self._fault = None
                elif not self._warm and time.monotonic() - last > self._idle_s:
                    self._process.stop()
            except Exception as error:  # a full disk, say: what was accepted stays, and is tried again
                self._fault, pause, batch = f"{type(error).__name__}: {error}", _longer(pause), ()
                with suppress(ColdstartError):
                    self._spool.requeue_interrupted()
            if pause:
                self._stop.wait(pause)
            elif not batch:
                self._wake.wait(1.0)

    def _next_batch(self) -> Sequence[Job]:
        """Choose the oldest jobs that can be done together: of one kind, with no item in two of them."""
        batch: _Jobs = []
        rows = 0
        ids = set[str]()
        for job in self._spool.waiting_jobs(MOST_ROWS["items"]):
            alone = job.crashes > 0 or job.starts >= _ALONE_AFTER
            own = self._ids(job)
            if batch and (alone or job.kind != batch[0].kind or rows + job.rows > MOST_ROWS[job.kind] or own & ids):
                break
            batch.append(job)
            rows += job.rows
            ids |= own
            if alone:
                break
        return batch

    def _ids(self, job: Job) -> set[str]:
        if job.kind != "items":
            return set()
        rows, _ = self._spool.content(job.id)
        return {str(row.get("item_id")).strip() for row in rows if isinstance(row, Mapping)}

    def _do(self, batch: Sequence[Job], pause: float) -> float:
        """Do a batch; returns the seconds to wait before the next."""
        ids = [job.id for job in batch]
        contents: Sequence[Batch] = [self._spool.content(job_id) for job_id in ids]
        self._running = Running(tuple(ids), sum(job.rows for job in batch), time.time())
        self._spool.begin(ids)
        try:
            found = self._process.run(batch[0].kind, contents, self._on_progress, self._kill)
        except ProcessDied as died:
            self._after_crash(batch, str(died))
            return 0.0
        finally:
            self._running = None
        if isinstance(found, Failure):
            if found.passes:
                self._spool.wait(ids, found.to_dict())
                return _longer(pause)
            for job_id in ids:
                self._spool.finish(job_id, error=found.to_dict())
        else:
            for job_id, result in zip(ids, found, strict=True):
                self._spool.finish(job_id, result)
        self._spool.prune()
        return 0.0

    def _after_crash(self, batch: Sequence[Job], why: str) -> None:
        """Queue the jobs of a process that died again, each alone from now on, and give up on one that did it twice."""
        stopped = self._kill.is_set()
        again = []
        for job in batch:
            if not stopped and len(batch) == 1 and job.crashes + 1 >= _CRASHES:
                step = "look at its files, and send its items one by one"
                if job.kind == "decisions":
                    step = "what `coldstart review log` lists of it is in effect after the next `coldstart run`"
                message = f"{why} whenever it worked on this job: {step}"
                self._spool.finish(job.id, error={"kind": "failed", "message": message})
            else:
                again.append(job.id)
        self._spool.requeue(again, crashed=not stopped)

    def _on_progress(self, stage: str, done: int, total: int | None) -> None:
        running = self._running
        if running is not None:
            self._running = Running(running.jobs, running.rows, running.since, stage, done, total)


def _longer(pause: float) -> float:
    return min(_BACKOFF_S[1], max(_BACKOFF_S[0], 2 * pause))


def _timed(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give rows of a log without a time that of now."""
    now = datetime.now(UTC).isoformat()
    return [
        row if not isinstance(row, Mapping) or row.get("timestamp") is not None else {**row, "timestamp": now}
        for row in rows
    ]

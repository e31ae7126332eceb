"""Keep submitted jobs on disk: what is acknowledged here survives a kill of the process at any moment.

Records are rows of an SQLite database (write-ahead log, `synchronous=FULL`), the files of a job lie beside it and are
flushed before its row is. A database and not a folder a job: a change of state, the key of a repeated submission and
the order of jobs are each one transaction, and counts and pages of a list need no walk over folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from coldstart.errors import ColdstartError

State = Literal["queued", "running", "waiting", "done", "failed"]
STATES: tuple[State, ...] = ("queued", "running", "waiting", "done", "failed")
Kind = Literal["items", "interactions", "impressions", "removal", "decisions"]
UploadedFile = Path | bytes | BinaryIO
"""A file of a submission: its place, its bytes, or an open file that is read from where it stands."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, state TEXT NOT NULL,
    rows INTEGER NOT NULL, bytes INTEGER NOT NULL, key TEXT UNIQUE, digest TEXT NOT NULL,
    submitted_at REAL NOT NULL, started_at REAL, finished_at REAL,
    starts INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
    payload TEXT, result TEXT, error TEXT);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, seq);
"""
_OPEN = "state IN ('queued', 'running', 'waiting')"
_CHUNK = 1 << 20
_ORPHAN_S = 3600.0
_FIELDS = (
    "seq, id, kind, state, rows, bytes, key, submitted_at, started_at, finished_at, starts, crashes, result, error"
)


@dataclass(frozen=True)
class Job:
    """One submission and what became of it.

    Attributes:
        kind: `items`, `interactions`, `impressions`, `removal` or `decisions`.
        state: `queued`, `running`, `waiting` (another process writes, or the machine has a fault: `error` says which),
            `done`, `failed`.
        rows: number of items, interactions or ids; bytes: of the rows and the files.
        key: the idempotency key that it was submitted with.
        submitted_at, started_at, finished_at: seconds since 1970.
        starts: times it was begun; crashes: times its process died over it.
        result: of a job that is done; of items one entry a row, in their order.
        error: `kind` and `message` of what it waits for or failed by.
    """

    id: str
    kind: Kind
    state: State
    rows: int
    bytes: int
    key: str | None
    submitted_at: float
    started_at: float | None = None
    finished_at: float | None = None
    starts: int = 0
    crashes: int = 0
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    seq: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "seq"}


@dataclass(frozen=True)
class SpoolLimits:
    """Limits of a spool.

    Attributes:
        jobs, bytes: open jobs, and bytes of their rows and files; a submission beyond is refused.
        keep_jobs, keep_s: finished jobs that are kept, and for how long.
    """

    jobs: int = 10_000
    bytes: int = 16 * 2**30
    keep_jobs: int = 10_000
    keep_s: float = 7 * 86_400.0


class Spool:
    """Durable records of jobs in a folder; any thread may call it.

    Raises:
        ColdstartError: the folder cannot be written, or its database is damaged.
    """

    def __init__(self, folder: Path, limits: SpoolLimits | None = None) -> None:
        self.folder = folder
        self.limits = limits or SpoolLimits()
        self._files = folder / "files"
        self._lock = threading.RLock()
        try:
            self._files.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(
                folder / "jobs.sqlite", check_same_thread=False, isolation_level=None, timeout=30
            )
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ColdstartError(
                f"the queue of jobs in {folder} cannot be opened ({error}): name a folder that can be written, or move "
                "a damaged queue away",
                kind="machine",
            ) from error

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    # -- submissions

    def add(
        self, kind: Kind, rows: Sequence[Any], files: Mapping[str, UploadedFile], key: str | None, compared: Any
    ) -> Job:
        """Store a job; when this returns it is on the disk.

        A key that was used before returns the job of then.

        Args:
            compared: what must be equal, besides the files, where the key was used before.

        Raises:
            ColdstartError: the queue is full (`busy`), rows are no JSON, or the key was used with other content.
        """
        try:
            payload = json.dumps([kind, compared], ensure_ascii=False, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise ColdstartError(f"the rows are no plain JSON values: {error}", kind="input") from error
        self._check_room(len(payload))
        job_id = secrets.token_hex(12)
        folder = self._files / job_id
        try:
            stored, size_bytes, digest = self._store_files(folder, files, self._room())
            digest.update(payload.encode("utf-8", "surrogatepass"))
            content = json.dumps({"rows": rows, "files": stored})  # in ASCII: a lone surrogate is no text for SQLite
            return self._insert(job_id, kind, len(rows), len(payload) + size_bytes, key, digest.hexdigest(), content)
        finally:
            if self._find(job_id) is None:
                shutil.rmtree(folder, ignore_errors=True)

    def _store_files(
        self, folder: Path, files: Mapping[str, UploadedFile], most_bytes: int
    ) -> tuple[dict[str, str], int, Any]:
        """Copy files under numbers, and flush them; returns name -> number, bytes, and a digest of them all."""
        digest = hashlib.sha256()
        stored: dict[str, str] = {}
        size_bytes = 0
        if not files:
            return stored, size_bytes, digest
        folder.mkdir(mode=0o700)
        for number, (name, given) in enumerate(sorted(files.items(), key=lambda one: one[0])):
            digest.update(f"{len(name)} {name} ".encode("utf-8", "surrogatepass"))
            with (folder / str(number)).open("xb") as out:
                for chunk in _chunks(given):
                    size_bytes += len(chunk)
                    if size_bytes > most_bytes:
                        raise ColdstartError(
                            f"the files are larger than the {most_bytes:,} bytes that the queue has room for: send "
                            "them in several submissions, or later",
                            kind="busy",
                        )
                    digest.update(chunk)
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            stored[name] = str(number)
        for place in (folder, self._files):
            _flush_folder(place)
        return stored, size_bytes, digest

    def _insert(
        self, job_id: str, kind: Kind, rows: int, size_bytes: int, key: str | None, digest: str, content: str
    ) -> Job:
        with self._transaction() as db:
            if key is not None and (found := db.execute("SELECT * FROM jobs WHERE key = ?", (key,)).fetchone()):
                if found["digest"] != digest:
                    raise ColdstartError(
                        f"idempotency key {key!r} was used for another submission: give each its own", kind="input"
                    )
                return _job(found)
            self._check_room(size_bytes)
            db.execute(
                "INSERT INTO jobs (id, kind, state, rows, bytes, key, digest, submitted_at, payload) "
                "VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
                (job_id, kind, rows, size_bytes, key, digest, time.time(), content),
            )
        return self.get(job_id)

    def _check_room(self, size_bytes: int) -> None:
        jobs, present = self._open_size()
        if jobs >= self.limits.jobs or present + size_bytes > self.limits.bytes:
            raise ColdstartError(
                f"the queue is full ({jobs:,} jobs, {present:,} bytes): send this again in a few seconds", kind="busy"
            )

    def _room(self) -> int:
        return max(0, self.limits.bytes - self._open_size()[1])

    def _open_size(self) -> tuple[int, int]:
        with self._lock:
            found = self._db.execute(f"SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM jobs WHERE {_OPEN}").fetchone()
        return int(found[0]), int(found[1])

    # -- reading

    def get(self, job_id: str) -> Job:
        """Read a job.

        Raises:
            ColdstartError: there is none of that id, or it was pruned.
        """
        if (found := self._find(job_id)) is None:
            raise ColdstartError(
                f"no job {job_id[:80]!r}: it was never accepted here, or ended long ago", kind="not_found"
            )
        return _job(found)

    def _find(self, job_id: str) -> sqlite3.Row | None:
        with self._lock:
            found: sqlite3.Row | None = self._db.execute(
                f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (job_id,)
            ).fetchone()
        return found

    def page(self, state: State | None, cursor: str | None, limit: int) -> tuple[list[Job], str | None]:
        """List jobs, newest first, `limit` at a time; returns them with the cursor of the next page.

        Raises:
            ColdstartError: there is no such state, or the cursor is none of this list.
        """
        if state is not None and state not in STATES:
            raise ColdstartError(f"no state {state!r} of jobs: there are {', '.join(STATES)}", kind="usage")
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise ColdstartError(f"cursor {cursor[:80]!r} is none of this list: begin without one", kind="usage")
        wanted = "seq < ? AND state = ?" if state else "seq < ?"
        values: tuple[Any, ...] = (int(cursor) if cursor else 2**62, *([state] if state else []), limit + 1)
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_FIELDS} FROM jobs WHERE {wanted} ORDER BY seq DESC LIMIT ?", values
            ).fetchall()
        jobs = [_job(row) for row in rows[:limit]]
        return jobs, str(jobs[-1].seq) if len(rows) > limit else None

    def counts(self) -> dict[str, int]:
        """Count jobs by state, all states named."""
        with self._lock:
            found = dict(self._db.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall())
        return {state: int(found.get(state, 0)) for state in STATES}

    def oldest_open(self) -> float | None:
        """Return when the oldest job that is not finished was submitted; None without one."""
        with self._lock:
            found = self._db.execute(f"SELECT MIN(submitted_at) FROM jobs WHERE {_OPEN}").fetchone()[0]
        return None if found is None else float(found)

    # -- work

    def waiting_jobs(self, limit: int) -> list[Job]:
        """List the oldest jobs that are to be done, in their order."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_FIELDS} FROM jobs WHERE state IN ('queued', 'waiting') ORDER BY seq LIMIT ?", (limit,)
            ).fetchall()
        return [_job(row) for row in rows]

    def content(self, job_id: str) -> tuple[list[Any], dict[str, str]]:
        """Read the rows of a job, and its files: name -> path."""
        with self._lock:
            text = self._db.execute("SELECT payload FROM jobs WHERE id = ?", (job_id,)).fetchone()[0]
        found = json.loads(text)
        folder = self._files / job_id
        return found["rows"], {name: str(folder / number) for name, number in found["files"].items()}

    def begin(self, job_ids: Sequence[str]) -> None:
        """Mark jobs as running."""
        self._each("UPDATE jobs SET state = 'running', starts = starts + 1, started_at = ? WHERE id = ?", job_ids)

    def wait(self, job_ids: Sequence[str], error: Mapping[str, Any]) -> None:
        """Mark jobs as waiting for what an error names; the start does not count."""
        text = json.dumps(error, ensure_ascii=False)
        with self._transaction() as db:
            for job_id in job_ids:
                db.execute(
                    "UPDATE jobs SET state = 'waiting', error = ?, starts = starts - 1 WHERE id = ?", (text, job_id)
                )

    def requeue(self, job_ids: Sequence[str], *, crashed: bool) -> None:
        """Put jobs back that were not finished, and count the crash of their process."""
        with self._transaction() as db:
            for job_id in job_ids:
                db.execute(
                    "UPDATE jobs SET state = 'queued', crashes = crashes + ? WHERE id = ?", (int(crashed), job_id)
                )

    def requeue_interrupted(self) -> int:
        """Put back the jobs that a server which ended had begun; returns how many."""
        with self._transaction() as db:
            return db.execute("UPDATE jobs SET state = 'queued' WHERE state IN ('running', 'waiting')").rowcount

    def finish(
        self, job_id: str, result: Mapping[str, Any] | None = None, error: Mapping[str, Any] | None = None
    ) -> None:
        """Store the end of a job, `failed` where there is an error; its rows and files are dropped."""
        texts = [None if one is None else json.dumps(one, ensure_ascii=False, default=str) for one in (result, error)]
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, finished_at = ?, result = ?, error = ?, payload = NULL WHERE id = ?",
                ("done" if error is None else "failed", time.time(), *texts, job_id),
            )
        shutil.rmtree(self._files / job_id, ignore_errors=True)

    def prune(self) -> int:
        """Drop finished jobs beyond the limits, and files of no job; returns how many jobs."""
        with self._transaction() as db:
            dropped = db.execute(
                f"DELETE FROM jobs WHERE NOT {_OPEN} AND (finished_at < ? OR seq <= (SELECT seq FROM jobs WHERE NOT "
                f"{_OPEN} ORDER BY seq DESC LIMIT 1 OFFSET ?))",
                (time.time() - self.limits.keep_s, self.limits.keep_jobs),
            ).rowcount
            open_ids = {row[0] for row in db.execute(f"SELECT id FROM jobs WHERE {_OPEN}")}
        with os.scandir(self._files) as entries:
            for entry in entries:
                if entry.name not in open_ids and time.time() - entry.stat().st_mtime > _ORPHAN_S:
                    shutil.rmtree(entry.path, ignore_errors=True)  # a kill between the files and their row
        return int(dropped)

    def _each(self, statement: str, job_ids: Sequence[str]) -> None:
        with self._transaction() as db:
            for job_id in job_ids:
                db.execute(statement, (time.time(), job_id))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run statements as one; a kill leaves all of them or none."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise ColdstartError(
                    f"the queue of jobs in {self.folder} cannot be written ({error}): free some space, or look at the "
                    "disk; nothing that was accepted before is lost",
                    kind="machine",
                ) from error
            except BaseException:
                self._db.execute("ROLLBACK")
                raise


def _job(row: sqlite3.Row) -> Job:
    plain = {name: row[name] for name in _FIELDS.split(", ")}
    texts = {name: None if plain[name] is None else json.loads(plain[name]) for name in ("result", "error")}
    return Job(**{**plain, **texts})


def _chunks(given: UploadedFile) -> Iterator[bytes]:
    if isinstance(given, bytes):
        yield given
    elif isinstance(given, Path):
        with given.open("rb") as file:
            yield from iter(lambda: file.read(_CHUNK), b"")
    else:
        yield from iter(lambda: given.read(_CHUNK), b"")


def _flush_folder(folder: Path) -> None:
    """Flush the names in a folder, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

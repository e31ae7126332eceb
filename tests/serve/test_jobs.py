"""The queue of jobs: what is accepted stays, is done once and in order, and one bad job costs itself alone."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from job_workers import Ledger, done

from coldstart.errors import ColdstartError, MachineFault
from coldstart.review.decide import DecisionReport, NotInEffect
from coldstart.serve.job_process import JobProcess, WorkspaceWorker
from coldstart.serve.jobs import JobQueue
from coldstart.serve.spool import Spool, SpoolLimits
from coldstart.store.decisions import Decision


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    made = JobQueue(tmp_path / "queue", str(tmp_path), open_worker=Ledger)
    yield made
    made.close()


def item(name: str, title: str = "t") -> dict[str, str]:
    return {"item_id": name, "title": title}


def test_a_submission_is_on_the_disk_with_its_files(tmp_path: Path, queue: JobQueue) -> None:
    files = {"../a": b"one", "b": io.BytesIO(b"two"), "c": tmp_path / "c"}
    (tmp_path / "c").write_bytes(b"three")
    job = queue.submit_items([item("x", "lone \ud800")], files)
    assert (job.kind, job.state, job.rows) == ("items", "queued", 1)
    again = Spool(tmp_path / "queue")
    assert again.get(job.id) == job
    rows, found = again.content(job.id)
    assert rows == [item("x", "lone \ud800")]
    assert {name: Path(path).read_bytes() for name, path in found.items()} == {
        "../a": b"one",
        "b": b"two",
        "c": b"three",
    }
    assert all(Path(path).is_relative_to(tmp_path / "queue/files") for path in found.values())
    again.close()


def test_a_key_that_comes_again_returns_the_first_job(queue: JobQueue) -> None:
    first = queue.submit_items([item("x")], {"a": b"1"}, "key")
    assert queue.submit_items([item("x")], {"a": b"1"}, "key") == first
    for rows, files in (([item("y")], {"a": b"1"}), ([item("x")], {"a": b"2"}), ([item("x")], {})):
        with pytest.raises(ColdstartError, match="idempotency key 'key' was used for another submission") as used:
            queue.submit_items(rows, files, "key")
        assert used.value.kind == "input"
    event = [{"user_id": "u", "item_id": "x"}]
    assert queue.submit_interactions(event, "e") == queue.submit_interactions(event, "e")
    assert queue.counts() == {"queued": 2, "running": 0, "waiting": 0, "done": 0, "failed": 0}


def test_a_full_queue_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(jobs=2, bytes=1000))
    spool.add("items", [item("a")], {}, None, 1)
    with pytest.raises(ColdstartError, match=r"the files are larger than the .* bytes") as large:
        spool.add("items", [item("b")], {"f": b"x" * 2000}, None, 1)
    spool.add("items", [item("c")], {}, None, 1)
    with pytest.raises(ColdstartError, match=r"the queue is full \(2 jobs, .*: send this again") as full:
        spool.add("items", [item("d")], {}, None, 1)
    assert large.value.kind == full.value.kind == "busy"
    assert not list((tmp_path / "files").iterdir())
    with pytest.raises(ColdstartError, match="no plain JSON"):
        Spool(tmp_path / "other").add("items", [{"a": object()}], {}, None, [object()])
    spool.close()


def test_pages_of_jobs_and_unknown_ones(queue: JobQueue) -> None:
    jobs = [queue.submit_removal([f"x{n}"]) for n in range(5)]
    first, cursor = queue.list(limit=3)
    rest, end = queue.list("queued", cursor, limit=3)
    assert [job.id for job in (*first, *rest)] == [job.id for job in reversed(jobs)]
    assert end is None
    assert queue.list("done") == ([], None)
    for wrong in (lambda: queue.get("none"), lambda: queue.list(cursor="x"), lambda: queue.list("odd")):  # type: ignore[arg-type]
        with pytest.raises(ColdstartError):
            wrong()
    for rows in ([], [item("x")] * 257):
        with pytest.raises(ColdstartError, match="send 1 to 256 at a time"):
            queue.submit_items(rows)


def test_finished_jobs_are_pruned(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(keep_jobs=2, keep_s=3600))
    jobs = [spool.add("items", [item(str(n))], {"f": b"1"}, None, n) for n in range(4)]
    for job in jobs:
        spool.finish(job.id, {"ok": True})
    assert spool.prune() == 2
    assert [job.id for job in spool.page(None, None, 9)[0]] == [jobs[3].id, jobs[2].id]
    assert not list((tmp_path / "files").iterdir())
    spool.close()


@pytest.mark.slow
def test_models_that_were_loaded_at_the_start_are_kept_while_no_jobs_come(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "queue", str(tmp_path), idle_s=0.0, open_worker=Ledger)
    queue.start(warm=True)
    for name in ("a", "b"):
        queue.submit_items([item(name)])
        assert queue.wait_until_idle(60)
        time.sleep(0.3)  # longer than it waits for jobs
    queue.close()
    assert [one["kind"] for one in done(tmp_path)] == ["warm", "items", "items"]
    assert len({one["pid"] for one in done(tmp_path)}) == 1


@pytest.mark.slow
def test_jobs_are_done_together_in_their_order(tmp_path: Path, queue: JobQueue) -> None:
    ids = [queue.submit_items([item(f"a{n}")], {"f": str(n).encode()}).id for n in range(3)]
    ids.append(queue.submit_items([item("a0", "again")]).id)
    ids.append(queue.submit_interactions([{"user_id": "u", "item_id": "a0"}]).id)
    ids.append(queue.submit_removal(["a0"]).id)
    queue.start(warm=True)
    assert queue.wait_until_idle(60)
    assert queue.ready
    found = [(one["kind"], len(one["rows"])) for one in done(tmp_path)]
    assert found == [
        ("warm", 0),
        ("items", 3),
        ("items", 1),
        ("interactions", 1),
        ("removal", 1),
    ]  # a0 stands in two jobs
    jobs = [queue.get(job_id) for job_id in ids]
    assert {job.state for job in jobs} == {"done"}
    assert jobs[2].result == {"rows": 1, "files": {"f": "2"}}
    assert all(job.started_at and job.finished_at and job.submitted_at <= job.started_at for job in jobs)
    assert done(tmp_path)[3]["rows"][0][0]["timestamp"] <= time.strftime("%Y-%m-%dT%H:%M:%S~", time.gmtime())


@pytest.mark.slow
def test_a_job_that_crashes_twice_fails_alone(tmp_path: Path, queue: JobQueue) -> None:
    good = [queue.submit_items([item("a")]).id, queue.submit_items([item("b")]).id]
    bad = queue.submit_items([item("c", "crash")]).id
    fault = queue.submit_items([item("d", "fault")]).id
    decided = queue.submit_decisions([{"item_id": "a", "action": "correct", "field": "title", "value": "crash"}]).id
    queue.start()
    assert queue.wait_until_idle(60)
    assert "is in effect after the next `coldstart run`" in (queue.get(decided).error or {})["message"]
    assert [queue.get(job_id).state for job_id in good] == ["done", "done"]
    lost = queue.get(bad)
    assert (lost.state, lost.error and lost.error["kind"]) == ("failed", "failed")
    assert "exit code 9 whenever it worked on this job" in (lost.error or {})["message"]
    named = queue.get(fault)
    assert (named.state, named.error) == (
        "failed",
        {"kind": "not_ready", "message": "model starter is not on this machine"},
    )
    assert [row["item_id"] for one in done(tmp_path) for rows in one["rows"] for row in rows] == ["a", "b"]


@pytest.mark.slow
def test_jobs_wait_while_another_process_writes(tmp_path: Path, queue: JobQueue) -> None:
    (tmp_path / "locked").touch()
    job = queue.submit_items([item("a")])
    queue.start()
    ends = time.monotonic() + 200
    while queue.get(job.id).state != "waiting" and time.monotonic() < ends:
        time.sleep(0.02)
    assert "is being written by process 7" in (queue.get(job.id).error or {})["message"]
    other = JobQueue(tmp_path / "queue", str(tmp_path), open_worker=Ledger)
    with pytest.raises(ColdstartError, match="another server takes in items"):
        other.start()
    other.close()
    (tmp_path / "locked").unlink()
    assert queue.wait_until_idle(60)
    assert (queue.get(job.id).state, queue.get(job.id).error, queue.get(job.id).starts) == ("done", None, 1)


@pytest.mark.slow
def test_what_a_stopped_server_had_begun_is_done_by_the_next(tmp_path: Path, queue: JobQueue) -> None:
    (tmp_path / "hold").touch()
    job = queue.submit_items([item("a", "slow")])
    queue.start()
    ends = time.monotonic() + 200
    while not ((running := queue.running) and running.done) and time.monotonic() < ends:
        time.sleep(0.01)
    assert running is not None
    assert (running.jobs, running.rows, running.done, running.total) == ((job.id,), 1, 1, 1)
    queue.stop(timeout=0)
    assert queue.get(job.id).state == "queued"
    assert done(tmp_path) == []
    (tmp_path / "hold").unlink()
    queue.start()
    assert queue.wait_until_idle(60)
    assert queue.get(job.id).state == "done"
    assert len(done(tmp_path)) == 1


@pytest.mark.slow
def test_a_process_that_grew_is_replaced(tmp_path: Path) -> None:
    process = JobProcess(str(tmp_path), Ledger, growth_bytes=-1)  # any size is too large
    for _ in range(2):
        assert process.run("removal", [(["x"], {})], lambda *_: None, threading.Event()) == [{"rows": 1}]
        assert process.pid is None
    assert len({one["pid"] for one in done(tmp_path)}) == 2


class Decided:
    """Workspace that refuses decisions on `bad`, and fails at the first of another item where it has an error."""

    def __init__(self, error: ColdstartError | None = None) -> None:
        self.error = error
        self.asked: list[list[str]] = []

    def keep_warm(self, **_: Any) -> Any:
        return nullcontext()

    def decide_many(self, rows: Sequence[Mapping[str, Any]], progress: Any) -> list[DecisionReport]:
        ids = [row["item_id"] for row in rows]
        self.asked.append(ids)
        if "bad" in ids:
            raise ColdstartError("no item 'bad': give another", kind="not_found")
        if self.error is not None:
            raise self.error
        now = datetime.now(UTC)
        return [DecisionReport(Decision("d", one, "reject", "item", None, None, "r", "b", now), None) for one in ids]


def test_one_decision_that_is_refused_keeps_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Decided()
    monkeypatch.setattr("coldstart.open", lambda _: shop)
    ids = ["bad" if place == 5 else f"p{place}" for place in range(16)]
    (found,) = WorkspaceWorker("x").decisions([([{"item_id": one, "action": "reject"} for one in ids], {})], None)
    states = [(one["item_id"], one["state"]) for one in found["items"]]
    assert states == [(one, "refused" if one == "bad" else "decided") for one in ids]
    assert len(shop.asked) == 9  # all, then both halves of each that has the fault


@pytest.mark.parametrize("error", [NotInEffect("the decision is recorded"), MachineFault("the disk is full")])
def test_a_decision_that_is_recorded_is_not_called_refused(
    monkeypatch: pytest.MonkeyPatch, error: ColdstartError
) -> None:
    monkeypatch.setattr("coldstart.open", lambda _: Decided(error))
    with pytest.raises(type(error), match=str(error)):
        WorkspaceWorker("x").decisions([([{"item_id": "p0", "action": "reject"}], {})], None)

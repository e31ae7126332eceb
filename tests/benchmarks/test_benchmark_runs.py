"""One benchmark that fails, hangs or is interrupted does not stop the others, and the next call goes on from there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import video_decode, waiting


@pytest.mark.slow
def test_a_benchmark_that_fails_is_named_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "ModuleNotFoundError: No module named 'benchmarks.no_such_benchmark'"
    assert runner.run("no_such_benchmark", False) == expected
    monkeypatch.setitem(runner.LIMIT_S, False, 0.01)
    assert runner.run("no_such_benchmark", False) == "stopped after 0 s"
    assert runner.run("no_such_benchmark", False, 0.0) == "not started: the 30 minutes are over"


@pytest.mark.slow
def test_a_benchmark_that_is_stopped_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own children would go on using the cores of those after it."""
    pid, script = tmp_path / "pid", tmp_path / "python"
    script.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {pid}\nwait\n")
    script.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(script))
    monkeypatch.setitem(runner.LIMIT_S, False, 0.5)
    assert runner.run("one", False) == "stopped after 0 s"
    for _ in range(50):
        if not _runs(int(pid.read_text())):
            break
        time.sleep(0.1)
    assert not _runs(int(pid.read_text()))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_next_call_goes_on_with_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"waiting": "", "first_answer": "no | data", "embed_clip": ""}
    called: list[str] = []

    def run(name: str, full: bool, left_s: float) -> str:
        called.append(name)
        if name == "embed_clip" and len(called) == 3:
            raise KeyboardInterrupt
        return reasons[name]

    monkeypatch.setattr(runner, "run", run)
    progress = tmp_path / "measured.json"
    assert runner.measured_before(progress) == {}
    with pytest.raises(KeyboardInterrupt):
        runner.run_all(list(reasons), False, progress, {})
    before = runner.measured_before(progress)
    assert list(before) == ["waiting"]
    left = [name for name in reasons if name not in before]
    failed, spent = runner.run_all(left, False, progress, before)
    assert failed == {"first_answer": "no / data"}
    assert list(spent) == left
    assert list(runner.measured_before(progress)) == ["waiting", "embed_clip"]
    old = time.time() - runner.REMEMBERED_S - 1
    os.utime(progress, (old, old))
    assert runner.measured_before(progress) == {}
    progress.write_text("{")
    assert runner.measured_before(progress) == {}
    progress.write_text(json.dumps({"waiting": 1.0, "gone": 2.0}))
    assert runner.measured_before(progress) == {"waiting": 1.0}


def test_the_five_longest_waits_have_their_reasons() -> None:
    before, after = waiting.OUTSIDE
    entries = [
        {"what": before, "seconds": 2.0, "busy": 0.5, "done": 0, "start_s": 0.0, "decode_s": 0.0, "model_s": 0.0},
        {"what": "`image`", "seconds": 10.0, "busy": 0.9, "done": 200, "start_s": 1.0, "decode_s": 2.0, "model_s": 6.0},
        {"what": "`text`", "seconds": 4.0, "busy": 0.3, "done": 200, "start_s": 2.0, "decode_s": 1.0, "model_s": 0.5},
        {"what": "`index`", "seconds": 3.0, "busy": 0.9, "done": 200, "start_s": 0.0, "decode_s": 0.0, "model_s": 0.0},
        {"what": "`clip`", "seconds": 0.5, "busy": 0.9, "done": 200, "start_s": 0.0, "decode_s": 0.4, "model_s": 0.0},
        {"what": after, "seconds": 0.5, "busy": 0.9, "done": 0, "start_s": 0.0, "decode_s": 0.0, "model_s": 0.0},
    ]
    found = waiting.rows({"runs": {"200 products": entries}})
    assert [(row.claim.split(": ")[1], row.figure, row.setting) for row in found[: waiting.LONGEST]] == [
        ("`image`", "10.0 s", "200 rows: the model computes (6.0 s)"),
        ("`text`", "4.0 s", "200 rows: worker processes start (2.0 s)"),
        ("`index`", "3.0 s", "200 rows: reading and writing of tables, fits, indexes (3.0 s)"),
        (before, "2.0 s", "the command's imports, settings and checks"),
        ("`clip`", "0.5 s", "200 rows: decoding (0.4 s)"),
    ]
    assert found[-1].figure == "0.15"
    assert found[-1].goal == "at most 0.15"


def test_a_call_ends_with_the_page_and_the_next_one_measures_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing, called, pages = {"serve"}, [], []
    monkeypatch.setattr(runner, "CACHE", tmp_path)
    monkeypatch.setattr(runner, "write_page", lambda: pages.append(1))
    monkeypatch.setattr(
        runner, "run", lambda name, full, left_s: (called.append(name), "no port" if name in failing else "")[1]
    )

    def call(*arguments: str) -> int:
        called.clear()
        monkeypatch.setattr(runner.sys, "argv", ["benchmarks", *arguments])
        with pytest.raises(SystemExit) as ended:
            runner.main()
        return int(ended.value.code or 0)

    assert call() == 1
    assert called == list(runner.MODULES)
    assert "| `serve` | not measured | failed | no port |" in capsys.readouterr().out
    failing.clear()
    assert call("safety") == 0
    assert called == ["safety"]
    assert call() == 0
    assert called == ["serve"]
    assert f"{len(runner.MODULES) - 1} benchmarks were measured by the call before" in capsys.readouterr().out
    assert call("--anew") == 0
    assert called == list(runner.MODULES)
    assert len(pages) == 4
    assert call("no_such") == 2
    assert "no such benchmark: no_such" in capsys.readouterr().err


def test_video_readers_that_are_not_installed_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_decode, "READERS", {"decord": "no_such_environment"})
    monkeypatch.setattr(video_decode, "videos", lambda short: {})
    (row,) = video_decode.rows(video_decode.run(short=True))
    assert row.claim == "decord beside ours"
    assert row.figure == "no_such_environment: not installed (make peers)"

"""`coldstart run` over an endpoint that is killed while it describes, and `coldstart retry` when it is back."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from catalogue import CLI, coldstart, contents, rows, write_manifest, write_pipeline
from openai_server import Behaviour, chat_server, free_port, llama

from coldstart.core.description import parse
from coldstart.store import Store

COLOURS = ("red", "blue", "green", "black")
OUTPUT = ("attributes", "summary")
TABLE = "stage.describe.write"
SLOW_ANSWERS = Behaviour(delay_s=0.5)


def shop(folder: Path, port: int, count: int, patience_s: float) -> Path:
    """A pipeline file: items with a colour in their title, described by the endpoint at that port, and checked."""
    entries = [{**row, "title": f"Men {COLOURS[n % 4]} shirt {n}"} for n, row in enumerate(rows(folder, count))]
    endpoint = {
        "generator": f"openai:any@http://127.0.0.1:{port}/v1",
        "options": {"patience_s": patience_s, "concurrency": 2},
        "batch_size": 2,
    }
    pipeline: Mapping[str, Any] = {
        "manifest": str(write_manifest(folder / "items.jsonl", entries)),
        "engine": {"workers": 1, "commit_rows": 2},
        "attributes": {"default": {"colour": {"values": list(COLOURS)}}},
        "stages": {"ingest": {}, "describe": {"grounds": False, "write": endpoint, "check": {}}},
    }
    return write_pipeline(folder / "pipeline.yaml", pipeline)


def start_run(pipeline: Path, workspace: Path) -> subprocess.Popen[str]:
    arguments = ("run", str(pipeline), "--workspace", str(workspace))
    return subprocess.Popen([*CLI, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_rows(workspace: Path, run: subprocess.Popen[str]) -> None:
    """Return when the first descriptions are committed, and others are not."""
    while not (workspace.is_dir() and Store(workspace).has(TABLE)):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "count"),
    [
        pytest.param(lambda port: chat_server(port, SLOW_ANSWERS), 12, id="small"),
        pytest.param(llama, 6, id="llama-cpp", marks=pytest.mark.slow),
    ],
)
def test_items_of_an_endpoint_that_stays_down_fail_and_retry_completes_them(
    start: Any, count: int, tmp_path: Path
) -> None:
    port = free_port()
    pipeline, workspace = shop(tmp_path / "shop", port, count, patience_s=1), tmp_path / "workspace"
    with start(port) as server:
        run = start_run(pipeline, workspace)
        await_rows(workspace, run)
        server.send_signal(signal.SIGKILL)
        _, said = run.communicate(timeout=200)
    assert run.returncode == 1
    assert "error: more failed than max_failed 1.0% allows: describe.write" in said
    found = contents(workspace)
    written = len(found[TABLE])
    assert 0 < written < count
    assert len(found["stage.describe.check"]) == written
    failed = [row for row in found["ledger"] if row["stage"] == "describe.write"]
    assert len(failed) == count - written
    for row in failed:
        assert (row["state"], row["reason"]) == ("failed", "endpoint_failed")
        assert row["detail"].startswith(f"http://127.0.0.1:{port}/v1: ")
    with start(port):
        again = coldstart("retry", "--workspace", workspace)
    assert again.returncode == 0, again.stderr
    whole = contents(workspace)
    assert len(whole[TABLE]) == len(whole["stage.describe.check"]) == count
    assert [row for row in whole["ledger"] if row["stage"] == "describe.write"] == []
    kept = {row["item_id"]: row for row in whole[TABLE]}
    assert [kept[row["item_id"]] for row in found[TABLE]] == found[TABLE]
    for row in whole[TABLE]:
        assert set(parse(row["text"], OUTPUT).attributes) <= {"colour"}


@pytest.mark.slow
def test_a_run_waits_for_an_endpoint_that_comes_back(tmp_path: Path) -> None:
    port = free_port()
    pipeline, workspace = shop(tmp_path / "shop", port, 12, patience_s=120), tmp_path / "workspace"
    with chat_server(port, SLOW_ANSWERS) as server:
        run = start_run(pipeline, workspace)
        await_rows(workspace, run)
        server.kill()
    time.sleep(1)
    assert run.poll() is None
    with chat_server(port):
        _, said = run.communicate(timeout=200)
    assert run.returncode == 0, said
    found = contents(workspace)
    colours = {row["item_id"]: parse(row["text"], OUTPUT).attributes["colour"] for row in found[TABLE]}
    assert colours == {f"p{n}": COLOURS[n % 4] for n in range(12)}
    assert not found.get("ledger")

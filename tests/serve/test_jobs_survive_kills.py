"""A server that is killed in the middle of its work: what it accepted is done by the next one, and done once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from catalogue import contents, rows, settings, write_manifest
from paths import ROOT

import coldstart
from coldstart.serve.spool import Spool
from coldstart.store import Store

COUNT = 50


def serve(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "tests/support/job_server.py"), str(folder), str(COUNT)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_nothing_accepted_is_lost_and_nothing_is_done_twice(tmp_path: Path) -> None:
    workspace = coldstart.open(tmp_path / "ws", create=True)
    manifest = write_manifest(tmp_path / "shop.jsonl", rows(tmp_path, 2))
    workspace.run(settings(manifest, workers=1))
    runs = Store(tmp_path / "ws").count("runs")
    accepted = set[str]()
    for upto in (15, COUNT):  # in the middle of the submissions, and with all accepted and some of them done
        server = serve(tmp_path)
        assert server.stdout is not None
        for _ in range(upto):
            accepted.add(server.stdout.readline().strip())
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stdout.close()
    last = serve(tmp_path)
    told, _ = last.communicate(timeout=300)
    assert last.returncode == 0
    assert accepted == set(told.split())  # the keys of those that were accepted led to the same jobs
    spool = Spool(tmp_path / "queue")
    assert spool.counts() == {"queued": 0, "running": 0, "waiting": 0, "done": COUNT, "failed": 0}
    found = [one for job in spool.page(None, None, COUNT)[0] for one in (job.result or {}).get("items", ())]
    assert Counter(one["state"] for one in found) == {"searchable": 40}
    spool.close()
    held = contents(tmp_path / "ws")
    wanted = {f"n{number}" for number in range(COUNT) if number % 5 != 4} | {"p0", "p1"}
    assert sorted(row["item_id"] for row in held["catalog"]) == sorted(row["item_id"] for row in held["items"])
    assert Counter(row["item_id"] for row in held["catalog"]) == dict.fromkeys(wanted, 1)
    assert Store(tmp_path / "ws").count("interactions") == 10
    assert Store(tmp_path / "ws").count("runs") == runs
    done = workspace.run()
    assert sum(stage.ran.done for stage in done.stages) == 0

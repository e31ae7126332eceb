"""Killed at any moment, a run is finished by the next one, with the same tables as a run that was let be."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from catalogue import coldstart, contents, rows, settings, states, write_manifest, write_pipeline

import coldstart as library
from coldstart.store import Store
from tools import kill_campaign

ITEMS = int(os.environ.get("COLDSTART_CRASH_ITEMS", "400"))
COMMIT_ROWS = max(40, ITEMS // 15)
BATCHES = {"ingest": 256, "image": 64, "text": 64}

# `coldstart run`, with a line in a file for each batch that a stage has computed.
DRIVER = """
import os, sys

def counted(compute):
    def wrapper(self, batch):
        results = compute(self, batch)
        os.write(log, f"{self.name} {len(results)}\\n".encode())
        return results
    return wrapper

if __name__ == "__main__":  # worker processes read this file too
    from coldstart.cli import main
    from coldstart.embed.stage import EmbedStage
    from coldstart.ingest.stage import IngestStage

    log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stage in (EmbedStage, IngestStage):
        stage.compute = counted(stage.compute)
    main()
"""


class Killed(BaseException):
    """Stands for a SIGKILL at one place."""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["delete_verdicts", "delete", "record"])
def test_a_commit_cut_short_at_any_write_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    entries = rows(tmp_path / "shop", 8)
    manifest = write_manifest(tmp_path / "shop" / "items.jsonl", entries)
    mended, broken = tmp_path / "shop" / "p2.jpg", tmp_path / "shop" / "p5.jpg"
    good = mended.read_bytes()
    mended.write_bytes(b"no picture")
    cut = library.open(tmp_path / "cut", create=True)
    cut.run(settings(manifest, workers=1))
    mended.write_bytes(good)
    broken.write_bytes(b"no picture")

    def killed(self: Store, *args: Any, **options: Any) -> None:
        raise Killed

    monkeypatch.setattr(Store, place, killed)
    with pytest.raises(Killed):
        cut.run()
    monkeypatch.undo()
    assert sum(states(cut.status())["ingest"]) == 8
    report = cut.run()

    whole = library.open(tmp_path / "whole", create=True)
    expected = states(whole.run(settings(manifest, workers=1)).stages)
    assert states(report.stages) == states(cut.status()) == expected
    assert expected["ingest"] == (7, 1, 0, 0, 0)
    ours = contents(tmp_path / "cut")
    for name, table in contents(tmp_path / "whole").items():
        ids = {row["item_id"] for row in table}
        # rows of items that are no more stay in a stage's table: they are fresh again when the item comes back
        assert [row for row in ours[name] if row["item_id"] in ids or not name.startswith("stage.")] == table, name


def versions(workspace: Path, table: str) -> int:
    return sum(1 for _ in workspace.glob(f"{table}*.lance/_versions/*"))


def computed(log: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in log.read_text().splitlines() if log.exists() else []:
        stage, count = line.split()
        counts[stage] += int(count)
    return counts


def kill_after_commit(command: list[Any], workspace: Path, table: str, delay_s: float) -> bool:
    """Start it in a process group of its own, and SIGKILL the group so long after `table` is first written to.

    Returns:
        whether it was still at work then.
    """
    before = versions(workspace, table)
    process = subprocess.Popen(
        [*map(str, command)], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and versions(workspace, table) == before:
        time.sleep(0.002)
    time.sleep(delay_s)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def fresh(workspace: Path) -> Mapping[str, int]:
    store = Store(workspace)
    return {stage: sum(map(store.count, (n for n in store.tables() if n.startswith(table)))) for stage, table in TABLES}


TABLES = (("ingest", "items"), ("image", "stage.image"), ("text", "stage.text"))


UNDERSTAND = {
    "duplicates": {"policy": "keep"},
    "screen": {"reader": "fake"},
    **dict.fromkeys(("quality", "shots", "speech", "safety"), False),
}


@pytest.mark.slow
def test_a_run_killed_four_times_ends_like_one_that_was_not(tmp_path: Path) -> None:
    began = time.monotonic()
    entries: list[Any] = rows(tmp_path / "shop", ITEMS)
    bad = [ITEMS // 4, ITEMS // 2]
    for number in bad:
        (tmp_path / "shop" / f"p{number}.jpg").write_bytes(b"no picture")
    del entries[10]["image"], entries[11]["title"], entries[11]["category"]
    manifest = write_manifest(tmp_path / "shop" / "items.jsonl", [*entries, "{not json"])
    plain = settings(manifest, commit_rows=COMMIT_ROWS)
    stages = {"ingest": {}, "understand": UNDERSTAND, **{k: v for k, v in plain["stages"].items() if k != "ingest"}}
    pipeline = write_pipeline(tmp_path / "pipeline.yaml", {**plain, "stages": stages})
    driver, log = tmp_path / "driver.py", tmp_path / "computed"
    driver.write_text(DRIVER)
    workspace = tmp_path / "killed"
    command = [sys.executable, driver, log, "run", pipeline, "--workspace", workspace]

    rng = random.Random(7)
    kills, seen = 0, dict.fromkeys(BATCHES, 0)
    for table in ("items", "stage.understand.duplicates", "stage.image", "catalog"):
        kills += kill_after_commit(command, workspace, table, rng.uniform(0, 0.2))
        now = fresh(workspace)
        assert all(now[stage] >= seen[stage] for stage in seen), "a committed row is gone"
        seen = dict(now)
    assert kills >= 3
    already = computed(log)
    finish = subprocess.run([*map(str, command), "--json"], capture_output=True, text=True, timeout=200, check=False)
    assert finish.returncode == 0, finish.stderr
    total = computed(log)

    left_to_do = {"ingest": ITEMS - len(bad), "image": ITEMS - len(bad) - 1, "text": ITEMS - len(bad) - 1}
    redone = {stage: total[stage] - left_to_do[stage] for stage in BATCHES}
    for stage, batch in BATCHES.items():
        assert total[stage] - already[stage] == left_to_do[stage] - seen[stage], "what was committed is not done again"
        assert 0 <= redone[stage] <= kills * (COMMIT_ROWS + batch)

    whole = coldstart("run", pipeline, "--workspace", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert contents(workspace) == contents(tmp_path / "whole")
    reports = library.open(workspace).status()
    assert states(reports) == {
        "ingest": (ITEMS - 2, 3, 0, 0, 0),
        "understand.fingerprint": (ITEMS - 3, 0, 1, 0, 0),
        "understand.duplicates": (ITEMS - 3, 0, 1, 0, 0),
        "understand.screen": (ITEMS - 3, 0, 1, 0, 0),
        "understand.evidence": (ITEMS - 2, 0, 0, 0, 0),
        "image": (ITEMS - 3, 0, 1, 0, 0),
        "text": (ITEMS - 3, 0, 1, 0, 0),
        "index": (ITEMS - 2, 0, 0, 0, 0),
    }
    figures = f"{ITEMS} items, {kills} kills, redone {redone}, {time.monotonic() - began:.0f} s"
    sys.stderr.write(figures + "\n")  # shown by `pytest -rP`


@pytest.mark.slow
def test_the_campaign_of_kills_ends_with_equal_tables(tmp_path: Path) -> None:
    arguments = [str(kill_campaign.make_catalogue(tmp_path, 16))]
    found = kill_campaign.run_campaign(arguments, tmp_path, kills=2, seed=3)
    assert (found["kills"], found["faults"]) == (2, [])
    assert found["rows"] > 100


def test_the_campaign_names_the_tables_that_differ() -> None:
    ours = {"items": [{"item_id": "a"}], "stage.text": [1, 2]}
    assert kill_campaign.differences(ours, {"items": [{"item_id": "a"}], "stage.text": [1, 3], "catalog": [1]}) == [
        "catalog: 0 rows, 1 expected, not equal",
        "stage.text: 2 rows, 2 expected, not equal",
    ]

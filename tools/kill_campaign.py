"""Kill runs at random moments, again and again, and compare what the next ones finish with a run that was let be.

    python tools/kill_campaign.py [--kills 45] [--items 300] [--seed 7] [--pipeline FILE --manifest FILE] [--json FILE]

Each round fills a new workspace: `coldstart run` is started and its whole process group gets SIGKILL at a moment
drawn evenly over the time in which an undisturbed run writes, three times or until a run gets through. Then every
table must equal that of the undisturbed run, row by row, keys and verdicts included. After each kill the workspace
must open, every stage must account for every item, and what was published must answer a search. By default the
catalogue is made up: photos, a few of them broken, through the stages of `understand` that need no model, two spaces
of fake encoders, and the index. Exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from catalogue import CLI, contents, rows, settings, write_manifest, write_pipeline  # noqa: E402

import coldstart  # noqa: E402
from coldstart.store import Store  # noqa: E402

UNDERSTAND: dict[str, Any] = {
    "duplicates": {"policy": "keep"},
    "screen": {"reader": "fake"},
    **dict.fromkeys(("shots", "speech", "safety"), False),
}
KILLS_A_WORKSPACE = 3
"""With more, a run that begins where the last one was killed would rarely get beyond the first stages."""
DEADLINE_S = 1800.0
"""Seconds that one undisturbed run may take."""


def make_catalogue(folder: Path, items: int) -> Path:
    """Write photos, a manifest with some rows at fault, and a pipeline over them. Returns the pipeline file."""
    entries: list[Any] = rows(folder / "shop", items)
    for number in range(7, items, 50):
        (folder / "shop" / f"p{number}.jpg").write_bytes(b"no picture")
    del entries[0]["image"], entries[1]["title"], entries[1]["category"]
    manifest = write_manifest(folder / "shop" / "items.jsonl", [*entries, "{not json"])
    plain = settings(manifest, commit_rows=max(8, items // 15))
    later = {name: stage for name, stage in plain["stages"].items() if name != "ingest"}
    stages = {"ingest": {}, "understand": UNDERSTAND, **later}
    return write_pipeline(folder / "pipeline.yaml", {**plain, "max_failed": 1.0, "stages": stages})


def start(arguments: list[str], workspace: Path) -> subprocess.Popen[bytes]:
    """Start `coldstart run` in a process group of its own."""
    return subprocess.Popen(
        [*CLI, "run", *arguments, "--workspace", str(workspace)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a run to end well.

    Raises:
        RuntimeError: it ended with another exit code than 0.
    """
    _, errors = process.communicate(timeout=DEADLINE_S)
    if process.returncode:
        raise RuntimeError(f"a run ended with {process.returncode}: {errors.decode(errors='replace')[-2000:]}")


def await_workspace(process: subprocess.Popen[bytes], workspace: Path) -> None:
    """Wait until a run has opened its workspace."""
    while process.poll() is None and not (workspace / ".coldstart.lock").exists():
        time.sleep(0.005)


def kill_at(process: subprocess.Popen[bytes], workspace: Path, seconds: float) -> bool:
    """Kill a run so long after it opened its workspace; returns False where it had ended by then."""
    await_workspace(process, workspace)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    finish(process)
    return False


def check_open(workspace: Path) -> tuple[str, list[str]]:
    """Open a workspace after a kill; returns the stage that it had reached, and what is wrong."""
    if Store(workspace).pipeline() is None:
        return "no settings yet", []
    opened = coldstart.open(workspace)
    faults, reached = [], "ingest"
    reports = opened.status()
    total = reports[0].balance.fresh
    for report in reports:
        balance = report.balance
        if report.kind not in ("ingest", "index") and balance.total != total:
            faults.append(f"{report.stage} accounts for {balance.total} of {total} items")
        if balance.fresh or balance.failed:
            reached = report.stage
    if opened.publications() and not opened.search(text="article", top_k=1):
        faults.append("what was published finds nothing")
    return reached, faults


def differences(ours: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """List the tables that differ from those of the undisturbed run."""
    return [
        f"{name}: {len(ours.get(name, []))} rows, {len(expected.get(name, []))} expected, not equal"
        for name in sorted(ours.keys() | expected.keys())
        if ours.get(name) != expected.get(name)
    ]


def run_campaign(arguments: list[str], folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs until `kills` are reached; returns the figures, with `faults` empty where all held."""
    began = time.monotonic()
    undisturbed = start(arguments, folder / "whole")
    await_workspace(undisturbed, folder / "whole")
    opened = time.monotonic()
    finish(undisturbed)
    undisturbed_s = time.monotonic() - opened
    expected = contents(folder / "whole")
    rng = random.Random(seed)
    faults: list[str] = []
    reached: dict[str, int] = {}
    done = rounds = 0
    while done < kills:
        workspace = folder / f"round{rounds}"
        rounds += 1
        for _ in range(min(KILLS_A_WORKSPACE, kills - done)):
            if not kill_at(start(arguments, workspace), workspace, rng.uniform(0.0, undisturbed_s)):
                break
            done += 1
            stage, wrong = check_open(workspace)
            reached[stage] = reached.get(stage, 0) + 1
            faults += [f"kill {done}: {fault}" for fault in wrong]
            sys.stderr.write(f"kill {done}/{kills}: reached {stage}{''.join(f'; {fault}' for fault in wrong)}\n")
        finish(start(arguments, workspace))
        faults += [f"round {rounds}: {difference}" for difference in differences(contents(workspace), expected)]
    return {
        "kills": done,
        "workspaces": rounds,
        "reached": reached,
        "tables": len(expected),
        "rows": sum(map(len, expected.values())),
        "undisturbed_s": round(undisturbed_s, 1),
        "seconds": round(time.monotonic() - began, 1),
        "faults": faults,
    }


def main() -> None:
    """Run the campaign that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=45)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pipeline", help="run this pipeline instead, with --manifest")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coldstart-kills-") as made:
        folder = Path(made)
        if options.pipeline:
            arguments = [options.pipeline]
            if options.manifest:
                arguments += ["--manifest", str(options.manifest)]
        else:
            arguments = [str(make_catalogue(folder, options.items))]
        found = run_campaign(arguments, folder, options.kills, options.seed)
    text = json.dumps(found, indent=2)
    sys.stdout.write(f"{text}\n")
    if options.json:
        options.json.write_text(f"{text}\n", "utf-8")
    sys.exit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()

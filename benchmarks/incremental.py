"""Claim: what 1 % of new items costs is set by what came, not by what is there.

    python -m benchmarks incremental [--full]

A catalogue of 200,000 items (20,000 in short form) in two spaces of 384 numbers is made by one full run, then 1 % of
new items comes: once with a manifest of all rows, once with a manifest of the new ones alone, so that recall is once
kept and once measured. Then nothing new comes: by a manifest of one row, by one of all rows, and by `coldstart run` in
a process of its own. The encoders are fakes, so the seconds are those of the work around models: reading the manifest,
finding what is stale, commits, joining, indexes, recall, publishing and upkeep. `like` adds to both sides what a real
encoder takes at `RATE` items a second. The full run prepares items in its own process and counts by the lesser of its
seconds and its processor seconds, so that a busy machine makes it no longer and the share no smaller.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import coldstart
from benchmarks import growing
from benchmarks.report import CACHE, Row
from coldstart.engine.report import RunReport
from coldstart.ingest.stage import IngestStage

ITEMS, SHORT_ITEMS = 200_000, 20_000
SHARE = 0.01
RATE = 67.0
"""Items a second of ViT-B/32 in bf16 on two cores, one picture each (`embed_clip`)."""


def base(count: int) -> Path:
    """A folder with a manifest of so many items and a workspace that holds them; made once, by a full run."""
    folder = CACHE / f"growing_{count}"
    if (folder / "full.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest = growing.manifest(folder / "items.jsonl", range(count))
    isolated, IngestStage.isolated = IngestStage.isolated, False
    try:
        settings = {**growing.pipeline(manifest), "engine": {"commit_rows": 10_000}}
        _, figures = timed(folder / "workspace", settings)
    finally:
        IngestStage.isolated = isolated
    (folder / "full.json").write_text(json.dumps(figures))
    return folder


def timed(workspace: Path, settings: dict[str, Any]) -> tuple[RunReport, dict[str, Any]]:
    """Run a pipeline; returns the report, and its seconds, processor seconds and seconds of each stage."""
    opened = coldstart.open(workspace, create=True)
    began, used = time.monotonic(), processor_seconds()
    report = opened.run(settings)
    figures = {"seconds": time.monotonic() - began, "cpu": processor_seconds() - used, "stages": seconds(report)}
    return report, figures


def processor_seconds() -> float:
    """Count the processor seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def seconds(report: RunReport) -> dict[str, float]:
    """What each stage took, and `rest`: standing, ledgers, upkeep of the tables."""
    stages = {stage.stage: stage.ran.seconds for stage in report.stages}
    return {**stages, "rest": report.seconds - sum(stages.values())}


def run(short: bool) -> dict[str, Any]:
    """Seconds of the full run and of each kind of small run, stage by stage."""
    count = SHORT_ITEMS if short else ITEMS
    new = round(SHARE * count)
    folder = base(count)
    workspace = folder / "grown"
    shutil.rmtree(workspace, ignore_errors=True)
    shutil.copytree(folder / "workspace", workspace)
    found: dict[str, Any] = {"items": count, "new": new, "full": json.loads((folder / "full.json").read_text())}
    end = count
    # The first small run looks at everything where the base was made by another version.
    steps = (("settle", 0, 1), ("all rows", 0, new), ("new rows", None, new), ("one row", None, 0), ("nothing", 0, 0))
    for name, starts, came in steps:
        first = end - 1 if starts is None else starts
        end += came
        manifest = growing.manifest(folder / "more.jsonl", range(first, end))
        report, found[name] = timed(workspace, growing.pipeline(manifest))
        made = {stage.stage: stage.ran.done for stage in report.stages}
        assert made["ingest"] == made["words"] == came, (name, made)
        assert not report.stages[-1].balance.pending
        if name == "one row":
            began, used = time.monotonic(), processor_seconds()
            command = [sys.executable, "-m", "coldstart", "run", "--workspace", str(workspace)]
            subprocess.run(command, check=True, capture_output=True)
            found["command"] = {"seconds": time.monotonic() - began, "cpu": processor_seconds() - used}
    shutil.rmtree(workspace)
    return found


def like(figures: dict[str, Any], name: str, rate: float) -> float:
    """The share of a full run that a small one takes, beside an encoder of so many items a second."""
    small = figures[name]["seconds"] + figures["new"] / rate
    return float(small / (full_seconds(figures) + figures["items"] / rate))


def full_seconds(figures: dict[str, Any]) -> float:
    """Return the lesser of the seconds and the processor seconds of the full run."""
    return float(min(figures["full"]["seconds"], figures["full"]["cpu"]))


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    found = []
    full = full_seconds(result)
    for name, goal in (("all rows", "at most 2 %"), ("new rows", "at most 1.5 %")):
        small = result[name]
        steps = ", ".join(f"{stage} {took:.1f}" for stage, took in small["stages"].items())
        found.append(
            Row(
                f"1 % of new items, share of the full run ({name} in the manifest)",
                f"{result['new']:,} into {result['items']:,}, 2 x 384; beside an encoder of {RATE:g} items/s",
                f"{like(result, name, RATE):.1%}",
                f"around the models {small['seconds']:.1f} of {full:.0f} s ({small['seconds'] / full:.1%}, processor "
                f"{small['cpu']:.1f} s): {steps} s",
                goal,
            )
        )
    for name, what, goal in (
        ("one row", "one row in the manifest", "at most 2 s"),
        ("command", "the same by `coldstart run`", ""),
        ("nothing", "all rows in the manifest", ""),
    ):
        small = result[name]
        steps = "".join(f", {stage} {took:.2f}" for stage, took in small.get("stages", {}).items())
        found.append(
            Row(
                f"Nothing new, {what}",
                f"{result['items']:,} items, 2 x 384",
                f"{small['seconds']:.2f} s",
                f"processor {small['cpu']:.2f} s{steps}",
                goal,
            )
        )
    return found

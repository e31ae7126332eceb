"""Claim: what 1 % of new items costs is set by what came, not by what is there.

    python -m benchmarks incremental [--full]

A catalogue of 200,000 items (20,000 in short form) in two spaces of 384 numbers is made by one full run, then 1 % of
new items comes: once with a manifest of all rows, once with a manifest of the new ones alone, and once more with
nothing new. The encoders are fakes, so the seconds are those of the work around models: reading the manifest, finding
what is stale, commits, joining, indexes, recall, publishing and upkeep. `like` adds to both sides what a real encoder
takes at `RATE` items a second. The full run prepares items in its own process, so that its seconds are the least it
can take.
"""

from __future__ import annotations

import json
import shutil
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
        began = time.monotonic()
        report = coldstart.open(folder / "workspace", create=True).run(settings)
        figures = {"seconds": time.monotonic() - began, "stages": seconds(report)}
    finally:
        IngestStage.isolated = isolated
    (folder / "full.json").write_text(json.dumps(figures))
    return folder


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
    opened = coldstart.open(workspace)
    found: dict[str, Any] = {"items": count, "new": new, "full": json.loads((folder / "full.json").read_text())}
    end = count
    # The first small run after the base measures recall from scratch where the base was made by another version.
    for name, starts, came in (("settle", 0, 1), ("all rows", 0, new), ("new rows", None, new), ("nothing", None, 0)):
        first = end - 1 if starts is None else starts
        end += came
        manifest = growing.manifest(folder / "more.jsonl", range(first, end))
        began = time.monotonic()
        report = opened.run(growing.pipeline(manifest))
        found[name] = {"seconds": time.monotonic() - began, "stages": seconds(report)}
        made = {stage.stage: stage.ran.done for stage in report.stages}
        assert made["ingest"] == made["words"] == came, (name, made)
        assert not report.stages[-1].balance.pending
    shutil.rmtree(workspace)
    return found


def like(figures: dict[str, Any], name: str, rate: float) -> float:
    """The share of a full run that a small one takes, beside an encoder of so many items a second."""
    small = figures[name]["seconds"] + figures["new"] / rate
    return float(small / (figures["full"]["seconds"] + figures["items"] / rate))


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    found = []
    full = result["full"]["seconds"]
    for name in ("all rows", "new rows"):
        small = result[name]
        steps = ", ".join(f"{stage} {took:.1f}" for stage, took in small["stages"].items())
        found.append(
            Row(
                f"1 % of new items, share of the full run ({name} in the manifest)",
                f"{result['new']:,} into {result['items']:,}, 2 x 384; beside an encoder of {RATE:g} items/s",
                f"{like(result, name, RATE):.1%}",
                f"around the models {small['seconds']:.1f} of {full:.0f} s ({small['seconds'] / full:.1%}): {steps} s",
                "about 1 %",
            )
        )
    found.append(
        Row(
            "Nothing new, new rows alone in the manifest",
            f"{result['items']:,} items, 2 x 384",
            f"{result['nothing']['seconds']:.1f} s",
            ", ".join(f"{stage} {took:.1f}" for stage, took in result["nothing"]["stages"].items()) + " s",
        )
    )
    return found

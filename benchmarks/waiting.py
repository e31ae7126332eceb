"""Claim: no stage leaves the machine idle: where a model waits for data, it is because decoding has all the cores.

    python -m benchmarks waiting [--full]

Two runs, stage by stage: the packaged `demo` pipeline on the sample catalogue, and the packaged `starter` pipeline on
2,000 products (200 in short form), photos of shops where `COLDSTART_DATA` has them and made ones otherwise. Of each
stage: the share of its time that the model waited for data, that waiting without the start of the worker processes, and
the share of all cores' time that this process and its workers used. A model that waits beside busy cores is fed as fast
as this machine decodes; one that waits beside idle cores would be a fault. On a machine shared with other work, busy
cores read too low.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import coldstart
from benchmarks.embed_clip import make_jpegs
from benchmarks.report import Row
from coldstart.core.pipeline import Pipeline

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MOST = 0.15
"""Waiting that asks for a reason."""


def products(count: int, folder: Path) -> tuple[Path, Path]:
    """A manifest of so many products with a photo each, and the folder of the photos."""
    known = DATA / "fashion_products" / "products.jsonl"
    if not known.is_file():
        made = make_jpegs(count)
        return made, made.parent
    manifest = folder / "products.jsonl"
    with known.open(encoding="utf-8") as lines, manifest.open("w", encoding="utf-8") as out:
        for _, line in zip(range(count), lines, strict=False):
            row = json.loads(line)
            entry = {"item_id": row["id"], "title": row["title"], "category": row["article_type"]}
            out.write(json.dumps({**entry, "image": str(known.parent / row["file"])}) + "\n")
    return manifest, known.parent


def _used_s() -> float:
    """Processor seconds of this process and of those of its children that have ended."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def stages(workspace: coldstart.Workspace, pipeline: Pipeline) -> list[dict[str, Any]]:
    """What each stage took, run one after the other."""
    found = []
    for spec in pipeline.stages:
        used, began = _used_s(), time.monotonic()
        ran = workspace.run(pipeline, only=[spec.name]).stages[0].ran
        wall = time.monotonic() - began
        found.append(
            {
                "stage": spec.name,
                "done": ran.done,
                "seconds": ran.seconds,
                "wait_s": ran.wait_s,
                "start_s": ran.start_s,
                "compute_s": ran.compute_s,
                "busy": (_used_s() - used) / (wall * (os.cpu_count() or 1)),
            }
        )
    return found


def run(short: bool) -> dict[str, Any]:
    """The stages of both runs; the demo's in full form alone."""
    count = 200 if short else 2000
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if not short:
            workspace = coldstart.open(Path(folder) / "demo.workspace", create=True)
            runs["demo"] = stages(workspace, workspace.pipeline("demo"))
        manifest, roots = products(count, Path(folder))
        workspace = coldstart.open(Path(folder) / "products.workspace", create=True)
        pipeline = workspace.pipeline("starter", manifest=manifest, media_roots=[roots])
        runs[f"{count:,} products"] = stages(workspace, pipeline)
    return {"runs": runs}


def reason(stage: dict[str, Any]) -> str:
    """Why a model waited for more than `MOST` of the time."""
    if stage["wait_s"] <= MOST * stage["seconds"]:
        return ""
    if stage["seconds"] < 1:
        return "under a second in all"
    if stage["compute_s"] < 0.1 * stage["seconds"]:
        return "no model: all of it is reading and decoding"
    if stage["wait_s"] - stage["start_s"] <= MOST * stage["seconds"]:
        return "worker processes that start"
    return "decoding has the cores" if stage["busy"] > 0.8 else "cores were idle"


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    found = []
    for name, entries in result["runs"].items():
        for stage in entries:
            if not stage["wait_s"]:
                continue
            share, steady = (
                seconds / max(stage["seconds"], 1e-9)
                for seconds in (stage["wait_s"], stage["wait_s"] - stage["start_s"])
            )
            told = f"{steady:.0%} once started; cores busy {stage['busy']:.0%}; {stage['seconds']:.1f} s"
            why = reason(stage)
            setting = f"{name}, {stage['done']} rows" + (f": {why}" if why else "")
            found.append(Row(f"`{stage['stage']}`: share of waiting for data", setting, f"{share:.2f}", told, "0.15"))
    return found


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))

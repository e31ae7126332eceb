"""The whole `understand` group over short videos: video seconds a second whole and by part, and what one pass saves.

    python -m benchmarks understand [--full]

Runs the packaged `video` pipeline's `understand` on a new workspace, as `coldstart understand` does, on the sample
videos; at full size on the 70 real clips of `COLDSTART_DATA/videos_real` as well, and apart. Times include what a run
really needs: worker processes that start, models that load, rows that are written. Each part is timed by itself in one
run; what one pass decodes for later parts counts for the part that makes the pass. Processor seconds are those of this
process and its workers.

One pass: `fingerprint`, `quality` and `shots` with and without sharing passes (`coldstart.engine.one_pass`),
interleaved, each in a new workspace; their rows are compared value by value.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import coldstart
from benchmarks.report import Row, ratio
from coldstart import sample
from coldstart.engine.one_pass import SharedPasses
from coldstart.store import Store

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SHARING = ("understand.fingerprint", "understand.quality", "understand.shots")
ROUNDS = 3
BEFORE = {"real": "", "sample": "5.3, quiet cores"}
"""Figures of the version before passes were shared, where one was measured."""


def sample_entries() -> list[dict[str, Any]]:
    lines = (sample.path() / "manifest.jsonl").read_text("utf-8").splitlines()
    entries = [entry for line in lines if (entry := json.loads(line))["kind"] == "video"]
    for entry in entries:
        entry["media"] = [{**medium, "uri": str(sample.path() / medium["uri"])} for medium in entry["media"]]
    return entries


def real_entries() -> list[dict[str, Any]]:
    """Real clips; none where they are not on this machine."""
    clips = DATA / "videos_real" / "videos.jsonl"
    if not clips.is_file():
        return []
    rows = map(json.loads, clips.read_text("utf-8").splitlines())
    return [{"item_id": row["id"], "title": row["title"], "video": str(clips.parent / row["file"])} for row in rows]


@contextmanager
def opened(entries: list[dict[str, Any]]) -> Iterator[tuple[Any, Any]]:
    """A new workspace with these items, and the pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "videos.jsonl"
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
        workspace = coldstart.open(Path(folder) / "workspace", create=True)
        pipeline = workspace.pipeline("video", manifest=path, media_roots=[sample.path(), DATA / "videos_real"])
        workspace.run(pipeline, only=["ingest"])
        yield workspace, pipeline


def processor_s() -> float:
    """Processor seconds of this process and of its workers that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def whole(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of each part over these videos, and how much video there was."""
    with opened(entries) as (workspace, pipeline):
        media = [medium for view in workspace.items() for medium in view.media]
        began = processor_s()
        report = workspace.run(pipeline, only=["understand"])
        used_s = processor_s() - began
    parts = {
        stage.stage.partition(".")[2]: {
            "seconds": stage.ran.seconds,
            "model_s": stage.ran.compute_s,
            "done": stage.ran.done,
            "lost": stage.ran.lost,
        }
        for stage in report.stages
    }
    return {
        "videos": len(media),
        "video_s": sum(medium["duration_s"] for medium in media),
        "with_sound": sum(bool(medium["has_audio"]) for medium in media),
        "seconds": report.seconds,
        "processor_s": used_s,
        "parts": parts,
    }


def one_pass(entries: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Seconds of the parts that share a pass, with and without, and whether their rows are equal."""
    found: dict[str, list[float]] = {
        f"{way}_{unit}": [] for way in ("shared", "alone") for unit in ("s", "processor_s")
    }
    rows: dict[str, Any] = {}
    for _ in range(rounds):
        for way in ("shared", "alone"):
            with opened(entries) as (workspace, pipeline):
                began_s, began = processor_s(), time.perf_counter()
                if way == "alone":
                    with patch.object(SharedPasses, "share", lambda *asked: None):
                        workspace.run(pipeline, only=SHARING)
                else:
                    workspace.run(pipeline, only=SHARING)
                found[f"{way}_s"].append(time.perf_counter() - began)
                found[f"{way}_processor_s"].append(processor_s() - began_s)
                tables = [Store(workspace.uri).read(f"stage.{name}").to_pylist() for name in SHARING]
                rows[way] = [sorted(table, key=lambda row: str(row["item_id"])) for table in tables]
    return {**found, "rows": [len(table) for table in rows["shared"]], "same": rows["shared"] == rows["alone"]}


def run(short: bool = False) -> dict[str, Any]:
    """Figures of each set of videos, and of one pass over the real clips, or the sample's where there are none."""
    sets = {"sample": sample_entries()}
    if not short and (real := real_entries()):
        sets["real"] = real
    found: dict[str, Any] = {name: whole(entries) for name, entries in sets.items()}
    found["one_pass"] = one_pass(sets.get("real") or sets["sample"], 1 if short else ROUNDS)
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    found = []
    for name, title in (("real", "real clips"), ("sample", "sample videos")):
        if name not in result:
            continue
        own = result[name]
        video_s, seconds = own["video_s"], own["seconds"]
        setting = f"{own['videos']} {title} of {video_s:.0f} s in all, {own['with_sound']} with sound"
        used = f"{own['processor_s']:.0f} processor s in {seconds:.0f} s"
        before = f"; before: {BEFORE[name]}" if BEFORE[name] else ""
        claim = "`coldstart understand`: video seconds a second"
        goal = "at least 12" if name == "real" else ""
        found.append(Row(claim, setting, f"{video_s / seconds:.1f}", used + before, goal))
        for part, one in sorted(own["parts"].items(), key=lambda entry: -entry[1]["seconds"]):
            share = f"{one['seconds'] / seconds:.0%} of the time"
            figure = f"{video_s / one['seconds']:.1f}" if one["seconds"] > 0 else "-"
            rest = f"{one['done']} rows, model {one['model_s']:.1f} of {one['seconds']:.1f} s"
            found.append(Row(f"part `{part}`, {title}: video seconds a second", f"{share}; {rest}", figure, ""))
    own = result["one_pass"]
    rows_made = " + ".join(map(str, own["rows"]))
    setting = f"fingerprints, quality and shots, {rows_made} rows, {'equal' if own['same'] else 'NOT EQUAL'}"
    found.append(
        Row("a decoder for each part over one pass, wall time", setting, *ratio(own["alone_s"], own["shared_s"]))
    )
    found.append(
        Row(
            "a decoder for each part over one pass, processor time",
            setting,
            *ratio(own["alone_processor_s"], own["shared_processor_s"]),
        )
    )
    return found


if __name__ == "__main__":
    print(json.dumps(run(short=True), indent=2))

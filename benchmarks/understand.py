"""The whole `understand` group over short videos: video seconds a second, and the share of each part.

    python -m benchmarks understand [--full]

Runs the packaged `video` pipeline's `understand` on a new workspace, as `coldstart understand` does, on the sample
videos; at full size on those of `COLDSTART_DATA/videos_real` as well. Times include what a run really needs: worker
processes that start, models that load, rows that are written. One round: each part is timed by itself in the same run.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import coldstart
from benchmarks.report import Row
from coldstart import sample

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def manifest(folder: Path, short: bool) -> Path:
    """The sample's videos, and at full size the real clips where they are on this machine."""
    lines = (sample.path() / "manifest.jsonl").read_text("utf-8").splitlines()
    entries = [entry for line in lines if (entry := json.loads(line))["kind"] == "video"]
    for entry in entries:
        entry["media"] = [{**medium, "uri": str(sample.path() / medium["uri"])} for medium in entry["media"]]
    clips = DATA / "videos_real" / "videos.jsonl"
    if not short and clips.is_file():
        for row in map(json.loads, clips.read_text("utf-8").splitlines()):
            entries.append({"item_id": row["id"], "title": row["title"], "video": str(clips.parent / row["file"])})
    path = folder / "videos.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return path


def run(short: bool = False) -> dict[str, Any]:
    """Seconds of each part, and how much video there was."""
    with tempfile.TemporaryDirectory() as folder:
        items = manifest(Path(folder), short)
        roots = [sample.path(), DATA / "videos_real"]
        workspace = coldstart.open(Path(folder) / "workspace", create=True)
        pipeline = workspace.pipeline("video", manifest=items, media_roots=roots)
        workspace.run(pipeline, only=["ingest"])
        media = [medium for view in workspace.items() for medium in view.media]
        report = workspace.run(pipeline, only=["understand"])
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
        "seconds": sum(part["seconds"] for part in parts.values()),
        "parts": parts,
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    video_s, seconds = result["video_s"], result["seconds"]
    setting = f"{result['videos']} videos of {video_s:.0f} s in all, {result['with_sound']} with sound"
    found = [Row("`coldstart understand`: video seconds a second", setting, f"{video_s / seconds:.1f}", "")]
    for name, part in sorted(result["parts"].items(), key=lambda entry: -entry[1]["seconds"]):
        share = f"{part['seconds'] / seconds:.0%} of the time"
        figure = f"{video_s / part['seconds']:.1f}" if part["seconds"] > 0 else "-"
        rest = f"{part['done']} rows, model {part['model_s']:.1f} of {part['seconds']:.1f} s"
        found.append(Row(f"part `{name}`: video seconds a second", f"{share}; {rest}", figure, ""))
    return found


if __name__ == "__main__":
    print(json.dumps(run(short=True), indent=2))

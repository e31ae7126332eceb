"""Claim: a dry run tells what a run will take within 30 %, on three pipelines.

    python -m benchmarks estimate [--full]
    python -m benchmarks.estimate [PIPELINE ...]      # one after the other, added to the result of the full form

`starter` on 2,000 products with a photo each, `aligned` on the same, which fits heads on the way, and `video` on real
clips. Each is estimated and then run by the command line as a user does it, in two processes after each other, in a
workspace that does not exist before. In short form 200 products, and no clips.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import CACHE, Row
from benchmarks.waiting import DATA, products

CLIPS = 24
GOAL = (0.7, 1.3)
_COMMAND = "from coldstart.cli import main; main()"


def clips(count: int, folder: Path) -> tuple[Path, Path] | None:
    """A manifest of so many real clips, spread over all of them, and the folder that they are in."""
    known = DATA / "videos_real" / "videos.jsonl"
    if not known.is_file():
        return None
    rows = [json.loads(line) for line in known.read_text("utf-8").splitlines()]
    manifest = folder / "clips.jsonl"
    with manifest.open("w", encoding="utf-8") as out:
        for row in rows[:: max(len(rows) // count, 1)][:count]:
            entry = {"item_id": row["id"], "title": row["title"], "video": str(known.parent / row["file"])}
            out.write(f"{json.dumps(entry)}\n")
    return manifest, known.parent


def measure(pipeline: str, count: int) -> dict[str, Any] | None:
    """One pipeline, estimated and run; None where its data are not on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        found = clips(count, Path(folder)) if pipeline == "video" else products(count, Path(folder))
        if found is None:
            return None
        manifest, roots = found
        given = ["run", pipeline, "--manifest", str(manifest), "--media-root", str(roots)]
        given += ["--workspace", str(Path(folder) / "workspace"), "--set", "max_failed=1", "--json"]
        began = time.monotonic()
        estimated = _call([*given, "--dry-run"])
        probe_s = time.monotonic() - began
        ran = _call(given)
    compared = ran["estimated"]
    return {
        "pipeline": pipeline,
        "items": max(stage["rows"] for stage in estimated["stages"]),
        "probe_s": probe_s,
        "estimated_s": estimated["seconds"],
        "range": estimated["range"],
        "took_s": ran["seconds"],
        "left_out": estimated["left_out"],
        "ratio": compared["ratio"] if compared else None,
        "stages": compared["stages"] if compared else [],
    }


def _call(given: list[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", _COMMAND, *given], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"coldstart {' '.join(given)} ended with {done.returncode}: {done.stderr[-2000:]}")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


FULL = {"starter": 2000, "aligned": 2000, "video": CLIPS}


def run(short: bool) -> dict[str, Any]:
    """Each pipeline once."""
    wanted = {"starter": 200} if short else FULL
    found = [measure(pipeline, count) for pipeline, count in wanted.items()]
    return {"pipelines": [one for one in found if one is not None]}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for one in result["pipelines"]:
        low, high = one["range"]
        without = f", without {', '.join(one['left_out'])}" if one["left_out"] else ""
        setting = f"{one['items']:,} items, told in {one['probe_s']:.0f} s{without}"
        figure = "-" if one["ratio"] is None else f"{one['ratio']:.2f}"
        told = f"{one['estimated_s']:.0f} s ({low:.0f} to {high:.0f}) for {one['took_s']:.0f} s"
        lines.append(
            Row(f"estimated over taken, `{one['pipeline']}`", setting, figure, told, f"{GOAL[0]} to {GOAL[1]}")
        )
    return lines


def main() -> None:
    """Measure some pipelines, each replacing its former result."""
    kept = CACHE / "estimate-full.json"
    CACHE.mkdir(exist_ok=True)
    known = json.loads(kept.read_text())["pipelines"] if kept.exists() else []
    for pipeline in sys.argv[1:] or FULL:
        if (made := measure(pipeline, FULL[pipeline])) is not None:
            known = [*(one for one in known if one["pipeline"] != pipeline), made]
            kept.write_text(json.dumps({"pipelines": known}, indent=2))
            print(json.dumps(made, indent=2), flush=True)


if __name__ == "__main__":
    main()

"""Claim: what a user waits for in `make demo` and in a run of 2,000 items is work, not idle cores.

    python -m benchmarks waiting [--full]

Both commands as a user gives them, each in a fresh workspace: `coldstart demo`, and `coldstart run starter` on 2,000
products (the short form: 200 products alone), photos of shops where `COLDSTART_DATA` has them and made ones otherwise.
The five longest waits of each are listed with their reason: a stage by the clock, the time before the first stage, and
the time after the last. The clock of a stage is its own in the workspace; processor time is read from the command and
all processes that it starts, five times a second. A wait beside idle cores would be a fault. On a machine shared with
other work, busy cores read too low.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.embed_clip import make_jpegs
from benchmarks.report import Row
from coldstart.store import RUNS, Store

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
LONGEST = 5
BUSY = 0.8
"""Share of all cores from which on they count as busy."""
EVERY_S = 0.2
PARTS = ("start_s", "decode_s", "model_s")
OUTSIDE = {
    "before the first stage": "the command's imports, settings and checks",
    "after the last stage": "maintenance; of the demo also its searches and pages",
}
_COMMAND = "from coldstart.cli import main; main()"


@dataclass(frozen=True)
class Wait:
    """One part of a command by the clock.

    Attributes:
        what: the stage, or what comes before or after the stages. `done`: rows made, 0 outside the stages.
        seconds: by the clock. `start_s`: worker processes that start; `decode_s`: the model waits for data;
            `model_s`: the model works; what remains is neither.
        busy: share of all cores that the command and its processes used in this time.
    """

    what: str
    seconds: float
    busy: float
    done: int = 0
    start_s: float = 0.0
    decode_s: float = 0.0
    model_s: float = 0.0


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


def run(short: bool) -> dict[str, Any]:
    """Waits of both commands, in order; the demo's in full form alone."""
    count = 200 if short else 2000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs: dict[str, list[Wait]] = {}
        if not short:
            runs["`make demo`"] = waits(["demo", "--out", str(folder / "demo")], folder / "demo" / "workspace")
        manifest, roots = products(count, folder)
        own = folder / "products.workspace"
        given = ["run", "starter", "-w", str(own), "-m", str(manifest), "--media-root", str(roots)]
        runs[f"{count:,} products"] = waits(given, own)
    return {"runs": {name: [asdict(one) for one in found] for name, found in runs.items()}}


def waits(arguments: Sequence[str], workspace: Path) -> list[Wait]:
    """Run a command on a workspace that is not there yet, and split its time by stage.

    Raises:
        RuntimeError: the command failed.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen([sys.executable, "-c", _COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=said)
        began, times, used = time.time(), [time.time()], [0.0]
        while process.poll() is None:
            time.sleep(EVERY_S)
            times.append(time.time())
            used.append(max(used[-1], processor_s(process)))
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"coldstart {' '.join(arguments)} ended with {process.returncode}: {said.read()[-500:]}")
    ended = times[-1]

    def wait(what: str, since: float, until: float, **parts: Any) -> Wait:
        spent = float(np.interp(until, times, used) - np.interp(since, times, used))
        wall = max(until - since, 1e-9)
        return Wait(what, until - since, min(spent / (wall * (os.cpu_count() or 1)), 1.0), **parts)

    before, after = OUTSIDE
    found: list[Wait] = []
    last = began
    for row in Store(workspace).in_sequence(RUNS):
        since = row["started_at"].timestamp()
        if not found:
            found.append(wait(before, began, max(since, began)))
        ran = json.loads(row["report"])["ran"]
        parts = {"start_s": ran["start_s"], "decode_s": ran["wait_s"] - ran["start_s"], "model_s": ran["compute_s"]}
        last = since + row["seconds"]
        found.append(wait(f"`{row['stage']}`", since, last, done=ran["done"], **parts))
    return [*found, wait(after, min(last, ended), ended)]


def processor_s(process: psutil.Process) -> float:
    """Processor seconds of a process, of those that it started, and of their children that have ended."""
    total = 0.0
    try:
        for one in (process, *process.children(recursive=True)):
            try:
                spent = one.cpu_times()
            except psutil.Error:
                continue  # it ended between; its parent's count has it
            total += spent.user + spent.system + spent.children_user + spent.children_system
    except psutil.Error:
        pass
    return total


def reason(wait: dict[str, Any]) -> str:
    """Name what most of a wait is."""
    if wait["what"] in OUTSIDE:
        return OUTSIDE[wait["what"]]
    parts = {
        "worker processes start": wait["start_s"],
        "decoding": wait["decode_s"],
        "the model computes": wait["model_s"],
        "reading and writing of tables, fits, indexes": wait["seconds"] - sum(wait[part] for part in PARTS),
    }
    name = max(parts, key=lambda part: parts[part])
    return f"{wait['done']:,} rows: {name} ({parts[name]:.1f} s)"


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table: the longest waits of each command, then the share that a fault would have."""
    found = []
    for name, entries in result["runs"].items():
        whole = sum(one["seconds"] for one in entries)
        for place, one in enumerate(sorted(entries, key=lambda one: -one["seconds"])[:LONGEST], 1):
            share = f"{one['seconds'] / whole:.0%} of {whole:.0f} s; cores busy {one['busy']:.0%}"
            claim = f"{name}, longest wait {place}: {one['what']}"
            found.append(Row(claim, reason(one), f"{one['seconds']:.1f} s", share))
        idle = sum(one["start_s"] + one["decode_s"] for one in entries if one["busy"] < BUSY) / whole
        busy = sum(one["seconds"] * one["busy"] for one in entries) / whole
        told = f"cores busy over the whole {busy:.0%}"
        claim = f"{name}: share of its time that a model waits for data beside idle cores"
        found.append(Row(claim, f"cores count as busy from {BUSY:.0%}", f"{idle:.2f}", told, "at most 0.15"))
    return found


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))

"""Reading interactions from CSV into a workspace, against pandas and a bare write of the same file.

    python -m benchmarks.interactions_ingest [--short]

Made ratings of 100,000 users and up to 50,000 items with Pareto popularity, one in a thousand of them broken, written
under `.bench/`. `ours` checks every row, tells equal rows, and writes them; `pandas` is `read_csv` and one LanceDB
write of the whole frame, without any check. Every contender runs in a process of its own, so that peak memory is its
own, and they take turns. `again` reads the same file a second time, which adds nothing; `back` makes `Interactions` of
the table.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.csv as pa_csv

from benchmarks.report import CACHE, Row, ratio
from coldstart.ingest.load_interactions import import_interactions
from coldstart.store import Store
from coldstart.store.interactions import InteractionTable

SIZES = {1_000_000: 3, 10_000_000: 1}
"""Rows -> rounds."""
SHORT = {50_000: 1}
BROKEN_EVERY = 1000


def made(rows: int) -> Path:
    """The file of so many rows, made once."""
    path = CACHE / f"interactions-{rows}.csv"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        columns = {
            "userId": rng.integers(0, 100_000, rows),
            "movieId": np.minimum(rng.pareto(1.1, rows) * 50, 49_999).astype(np.int64),
            "rating": rng.integers(1, 11, rows) / 2,
            "timestamp": rng.integers(1_400_000_000, 1_700_000_000, rows),
        }
        columns["timestamp"][::BROKEN_EVERY] *= -1
        partial = path.with_suffix(".part")
        pa_csv.write_csv(pa.table(columns), partial)
        partial.replace(path)
    return path


def alone(what: str, path: Path, folder: Path) -> dict[str, Any]:
    """One contender in this process: seconds and what it counted."""
    began, worked = time.perf_counter(), time.process_time()
    if what == "pandas":
        frame = pandas.read_csv(path)
        lancedb.connect(folder).create_table("interactions", frame)
        count = len(frame)
    elif what == "back":
        count = len(InteractionTable(Store(folder)).read())
    else:
        report = import_interactions(Store(folder, create=True), path)
        count = report.added if what == "ours" else report.repeated
    seconds, processor_s = time.perf_counter() - began, time.process_time() - worked
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": seconds, "processor_s": processor_s, "count": count, "peak_mb": peak_mb}


def child(what: str, path: Path, folder: Path) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.interactions_ingest", what, str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    return dict(json.loads(done.stdout))


def run(short: bool) -> dict[str, Any]:
    """Seconds, rows and peak memory by size, round and contender."""
    result: dict[str, Any] = {"load": os.getloadavg()[0], "sizes": {}}
    for rows, rounds in (SHORT if short else SIZES).items():
        path, found = made(rows), []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                ours = Path(folder, "ours")
                found.append(
                    {
                        "pandas": child("pandas", path, Path(folder, "pandas")),
                        "ours": child("ours", path, ours),
                        "again": child("again", path, ours),
                        "back": child("back", path, ours),
                    }
                )
        result["sizes"][str(rows)] = {"rounds": found, "file_mb": path.stat().st_size / 1e6}
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for size, found in result["sizes"].items():
        count, rounds = int(size), found["rounds"]
        setting = f"{count:,} rows, CSV of {found['file_mb']:,.0f} MB, load {result['load']:.0f}"
        for what, claim in (
            ("ours", "interactions, checked and written"),
            ("pandas", "interactions, pandas.read_csv and a bare LanceDB write"),
            ("again", "interactions, the same file again"),
            ("back", "interactions, read back as arrays"),
        ):
            rates = sorted(count / one[what]["seconds"] for one in rounds)
            peak = max(one[what]["peak_mb"] for one in rounds)
            worked = min(one[what]["processor_s"] for one in rounds)
            spread = f"{rates[0]:,.0f} to {rates[-1]:,.0f}; {worked:.1f} s of processor time, peak {peak:,.0f} MB"
            lines.append(Row(claim, setting, f"{rates[len(rates) // 2]:,.0f} rows/s", spread))
        worked_s = [[one[what]["processor_s"] for one in rounds] for what in ("ours", "pandas")]
        figure, spread = ratio(*worked_s)
        lines.append(Row("interactions, processor time over that of pandas and a bare write", setting, figure, spread))
    return lines


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(alone(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        print(json.dumps(run("--short" in sys.argv), indent=2))

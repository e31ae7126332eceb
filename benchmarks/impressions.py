"""Reading showings into a workspace, from Parquet and from CSV, and reading them back.

    python -m benchmarks.impressions [--short]

Made lists of 10 of 50,000 items (Pareto popularity) for 100,000 users: request, position, surface, propensity, click
and dwell, one row in a thousand with a propensity that cannot be. Written under `.bench/`. Every reading runs in a
process of its own, so that peak memory is its own. `again` reads the Parquet file a second time, which adds nothing;
`outcomes` gives a tenth of the showings an outcome that came later, by request; `back` makes `Impressions` of the
table; `status` counts what `coldstart status` prints.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.report import CACHE, Row
from coldstart.ingest.load_impressions import import_impressions
from coldstart.store import Store
from coldstart.store.impressions import ImpressionTable

SIZES = (2_000_000, 10_000_000)
SHORT = (50_000,)
BROKEN_EVERY = 1000
LIST = 10
_BLOCK = 500_000
_STEPS = (
    ("parquet", "showings from Parquet, checked and written"),
    ("csv", "showings from CSV, checked and written"),
    ("again", "showings, the same Parquet file again"),
    ("outcomes", "outcomes of a tenth of the showings, later and by request"),
    ("back", "showings, read back as arrays"),
    ("status", "showings, counted for the status"),
)


def blocks(rows: int) -> Iterator[pa.Table]:
    """Make blocks of showings: lists of `LIST`, one request each."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        lists = count // LIST
        users = np.repeat(rng.integers(0, 100_000, lists), LIST)
        slots = np.tile(np.arange(LIST), lists)
        items = np.minimum(rng.pareto(1.1, count) * 5, 4_999).astype(np.int64) * LIST + slots  # each once in a list
        requests = np.repeat(np.arange(start // LIST, start // LIST + lists), LIST)
        times = np.repeat(rng.integers(1_700_000_000_000, 1_701_000_000_000, lists), LIST)
        propensity = rng.uniform(0.001, 1.0, count)
        propensity[::BROKEN_EVERY] = 0
        clicks = (rng.random(count) < 0.1).astype(np.int8)
        yield pa.table(
            {
                "user_id": pa.array([f"user-{user:06d}" for user in users.tolist()]),
                "item_id": pa.array([f"item-{item:05d}" for item in items.tolist()]),
                "request_id": pa.array([f"{request:016x}" for request in requests.tolist()]),
                "timestamp": times,
                "position": (slots + 1).astype(np.int32),
                "surface": pa.array(["home", "search"]).take(pa.array(requests % 2)),
                "propensity": propensity,
                "click": clicks,
                "dwell_s": (clicks * rng.exponential(20.0, count)).astype(np.float32),
            }
        )


def made(rows: int, suffix: str) -> Path:
    """Return the file of so many rows, made once; `outcomes` has a tenth of its requests and items."""
    path = CACHE / f"impressions-{rows}.{suffix}"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        partial = path.with_suffix(".part")
        schema = next(blocks(LIST)).schema
        if suffix == "outcomes.parquet":
            schema = pa.schema([("request_id", pa.string()), ("item_id", pa.string()), ("like", pa.int8())])
        writer: Any = (pa_csv.CSVWriter if suffix == "csv" else pq.ParquetWriter)(partial, schema)
        with writer:
            for block in blocks(rows):
                if suffix == "outcomes.parquet":
                    tenth = block.filter(pa.array(np.arange(block.num_rows) % 10 == 5))
                    likes = pa.array(np.ones(tenth.num_rows, np.int8))
                    block = tenth.select(["request_id", "item_id"]).append_column("like", likes)
                writer.write(block)
        partial.replace(path)
    return path


def alone(what: str, path: Path, folder: Path) -> dict[str, Any]:
    """Do one step in this process: seconds and what it counted."""
    began, worked = time.perf_counter(), time.process_time()
    store = Store(folder, create=True)
    if what == "back":
        count = len(ImpressionTable(store).read())
    elif what == "status":
        count = ImpressionTable(store).summary().rows
    else:
        report = import_impressions(store, path, later=what == "outcomes")
        count = {"again": report.repeated, "outcomes": report.renewed}.get(what, report.added)
    seconds, processor_s = time.perf_counter() - began, time.process_time() - worked
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": seconds, "processor_s": processor_s, "count": count, "peak_mb": peak_mb}


def child(what: str, path: Path, folder: Path) -> dict[str, Any]:
    """Do the same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.impressions", what, str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    return dict(json.loads(done.stdout))


def run(short: bool, sizes: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Measure seconds, rows and peak memory by size and step."""
    result: dict[str, Any] = {"load": os.getloadavg()[0], "sizes": {}}
    for size in sizes or (SHORT if short else SIZES):
        parquet, csv, outcomes = (made(size, suffix) for suffix in ("parquet", "csv", "outcomes.parquet"))
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            own = Path(folder, "own")
            found = {"parquet": child("parquet", parquet, own), "csv": child("csv", csv, Path(folder, "csv"))}
            found["again"] = child("again", parquet, own)
            found["outcomes"] = child("outcomes", outcomes, own)
            found |= {what: child(what, parquet, own) for what in ("back", "status")}
        result["sizes"][str(size)] = {"steps": found, "parquet_mb": parquet.stat().st_size / 1e6}
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """Write the claim's lines of the table."""
    lines = []
    for size, found in result["sizes"].items():
        setting = f"{int(size):,} rows, Parquet of {found['parquet_mb']:,.0f} MB, load {result['load']:.0f}"
        for what, claim in _STEPS:
            one = found["steps"][what]
            read = int(size) // 10 if what == "outcomes" else int(size)
            spread = f"{one['count']:,}; {one['processor_s']:.1f} s of processor time, peak {one['peak_mb']:,.0f} MB"
            lines.append(Row(claim, setting, f"{read / one['seconds']:,.0f} rows/s", spread))
    return lines


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(alone(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        chosen = tuple(int(one) for one in sys.argv[1:] if one.isdecimal())
        print(json.dumps(run("--short" in sys.argv, chosen or None), indent=2))

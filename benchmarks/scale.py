"""What the workspace costs as it grows: measured at small sizes, predicted for a larger one, and compared.

    python -m benchmarks scale [--full]

The real code writes and reads everything: tables `items`, one space of 384 numbers and the ledger (one item in a
hundred failed), the search for stale rows, the index stage with its join, indexes and publication, then one in a
hundred of new items and the same again. Only the encoder is missing: rows carry the keys that a `fake` one would give
them, and vectors mixed from real ones, so that what is timed is the workspace. Items are texts of about 300 characters.

Each constant of `benchmarks/scale_model.py` is fitted on the two smaller sizes and tried on the larger one. `--full`
fits on 20,000 and 100,000 items and predicts 500,000; the short form fits on 4,000 and 20,000 and predicts 50,000.
"""

from __future__ import annotations

import gc
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import yaml

from benchmarks import growing, scale_model, vector_data, vectors_1m
from benchmarks.report import CACHE, Row
from coldstart.core.item_fields import field_digests
from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline, load
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import LedgerRow
from coldstart.ingest.stage import SCHEMA
from coldstart.store import ITEMS, LEDGER, Store
from coldstart.store.catalog import CATALOG
from coldstart.store.freshness import PipelineState, expected_keys

SIZES, SHORT_SIZES = (20_000, 100_000, 500_000), (4_000, 20_000, 50_000)
CHUNK, COMMIT, COMMITS, NEW = 50_000, 1_000, 5, 100
SPACE = "words"


def pipeline(folder: Path) -> Pipeline:
    """Ingest, one space of texts by a fake encoder of 384 numbers, index."""
    path = folder / "pipeline.yaml"
    stages = {"ingest": {}, SPACE: {"stage": "embed", "encoder": "fake:384", "input": "text"}, "index": {}}
    path.write_text(yaml.safe_dump({"manifest": str(folder / "none.jsonl"), "stages": stages}, sort_keys=False))
    (folder / "none.jsonl").touch()
    return load(path)


def item_rows(start: int, stop: int) -> pa.Table:
    """Rows of `items`, as ingest writes them."""
    now, rows = datetime.now(UTC), []
    for number in range(start, stop):
        entry = growing.entry(number)
        key = digest(entry)
        media = [{"role": "image", "uri": entry.pop("image"), "digest": key, "size_bytes": 9000}]
        rows.append({**entry, "kind": "product", "media": media, "row_key": key, "source_key": key, "ingested_at": now})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


class Simulation:
    """A workspace of made items in a folder of its own.

    Args:
        vectors: float32 `[N, 384]` of all items that will ever be there.
    """

    def __init__(self, folder: Path, vectors: Any) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._pipeline, self._vectors = pipeline(folder), vectors
        self.store = Store(folder / "workspace", create=True)
        self.store.set_layout_version()
        space: Any = PipelineState(self.store, self._pipeline).stage(SPACE)
        self._space = space
        self.tables = {"items": ITEMS, "space": str(self._space.table), "ledger": LEDGER, "catalog": CATALOG}

    def add(self, start: int, stop: int) -> None:
        """Items and what the space makes of them; one in a hundred is turned away there."""
        for first in range(start, stop, CHUNK):
            last = min(first + CHUNK, stop)
            items = item_rows(first, last)
            self.store.merge(ITEMS, items)
            rows, verdicts = self._made(items, first, last)
            self.store.merge(self._space.table, rows)
            self.store.record(verdicts)

    def _made(self, items: pa.Table, first: int, last: int) -> tuple[pa.Table, list[LedgerRow]]:
        ids, read = items["item_id"].to_pylist(), field_digests(items, self._space.item_fields)
        keys = expected_keys(self._space, dict(zip(ids, read, strict=True)))
        vectors = pa.array(np.array(self._vectors[first:last]).reshape(-1))
        rows = pa.table(
            {
                "item_id": ids,
                "row_key": [keys[item] for item in ids],
                "vector": pa.FixedSizeListArray.from_arrays(vectors, self._vectors.shape[1]),
                "tokens_cut": pa.nulls(last - first, pa.int32()),
            }
        ).cast(self._space.schema)
        bad = np.arange(first, last) % 100 == 99
        verdicts = [
            LedgerRow(SPACE, item, keys[item], "failed", "made_up", "one in a hundred fails")
            for item, fails in zip(ids, bad, strict=True)
            if fails
        ]
        return rows.filter(pa.array(~bad)), verdicts

    def commits(self) -> float:
        """Median seconds to commit a thousand rows of the space, which replace themselves."""
        seconds = []
        for number in range(COMMITS):
            ids = [growing.entry(i)["item_id"] for i in range(number * COMMIT, (number + 1) * COMMIT) if i % 100 != 99]
            rows = self.store.read(self._space.table, ids=ids)
            seconds.append(_timed(lambda rows=rows: self.store.merge(self._space.table, rows)))  # type: ignore[misc]
        return statistics.median(seconds)

    def stale(self) -> int:
        """How many rows of the space are to be made."""
        return len(PipelineState(self.store, self._pipeline).of(SPACE).stale)

    def index(self) -> list[str]:
        """Run the index stage; what it says of itself."""
        stage: Any = PipelineState(self.store, self._pipeline).stage("index")
        return list(stage.run(self.store, SilentProgress())[1])

    def sizes(self) -> dict[str, int]:
        """Bytes on disk by table, those of the catalog's indexes apart."""
        assert self.store.folder is not None
        found = {}
        for name, table in self.tables.items():
            files = [path for path in (self.store.folder / f"{table}.lance").rglob("*") if path.is_file()]
            found[name] = sum(path.stat().st_size for path in files if "_indices" not in path.parts)
            if name == "catalog":
                found["catalog_indexes"] = sum(path.stat().st_size for path in files if "_indices" in path.parts)
        return found


def _timed(do: Callable[[], Any]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def simulate(size: int, among: int) -> dict[str, Any]:
    """Figures of a workspace of `size` items, the last hundredth of which come later."""
    vectors = np.load(vector_data.made(among, vectors_1m.QUERIES) / "base.npy", mmap_mode="r")
    folder = CACHE / "scale" / str(size)
    simulation, first = Simulation(folder, vectors), size - size // NEW
    figures: dict[str, Any] = {"size": size, "fill_s": _timed(lambda: simulation.add(0, first))}
    simulation.store.maintain(timedelta(0))
    gc.collect()
    memory = psutil.Process().memory_info().rss
    figures["stale_s"] = statistics.median(_timed(simulation.stale) for _ in range(3))
    pipeline_state = PipelineState(simulation.store, load(folder / "pipeline.yaml"))
    assert not pipeline_state.of(SPACE).stale
    figures["standing_bytes"] = psutil.Process().memory_info().rss - memory
    del pipeline_state
    figures["commit_s"] = simulation.commits()
    simulation.store.maintain(timedelta(0))
    figures["index_s"] = _timed(lambda: figures.update(notes=simulation.index()))
    figures["index_idle_s"] = _timed(simulation.index)
    figures["bytes"] = simulation.sizes()
    figures["add_s"] = _timed(lambda: simulation.add(first, size))
    figures["index_new_s"] = _timed(simulation.index)
    figures["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shutil.rmtree(folder)
    return figures


def run(short: bool) -> dict[str, Any]:
    """Figures of each size, each in a process of its own, so that its peak memory is its own."""
    sizes, among = (SHORT_SIZES, vectors_1m.SHORT_ROWS) if short else (SIZES, vectors_1m.ROWS)
    found = []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.scale", str(size), str(among)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=CACHE.parent)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {"measured": found, "checked": scale_model.check(found)}


def rows(result: dict[str, Any]) -> list[Row]:
    """A line a quantity: what the smaller sizes predict for the largest, and what it is."""
    small, middle, large = (entry["size"] for entry in result["measured"])
    return [
        Row(
            f"a larger workspace: {entry['name']}, measured over predicted",
            f"fitted on {small:,} and {middle:,} items, tried on {large:,}: predicted {entry['predicted']:.4g}, "
            f"measured {entry['measured']:.4g} {entry['unit']}",
            f"{entry['ratio']:.2f}",
            "",
        )
        for entry in result["checked"]
    ]


if __name__ == "__main__":
    print(json.dumps(simulate(int(sys.argv[1]), int(sys.argv[2]))))

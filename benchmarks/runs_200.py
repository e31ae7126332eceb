"""Claim: two hundred small runs leave a workspace as quick, and its tables as few-parted, as one.

    python -m benchmarks runs_200 [--full]

A catalogue of 20,000 items (5,000 in short form) in two spaces of 384 numbers of fake encoders; then 200 runs (20) of
100 new items each, with a manifest of the new rows. After each run: its seconds, versions, fragments, index parts,
files and bytes of the workspace; after the first and the last: the latency of searches by vector and by words, and the
recall that the index was published with. Readers' grace is cut from an hour to `GRACE_S`: hourly runs are apart by more
than the grace, and these are apart by seconds.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

import coldstart
from benchmarks import growing
from benchmarks.incremental import base
from benchmarks.report import CACHE, Row
from coldstart.store import Store, compaction
from coldstart.store.catalog import CATALOG, Catalog

ITEMS, SHORT_ITEMS, RUNS, SHORT_RUNS, NEW = 20_000, 5_000, 200, 20, 100
QUERIES, TOP_K = 200, 10
GRACE_S = 5.0


@contextmanager
def grace() -> Iterator[None]:
    """Versions are dropped once they are `GRACE_S` old."""
    maintain, cleanup = Store.maintain, Catalog.cleanup
    kept = timedelta(seconds=GRACE_S)
    Store.maintain = lambda self, keep=kept, *, skip=(): maintain(self, kept, skip=skip)  # type: ignore[method-assign]
    Catalog.cleanup = lambda self, keep_publications=3, older_than=kept: cleanup(self, keep_publications, kept)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Store.maintain, Catalog.cleanup = maintain, cleanup  # type: ignore[method-assign]


def state(folder: Path) -> dict[str, int]:
    """How many parts the workspace is made of."""
    store = Store(folder)
    tables = [store.db.open_table(name) for name in store.tables()]
    catalog = store.db.open_table(CATALOG).to_lance()
    parts = [catalog.stats.index_stats(index.name) for index in catalog.describe_indices()]
    return {
        "versions": sum(len(table.list_versions()) for table in tables),
        "most_versions": max(len(table.list_versions()) for table in tables),
        "most_fragments": max(len(table.to_lance().get_fragments()) for table in tables),
        "most_index_parts": max(len(part.get("num_indexed_rows_per_delta") or [1]) for part in parts),
        "files": sum(path.is_file() for path in folder.rglob("*")),
        "bytes": store.size_bytes(),
    }


def latency(folder: Path) -> dict[str, float]:
    """Milliseconds of single searches in the published catalog: p50 and p95, by vector and by words."""
    published = Catalog(Store(folder).db).published()
    assert published is not None
    queries = np.random.default_rng(0).standard_normal((QUERIES, growing.DIM)).astype(np.float32)
    times: dict[str, list[float]] = {"vector": [], "words": []}
    for number in range(-10, QUERIES):  # the first ten warm caches and are not counted
        for name in times:
            began = time.perf_counter()
            if name == "vector":
                published.vector_search("words", queries[number][None], TOP_K)
            else:
                published.text_search(growing.entry(abs(number))["title"], TOP_K)
            if number >= 0:
                times[name].append(1e3 * (time.perf_counter() - began))
    return {
        f"{name}_p{point}_ms": float(np.percentile(values, point))
        for name, values in times.items()
        for point in (50, 95)
    }


def run(short: bool) -> dict[str, Any]:
    """Every run's seconds and the state after it; searches after the first and the last."""
    count, runs = (SHORT_ITEMS, SHORT_RUNS) if short else (ITEMS, RUNS)
    folder = base(count)
    workspace = CACHE / "runs_200"
    shutil.rmtree(workspace, ignore_errors=True)
    shutil.copytree(folder / "workspace", workspace)
    opened = coldstart.open(workspace)
    index = {"index": {"exact_below": count // 2}}
    found: dict[str, Any] = {"items": count, "runs": [], "searches": []}
    with grace():
        for number in range(runs + 1):  # the first one builds the index, and is not counted
            start = count + NEW * number
            settings = growing.pipeline(growing.manifest(folder / "more.jsonl", range(start, start + NEW)))
            settings["stages"] |= index
            began = time.monotonic()
            report = opened.run(settings)
            seconds = time.monotonic() - began
            published = Catalog(Store(workspace).db).published()
            assert published is not None
            assert len(published) == start + NEW
            recall = min(space.recall for space in published.publication.indexes)
            trained = sum(space.build_s > 0 for space in published.publication.indexes)
            stages = {stage.stage: stage.ran.seconds for stage in report.stages}
            found["runs"].append(
                {"seconds": seconds, "recall": recall, "trained": trained, "stages": stages, **state(workspace)}
            )
            if number in (1, runs):
                found["searches"].append(latency(workspace))
    shutil.rmtree(workspace)
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table; the ratios are of medians of ten runs, first and last."""
    counted = result["runs"][1:]
    first, last = (float(np.median([run["seconds"] for run in some])) for some in (counted[:10], counted[-10:]))
    setting = f"{len(counted)} runs of {NEW} new items, from {result['items']:,}"
    before, after = result["searches"]
    ends = (counted[0], counted[-1])
    parts = ", ".join(
        f"{name.replace('_', ' ')} {ends[0][name]} to {ends[1][name]}, at most {max(run[name] for run in counted)}"
        for name in ("most_versions", "most_fragments", "most_index_parts", "files")
    )
    return [
        Row(
            "Time of the last small run over the first",
            setting,
            f"{last / first:.2f}",
            f"{first:.2f} s to {last:.2f} s",
            "at most 1.2",
        ),
        Row(
            "Parts of one table that stay",
            setting,
            f"{max(run['most_fragments'] for run in counted)} fragments",
            f"{parts}; {ends[0]['bytes'] / 1e6:.0f} to {ends[1]['bytes'] / 1e6:.0f} MB",
            f"at most {compaction.PARTS} + log2 of the runs",
        ),
        Row(
            "Latency of search after the last run over the first, p50",
            setting,
            f"{after['vector_p50_ms'] / before['vector_p50_ms']:.2f}",
            f"vector {before['vector_p50_ms']:.1f} / {before['vector_p95_ms']:.1f} to {after['vector_p50_ms']:.1f} / "
            f"{after['vector_p95_ms']:.1f} ms, words {before['words_p50_ms']:.1f} to {after['words_p50_ms']:.1f} ms; "
            f"recall@10 {ends[0]['recall']:.3f} to {ends[1]['recall']:.3f}",
            "flat",
        ),
    ]

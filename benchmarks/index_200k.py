"""Exact search against each type of index over 200,000 vectors, through the catalog.

    python -m benchmarks.index_200k [--short]

Writes clustered random 384-d vectors as a catalog under `.bench/`, builds each type of index in turn and publishes it,
so that readers of all of them stay open on one table. Reports the build time, recall@10 as the catalog measures it
(stored vectors as queries) and for queries that are not stored (true neighbours by numpy), and the latency of single
queries, with and without a filter that one item in ten meets. Queries of all types are interleaved. Ratios to exact
search are of medians. `--short` takes 20,000 vectors; sizes between show where an index begins to pay.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.report import CACHE, Row
from coldstart.core.items import CONTENT_FIELDS
from coldstart.store.ann import CONFIGS, IndexSettings
from coldstart.store.catalog import Catalog
from coldstart.store.published import Published

ROWS, SHORT_ROWS, BETWEEN = 200_000, 20_000, (50_000, 100_000)
DIM, TOP_K, QUERIES, PER_CLUSTER = 384, 10, 100, 100
FILTER = "category = 'category 3'"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Passport:
    dim: int

    def to_json(self) -> str:
        return json.dumps({"encoder": "clusters", "dim": self.dim})


def clustered(rows: int) -> tuple[Vectors, Vectors]:
    """Unit vectors around one centre in a hundred rows, and queries around the same centres: float32 `[rows, D]`."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((rows // PER_CLUSTER, DIM), dtype=np.float32)
    both = centres[random.integers(len(centres), size=rows + QUERIES)]
    both += 0.7 * random.standard_normal(both.shape, dtype=np.float32)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    return both[:rows], both[rows:]


def catalog_rows(vectors: Vectors) -> pa.Table:
    """A catalog of products in ten equal categories."""
    count = len(vectors)
    columns = {"item_id": pa.array([f"item-{i:06d}" for i in range(count)])}
    for field in CONTENT_FIELDS:
        columns[field.name] = pa.nulls(count, field.type)
    columns["kind"] = pa.repeat("product", count)
    columns["category"] = pa.array([f"category {i % 10}" for i in range(count)])
    for name in ("row_key", "index_key", "text"):
        columns[name] = columns["item_id"]
    for name in ("transcript", "screen_text", "language", "duplicate_of"):
        columns[name] = pa.nulls(count, pa.string())
    columns["vector_image"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM)
    return pa.table(columns)


def recall(published: Published, vectors: Vectors, queries: Vectors, where: str | None) -> float:
    """Share of the true ten nearest found, for queries that are not stored."""
    allowed = np.arange(len(vectors)) if where is None else np.arange(3, len(vectors), 10)
    found = published.vector_search("image", queries, TOP_K, where=where)
    numbers = np.array([int(item_id[5:]) for item_id in found["item_id"].to_pylist()]).reshape(len(queries), -1)
    nearest = np.argpartition(-(queries @ vectors[allowed].T), TOP_K, axis=1)[:, :TOP_K]
    hits = [len(set(mine) & set(allowed[true])) for mine, true in zip(numbers, nearest, strict=True)]
    return sum(hits) / (TOP_K * len(queries))


def measure(rows: int, types: Sequence[str]) -> dict[str, Any]:
    """Build every type over `rows` vectors, then time them side by side."""
    vectors, queries = clustered(rows)
    folder = CACHE / f"index_{rows}"
    shutil.rmtree(folder, ignore_errors=True)
    catalog = Catalog(lancedb.connect(str(folder)))
    started = time.perf_counter()
    catalog.write(catalog_rows(vectors), {"image": Passport(DIM)})
    figures: dict[str, Any] = {"rows": rows, "dim": DIM, "write_s": time.perf_counter() - started, "types": {}}
    readers: dict[str, Published] = {}
    for index_type in types:
        reports = catalog.build_indexes(IndexSettings(index_type=index_type))  # type: ignore[arg-type]
        catalog.publish(reports)
        readers[index_type] = open_published(catalog)
        effort = reports[0].effort
        figures["types"][index_type] = {
            "build_s": reports[0].build_s,
            "nprobes": effort and effort.nprobes,
            "refine": effort and effort.refine,
            "recall_stored": reports[0].recall,
            "recall_stored_filtered": reports[0].recall_filtered,
            "recall_new": recall(readers[index_type], vectors, queries, None),
            "recall_new_filtered": recall(readers[index_type], vectors, queries, FILTER),
        }
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(-5, QUERIES):  # the first five warm caches and are not counted
        for index_type, reader in readers.items():
            for name, where in (("", None), ("_filtered", FILTER)):
                started = time.perf_counter()
                reader.vector_search("image", queries[number][None], TOP_K, where=where)
                if number >= 0:
                    times.setdefault((index_type, name), []).append(1e3 * (time.perf_counter() - started))
    for (index_type, name), values in times.items():
        entry = figures["types"][index_type]
        entry[f"p50_ms{name}"], entry[f"p95_ms{name}"] = np.percentile(values, [50, 95]).tolist()
        entry[f"exact_over_this{name}"] = float(np.median(times["exact", name]) / np.median(values))
    shutil.rmtree(folder)
    return figures


def open_published(catalog: Catalog) -> Published:
    published = catalog.published()
    assert published is not None
    return published


def run(short: bool) -> dict[str, Any]:
    """Figures by number of rows; all types at the full size, exact search and the default index at those between."""
    everything = ("exact", *CONFIGS)
    if short:
        return {str(SHORT_ROWS): measure(SHORT_ROWS, everything)}
    between = {str(rows): measure(rows, ("exact", "IVF_RQ")) for rows in (SHORT_ROWS, *BETWEEN)}
    return {**between, str(ROWS): measure(ROWS, everything)}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table: one a size and index type."""
    found = []
    for count, figures in result.items():
        for name, entry in figures["types"].items():
            effort = f", nprobes {entry['nprobes']}, refine {entry['refine']}" if entry["nprobes"] else ""
            speed = f"{entry['p50_ms']:.1f} / {entry['p95_ms']:.1f} ms, filtered {entry['p50_ms_filtered']:.1f} ms"
            recalls = f"{entry['recall_new']:.3f}, filtered {entry['recall_new_filtered']:.3f}"
            found.append(
                Row(
                    f"{name}: exact search over it, p50",
                    f"{int(count):,} x {figures['dim']}, built in {entry['build_s']:.1f} s{effort}",
                    f"{entry['exact_over_this']:.1f}",
                    f"p50 / p95 {speed}; recall@10 {recalls}",
                    "recall at least 0.95",
                )
            )
    return found


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))

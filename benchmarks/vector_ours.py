"""The catalog's vector search in a process of its own: `python -m benchmarks.vector_ours FOLDER TYPE`.

Answers the same questions as `benchmarks/vector_peer.py`. All types share one catalog in the folder, each in a version
that was published; readers of the others stay open. The effort is the one that the catalog found when it built.
`memory` is the version of IVF_RQ, held in memory with its graph as a server with `--index memory` holds it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.index_200k import Passport, catalog_rows
from coldstart.store.ann import IndexSettings
from coldstart.store.catalog import CATALOG, Catalog
from coldstart.store.publications import Publication
from coldstart.store.published import Published

TOP_K = 10
FILTER = "creator = 'maker 7'"
MEMORY, ON_DISK = "memory", "IVF_RQ"


def rows(folder: Path) -> pa.Table:
    """The folder's vectors as a catalog of products, with `maker N` as creator and `subject N` as category."""
    table = catalog_rows(np.load(folder / "base.npy"))
    for column, name in (("creator", "maker"), ("category", "subject")):
        values = pa.array([f"{name} {number}" for number in np.load(folder / f"{name_of(column)}.npy").tolist()])
        table = table.set_column(table.column_names.index(column), column, values)
    return table


def name_of(column: str) -> str:
    return {"creator": "makers", "category": "groups"}[column]


class Ours:
    def __init__(self, folder: Path, index_type: str) -> None:
        self._folder, self._name = folder, index_type
        self._type = ON_DISK if index_type == MEMORY else index_type
        self._db = lancedb.connect(str(folder / "catalog"))
        self._catalog = Catalog(self._db)
        self._published: Published | None = None

    def build(self) -> dict[str, Any]:
        """Figures of the build, as the peers'; seconds are those of the vector index alone."""
        kept = self._folder / f"{self._name}.built.json"
        if kept.exists() and self._publication():
            return dict(json.loads(kept.read_text()))
        if self._name == MEMORY:
            figures = self._build_graph()
            kept.write_text(json.dumps(figures))
            return figures
        written_s = self._write()
        size, started, before = self._bytes(), time.perf_counter(), os.times()
        reports = self._catalog.build_indexes(IndexSettings(index_type=self._type))  # type: ignore[arg-type]
        seconds, after = time.perf_counter() - started, os.times()
        self._catalog.publish(reports)
        report = reports[0]
        figures = {
            "write_s": written_s,
            "build_s": report.build_s,
            "build_and_measure_s": seconds,
            "build_and_measure_cpu_s": after.user + after.system - before.user - before.system,
            "disk_bytes": self._bytes() - size,
            "build_peak_bytes": peak_bytes(),
            "effort": report.effort and [report.effort.nprobes, report.effort.refine],
            "recall_stored": report.recall,
            "recall_stored_filtered": report.recall_filtered,
        }
        kept.write_text(json.dumps(figures))
        return figures

    def search(self, queries: NDArray[np.float32], filtered: bool) -> NDArray[np.int64]:
        """Rows found, int64 `[Q, 10]`."""
        if self._published is None:
            publication = self._publication()
            assert publication is not None, f"{self._type} is not built"
            table = self._db.open_table(CATALOG)
            table.checkout(publication.version)
            self._published = Published(table, publication)
            if self._name == MEMORY:
                self._hold(self._published)
        found = self._published.vector_search("image", queries, TOP_K, where=FILTER if filtered else None)
        numbers = [int(item_id[5:]) for item_id in found["item_id"].to_pylist()]
        return np.array(numbers, np.int64).reshape(len(queries), TOP_K)

    def _build_graph(self) -> dict[str, Any]:
        """Figures of the graph: to build it over the published vectors, and to open it again with them."""
        publication = self._publication()
        if publication is None:
            Ours(self._folder, ON_DISK).build()
            publication = self._publication()
        assert publication is not None, "it was built just now"
        spent: list[dict[str, float]] = []
        for _ in range(2):  # built, then opened
            started, before = time.perf_counter(), os.times()
            report = self._hold(Catalog(self._db).at(publication))
            seconds, after = time.perf_counter() - started, os.times()
            spent.append({"s": seconds, "cpu_s": after.user + after.system - before.user - before.system})
            peak = peak_bytes()
        size = sum(path.stat().st_size for path in (self._folder / "cache").rglob("*") if path.is_file())
        return {
            "build_s": spent[0]["s"],
            "build_cpu_s": spent[0]["cpu_s"],
            "open_s": spent[1]["s"],
            "open_cpu_s": spent[1]["cpu_s"],
            "disk_bytes": size,
            "build_peak_bytes": peak,
            "effort": report.effort,
            "recall_stored": report.recall,
        }

    def _hold(self, published: Published) -> Any:
        published.load_rows(("kind", "title", "category", "price", "media", "creator"), most=len(published))
        report = published.load_graph("image")
        assert report is not None and report.made != "none", "the graph finds too little"
        return report

    def _publication(self) -> Publication | None:
        known = [p for p in self._catalog.publications() if p.indexes[0].index_type == self._type]
        return known[0] if known else None

    def _write(self) -> float | None:
        """Write the catalog and build the indexes of its other columns, where that is not done yet."""
        if self._catalog.publications():
            return None
        started = time.perf_counter()
        self._catalog.write(rows(self._folder), {"image": Passport(384)})
        seconds = time.perf_counter() - started
        self._catalog.publish(self._catalog.build_indexes(IndexSettings(index_type="exact")))
        return seconds

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in (self._folder / "catalog").rglob("*") if path.is_file())


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    folder, index_type = Path(sys.argv[1]), sys.argv[2]
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # of graphs
    ours, queries = Ours(folder, index_type), np.load(folder / "queries.npy")
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "end":
            return
        answer = ours.build() if ask["do"] == "build" else search(ours, queries, ask)
        print(json.dumps({**answer, "peak_bytes": peak_bytes()}), flush=True)


def search(ours: Ours, queries: NDArray[np.float32], ask: dict[str, Any]) -> dict[str, Any]:
    seconds, found = [], []
    for start in range(ask["first"], ask["first"] + ask["count"], ask["batch"]):
        part = queries[start : min(start + ask["batch"], ask["first"] + ask["count"])]
        began = time.perf_counter()
        found.append(ours.search(part, ask["filtered"]))
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "found": np.concatenate(found).tolist()}


if __name__ == "__main__":
    main()

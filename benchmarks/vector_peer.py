"""faiss and hnswlib in a process of their own: `PYTHON vector_peer.py FOLDER CONTENDER`, then a question a line.

Run with a Python that has faiss-cpu and hnswlib; imports nothing of the project. Questions and answers are JSON, one a
line: `{"do": "build"}`, `{"do": "search", "effort": 32, "first": 0, "count": 200, "batch": 1, "filtered": false}`,
`{"do": "end"}`. An index is kept in the folder. A filter is each library's own: faiss an `IDSelectorBatch` of the
allowed rows, hnswlib a Python function that it asks of every row it meets.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

THREADS = 2
TOP_K = 10
BLOCK = 50_000
REFINE = 10
FACTORY = {
    "faiss Flat": "Flat",
    "faiss IVF Flat": "IVF{partitions},Flat",
    "faiss IVF PQ fast scan": "IVF{partitions},PQ192x4fs,RFlat",
    "faiss HNSW": "HNSW32",
}
"""Factory strings of faiss; `HNSW32` has its own default of 40 candidates a built link."""


def shape(folder):
    return np.load(folder / "base.npy", mmap_mode="r").shape


def block(folder, start, count):
    """Some vectors as a copy: mapped pages would count as memory of the index."""
    path = folder / "base.npy"
    rows, dim = shape(folder)
    header = path.stat().st_size - 4 * rows * dim
    count = min(count, rows - start)
    return np.fromfile(path, np.float32, count * dim, offset=header + 4 * start * dim).reshape(count, dim)


class Faiss:
    def __init__(self, folder, name):
        import faiss

        faiss.omp_set_num_threads(THREADS)
        self._faiss, self._folder, self._name = faiss, folder, name
        self._path = folder / f"{name.replace(' ', '-')}.faiss"
        self._index = None

    def build(self):
        rows, dim = shape(self._folder)
        partitions = 1 << round(np.log2(np.sqrt(rows)))
        factory = FACTORY[self._name].format(partitions=partitions)
        self._index = self._faiss.index_factory(dim, factory, self._faiss.METRIC_INNER_PRODUCT)
        self._index.train(block(self._folder, 0, 50 * partitions))
        for start in range(0, rows, BLOCK):
            self._index.add(block(self._folder, start, BLOCK))

    def save(self):
        self._faiss.write_index(self._index, str(self._path))
        return self._path.stat().st_size

    def load(self):
        self._index = self._faiss.read_index(str(self._path))

    def search(self, queries, effort, allowed):
        faiss, settings = self._faiss, {}
        if allowed is not None:
            settings["sel"] = faiss.IDSelectorBatch(allowed)
        if "HNSW" in self._name:
            parameters = faiss.SearchParametersHNSW(efSearch=effort, **settings)
        elif "fast scan" in self._name:
            inner = faiss.SearchParametersIVF(nprobe=effort, **settings)
            parameters = faiss.IndexRefineSearchParameters(k_factor=REFINE, base_index_params=inner)
        elif "IVF" in self._name:
            parameters = faiss.SearchParametersIVF(nprobe=effort, **settings)
        else:
            parameters = faiss.SearchParameters(**settings)
        return self._index.search(queries, TOP_K, params=parameters)[1]

    def loaded(self):
        return self._index is not None or self._path.exists()


class Hnswlib:
    M, CONSTRUCTION = 16, 100

    def __init__(self, folder, name):
        import hnswlib

        self._hnswlib, self._folder = hnswlib, folder
        self._path = folder / "hnswlib.bin"
        self._index = None

    def build(self):
        rows, dim = shape(self._folder)
        self._index = self._hnswlib.Index(space="ip", dim=dim)
        self._index.init_index(max_elements=rows, ef_construction=self.CONSTRUCTION, M=self.M)
        self._index.set_num_threads(THREADS)
        for start in range(0, rows, BLOCK):
            self._index.add_items(block(self._folder, start, BLOCK))

    def save(self):
        self._index.save_index(str(self._path))
        return self._path.stat().st_size

    def load(self):
        self._index = self._hnswlib.Index(space="ip", dim=shape(self._folder)[1])
        self._index.load_index(str(self._path))

    def search(self, queries, effort, allowed):
        self._index.set_ef(effort)
        self._index.set_num_threads(THREADS if allowed is None else 1)  # a Python function holds the lock
        if allowed is None:
            return self._index.knn_query(queries, TOP_K)[0].astype(np.int64)
        mask = np.zeros(self._index.get_max_elements(), bool)
        mask[allowed] = True
        try:
            return self._index.knn_query(queries, TOP_K, filter=lambda label: mask[label])[0].astype(np.int64)
        except RuntimeError:  # fewer than ten found; it answers nothing then
            return np.full((len(queries), TOP_K), -1, np.int64)

    def loaded(self):
        return self._path.exists()


def serve(folder, name):
    contender = (Hnswlib if name == "hnswlib" else Faiss)(folder, name)
    queries = np.load(folder / "queries.npy")
    allowed = np.load(folder / "allowed.npy")
    ready = False
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "end":
            return
        if ask["do"] == "build":
            answer = build(contender, folder / f"{name.replace(' ', '-')}.built.json")
        else:
            if not ready:
                contender.load()
                ready = True
            answer = search(contender, queries, allowed, ask)
        answer["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(answer), flush=True)


def build(contender, kept):
    """Seconds and processor seconds to build, bytes on disk, peak memory of the building process; kept beside it."""
    if not (kept.exists() and contender.loaded()):
        started, before = time.perf_counter(), os.times()
        contender.build()
        seconds, after = time.perf_counter() - started, os.times()
        cpu = after.user + after.system - before.user - before.system
        size = contender.save()
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kept.write_text(
            json.dumps({"build_s": seconds, "build_cpu_s": cpu, "disk_bytes": size, "build_peak_bytes": peak})
        )
    return json.loads(kept.read_text())


def search(contender, queries, allowed, ask):
    """Found rows, and the seconds of each batch."""
    some = queries[ask["first"] : ask["first"] + ask["count"]]
    seconds, found = [], []
    for start in range(0, len(some), ask["batch"]):
        part = np.ascontiguousarray(some[start : start + ask["batch"]])
        began = time.perf_counter()
        found.append(contender.search(part, ask["effort"], allowed if ask["filtered"] else None))
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "found": np.concatenate(found).tolist()}


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])

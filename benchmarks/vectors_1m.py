"""A million vectors: the catalog's search beside faiss and hnswlib, with and without a filter of one item in a hundred.

    make peers; python -m benchmarks vectors_1m [--full]
    python -m benchmarks.vectors_1m ROWS NAME …           # few contenders, printed: 100000 memory

The vectors are made from real ones (`benchmarks/vector_data.py`), and the queries are not stored. Ours is the catalog
as it is read: rows of items, indexes on every column, `Published.vector_search`, at the effort that it found when it
built. The peers hold bare vectors; each takes the least effort, of a ladder, that reaches recall@10 of 0.95 on 200
queries, separately with the filter; all figures are of other queries. The filter keeps one item in a hundred and knows
nothing of the vectors: ours is SQL over a scalar index, faiss an `IDSelectorBatch`, hnswlib a Python function.

Every contender is a process of its own with two threads, so that its peak memory is its own. Ours by IVF_RQ stands
beside each one in turn: rounds alternate between the two, and ratios are taken round by round. In the same rounds this
process measures the limits of an exact search: reading all vectors once, by the rate of a memory copy, for one query,
and a matrix product of the same shapes for a batch. Indexes are kept under `.bench/`, with the seconds that they took
to build: wall seconds of a process that had the machine to itself where the benchmark was run so.
`--short` (the default) takes 50,000 vectors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks import vector_data
from benchmarks.limits import copy_rate
from benchmarks.report import Row, against, ratio

ROWS, SHORT_ROWS = 1_000_000, 50_000
TOP_K, TUNING, SINGLES, BATCH, ROUNDS, TARGET = 10, 200, 25, 400, 5, 0.95
SLOW = (3, 16)
"""Single queries and batch of the catalog's exact search, which takes seconds a query."""
QUERIES = 1200
HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent / ".peers/search/bin/python"
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "2")

OURS = "IVF_RQ"
MEMORY = "memory"
"""The catalog held in memory with an HNSW graph, as `coldstart serve --index memory` does."""
OURS_TOO = ("exact", MEMORY, "IVF_PQ", "IVF_HNSW_SQ")
"""At a million only the first two: the others take eight minutes to build, and stand in `index_200k`."""
LADDERS: Mapping[str, Sequence[int]] = {
    "faiss Flat": (0,),
    "faiss IVF Flat": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "faiss IVF PQ fast scan": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "faiss HNSW": (16, 32, 64, 128, 256, 512, 1024),
    "hnswlib": (16, 32, 64, 128, 256, 512, 1024),
}
"""Probes of IVF, candidates of HNSW."""

KINDS = (("one query", "single_s", ""), ("one query, filter of 1 %", "filtered_s", "_filtered"))
"""Name in the table, field of a round, and the end of the names in its summary."""

Vectors = NDArray[np.float32]


class Contender:
    """A process that answers questions about the vectors of a folder; end it by leaving the `with` block."""

    def __init__(self, name: str, folder: Path) -> None:
        peer = name in LADDERS
        command = [PYTHON, HERE / "vector_peer.py"] if peer else [sys.executable, "-m", "benchmarks.vector_ours"]
        self.name = name
        self._process = subprocess.Popen(
            [*map(str, command), str(folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **THREADS},
            cwd=HERE.parent,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate('{"do": "end"}\n')

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer to one question.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit status {self._process.wait()}")
        return dict(json.loads(line))

    def search(self, first: int, count: int, *, effort: int, filtered: bool, batch: int = 1) -> dict[str, Any]:
        return self.ask(do="search", first=first, count=count, effort=effort, filtered=filtered, batch=batch)


def true_neighbours(folder: Path) -> dict[bool, NDArray[np.int64]]:
    """The ten nearest rows of each query, among all (False) and among the allowed rows (True); kept in the folder."""
    path = folder / "truth.npz"
    if not path.exists():
        base, queries = np.load(folder / "base.npy", mmap_mode="r"), np.load(folder / "queries.npy")
        allowed = np.load(folder / "allowed.npy")
        best, rows = np.full((len(queries), TOP_K), -np.inf, np.float32), np.zeros((len(queries), TOP_K), np.int64)
        for start in range(0, len(base), 50_000):
            near = queries @ base[start : start + 50_000].T
            some = np.argpartition(-near, TOP_K, axis=1)[:, :TOP_K]
            both = np.concatenate([best, np.take_along_axis(near, some, 1)], axis=1)
            places = np.concatenate([rows, some + start], axis=1)
            keep = np.argsort(-both, axis=1)[:, :TOP_K]
            best, rows = np.take_along_axis(both, keep, 1), np.take_along_axis(places, keep, 1)
        few = allowed[np.argsort(-(queries @ base[allowed].T), axis=1)[:, :TOP_K]]
        np.savez(path, all=rows, filtered=few)
    kept = np.load(path)
    return {False: kept["all"], True: kept["filtered"]}


def recall(found: Sequence[Sequence[int]], truth: NDArray[np.int64]) -> float:
    """Share of the true rows found; -1 stands for none."""
    hits = sum(len(set(mine) & set(true)) for mine, true in zip(found, truth.tolist(), strict=True))
    return hits / truth.size


def tune(contender: Contender, truth: Mapping[bool, NDArray[np.int64]], filtered: bool) -> int:
    """The least effort whose recall on the first queries reaches the target; the greatest where none does."""
    if contender.name not in LADDERS:
        return 0
    for effort in LADDERS[contender.name]:
        count = TUNING // 4 if filtered else TUNING
        answer = contender.search(0, count, effort=effort, filtered=filtered, batch=TUNING)
        if recall(answer["found"], truth[filtered][:count]) >= TARGET:
            break
    return effort


def limits(block: Vectors, queries: Vectors, rows: int) -> dict[str, float]:
    """Seconds a query: to read `rows` vectors once at the rate of a memory copy; of a batch's product with them."""
    started = time.perf_counter()
    queries[:BATCH] @ block.T
    product = time.perf_counter() - started
    return {
        "scan_s": rows * block.itemsize * block.shape[1] / (2 * copy_rate(rounds=1)),  # it reads and writes
        "product_s": product * rows / len(block) / BATCH,
    }


def side_by_side(folder: Path, name: str, rounds: int) -> dict[str, Any]:
    """Ours and one contender in alternating rounds; figures of each, by name."""
    truth = true_neighbours(folder)
    base, queries = np.load(folder / "base.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    block = np.array(base[:50_000])
    with Contender(OURS, folder) as ours, Contender(name, folder) as other:
        both = (ours, other) if name != OURS else (ours,)
        efforts = {c.name: {f: tune(c, truth, f) for f in (False, True)} for c in both}
        figures: dict[str, Any] = {
            c.name: {"rounds": [], "effort": efforts[c.name][False], "effort_filtered": efforts[c.name][True]}
            for c in both
        }
        bounds = []
        for number in range(rounds):
            for contender in both if number % 2 else both[::-1]:
                effort = efforts[contender.name]
                singles, batch = SLOW if contender.name == "exact" else (SINGLES, BATCH)
                first, last = TUNING + number * SINGLES, TUNING + number * SINGLES + singles
                single = contender.search(first, singles, effort=effort[False], filtered=False)
                narrow = contender.search(first, singles, effort=effort[True], filtered=True)
                many = contender.search(TUNING, batch, effort=effort[False], filtered=False, batch=batch)
                figures[contender.name]["rounds"].append(
                    {
                        "single_s": single["seconds"],
                        "filtered_s": narrow["seconds"],
                        "batch_query_s": many["seconds"][0] / batch,
                        "recall": recall(many["found"], truth[False][TUNING : TUNING + batch]),
                        "recall_filtered": recall(narrow["found"], truth[True][first:last]),
                    }
                )
                figures[contender.name]["search_peak_bytes"] = many["peak_bytes"]
            bounds.append(limits(block, queries, len(base)))
    return {"figures": figures, "limits": bounds}


def summary(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Milliseconds and queries a second over all rounds."""
    single = 1e3 * np.concatenate([entry["single_s"] for entry in rounds])
    narrow = 1e3 * np.concatenate([entry["filtered_s"] for entry in rounds])
    return {
        "p50_ms": float(np.median(single)),
        "p95_ms": float(np.percentile(single, 95)),
        "p50_ms_filtered": float(np.median(narrow)),
        "p95_ms_filtered": float(np.percentile(narrow, 95)),
        "batch_per_s": 1 / float(np.median([entry["batch_query_s"] for entry in rounds])),
        "recall": float(np.mean([entry["recall"] for entry in rounds])),
        "recall_filtered": float(np.mean([entry["recall_filtered"] for entry in rounds])),
    }


def measure(rows: int, rounds: int, names: Sequence[str]) -> dict[str, Any]:
    """Build what is missing, then set ours beside each of `names` that is installed."""
    folder = vector_data.made(rows, QUERIES)
    here = [name for name in names if name not in LADDERS or PYTHON.exists()]
    built = {}
    for name in (*here, OURS):
        with Contender(name, folder) as contender:
            built[name] = contender.ask(do="build")
    return {
        "rows": rows,
        "dim": vector_data.DIM,
        "likeness": {
            "real": vector_data.likeness(vector_data.real()),
            "made": vector_data.likeness(np.array(np.load(folder / "base.npy", mmap_mode="r")[:SHORT_ROWS]), 1000),
        },
        "built": built,
        "missing": [name for name in names if name not in here],
        "beside": {name: side_by_side(folder, name, rounds) for name in here},
    }


def run(short: bool) -> dict[str, Any]:
    """Figures at one size, beside every contender."""
    return (
        measure(SHORT_ROWS, 3, (*OURS_TOO, *LADDERS)) if short else measure(ROWS, ROUNDS, ("exact", MEMORY, *LADDERS))
    )


def rows(result: dict[str, Any]) -> list[Row]:
    """Lines for one query, one with the filter, and a batch, each contender; ratios above one favour ours."""
    size = f"{result['rows']:,} x {result['dim']}"
    found = []
    for name, pair in result["beside"].items():
        theirs, ours = pair["figures"][name]["rounds"], pair["figures"][OURS]["rounds"]
        mine, other = summary(ours), summary(theirs)
        for what, key, end in KINDS:
            setting = f"{size}; {name} {_times(other, end)}; ours {_times(mine, end)}"
            spent = [[float(np.median(entry[key])) for entry in rounds] for rounds in (theirs, ours)]
            found.append(_beside(name, f"{what}: {name} over ours, p50", setting, *spent))
        setting = f"{size}; {name} {other['batch_per_s']:,.0f} queries/s, ours {mine['batch_per_s']:,.0f}"
        spent = [[entry["batch_query_s"] for entry in rounds] for rounds in (theirs, ours)]
        found.append(_beside(name, f"a query of {BATCH}: {name} over ours", setting, *spent))
    found += [Row(f"{name}: not installed (make peers)", size, "", "") for name in result["missing"]]
    for name, built in result["built"].items():
        seconds = f"{built['build_s']:.0f} s" + (
            f" ({built['build_cpu_s']:.0f} of CPU)" if "build_cpu_s" in built else ""
        )
        sizes = f"{built['disk_bytes'] / 1e6:,.0f} MB on disk, peak {built['build_peak_bytes'] / 1e9:.1f} GB"
        found.append(Row(f"build: {name}", size, seconds, sizes))
    if held := result["beside"].get(MEMORY, {}).get("figures"):
        spent = result["built"][MEMORY]
        opened = f"{spent['open_s']:.0f} s ({spent['open_cpu_s']:.0f} of CPU) for links that were built before"
        peaks = ", ".join(f"{name} {held[name]['search_peak_bytes'] / 1e9:.1f} GB" for name in (MEMORY, OURS))
        found.append(Row("open: memory", size, opened, f"peak of searches: {peaks}"))
    if exact := result["beside"].get("exact"):
        theirs, bounds = exact["figures"]["exact"]["rounds"], exact["limits"]
        for what, limit, key in (
            ("one query: memory copy rate over exact search", "scan_s", "single_s"),
            (f"a query of {SLOW[1]}: matrix product over exact search", "product_s", "batch_query_s"),
        ):
            times = [float(np.median(entry[key])) for entry in theirs]
            found.append(against("limit", what, size, [bound[limit] for bound in bounds], times))
    return found


def _beside(name: str, claim: str, setting: str, theirs: Sequence[float], ours: Sequence[float]) -> Row:
    if name in LADDERS:
        return against("peer", claim, setting, theirs, ours)
    return Row(claim, setting, *ratio(theirs, ours))


def _times(figures: Mapping[str, float], suffix: str) -> str:
    times = f"{figures['p50_ms' + suffix]:.2f} / {figures['p95_ms' + suffix]:.2f} ms"
    return f"{times}, recall {figures['recall' + suffix]:.3f}"


if __name__ == "__main__":
    for row in rows(measure(int(sys.argv[1]), 3, sys.argv[2:])):
        sys.stdout.write(" | ".join(map(str, vars(row).values())) + "\n")

"""Build the HNSW graph of a published space in memory, or open the one that was built before.

The graph is kept as links among numbered rows (`coldstart.store.graph_file`). A later publication takes it over: rows
that are as they were keep their links, new ones are added, and those of items that are gone hold no vector and are
never found. It is built anew once a fifth of its rows are gone, more came than a quarter, or its recall is too low.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.store.ann import unit_rows
from coldstart.store.graph_file import Links, load_links, save_links
from coldstart.store.ground_truth import Vectors
from coldstart.store.held_vectors import HeldVectors
from coldstart.store.memory_graph import LEAST, MemoryGraph, Rows

GONE = 0.2
"""Share of the rows of a graph that may be of no item any more."""
CAME = 0.25
"""Share of the items that may be added to a graph, which takes about a millisecond of processor time each."""
SAVED = 0.01
"""Share of the items that are added before the links are written to disk anew."""

Blocks = Callable[[], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class GraphReport:
    """Figures of a graph.

    Attributes:
        made: `built`, `opened` from disk, or `none`: it has to be built and may not be, or it finds too little.
        added: rows that were added to a graph that was there.
        seconds: until it could be searched.
        recall: recall@10 of stored vectors at `effort` candidates.
    """

    made: Literal["built", "opened", "none"]
    rows: int
    added: int
    seconds: float
    effort: int
    recall: float


def open_graph(
    path: Path,
    places: Mapping[str, int],
    dim: int,
    rows: int,
    keys: Blocks,
    vectors: Blocks,
    column: str,
    *,
    build: bool = True,
    most_added: float = CAME,
    threads: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[HeldVectors | None, GraphReport | None]:
    """Open the graph of a space with its vectors.

    Args:
        path: file of its links.
        places: item_id -> place, of all items.
        rows: items that have a vector, as far as is known.
        keys: reads `item_id` and `index_key` of these; vectors: `column`, too.
        build: build it where none can be opened; otherwise that is left.
        most_added: share of the items that may have to be added to one that is opened.
        threads: to build with; all by default.
        stopped: tells whether to give up.

    Returns:
        the vectors, None where there is no graph, and figures, None where it was given up.

    Raises:
        ColdstartError: faiss is not installed.
    """
    started = time.perf_counter()
    links = load_links(path)
    if links is not None:
        held, added = _taken_over(links, places, dim, rows, keys, vectors, column, most_added, threads, stopped)
        if stopped():
            return None, None
        if held is not None and held[0].graph is not None and held[0].graph.recall >= LEAST:
            own, row_keys = held
            graph = own.graph
            assert graph is not None, "it was looked at"
            seconds = time.perf_counter() - started
            if added > SAVED * rows:
                save_links(path, graph.links(row_keys))
            return own, GraphReport("opened", len(graph), added, seconds, graph.effort, graph.recall)
        del held
    if not build:
        return None, GraphReport("none", 0, 0, time.perf_counter() - started, 0, 0.0)
    graph = _graph(dim, rows, None, threads)
    found, row_keys = _added(graph, places, vectors, column, stopped)
    if stopped():
        return None, None
    graph.tune(np.ones(len(graph), bool))
    figures = (len(graph), 0, time.perf_counter() - started, graph.effort, graph.recall)
    if graph.recall < LEAST:
        return None, GraphReport("none", *figures)
    save_links(path, graph.links(row_keys))
    return HeldVectors(graph.vectors, found, len(places), graph), GraphReport("built", *figures)


def _graph(dim: int, room: int, links: Links | None, threads: int | None) -> MemoryGraph:
    graph = MemoryGraph(dim, room, links)
    graph.use_threads(threads or os.cpu_count() or 1)
    return graph


def _added(
    graph: MemoryGraph, places: Mapping[str, int], vectors: Blocks, column: str, stopped: Callable[[], bool]
) -> tuple[Rows, NDArray[np.uint64]]:
    """Add all items that have a vector; returns the place and the key of each row."""
    found, row_keys = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for block in vectors():
        if stopped():
            break
        graph.add(unit_rows(block[column]))
        found.append(_places(block, places))
        row_keys.append(_keys(block))
    return np.concatenate(found), np.concatenate(row_keys)


def _taken_over(
    links: Links,
    places: Mapping[str, int],
    dim: int,
    rows: int,
    keys: Blocks,
    vectors: Blocks,
    column: str,
    most_added: float,
    threads: int | None,
    stopped: Callable[[], bool],
) -> tuple[tuple[HeldVectors, NDArray[np.uint64]] | None, int]:
    """Lay the vectors of a publication under links that are there; returns them with the key of each row, and the
    number of rows that were added. None where the links are of too many other rows."""
    row_of = _matched(links, places, keys)
    known = row_of[row_of >= 0]
    added = rows - len(known)
    if len(known) < (1 - GONE) * len(links.keys) or added > most_added * rows:
        return None, added
    graph = _graph(dim, len(links.keys) + max(0, added), links, threads)
    place_of = np.full(len(links.keys), -1, np.int64)
    new: list[tuple[Vectors, Rows, NDArray[np.uint64]]] = []
    for block in vectors():
        if stopped():
            return None, added
        units, own = unit_rows(block[column]), _places(block, places)
        at = row_of[own]
        was = at >= 0
        graph.vectors[at[was]] = units[was]
        place_of[at[was]] = own[was]
        if not was.all():
            new.append((units[~was], own[~was], _keys(block)[~was]))
    for units, _, _ in new:
        graph.add(units)
    place_of = np.concatenate([place_of, *(own for _, own, _ in new)])
    row_keys = np.concatenate([links.keys, *(own for _, _, own in new)])
    graph.tune(place_of >= 0)
    return (HeldVectors(graph.vectors, place_of, len(places), graph), row_keys), added


def _matched(links: Links, places: Mapping[str, int], keys: Blocks) -> Rows:
    """Find the row of each place whose item is as it was, int64 `[N]`, -1 for others."""
    order = np.argsort(links.keys, kind="stable")
    sorted_keys = links.keys[order]
    row_of = np.full(len(places), -1, np.int64)
    for block in keys():
        wanted = _keys(block)
        at = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
        row_of[_places(block, places)] = np.where(sorted_keys[at] == wanted, order[at], -1)
    matched = np.flatnonzero(row_of >= 0)
    first = np.unique(row_of[matched], return_index=True)[1]
    twice = np.delete(matched, first)  # two items of one key: a row is of one
    row_of[twice] = -1
    return row_of


def _places(block: pa.RecordBatch, places: Mapping[str, int]) -> Rows:
    return np.array([places[item_id] for item_id in block["item_id"].to_pylist()], np.int64)


def _keys(block: pa.RecordBatch) -> NDArray[np.uint64]:
    """Compute what each row is: 64 bits of its item and the key of its content. Links that are mistaken for those of
    another row find less: distances are of the row's own vector all the same."""
    pairs = zip(block["item_id"].to_pylist(), block["index_key"].to_pylist(), strict=True)
    made = b"".join(
        blake2b(f"{item_id}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest() for item_id, key in pairs
    )
    return np.frombuffer(made, np.uint64)

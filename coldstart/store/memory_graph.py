"""Search unit vectors in memory by an HNSW graph, with faiss.

Chosen from a table of faiss, usearch and hnswlib (`LOG.md`, "Queries from memory"): faiss filters within the graph, and
its graph can be kept apart from the vectors. The vectors are held once: what is searched is what distances are of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.extras import missing_extra
from coldstart.store.graph_file import LINKS, Links
from coldstart.store.ground_truth import Vectors

Rows = NDArray[np.int64]

CONSTRUCTION = 40
"""Candidates for the links of a new row."""
EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Candidates of a search, in the order tried."""
TARGET, LEAST = 0.99, 0.95
"""Recall@10 of stored vectors that an effort should reach, and that a graph must. Others find less:
0.98 of 0.99 among 100,000, and 0.93 of 0.986 among a million."""
TOP_K, SAMPLE = 10, 200
TIES = 10
"""Rows beyond the wanted ones that are ranked by distance anew, so that equal ones come in order of their ids."""
WIDER = 1.5
"""With a filter, times the rows that would hold enough that meet it, if it knew nothing of vectors."""
_ENOUGH = 1e-5
"""Two cosines this close are a tie, and either row is a right answer."""


def import_faiss() -> Any:
    """Import faiss.

    Raises:
        ColdstartError: it is not installed.
    """
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    return faiss


def depth_of(top_k: int, share: float) -> int:
    """Count the nearest rows among which `top_k` should be that belong to a share of all, and some more for ties."""
    depth = top_k + TIES
    return depth if share >= 1 else int(WIDER * depth / max(share, 1e-6))


class MemoryGraph:
    """HNSW graph over unit vectors in memory; many threads may search it once nothing is added any more.

    Attributes:
        vectors: float32 `[S, D]`, the vectors themselves, not a copy; valid until the next `add`.
        effort: candidates of a search for ten rows; recall: of stored vectors at that effort; set by `tune`.

    Args:
        room: vectors for which memory is taken at once.
    """

    def __init__(self, dim: int, room: int, links: Links | None = None) -> None:
        self._faiss = faiss = import_faiss()
        self._index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = CONSTRUCTION
        self._storage = faiss.downcast_index(self._index.storage)
        self.effort, self.recall = EFFORTS[0], 0.0
        # taken at once: arrays that grow by doubling would hold up to twice of what they need
        self._storage.codes.resize(4 * dim * room)
        self._index.hnsw.neighbors.resize(int(2.04 * LINKS * room))
        count = 0 if links is None else len(links.keys)
        self._storage.codes.resize(4 * dim * count)
        self._index.hnsw.neighbors.resize(0 if links is None else len(links.neighbors))
        if links is not None:
            self._take(links)
        self._read_vectors()

    def _take(self, links: Links) -> None:
        """Take links that have no fault, over vectors of zeros that are to be filled."""
        faiss, hnsw = self._faiss, self._index.hnsw
        faiss.copy_array_to_vector(np.ascontiguousarray(links.levels, np.int32), hnsw.levels)
        faiss.copy_array_to_vector(links.offsets, hnsw.offsets)
        faiss.rev_swig_ptr(hnsw.neighbors.data(), len(links.neighbors))[:] = links.neighbors
        hnsw.entry_point, hnsw.max_level = links.entry, int(links.levels.max()) - 1
        self._storage.ntotal = self._index.ntotal = len(links.keys)

    def _read_vectors(self) -> None:
        count, dim = int(self._index.ntotal), int(self._index.d)
        flat = self._faiss.rev_swig_ptr(self._storage.get_xb(), count * dim) if count else np.empty(0, np.float32)
        self.vectors: Vectors = flat.reshape(count, dim)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: Vectors) -> None:
        """Add unit vectors, float32 `[N, D]`."""
        if len(vectors):
            self._index.add(np.ascontiguousarray(vectors, np.float32))
            self._read_vectors()

    def links(self, keys: NDArray[np.uint64]) -> Links:
        """Copy the links, with what each row is."""
        hnsw = self._index.hnsw
        neighbors = self._faiss.rev_swig_ptr(hnsw.neighbors.data(), int(hnsw.neighbors.size())).copy()
        return Links(keys, self._faiss.vector_to_array(hnsw.levels).copy(), neighbors, int(hnsw.entry_point))

    def use_threads(self, count: int) -> None:
        """Let calls from this thread compute in so many threads."""
        self._faiss.omp_set_num_threads(count)

    def search(self, queries: Vectors, top_k: int, share: float = 1.0) -> Rows:
        """Find near rows of each query, by rising distance.

        Args:
            queries: unit vectors, float32 `[Q, D]`.
            share: of all rows, that are wanted: so many more are found that `top_k` of them should be among these.

        Returns:
            int64 `[Q, K]`, K at least `top_k + TIES`, -1 where fewer were found.
        """
        depth = min(len(self), depth_of(top_k, share))
        parameters = self._faiss.SearchParametersHNSW(efSearch=max(self.effort, depth))
        found: Rows = self._index.search(np.ascontiguousarray(queries), depth, params=parameters)[1]
        return found

    def tune(self, alive: NDArray[np.bool_], seed: int = 1) -> None:
        """Find the least effort that reaches `TARGET` on stored vectors, the greatest where none does.

        Args:
            alive: rows that are of the publication, bool `[S]`.
        """
        chosen = np.flatnonzero(alive)
        chosen = np.random.default_rng(seed).permutation(chosen)[:SAMPLE]
        queries = self.vectors[chosen]
        truth = self._storage.search(queries, TOP_K + 1)[0]
        wanted = truth[:, -1:] - _ENOUGH  # cosine of the farthest of the true ones; the query itself is one of them
        for self.effort in EFFORTS:
            found = self.search(queries, TOP_K + 1)[:, : TOP_K + 1]
            cosines = np.einsum("qkd,qd->qk", self.vectors[np.maximum(found, 0)], queries)
            near = (cosines >= wanted) & (found >= 0)
            self.recall = float((near.sum(axis=1) - 1).clip(0).sum() / max(1, TOP_K * len(queries)))
            if self.recall >= TARGET:
                break

"""Cluster vectors by k-means, with prices on crowded clusters so that none takes far more than its share.

A price is added to the distance of a cluster. So the code of a vector depends on that vector alone, and a new item gets
its code by the rule that gave the others theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Codes = NDArray[np.int32]

ENTRIES = 1 << 24
"""Distances in memory at a time: 64 MiB."""
_BALANCED_ENTRIES = 1 << 25
"""Distances of the rows that prices are found on."""
_FEWEST_A_CLUSTER = 8
_EQUAL = 1e-6
"""Squared distance, as a share of the squared length, below which vectors are equal but for rounding."""
_EPS = 0.05
"""Entropy of the transport, as a share of the mean distance."""
_SINKHORN, _POLISH, _ROUNDS = 30, 30, 3


@dataclass(frozen=True)
class Clusters:
    """Centres of one level, float32 [K, D], and the price of each, float32 [K]."""

    centres: Vectors
    prices: Vectors


def squared_distances(vectors: Vectors, centres: Vectors) -> Vectors:
    """Compute the squared distance of each vector to each centre: [N, D], [K, D] -> float32 [N, K], at least 0."""
    found: Vectors = vectors @ centres.T
    found *= -2
    found += np.einsum("kd,kd->k", centres, centres)
    found += np.einsum("nd,nd->n", vectors, vectors)[:, None]
    np.maximum(found, 0, out=found)
    return found


def nearest(vectors: Vectors, clusters: Clusters) -> tuple[Codes, Vectors]:
    """Find the cluster of least distance plus price for each vector, and the distance: int32 [N], float32 [N]."""
    codes = np.empty(len(vectors), np.int32)
    found = np.empty(len(vectors), np.float32)
    for rows in blocks(len(vectors), len(clusters.centres)):
        distances = squared_distances(vectors[rows], clusters.centres)
        codes[rows] = (distances + clusters.prices).argmin(1)
        found[rows] = np.take_along_axis(distances, codes[rows, None], 1)[:, 0]
    return codes, found


def blocks(count: int, width: int) -> Iterator[slice]:
    """Cut rows into slices of at most `ENTRIES` entries."""
    step = max(1, ENTRIES // max(1, width))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def fit_clusters(
    vectors: Vectors,
    count: int,
    rng: np.random.Generator,
    *,
    iterations: int = 25,
    crowding: float | None = 1.2,
    start: Vectors | None = None,
    scale: float | None = None,
) -> Clusters:
    """Fit at most so many clusters: k-means++ (Arthur & Vassilvitskii 2007), then Lloyd's iterations.

    An empty cluster is put on the vector that is farthest from its own centre. Prices then come from entropic transport
    with an upper bound on each cluster (Cuturi 2013; Benamou et al. 2015), and centres and prices follow each other.

    Args:
        vectors: float32 [N, D], N at least 1.
        crowding: most vectors of a cluster, in shares of N / K; None: no prices.
        start: centres to begin with, [K, D]; by default chosen by k-means++.
        scale: mean squared length of what the vectors are left of, beside which rounding is judged; by default theirs.
    """
    if start is None:
        centres = _spread_out(vectors, count, rng, mean_square(vectors) if scale is None else scale)
    else:
        centres = start.copy()
    clusters = Clusters(centres, np.zeros(len(centres), np.float32))
    codes = np.full(len(vectors), -1, np.int32)
    for _ in range(iterations):
        before = codes
        codes, distances = nearest(vectors, clusters)
        if np.array_equal(before, codes):
            break
        clusters = Clusters(_means(vectors, codes, distances, clusters.centres), clusters.prices)
    if crowding is None or len(vectors) < _FEWEST_A_CLUSTER * len(centres):
        return clusters
    rows = _balancing_rows(len(vectors), len(centres), rng)
    if len(rows) < _FEWEST_A_CLUSTER * len(centres):
        return clusters
    for _ in range(_ROUNDS):
        clusters = Clusters(clusters.centres, _prices(squared_distances(vectors[rows], clusters.centres), crowding))
        codes, _ = nearest(vectors, clusters)
        clusters = Clusters(_means(vectors, codes, None, clusters.centres), clusters.prices)
    return Clusters(clusters.centres, _prices(squared_distances(vectors[rows], clusters.centres), crowding))


def _balancing_rows(count: int, clusters: int, rng: np.random.Generator) -> NDArray[np.intp]:
    most = _BALANCED_ENTRIES // clusters
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def mean_square(vectors: Vectors) -> float:
    """Compute the mean squared length of vectors."""
    return float(np.square(vectors, dtype=np.float64).sum() / max(1, len(vectors)))


def _spread_out(vectors: Vectors, count: int, rng: np.random.Generator, scale: float) -> Vectors:
    """Choose centres among the vectors, each with a probability as its squared distance to those before it."""
    chosen = [int(rng.integers(len(vectors)))]
    rounding = _EQUAL * np.einsum("nd,nd->n", vectors, vectors)
    distances = np.full(len(vectors), np.inf, np.float32)
    while len(chosen) < count:
        np.minimum(distances, squared_distances(vectors, vectors[chosen[-1:]])[:, 0], out=distances)
        distances[distances <= rounding] = 0
        distances[chosen[-1]] = 0
        sums = np.cumsum(distances, dtype=np.float64)
        if not sums[-1] > 1e-9 * scale * len(vectors):  # fewer different vectors than clusters
            break
        chosen.append(min(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")), len(vectors) - 1))
    return vectors[chosen].copy()


def _means(vectors: Vectors, codes: Codes, distances: Vectors | None, centres: Vectors) -> Vectors:
    from scipy.sparse import csr_matrix

    ones = np.ones(len(codes), np.float32)
    members = csr_matrix((ones, codes, np.arange(len(codes) + 1)), shape=(len(codes), len(centres)))
    counts = np.bincount(codes, minlength=len(centres))
    found = np.asarray((members.T @ vectors) / np.maximum(counts, 1)[:, None], np.float32)
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return found
    if distances is None:
        found[empty] = centres[empty]
    else:
        found[empty] = vectors[np.argsort(-distances, kind="stable")[: len(empty)]]
    return found


def _prices(distances: Vectors, crowding: float) -> Vectors:
    """Find prices, float32 [K], at least 0, under which no cluster takes much more than `crowding` * N / K rows."""
    count, clusters = distances.shape
    most = np.float32(np.ceil(crowding * count / clusters))
    eps = np.float32(_EPS * max(float(distances.mean()), 1e-12))
    kernel = np.exp((distances.min(1, keepdims=True) - distances) / eps)
    open_share = np.ones(clusters, np.float32)
    for _ in range(_SINKHORN):
        rows = 1 / np.maximum(kernel @ open_share, np.float32(1e-30))
        open_share = np.minimum(1, most / np.maximum(kernel.T @ rows, np.float32(1e-30)))
    prices = np.asarray(-eps * np.log(np.maximum(open_share, np.float32(1e-30))), np.float32)
    best, fewest = prices, _crowd(distances, prices)
    for _ in range(_POLISH):  # what is soft in the transport is hard in the codes
        loads = np.bincount((distances + prices).argmin(1), minlength=clusters)
        if loads.max() <= most:
            return np.asarray(prices, np.float32)
        if loads.max() < fewest:
            best, fewest = prices, int(loads.max())
        prices = np.asarray(prices + eps * np.log(np.maximum(loads / most, 1)), np.float32)
    return np.asarray(best, np.float32)


def _crowd(distances: Vectors, prices: Vectors) -> int:
    return int(np.bincount((distances + prices).argmin(1)).max())

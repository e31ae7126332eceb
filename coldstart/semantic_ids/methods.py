"""Fit codebooks of semantic IDs: residual k-means, optimized product or finite scalar quantization, an RQ-VAE.

All take vectors of any length and give `Codebooks`; none reads a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from coldstart.semantic_ids.codebooks import Codebooks, Layer, check_codebooks
from coldstart.semantic_ids.kmeans import Clusters, Vectors, fit_clusters, mean_square, nearest

Method = Literal["rqkmeans", "opq", "fsq", "rqvae"]
METHODS: tuple[Method, ...] = ("rqkmeans", "opq", "fsq", "rqvae")
LEVELS = (256, 256, 256)
FIT_ROWS, ROWS_A_CODE = 1 << 15, 128
"""Most rows that a fit learns from: so many, or so many for each code of the largest level; of more a random part."""
FEWEST_A_CODE = 8
"""Items for each code of a level, at least: the codebooks of small catalogues are smaller."""
_FSQ_LEVELS = ((8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5), (8, 8, 8, 5, 5, 5), (8,) * 6, (8,) * 7, (8,) * 8)
"""Levels for more and more codes; the first four as in table 1 of Mentzer et al. (2024)."""
_OPQ_ROUNDS = 8
_KMEANS_INSIDE = 4


def fit_codebooks(
    vectors: Vectors,
    method: Method = "rqkmeans",
    levels: Sequence[int] | None = None,
    *,
    crowding: float | None = 1.2,
    seed: int = 0,
    start: Codebooks | None = None,
    step: Callable[[], None] = lambda: None,
) -> Codebooks:
    """Fit codebooks on vectors, float32 [N, D], finite, N at least 1.

    Args:
        levels: codes of each level; by default `LEVELS`, of `fsq` as many as so many items need. No level but those of
            `fsq` has more than N / `FEWEST_A_CODE` codes, or than there are different vectors.
        crowding: most items of a code, in shares of N / K, of `rqkmeans`; None: no limit.
        start: codebooks of an earlier fit to begin with, see `can_begin_with`, so that codes keep their meaning.
        step: called after each level.
    """
    rng = np.random.default_rng(seed)
    items, rows = len(vectors), np.arange(len(vectors))
    most = max(FIT_ROWS, ROWS_A_CODE * max(levels or LEVELS))
    if len(vectors) > most:
        rows = np.sort(rng.choice(len(vectors), most, replace=False))
    vectors = np.ascontiguousarray(vectors[rows], np.float32)
    if method == "fsq":
        return check_codebooks(_fsq(vectors, levels or fsq_levels(items), step))
    most = max(1, len(vectors) // FEWEST_A_CODE)
    sizes = [min(size, most) for size in levels or LEVELS]
    if method == "rqkmeans":
        known = start if start is not None and can_begin_with(start, method, vectors.shape[1], sizes) else None
        found = residual(vectors, sizes, rng, crowding, known, step)
        return check_codebooks(Codebooks(method, "residual", vectors.shape[1], (), found))
    if method == "opq":
        return check_codebooks(_opq(vectors, sizes, rng, step))
    from coldstart.semantic_ids.rqvae import fit_rqvae

    return check_codebooks(fit_rqvae(vectors, sizes, seed, step))


def can_begin_with(start: Codebooks, method: str, dim: int, sizes: Sequence[int]) -> bool:
    """Tell whether a fit can begin with earlier codebooks: both by `rqkmeans`, on vectors and levels of equal sizes."""
    return method == start.method == "rqkmeans" and start.dim == dim and start.sizes == tuple(sizes)


def fsq_levels(items: int) -> tuple[int, ...]:
    """Choose the levels of `fsq`: the fewest codes of the known sets that are at least twice the items."""
    return next((levels for levels in _FSQ_LEVELS if math.prod(levels) >= 2 * items), _FSQ_LEVELS[-1])


def residual(
    vectors: Vectors,
    sizes: Sequence[int],
    rng: np.random.Generator,
    crowding: float | None,
    start: Codebooks | None = None,
    step: Callable[[], None] = lambda: None,
) -> tuple[Clusters, ...]:
    """Fit a level after the other on what the levels before it left over (Lee et al. 2022, by k-means)."""
    found = []
    rest, scale = vectors, mean_square(vectors)
    for level, size in enumerate(sizes):
        first = None if start is None else start.levels[level].centres
        clusters = fit_clusters(rest, size, rng, crowding=crowding, start=first, scale=scale)
        codes, _ = nearest(rest, clusters)
        rest = rest - clusters.centres[codes]
        found.append(clusters)
        step()
    return tuple(found)


def _opq(vectors: Vectors, sizes: Sequence[int], rng: np.random.Generator, step: Callable[[], None]) -> Codebooks:
    """Fit a rotation and a codebook a part by turns (Ge et al. 2013, the non-parametric form)."""
    count, dim = vectors.shape
    part = -(-dim // len(sizes))
    padded = part * len(sizes)
    middle = vectors.mean(0)
    centred = np.zeros((count, padded), np.float32)
    centred[:, :dim] = vectors - middle
    scale = mean_square(vectors)
    rotation = _spread_directions(centred, len(sizes))
    levels: list[Clusters] = []
    for turn in range(_OPQ_ROUNDS):
        turned = centred @ rotation
        coded = np.empty_like(turned)
        fitted = []
        for place, size in enumerate(sizes):
            own = np.ascontiguousarray(turned[:, place * part : (place + 1) * part])
            before = levels[place].centres if levels else None
            last = turn == _OPQ_ROUNDS - 1
            clusters = fit_clusters(
                own, size, rng, iterations=25 if last else _KMEANS_INSIDE, crowding=None, start=before, scale=scale
            )
            codes, _ = nearest(own, clusters)
            coded[:, place * part : (place + 1) * part] = clusters.centres[codes]
            fitted.append(clusters)
            if last:
                step()
        levels = fitted
        if turn < _OPQ_ROUNDS - 1:
            left, _, right = np.linalg.svd(centred.T @ coded)
            rotation = np.asarray(left @ right, np.float32)
    weight = np.ascontiguousarray(rotation[:dim])
    return Codebooks("opq", "parallel", dim, (Layer(weight, -(middle @ weight)),), tuple(levels))


def _spread_directions(centred: Vectors, parts: int) -> Vectors:
    """Begin with principal directions, dealt out to the parts by turns, so that each has its share of the spread."""
    values, directions = np.linalg.eigh(np.asarray(centred.T @ centred, np.float64))
    order = np.argsort(-values, kind="stable")
    dealt = np.concatenate([order[place::parts] for place in range(parts)])
    return np.asarray(directions[:, dealt], np.float32)


def _fsq(vectors: Vectors, levels: Sequence[int], step: Callable[[], None]) -> Codebooks:
    """Round the principal components, each spread evenly over 0 to 1, to so many values (Mentzer et al. 2024).

    A network before the rounding, as in the paper, is replaced by the components: there is no decoder to train.
    """
    middle = vectors.mean(0)
    values, directions = np.linalg.eigh(np.cov((vectors - middle).T.astype(np.float64)).reshape(vectors.shape[1], -1))
    order = np.argsort(-values, kind="stable")[: len(levels)]
    scale = 1 / np.sqrt(np.maximum(values[order], 1e-12))
    weight = np.zeros((vectors.shape[1], len(levels)), np.float32)
    weight[:, : len(order)] = directions[:, order] * scale
    fitted = []
    for size in levels:
        centres = np.asarray((np.arange(size) + 0.5) / size, np.float32)[:, None]
        fitted.append(Clusters(centres, np.zeros(size, np.float32)))
        step()
    layer = Layer(weight, -(middle @ weight), "normal")
    return Codebooks("fsq", "parallel", vectors.shape[1], (layer,), tuple(fitted))

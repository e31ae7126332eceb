"""Queries chosen to be looked at with what they found: the best, the worst, and some at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics import TIE, Places, Vectors

_TRIED = 2048  # queries of rank 1 among which those with the widest margin are looked for


@dataclass(frozen=True)
class Hit:
    """One row of the gallery, its cosine to the query, and whether it is right."""

    place: int
    score: float
    right: bool


@dataclass(frozen=True)
class Sheet:
    """One query.

    Attributes:
        query: its place among the queries asked.
        rank: of its best right answer; answer: that answer.
        hits: the first of the gallery, best first.
    """

    query: int
    rank: int
    answer: Hit
    hits: Sequence[Hit]


def choose(
    queries: Vectors,
    gallery: Vectors,
    right: Places,
    ranks: NDArray[np.int64],
    *,
    count: int = 6,
    hits: int = 5,
    seed: int = 0,
) -> dict[str, list[Sheet]]:
    """`worst`, `random` and `best` queries, at most `count` of each.

    The best are those of rank 1 whose right answer is furthest ahead of the first wrong one; the worst those of the
    highest rank; the random ones are drawn from all, so some of them may be among the others.

    Args:
        queries: unit vectors [Q, D]; gallery: unit vectors [G, D].
        right: places of the right answers of each query; ranks: as `metrics.ranks` gives them.
    """
    rng = np.random.default_rng(seed)
    first = np.flatnonzero(ranks == 1)
    if len(first) > _TRIED:
        first = np.sort(rng.choice(first, _TRIED, replace=False))
    margins = [_margin(queries[place] @ gallery.T, right[place]) for place in first.tolist()]
    worst = [int(place) for place in np.argsort(-ranks, kind="stable")[:count] if ranks[place] > 1]
    random = np.sort(rng.choice(len(ranks), min(count, len(ranks)), replace=False)).tolist()
    best = [int(first[place]) for place in np.argsort(-np.asarray(margins), kind="stable")[:count]]
    return {
        name: [_sheet(place, queries, gallery, right[place], int(ranks[place]), hits) for place in chosen]
        for name, chosen in (("worst", worst), ("random", random), ("best", best))
    }


def _margin(scores: NDArray[np.float32], right: NDArray[np.intp]) -> float:
    ahead = scores[right].max()
    wrong = np.delete(scores, right)
    return float(ahead - wrong.max()) if len(wrong) else float(ahead)


def _sheet(place: int, queries: Vectors, gallery: Vectors, right: NDArray[np.intp], rank: int, hits: int) -> Sheet:
    scores = np.asarray(queries[place], np.float32) @ np.asarray(gallery, np.float32).T
    own = set(right.tolist())

    def hit(found: int) -> Hit:
        return Hit(found, float(scores[found]), found in own)

    behind = np.zeros(len(scores), np.float32)
    behind[right] = TIE  # ties count against, here as in the rank
    order = np.argsort(behind - scores, kind="stable")[:hits]
    return Sheet(place, rank, hit(int(right[scores[right].argmax()])), [hit(int(found)) for found in order])

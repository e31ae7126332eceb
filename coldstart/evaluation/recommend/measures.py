"""What lists say beside being right: how much of a catalogue they show, how alike and how well known it is, how much of
it is new; and who is right by which item. Plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Vectors
from coldstart.interactions import Interactions
from coldstart.ranking_measures import hits_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Lists = NDArray[np.int64]
Mask = NDArray[np.bool_]


def shown(lists: Lists, items: int) -> NDArray[np.int64]:
    """How often each item stands in a list, int64 [items]; places of -1 do not count."""
    return np.bincount(lists[lists >= 0], minlength=items).astype(np.int64)


def coverage(counts: NDArray[np.int64], candidates: Mask) -> float:
    """Share of the candidates that stand in some list."""
    return float(np.mean(counts[candidates] > 0))


def gini(counts: NDArray[np.int64], candidates: Mask) -> float:
    """How unevenly candidates are shown: 0 where all are alike often, towards 1 where one has all places. 0 where
    nothing is shown."""
    ordered = np.sort(counts[candidates]).astype(np.float64)
    if not ordered.sum():
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float(((2 * ranks - len(ordered) - 1) * ordered).sum() / (len(ordered) * ordered.sum()))


def diversity(lists: Lists, vectors: Vectors) -> NDArray[np.float64]:
    """Mean of 1 - cosine over the pairs of each list (intra-list diversity; Ziegler et al., WWW 2005), float64 [B]; NaN
    for a list of fewer than two. Vectors [I, D] are unit ones, or zero, which are like nothing."""
    entries = _matrix(lists, len(vectors))
    sizes = np.diff(entries.indptr).astype(np.float64)
    own = np.asarray(entries @ np.square(vectors).sum(axis=1), np.float64)
    step = max(1, (1 << 24) // max(1, vectors.shape[1]))
    squares = [np.square(entries[start : start + step] @ vectors).sum(axis=1) for start in range(0, len(lists), step)]
    cosines = (np.concatenate(squares) if squares else np.empty(0)) - own
    pairs = sizes * (sizes - 1)
    alike: NDArray[np.float64] = np.divide(cosines, pairs, out=np.full(len(lists), np.nan), where=pairs > 0)
    return 1 - alike


def novelty(lists: Lists, counts: NDArray[np.int64], users: int) -> NDArray[np.float64]:
    """Mean of -log2 p over each list, p the share of training users who met an item, with one more for each (Vargas &
    Castells, RecSys 2011); float64 [B], NaN for an empty list."""
    surprise = -np.log2((counts + 1) / (users + 1))
    kept = lists >= 0
    total = np.where(kept, surprise[np.where(kept, lists, 0)], 0).sum(axis=1)
    sizes = kept.sum(axis=1)
    found: NDArray[np.float64] = np.divide(total, sizes, out=np.full(len(lists), np.nan), where=sizes > 0)
    return found


def exposure(counts: NDArray[np.int64], chosen: Mask) -> float:
    """Share of all places of lists that the chosen items have; NaN where nothing is shown."""
    total = counts.sum()
    return float(counts[chosen].sum() / total) if total else float("nan")


def by_item(lists: Lists, relevant: csr_matrix, k: int) -> dict[str, NDArray[np.float64]]:
    """What each item adds to the users' measures at `k`, so that items can be drawn as users are.

    Returns:
        `recall@k`, … -> float64 [I], whose sum is the sum over users; `found@k`: how many users found the item.
    """
    hits, wanted = hits_of(lists, relevant)
    hits, listed = hits[:, :k], lists[:, :k]
    best = np.minimum(np.maximum(wanted, 1), k)[:, None]
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))
    first = hits & (np.cumsum(hits, axis=1) == 1)
    ranks = np.arange(1, hits.shape[1] + 1)
    gains = {
        "recall": hits / best,
        "ndcg": hits / np.log2(ranks + 1) / ideal[best - 1],
        "mrr": first / ranks,
        "hit": first.astype(np.float64),
        "found": hits.astype(np.float64),
    }
    size = relevant.shape[1]
    return {f"{name}@{k}": _sums(listed[hits], gain[hits], size) for name, gain in gains.items()}


def shares_by_item(relevant: csr_matrix) -> NDArray[np.float64]:
    """What each item has of the users' whole, float64 [I]: a user counts 1, shared evenly by all that is relevant."""
    wanted = np.maximum(np.diff(relevant.indptr), 1)
    weights = np.repeat(1 / wanted, np.diff(relevant.indptr))
    return _sums(relevant.indices, weights, relevant.shape[1])


def early_audience(rows: Interactions, items: NDArray[np.intp], early: int) -> csr_matrix:
    """csr float32 [items, U]: 1 for the first `early` users of each chosen item, by time, then as rows stand."""
    from scipy.sparse import csr_matrix

    places = np.full(len(rows.item_ids), -1, np.int64)
    places[items] = np.arange(len(items))
    order = np.lexsort((rows.times, rows.items))
    order = order[places[rows.items[order]] >= 0]
    pairs = rows.items[order].astype(np.int64) * len(rows.user_ids) + rows.users[order]
    _, first = np.unique(pairs, return_index=True)
    order = order[np.sort(first)]
    own = places[rows.items[order]]
    begins = np.searchsorted(rows.items[order], rows.items[order], side="left")
    kept = np.arange(len(order)) - begins < early
    shape = (len(items), len(rows.user_ids))
    return csr_matrix((np.ones(int(kept.sum()), np.float32), (own[kept], rows.users[order][kept])), shape=shape)


def _sums(places: NDArray[Any], weights: NDArray[Any], size: int) -> NDArray[np.float64]:
    return np.bincount(places, weights=weights, minlength=size).astype(np.float64)


def _matrix(lists: Lists, items: int) -> csr_matrix:
    from scipy.sparse import csr_matrix

    rows, places = np.nonzero(lists >= 0)
    shape = (len(lists), items)
    return csr_matrix((np.ones(len(rows), np.float32), (rows, lists[rows, places])), shape=shape)

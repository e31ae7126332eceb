"""How good ranked lists are, list by list, over plain arrays; what is relevant is so or not, by no degree.

A list is one user's items (or one item's users), best first. Every measure is per list, so that means, strata and
bootstraps are the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MEASURES = ("recall", "ndcg", "mrr", "hit")


def measure_lists(
    lists: NDArray[np.int64], relevant: csr_matrix, k: Sequence[int] = (10, 20, 50)
) -> dict[str, NDArray[np.float64]]:
    """Measures of the first `k` of each list, for each `k`.

    `recall` is hits / min(k, relevant), so that 1 can be reached; `ndcg` the discounted gain over that of the best
    possible list, gain 1 and discount log2(1 + rank) (Järvelin & Kekäläinen 2002); `mrr` 1 / rank of the first hit, 0
    without one (Voorhees 1999); `hit` 1 where there is one.

    Args:
        lists: int64 [B, K], places of columns of `relevant`, best first; -1 where a list has ended. A shorter K than
            `k` is a list that ended there.
        relevant: csr [B, N]: above 0 where the column is relevant to the row.

    Returns:
        `recall@10`, `ndcg@10`, … -> float64 [B]; NaN for a row to which nothing is relevant.

    Raises:
        ValueError: the two are not of as many rows, or a list names a column twice or one that is not there.
    """
    hits, wanted = hits_of(lists, relevant)
    depth = hits.shape[1]
    gains = np.cumsum(hits / np.log2(np.arange(depth) + 2), axis=1)
    found = np.cumsum(hits, axis=1)
    ideal = np.cumsum(1 / np.log2(np.arange(max(k, default=0)) + 2))
    first = np.where(hits.any(axis=1), hits.argmax(axis=1), depth) if depth else np.zeros(len(hits), np.int64)
    some = wanted > 0
    out: dict[str, NDArray[np.float64]] = {}
    for cut in k:
        last = min(cut, depth) - 1
        count = found[:, last] if depth else np.zeros(len(hits))
        gain = gains[:, last] if depth else np.zeros(len(hits))
        best = np.minimum(np.maximum(wanted, 1), cut)
        is_hit = (first < min(cut, depth)).astype(np.float64)
        values = {
            "recall": count / best,
            "ndcg": gain / ideal[best - 1],
            "mrr": is_hit / (first + 1),
            "hit": is_hit,
        }
        out |= {f"{name}@{cut}": np.where(some, value, np.nan) for name, value in values.items()}
    return out


def hits_of(lists: NDArray[np.int64], relevant: csr_matrix) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which places of the lists are hits, bool [B, K], and how many columns are relevant to each row, int64 [B].

    Raises:
        ValueError: as for `measure_lists`.
    """
    rows, columns = relevant.shape
    if len(lists) != rows:
        raise ValueError(f"there are {len(lists)} lists, and what is relevant is given for {rows}")
    if lists.size and (lists.max() >= columns or lists.min() < -1):
        raise ValueError(f"a list names a column that is not among the {columns}")
    ordered = np.sort(lists, axis=1)
    twice = np.flatnonzero(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1))
    if len(twice):
        raise ValueError(f"list {twice[0]} names a column twice")
    entries = relevant.tocoo()
    kept = entries.data > 0
    pairs = np.unique(entries.row[kept].astype(np.int64) * columns + entries.col[kept])
    wanted = np.bincount(pairs // max(columns, 1), minlength=rows).astype(np.int64)
    if not len(pairs) or not lists.size:
        return np.zeros(lists.shape, bool), wanted
    keys = np.arange(rows, dtype=np.int64)[:, None] * columns + lists
    places = np.minimum(np.searchsorted(pairs, keys), len(pairs) - 1)
    return (pairs[places] == keys) & (lists >= 0), wanted

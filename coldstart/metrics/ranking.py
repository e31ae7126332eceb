"""Metrics of retrieval, of spaces and of ranked lists, over plain arrays.

Intervals are percentile bootstraps (Efron & Tibshirani 1993, chapter 13). Where several rows belong to one thing (five
captions of one picture), give groups: then whole groups are drawn, as rows of one group are no independent evidence. A
list is one user's items (or one item's users), best first; an item is relevant or not, by no degree. List measures are
per list, so that means, strata and bootstraps are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.metrics.intervals import resampled_rows, widened, wilson

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


Vectors = NDArray[np.floating[Any]]
Places = Sequence[NDArray[np.intp]]
Statistic = Callable[[NDArray[np.float64]], float]

TIE = 1e-6
"""Scores closer than this are equal: the same vector at two places of a gallery scores so far apart in float32."""

_BLOCK = 1 << 24  # scores in memory at a time: 64 MiB
_DRAWN = 1 << 18  # rows drawn at a time


MEASURES = ("recall", "ndcg", "mrr", "hit")


@dataclass(frozen=True)
class Interval:
    """Value with the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float


def right_places(query_groups: Sequence[Hashable], gallery_groups: Sequence[Hashable]) -> list[NDArray[np.intp]]:
    """List for each query the places in the gallery that are of its group, ascending, perhaps none."""
    places: dict[Hashable, list[int]] = {}
    for place, group in enumerate(gallery_groups):
        places.setdefault(group, []).append(place)
    arrays = {group: np.asarray(found, np.intp) for group, found in places.items()}
    return [arrays.get(group, np.empty(0, np.intp)) for group in query_groups]


def ranks(
    queries: Vectors,
    gallery: Vectors,
    right: Places | NDArray[np.bool_],
    *,
    ignored: Places | None = None,
    block: int = _BLOCK,
) -> NDArray[np.int64]:
    """Rank the best right answer to each query by cosine, from 1; ties count against it.

    A rank is one more than the wrong ones that score no less (within `TIE`) than the best right one: further right
    answers neither help nor harm, and a space in which all is alike ranks last, not first.

    Args:
        queries: unit vectors [Q, D]; gallery: unit vectors [G, D].
        right: for each query the places of its right answers, or a mask [Q, G].
        ignored: for each query places that count neither as right nor as wrong, none of them right.
        block: how many scores are held at a time, at least those of one query.

    Returns:
        int64 [Q], from 1 to G.

    Raises:
        ValueError: `right` does not fit the queries, or a query has no right answer.
    """
    if len(right) != len(queries):
        raise ValueError(f"right answers are given for {len(right)} queries, and there are {len(queries)}")
    listed = [np.flatnonzero(row) for row in right] if isinstance(right, np.ndarray) else right
    lone = next((place for place, answers in enumerate(listed) if len(answers) == 0), None)
    if lone is not None:
        raise ValueError(f"query {lone} has no right answer in the gallery")
    columns = np.ascontiguousarray(gallery, np.float32).T
    found = np.empty(len(queries), np.int64)
    step = max(1, block // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        scores = np.asarray(queries[start : start + step], np.float32) @ columns
        own = listed[start : start + step]
        rows = np.repeat(np.arange(len(own)), [len(answers) for answers in own])
        answers = scores[rows, np.concatenate(own)]
        bar = np.full(len(own), -np.inf, np.float32)
        np.maximum.at(bar, rows, answers)
        bar -= np.float32(TIE)
        right_ahead = np.bincount(rows[answers >= bar[rows]], minlength=len(own))
        if ignored is not None:
            left_out = ignored[start : start + step]
            scores[
                np.repeat(np.arange(len(own)), [len(places) for places in left_out]), np.concatenate(left_out)
            ] = -np.inf
        found[start : start + step] = 1 + np.count_nonzero(scores >= bar[:, None], axis=1) - right_ahead
    return found


def recall_at_k(ranks: NDArray[np.int64], k: int) -> float:
    """Compute the share of queries with a right answer among the first `k`."""
    return float(np.mean(ranks <= k))


def chance_recall_at_k(right_counts: Sequence[int], gallery: int, k: int) -> float:
    """Compute the mean `recall_at_k` of a gallery shuffled for each query (hypergeometric).

    Args:
        right_counts: how many right answers each query has; gallery: how many there are to choose from.
    """
    counts = np.asarray(right_counts, np.float64)
    missed = np.ones(len(counts))
    for drawn in range(min(k, gallery)):
        missed *= np.clip(gallery - counts - drawn, 0, None) / (gallery - drawn)
    return float(np.mean(1 - missed))


def median_rank(ranks: NDArray[np.int64]) -> float:
    """Compute the median rank; of an even number of queries the mean of the middle two."""
    return float(np.median(ranks))


def mrr(ranks: NDArray[np.int64]) -> float:
    """Compute the mean reciprocal rank (Voorhees 1999)."""
    return float(np.mean(1 / ranks))


def bootstrap(
    values: NDArray[Any],
    statistic: Statistic = np.mean,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compute a statistic of some values, and its percentile bootstrap interval.

    The interval of a mean of values that are each 0 or 1 is Wilson's, unless they are of groups; and so it is where all
    values are 0, or all 1, of which no resample differs (`coldstart.metrics.intervals.widened`).

    Args:
        values: one a query or item, [Q].
        groups: drawn whole; by default every value is a group of its own.
        level: share of the resampled statistics that lie within.

    Raises:
        ValueError: there are no values.
    """
    data = np.asarray(values, np.float64)
    if statistic is np.mean and groups is None and len(data) and np.isin(data, (0, 1)).all():
        return Interval(float(data.mean()), *wilson(int(data.sum()), len(data), level))
    draws = resampled([data], statistic, groups, resamples, seed)[0]
    count = _count(groups, len(data)) if statistic is np.mean and _is_share(data) else 0
    return _interval(float(statistic(data)), draws, level, count)


def paired(
    before: NDArray[Any],
    after: NDArray[Any],
    statistic: Statistic = np.mean,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Bootstrap `statistic(after) - statistic(before)` of the same queries, both resampled alike.

    Arguments are as for `bootstrap`. A difference of shares that is the same in all has the bounds of
    `coldstart.metrics.intervals.widened`.

    Raises:
        ValueError: the two are not of one length, or empty.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before and {len(after)} after are not of the same queries")
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    draws = resampled([first, second], statistic, groups, resamples, seed)
    is_share = statistic is np.mean and _is_share(first) and _is_share(second)
    value = float(statistic(second)) - float(statistic(first))
    return _interval(value, draws[1] - draws[0], level, _count(groups, len(first)) if is_share else 0, paired=True)


def _is_share(values: NDArray[np.float64]) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _count(groups: Sequence[Hashable] | None, count: int) -> int:
    return count if groups is None else len(set(groups))


def _interval(value: float, draws: NDArray[np.float64], level: float, count: int, *, paired: bool = False) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, *widened(value, float(low), float(high), count, paired=paired, level=level))


def resampled(
    columns: Sequence[NDArray[np.float64]],
    statistic: Statistic = np.mean,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Compute the statistic of every column in every resample, the same for all columns: [C, resamples].

    Arguments are as for `bootstrap`; columns are float64 [Q] each.
    """
    count = len(columns[0])
    if not count:
        raise ValueError("there are no values to resample")
    rng = np.random.default_rng(seed)
    out = np.empty((len(columns), resamples))
    members = None if groups is None else _members(groups, count)
    if statistic is np.mean:  # means need the sums of the groups alone
        sizes = np.ones(count) if members is None else np.asarray([len(group) for group in members], np.float64)
        sums = (
            columns if members is None else [np.asarray([column[one].sum() for one in members]) for column in columns]
        )
        for part, drawn in resampled_rows(len(sizes), resamples, rng, block=_DRAWN):
            totals = sizes[drawn].sum(1)
            out[:, part] = [column[drawn].sum(1) / totals for column in sums]
        return out
    order = np.arange(count) if members is None else np.concatenate(members)
    lengths = np.ones(count, np.intp) if members is None else np.asarray([len(one) for one in members])
    starts = np.cumsum(lengths) - lengths
    for draw, (_, (drawn,)) in enumerate(resampled_rows(len(lengths), resamples, rng, block=1)):
        ends = np.cumsum(lengths[drawn])
        places = order[np.arange(ends[-1]) + np.repeat(starts[drawn] - ends + lengths[drawn], lengths[drawn])]
        out[:, draw] = [float(statistic(column[places])) for column in columns]
    return out


def _members(groups: Sequence[Hashable], count: int) -> list[NDArray[np.intp]]:
    """List the places of each group, in the order in which groups appear."""
    if len(groups) != count:
        raise ValueError(f"{len(groups)} groups are given for {count} values")
    found: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        found.setdefault(group, []).append(place)
    return [np.asarray(places, np.intp) for places in found.values()]


def modality_gap(images: Vectors, texts: Vectors) -> float:
    """Compute the distance between the centroids of two sides of a space (Liang et al. 2022), 0 to 2.

    Args:
        images: unit vectors [N, D]; texts: unit vectors [M, D].
    """
    return float(np.linalg.norm(images.mean(0, dtype=np.float64) - texts.mean(0, dtype=np.float64)))


def effective_rank(vectors: Vectors) -> float:
    """Compute the effective rank of vectors [N, D], 1 to min(N, D) (Roy & Vetterli 2007).

    It is the exponential of the entropy of their singular values, normalised to a sum of one. Vectors are taken as they
    are, not centred.
    """
    data = np.asarray(vectors, np.float64)
    gram = data.T @ data if len(data) > data.shape[1] else data @ data.T  # its eigenvalues are their squares
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    shares = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def alignment(images: Vectors, texts: Vectors, *, alpha: float = 2.0) -> float:
    """Average the distance between the two of a pair, to the power of `alpha` (Wang & Isola 2020); less is closer.

    Args:
        images, texts: unit vectors [N, D], row by row of one pair.
    """
    return float(np.mean(np.linalg.norm(np.subtract(images, texts, dtype=np.float64), axis=1) ** alpha))


def uniformity(vectors: Vectors, *, t: float = 2.0, block: int = _BLOCK) -> float:
    """Compute the uniformity of vectors (Wang & Isola 2020): 0 where all are one, less the more evenly they are spread.

    It is the logarithm of the mean Gaussian potential of all pairs of different rows.

    Args:
        vectors: unit vectors [N, D], N of at least 2.
    """
    data = np.asarray(vectors, np.float64)
    step = max(1, block // max(1, len(data)))
    total = 0.0
    for start in range(0, len(data), step):
        total += float(np.exp(-t * (2 - 2 * data[start : start + step] @ data.T).clip(0)).sum())
    own = float(np.exp(-t * (2 - 2 * (data * data).sum(1)).clip(0)).sum())
    return float(np.log((total - own) / (len(data) * (len(data) - 1))))


def measure_lists(
    lists: NDArray[np.int64], relevant: csr_matrix, k: Sequence[int] = (10, 20, 50)
) -> dict[str, NDArray[np.float64]]:
    """Compute measures of the first `k` of each list, for each `k`.

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
    """Mark the places of the lists that are hits, bool [B, K], and count the relevant columns of each row, int64 [B].

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

"""Build training pairs of items that the same users like, and batches of them for `pair_loss`. Arrays in, arrays out.

It does not know whether two items stand together because one was shown beside the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.towers import SamplingCorrection

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Pairs = tuple[NDArray[np.int32], NDArray[np.float32]]
_BLOCK = 4096  # items whose companions are counted at a time
_NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
Places = NDArray[np.int64]


def item_pairs(
    matrix: csr_matrix,
    *,
    min_together: int = 3,
    top: int = 10,
    cap: int = 50,
    kind: Literal["cosine", "swing"] = "cosine",
    history: int = 200,
    smoothing: float = 1.0,
    seed: int = 0,
) -> Pairs:
    """Find pairs of items that users like together: for each item its `top` companions by score.

    `cosine` scores c_ij / sqrt(c_i c_j), c the users that like both or one. `swing` scores the sum over pairs of users
    who both like i and j of 1 / (smoothing + number of items that both like) (Yang et al., "Large Scale Product
    Graph Construction for Recommendation in E-commerce", 2020, without its user weights): two who share few other
    items count more. It goes over items one at a time, with at most `history` users each: about a minute for
    20,000 items.

    Args:
        matrix: csr [U, I], above 0 where a user likes an item.
        min_together: least number of users that like both.
        cap: most pairs of one item, so that popular items do not dominate.
        history: most items of one user, drawn at random where there are more.

    Returns:
        int32 [P, 2], first < second, each pair once, in order; and their scores, float32 [P].
    """
    if kind not in ("cosine", "swing"):
        raise ColdstartError(f"no pairs by {kind!r}: choose cosine or swing")
    liked = _at_most(_binary(matrix), history, seed)
    columns = liked.T.tocsr()
    counts = np.diff(columns.indptr).astype(np.float32)
    items = liked.shape[1]
    swing = _Swing(_at_most(columns, history, seed), smoothing) if kind == "swing" else None
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    for start in range(0, items, _BLOCK):
        together = (columns[start : start + _BLOCK] @ liked).tocoo()
        first, second = together.row.astype(np.int64) + start, together.col.astype(np.int64)
        kept = (first != second) & (together.data >= min_together)
        first, second, count = first[kept], second[kept], together.data[kept]
        scores = count / np.sqrt(counts[first] * counts[second]) if swing is None else swing.scores(first, second)
        best = _rank_within(first, scores, second) < top
        found.append((first[best], second[best], scores[best].astype(np.float32)))
    first, second, scores = (np.concatenate(part) for part in zip(*found, strict=True)) if found else _NOTHING
    keys = np.minimum(first, second) * items + np.maximum(first, second)
    keys, places = np.unique(keys, return_index=True)
    return _capped(keys // max(items, 1), keys % max(items, 1), scores[places], cap)


def user_pairs(
    matrix: csr_matrix,
    vectors: Vectors,
    *,
    times: csr_matrix | None = None,
    last: int = 50,
    cap: int = 50,
    seed: int = 0,
) -> Pairs:
    """Pair each liked item with the most similar other item that its user likes.

    Args:
        matrix: csr [U, I], above 0 where a user likes an item.
        vectors: float [I, D], of length one or zero, compared by cosine. An item with zeros is in no pair.
        times: times of the entries of `matrix`, same places: the `last` of a user are its latest. Without, drawn.
        cap: as for `item_pairs`.

    Returns:
        As `item_pairs`; the score of a pair is the number of its users.
    """
    some = np.any(vectors != 0, axis=1)
    liked = _at_most(_binary(matrix), last, seed, times)
    users, places = np.repeat(np.arange(liked.shape[0]), np.diff(liked.indptr)), liked.indices.astype(np.int64)
    users, places = users[some[places]], places[some[places]]
    starts = np.searchsorted(users, np.arange(liked.shape[0] + 1))
    lengths = np.diff(starts)
    mate = np.full(len(places), -1, np.int64)
    order = np.argsort(lengths, kind="stable")  # users of one length are one batch, without padding
    for length in np.unique(lengths[lengths > 1]):
        chosen = order[np.searchsorted(lengths[order], length) : np.searchsorted(lengths[order], length, "right")]
        step = max(1, (1 << 22) // (int(length) * vectors.shape[1]))
        for at in range(0, len(chosen), step):
            rows = starts[chosen[at : at + step]][:, None] + np.arange(length)
            own = vectors[places[rows]]
            alike = own @ own.transpose(0, 2, 1)
            alike[:, np.arange(length), np.arange(length)] = -np.inf
            mate[rows] = np.take_along_axis(places[rows], alike.argmax(axis=2), axis=1)
    first, second = places[mate >= 0], mate[mate >= 0]
    width = max(liked.shape[1], 1)
    keys, times_made = np.unique(np.minimum(first, second) * width + np.maximum(first, second), return_counts=True)
    return _capped(keys // width, keys % width, times_made.astype(np.float32), cap)


class _Swing:
    """Swing scores of pairs of items, by users who like both."""

    def __init__(self, likers: csr_matrix, smoothing: float) -> None:
        """`likers`: csr [I, U]."""
        self._likers, self._users, self._smoothing = likers, likers.T.tocsr(), smoothing

    def scores(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score pairs whose first items ascend, float32 [P]."""
        scores = np.zeros(len(first), np.float32)
        items, starts = np.unique(first, return_index=True)
        for item, start, end in zip(items, starts, [*starts[1:], len(first)], strict=True):
            likers = self._likers.indices[self._likers.indptr[item] : self._likers.indptr[item + 1]]
            rows = self._users[likers]
            weights = 1 / (self._smoothing + (rows @ rows.T).toarray())
            np.fill_diagonal(weights, 0)
            both = rows[:, second[start:end]].toarray()
            scores[start:end] = (both * (weights @ both)).sum(axis=0) / 2
        return scores


def _binary(matrix: csr_matrix) -> csr_matrix:
    from scipy.sparse import csr_matrix

    found = csr_matrix(matrix, dtype=np.float32, copy=True)
    found.sum_duplicates()
    found.data = (found.data > 0).astype(np.float32)
    found.eliminate_zeros()
    return found


def _at_most(matrix: csr_matrix, count: int, seed: int, by: csr_matrix | None = None) -> csr_matrix:
    """Limit rows to `count` entries: drawn, or the greatest in `by`."""
    from scipy.sparse import csr_matrix

    lengths = np.diff(matrix.indptr)
    if lengths.max(initial=0) <= count:
        return matrix
    rows = np.repeat(np.arange(matrix.shape[0]), lengths)
    order = np.random.default_rng(seed).random(matrix.nnz)
    if by is not None:
        order = np.asarray(by[rows, matrix.indices], np.float64).ravel()
    kept = _rank_within(rows, order, matrix.indices) < count
    return csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)


def _rank_within(
    groups: NDArray[np.int64], scores: NDArray[np.floating], ties: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Rank rows in their groups by score, from 0, best first; ties by the lower of `ties`."""
    order = np.lexsort((ties, -scores, groups))
    ordered = groups[order]
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return ranks


def _capped(first: NDArray[np.int64], second: NDArray[np.int64], scores: NDArray[np.float32], cap: int) -> Pairs:
    """Select the pairs that are among the `cap` best of both their items."""
    ends, others = np.concatenate([first, second]), np.concatenate([second, first])
    within = _rank_within(ends, np.concatenate([scores, scores]), others) < cap
    kept = within[: len(first)] & within[len(first) :]
    return np.stack([first[kept], second[kept]], axis=1).astype(np.int32), scores[kept].astype(np.float32)


@dataclass(frozen=True)
class PairSource:
    """Source of training examples.

    Attributes:
        examples: int64 [P, 2]: an anchor and its positive item.
        known: csr [A, I]: above 0 for all positive items of an anchor.
        bags: anchors are histories, represented by the mean of some of their known items; otherwise they are items.
    """

    examples: Places
    known: csr_matrix
    bags: bool


@dataclass(frozen=True)
class Batch:
    """Batch of B pairs.

    Attributes:
        bags: int64 [B, m]: items whose mean is the anchor; items: int64 [B]: positives.
        others: int64 [r]: further negatives of all anchors; hard: int64 [B, h]: further negatives of each anchor.
        correction: sampling probabilities and known positives.
    """

    bags: Places
    items: Places
    others: Places
    hard: Places
    correction: SamplingCorrection


def source_of_pairs(pairs: NDArray[np.int32], items: int) -> PairSource:
    """Build a source with both items of each pair, in turn, as the anchor."""
    from scipy.sparse import csr_matrix, identity

    both = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int64)
    values = np.ones(len(both), np.float32)
    known = csr_matrix((values, both.T), shape=(items, items)) + identity(items, dtype=np.float32, format="csr")
    return PairSource(both, known.tocsr(), bags=False)


def source_of_histories(liked: csr_matrix, *, cap: int, seed: int) -> PairSource:
    """Build a source of liked items with the user's other likes as anchor; at most `cap` users an item, drawn."""
    from scipy.sparse import csr_matrix

    known = csr_matrix(liked)
    users = np.repeat(np.arange(known.shape[0]), np.diff(known.indptr))
    several = np.diff(known.indptr)[users] > 1
    examples = np.stack([users[several], known.indices[several]], axis=1).astype(np.int64)
    shuffled = np.random.default_rng(seed).permutation(examples)
    order = np.argsort(shuffled[:, 1], kind="stable")
    ordered = shuffled[order, 1]
    return PairSource(
        shuffled[order][np.arange(len(order)) - np.searchsorted(ordered, ordered) < cap], known, bags=True
    )


class Batches:
    """Batches of a source, determined by the seed alone."""

    def __init__(
        self,
        source: PairSource,
        met: Places,
        categories: Sequence[str | None],
        *,
        size: int,
        bag: int,
        others: int,
        hard: int,
        log_q: bool,
        seed: int,
    ) -> None:
        """Prepare sampling from a source.

        Args:
            met: items that further negatives are drawn from, evenly: `others` a batch, and `hard` an anchor, of the
                category of its positive.
            categories: category of every item.
            size: anchors a batch; at most an eighth of the examples.
            bag: items drawn of a history, with replacement.
            log_q: correct for sampling frequency; without, all items and anchors count as drawn equally often.
        """
        self._source, self._met, self._bag, self._others, self._hard = source, met, bag, others, hard
        self._random = np.random.default_rng(seed)
        self._size = max(2, min(size, -(-len(source.examples) // 8)))
        shares = [
            np.bincount(column, minlength=length) / len(column)
            for column, length in zip(source.examples.T, source.known.shape, strict=True)
        ]
        shares[1][met] += others / (self._size * len(met))  # an item is drawn as a positive, or as one of the others
        self._log_q = [np.log(np.maximum(share, 1e-12)).astype(np.float32) * log_q for share in shares]
        self._by_category = _ItemsByCategory(categories, met)
        self._hard_log_q = float(log_q)

    def epoch(self, most: int) -> Iterator[Batch]:
        """Generate batches of each example once, in a new order each time; at most `most` examples."""
        examples = self._random.permutation(self._source.examples)[:most]
        for start in range(0, len(examples) - 1, self._size):
            yield self._batch(*examples[start : start + self._size].T)

    def _batch(self, anchors: Places, items: Places) -> Batch:
        known = self._source.known[anchors]
        hard, log_q_hard = self._by_category.draw(items, self._hard, self._random)
        others = self._random.choice(self._met, self._others)
        seconds = np.concatenate([items, others])
        columns = np.concatenate([seconds, hard.ravel()])
        wanted, places = np.unique(columns, return_inverse=True)
        mask = (known[:, wanted].toarray() > 0)[:, places]
        rows = np.arange(len(items))
        known_hard = mask[:, len(seconds) :].reshape(len(items), len(items), self._hard)[rows, rows]
        arrays = (
            self._log_q[0][anchors],
            self._log_q[1][seconds],
            mask[:, : len(seconds)],
            log_q_hard * self._hard_log_q,
            known_hard,
        )
        bags = self._bags(known, items) if self._source.bags else anchors[:, None]
        return Batch(
            bags,
            items,
            others,
            hard,
            SamplingCorrection(*(torch.from_numpy(np.ascontiguousarray(part)) for part in arrays)),
        )

    def _bags(self, known: csr_matrix, items: Places) -> Places:
        """Draw known items of each row, except the item itself."""
        lengths = np.diff(known.indptr).astype(np.int64)
        rows = np.repeat(np.arange(len(items)), lengths)
        own = np.flatnonzero(known.indices == items[rows])  # exactly one a row, and rows ascend
        steps = (self._random.random((len(items), self._bag)) * (lengths - 1)[:, None]).astype(np.int64)
        places = known.indptr[:-1].astype(np.int64)[:, None] + steps
        places += places >= own[:, None]
        found: Places = known.indices[places].astype(np.int64)
        return found


class _ItemsByCategory:
    """Items by category, to draw from; items without one are a category of their own."""

    def __init__(self, categories: Sequence[str | None], items: Places) -> None:
        names = np.array(["" if name is None else f"={name}" for name in categories], dtype=object).astype(str)
        self._category = np.unique(names, return_inverse=True)[1]
        self._items = items[np.argsort(self._category[items], kind="stable")]
        self._sizes = np.bincount(self._category[items], minlength=self._category.max(initial=0) + 1)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def draw(self, of: Places, count: int, random: np.random.Generator) -> tuple[Places, NDArray[np.float32]]:
        """Draw `count` items [B, count] of the category of each, with the log of their frequency in a batch.

        A batch then estimates the sum over all items twice for those of the category: they weigh double.
        """
        category = self._category[of]
        sizes = self._sizes[category][:, None]
        places = self._starts[category][:, None] + (random.random((len(of), count)) * sizes).astype(np.int64)
        often = np.log(max(count, 1) / (len(of) * sizes))
        return self._items[places], np.broadcast_to(often, places.shape).astype(np.float32)

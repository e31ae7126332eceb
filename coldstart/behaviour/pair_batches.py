"""Batches for `pair_loss`: anchors, each with an item that goes with it, from pairs of items or from histories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from coldstart.behaviour.pair_loss import Drawn

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """What is drawn from.

    Attributes:
        examples: int64 [P, 2]: an anchor and an item that goes with it.
        known: csr [A, I]: above 0 for all items that go with an anchor.
        bags: anchors are histories, and stand for the mean of some of their known items; otherwise they are items.
    """

    examples: Places
    known: csr_matrix
    bags: bool


@dataclass(frozen=True)
class Batch:
    """`bags` int64 [B, m]: items whose mean is the anchor; `items` int64 [B]; further negatives: `others` int64 [r] for
    all anchors, `hard` int64 [B, h] for each."""

    bags: Places
    items: Places
    others: Places
    hard: Places
    drawn: Drawn


def of_pairs(pairs: NDArray[np.int32], items: int) -> Source:
    """Both items of each pair, in turn, as the anchor."""
    from scipy.sparse import csr_matrix, identity

    both = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int64)
    values = np.ones(len(both), np.float32)
    known = csr_matrix((values, both.T), shape=(items, items)) + identity(items, dtype=np.float32, format="csr")
    return Source(both, known.tocsr(), bags=False)


def of_histories(liked: csr_matrix, *, cap: int, seed: int) -> Source:
    """Each item that a user likes with the others that the same user likes; at most `cap` users an item, drawn."""
    from scipy.sparse import csr_matrix

    known = csr_matrix(liked)
    users = np.repeat(np.arange(known.shape[0]), np.diff(known.indptr))
    several = np.diff(known.indptr)[users] > 1
    examples = np.stack([users[several], known.indices[several]], axis=1).astype(np.int64)
    shuffled = np.random.default_rng(seed).permutation(examples)
    order = np.argsort(shuffled[:, 1], kind="stable")
    ordered = shuffled[order, 1]
    return Source(shuffled[order][np.arange(len(order)) - np.searchsorted(ordered, ordered) < cap], known, bags=True)


class Batches:
    """Endless epochs of a source; what comes is set by the seed alone."""

    def __init__(
        self,
        source: Source,
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
        """
        Args:
            met: items that further negatives are drawn from, evenly; `others` a batch, and `hard` an anchor, of the
                category of the item that goes with it.
            categories: of all items.
            size: anchors a batch; at most an eighth of the examples.
            bag: items drawn of a history, with repetition.
            log_q: without, all items and anchors are taken to be drawn as often.
        """
        self._source, self._met, self._bag, self._others, self._hard = source, met, bag, others, hard
        self._random = np.random.default_rng(seed)
        self._size = max(2, min(size, -(-len(source.examples) // 8)))
        shares = [
            np.bincount(column, minlength=length) / len(column)
            for column, length in zip(source.examples.T, source.known.shape, strict=True)
        ]
        shares[1][met] += others / (self._size * len(met))  # an item comes as another's own, or as one of the others
        self._log_q = [np.log(np.maximum(share, 1e-12)).astype(np.float32) * log_q for share in shares]
        self._shelves = _Shelves(categories, met)
        self._hard_log_q = float(log_q)

    def epoch(self, most: int) -> Iterator[Batch]:
        """Each example once, in another order each time; at most `most` of them."""
        examples = self._random.permutation(self._source.examples)[:most]
        for start in range(0, len(examples) - 1, self._size):
            yield self._batch(*examples[start : start + self._size].T)

    def _batch(self, anchors: Places, items: Places) -> Batch:
        known = self._source.known[anchors]
        hard, log_q_hard = self._shelves.draw(items, self._hard, self._random)
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
            bags, items, others, hard, Drawn(*(torch.from_numpy(np.ascontiguousarray(part)) for part in arrays))
        )

    def _bags(self, known: csr_matrix, items: Places) -> Places:
        """Known items of each row, none of them the item itself."""
        lengths = np.diff(known.indptr).astype(np.int64)
        rows = np.repeat(np.arange(len(items)), lengths)
        own = np.flatnonzero(known.indices == items[rows])  # exactly one a row, and rows ascend
        steps = (self._random.random((len(items), self._bag)) * (lengths - 1)[:, None]).astype(np.int64)
        places = known.indptr[:-1].astype(np.int64)[:, None] + steps
        places += places >= own[:, None]
        found: Places = known.indices[places].astype(np.int64)
        return found


class _Shelves:
    """Items by category, to draw from; those without one are a category of their own."""

    def __init__(self, categories: Sequence[str | None], items: Places) -> None:
        names = np.array(["" if name is None else f"={name}" for name in categories], dtype=object).astype(str)
        self._shelf = np.unique(names, return_inverse=True)[1]
        self._items = items[np.argsort(self._shelf[items], kind="stable")]
        self._sizes = np.bincount(self._shelf[items], minlength=self._shelf.max(initial=0) + 1)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def draw(self, of: Places, count: int, random: np.random.Generator) -> tuple[Places, NDArray[np.float32]]:
        """`count` items [B, count] of the category of each, and log of how often a place of a batch would hold each.

        A batch then estimates the sum over all items twice for those of the category: they weigh double.
        """
        shelf = self._shelf[of]
        sizes = self._sizes[shelf][:, None]
        places = self._starts[shelf][:, None] + (random.random((len(of), count)) * sizes).astype(np.int64)
        often = np.log(max(count, 1) / (len(of) * sizes))
        return self._items[places], np.broadcast_to(often, places.shape).astype(np.float32)

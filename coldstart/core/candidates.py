"""Candidates of requests: the union of what several channels list, with the rank and score that each gave an item.

A request is a history, oldest item first, and the time it is made at. Items are numbered by their place in a list that
all channels share. Plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RRF_K = 60
Histories = Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class ChannelLists:
    """Lists of R requests by one channel, best first.

    Attributes:
        places: of items, int64 [R, k], -1 for an empty slot; scores: float32 [R, k], -inf there.
    """

    places: NDArray[np.int64]
    scores: NDArray[np.float32]


class CandidateChannel(Protocol):
    """Channel that names candidates.

    To make training rows of a ranker, it must have been fitted on rows before the requests alone.

    Attributes:
        name: such as `cooccurrence`.
    """

    name: str

    def candidates(
        self,
        histories: Histories,
        k: int,
        before: NDArray[np.int64] | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> ChannelLists:
        """List up to k items for each history, without those in it.

        Args:
            before: seconds of each request; among: the only items that may be listed, bool [N], or of each request,
                bool [R, N].
        """
        ...

    def scores(
        self, histories: Histories, places: NDArray[np.int64], before: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Score any items, int64 [R, M] with -1 for none: float32 [R, M], NaN where the channel knows no score."""
        ...


@dataclass(frozen=True)
class Candidates:
    """Candidates of R requests, n in all, C channels; ordered by request.

    Attributes:
        channels: their names.
        requests: number of the request of each candidate, int64 [n]; places: of its item, int64 [n].
        ranks: from 1, float32 [n, C]; scores: float32 [n, C]; NaN where a channel did not name the item, or knows none.
        cold: items that few or no users had met, bool [n].
        starts: where the candidates of each request start, int64 [R + 1].
    """

    channels: tuple[str, ...]
    requests: NDArray[np.int64]
    places: NDArray[np.int64]
    ranks: NDArray[np.float32]
    scores: NDArray[np.float32]
    cold: NDArray[np.bool_]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def sources(self, row: int) -> tuple[tuple[str, int], ...]:
        """Name the channels that listed a candidate, with its rank in each, the best rank first."""
        own = [(name, int(rank)) for name, rank in zip(self.channels, self.ranks[row], strict=True) if rank > 0]
        return tuple(sorted(own, key=lambda one: one[1]))

    def fused(self) -> NDArray[np.float32]:
        """Score candidates by reciprocal rank fusion (Cormack, Clarke and Büttcher 2009), float32 [n]."""
        return fused_ranks(self.ranks)


def fused_ranks(ranks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum 1 / (60 + rank) over channels, of float32 [n, C] with NaN where a channel named none: float32 [n]."""
    found: NDArray[np.float32] = np.nansum(1 / (RRF_K + ranks), axis=1).astype(np.float32)
    return found


def join(lists: Mapping[str, ChannelLists], cold: NDArray[np.bool_]) -> Candidates:
    """Join the lists of channels to candidates, each item once a request.

    Args:
        lists: channel -> lists of the same requests; cold: bool [items].
    """
    names = tuple(lists)
    count = len(next(iter(lists.values())).places) if lists else 0
    keys, ranks, scores, owners = [], [], [], []
    width = len(cold) + 1
    for number, name in enumerate(names):
        rows, slots = np.nonzero(lists[name].places >= 0)
        keys.append(rows * width + lists[name].places[rows, slots])
        ranks.append(slots + 1)
        scores.append(lists[name].scores[rows, slots])
        owners.append(np.full(len(rows), number))
    every = np.concatenate(keys) if keys else np.empty(0, np.int64)
    distinct, where = np.unique(every, return_inverse=True)
    requests, places = distinct // width, distinct % width
    own_ranks = np.full((len(distinct), len(names)), np.nan, np.float32)
    own_scores = own_ranks.copy()
    if len(every):
        columns = np.concatenate(owners)
        own_ranks[where, columns] = np.concatenate(ranks)
        own_scores[where, columns] = np.concatenate(scores)
    starts = np.searchsorted(requests, np.arange(count + 1))
    return Candidates(names, requests, places, own_ranks, own_scores, cold[places], starts)

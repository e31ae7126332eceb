"""What lists are scored by: the space of behaviour, or where nothing is fitted, content alone.

Either way an item and a user are vectors, and their product is the score. Knows no rules and no words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Vectors
from coldstart.behaviour.content import Content
from coldstart.behaviour.histories import decayed, medoids, unit
from coldstart.interactions import Interactions

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.behaviour.fitted import Behaviour

LATEST = 500
"""So many of a history are asked for its interests."""
ROWS = 2048
"""Users at a time."""


@dataclass(frozen=True)
class Tastes:
    """Items as vectors, and users by what they liked.

    Attributes:
        name: `behaviour`, or the spaces of content.
        item_ids: N of them; vectors: float32 [N, D]; cold: bool [N].
        columns: items of which histories may be made, H of them.
        users_of: csr [B, H] -> float32 [B, D]; zero for an empty history.
        learnt: whether scores come from behaviour; else the medoid of an interest asks for all of it.
    """

    name: str
    item_ids: tuple[str, ...]
    vectors: Vectors
    cold: NDArray[np.bool_]
    columns: tuple[str, ...]
    users_of: Callable[[csr_matrix], Vectors]
    learnt: bool

    @cached_property
    def places(self) -> dict[str, int]:
        """item_id -> place among the items."""
        return {item: place for place, item in enumerate(self.item_ids)}

    def of(self, item_ids: tuple[str, ...]) -> Vectors:
        """Vectors of items, zero for one that has none: float32 [M, D]."""
        found = np.zeros((len(item_ids), self.vectors.shape[1]), np.float32)
        own = [(row, self.places[item]) for row, item in enumerate(item_ids) if item in self.places]
        if own:
            rows, places = np.array(own, np.intp).T
            found[rows] = self.vectors[places]
        return found

    def likes(self, rows: Interactions, half_life_s: float | None, min_weight: float | None) -> csr_matrix:
        """What users liked, csr float32 [U, H]: latest first within a row, each item once, by its latest row.

        Values are 1, or less the longer before the user's last one it was.
        """
        from scipy.sparse import csr_matrix

        liked = rows.positive(min_weight)
        last = np.full(len(rows.user_ids), np.iinfo(np.int64).min)
        np.maximum.at(last, liked.users, liked.times)
        ages = last[liked.users] - liked.times
        known = replace(liked, weights=decayed(np.ones(len(liked), np.float32), ages, half_life_s)).over(self.columns)
        order = np.lexsort((known.items, -known.times, known.users))
        pairs = known.users[order].astype(np.int64) * len(self.columns) + known.items[order]
        kept = order[np.sort(np.unique(pairs, return_index=True)[1])]
        starts = np.concatenate([[0], np.cumsum(np.bincount(known.users[kept], minlength=len(rows.user_ids)))])
        shape = (len(rows.user_ids), len(self.columns))
        return csr_matrix((known.weights[kept], known.items[kept], starts), shape=shape)

    def queries(self, likes: csr_matrix, interests: int) -> Vectors:
        """What users ask with, float32 [B, C, D]; zero rows where a user has fewer interests, or none.

        Args:
            likes: [B, H], as `likes` gives them; some thousand rows at a time.
        """
        if interests <= 1:
            return self.users_of(likes)[:, None, :]
        parts: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        at: list[tuple[int, int]] = []
        for row in range(likes.shape[0]):
            own = slice(likes.indptr[row], min(likes.indptr[row + 1], likes.indptr[row] + LATEST))
            columns, weights = likes.indices[own], likes.data[own]
            chosen, owners = medoids(self._past(columns), weights, interests)
            for number, medoid in enumerate(chosen):
                members = np.flatnonzero(owners == number) if self.learnt else np.array([medoid])
                parts.append((columns[members], weights[members]))
                at.append((row, number))
        found = np.zeros((likes.shape[0], interests, self.vectors.shape[1]), np.float32)
        if at:
            rows, numbers = np.array(at, np.intp).T
            found[rows, numbers] = self.users_of(_rows(parts, len(self.columns)))
        return found

    def _past(self, columns: NDArray[np.int32]) -> Vectors:
        return self.of(tuple(self.columns[column] for column in columns))

    def average(self, likes: csr_matrix) -> Vectors:
        """What users with any history ask with on average, float32 [D]; zero where there is none."""
        asked = likes[np.diff(likes.indptr) > 0]
        total = np.zeros(self.vectors.shape[1])
        for start in range(0, asked.shape[0], ROWS):
            total += self.users_of(asked[start : start + ROWS]).sum(axis=0, dtype=np.float64)
        return np.asarray(total / max(asked.shape[0], 1), np.float32)

    def only(self, places: NDArray[np.intp]) -> Tastes:
        """The same with some of the items."""
        chosen = tuple(self.item_ids[place] for place in places)
        return replace(self, item_ids=chosen, vectors=self.vectors[places], cold=self.cold[places])


def of_behaviour(item_ids: list[str], vectors: Vectors, fitted: Behaviour) -> Tastes:
    """By a fit of behaviour and the rows of its space."""
    cold = ~fitted.is_warm(item_ids)
    return Tastes("behaviour", tuple(item_ids), vectors, cold, fitted.item_ids, fitted.users, learnt=True)


def of_content(content: Content, cold: NDArray[np.bool_]) -> Tastes:
    """By content alone: a user is the mean of what was liked, and a score its cosine in the joined spaces."""
    joined = look(content)
    there = np.flatnonzero(np.any(joined != 0, axis=1))
    vectors = joined[there]
    item_ids = tuple(content.item_ids[place] for place in there)

    def users_of(histories: csr_matrix) -> Vectors:
        return unit(np.asarray(histories @ vectors, np.float32))

    return Tastes(", ".join(content.blocks), item_ids, vectors, cold[there], item_ids, users_of, learnt=False)


def look(content: Content) -> Vectors:
    """Unit vectors of all spaces beside each other, each counting alike; zero where an item has none at all."""
    if not content.blocks:
        return np.zeros((len(content), 1), np.float32)
    return unit(np.concatenate([unit(block) for block in content.blocks.values()], axis=1))


def _rows(parts: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]], width: int) -> csr_matrix:
    """Columns and weights as rows, csr [B, width]."""
    from scipy.sparse import csr_matrix

    starts = np.cumsum([0, *(len(columns) for columns, _ in parts)])
    columns = np.concatenate([columns for columns, _ in parts])
    weights = np.concatenate([weights for _, weights in parts])
    return csr_matrix((weights, columns, starts), shape=(len(parts), width), dtype=np.float32)

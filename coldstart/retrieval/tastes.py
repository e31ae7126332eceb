"""What lists are scored by: the space of behaviour, or where nothing is fitted, content alone.

Either way an item and a user are vectors, and their product is the score. Knows no rules and no words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Vectors
from coldstart.behaviour.content import Content
from coldstart.behaviour.histories import decayed, medoids, unit

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.behaviour.fitted import Behaviour
    from coldstart.retrieval.user_history import History

LATEST = 500
"""So many of a history are asked for its interests."""
_ROWS = 4096


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

    @cached_property
    def columns_of(self) -> dict[str, int]:
        """item_id -> column of histories."""
        return {item: place for place, item in enumerate(self.columns)}

    def of(self, item_ids: tuple[str, ...]) -> Vectors:
        """Vectors of items, zero for one that has none: float32 [M, D]."""
        found = np.zeros((len(item_ids), self.vectors.shape[1]), np.float32)
        own = [(row, self.places[item]) for row, item in enumerate(item_ids) if item in self.places]
        if own:
            rows, places = np.array(own, np.intp).T
            found[rows] = self.vectors[places]
        return found

    def users(self, histories: csr_matrix) -> Iterator[Vectors]:
        """Vectors of users, some thousand rows at a time."""
        for start in range(0, histories.shape[0], _ROWS):
            yield self.users_of(histories[start : start + _ROWS])

    def queries(self, history: History, interests: int, half_life_s: float | None) -> Vectors:
        """What one user asks with, float32 [C, D], C from 1 to `interests`; a zero row where the history says nothing.

        Args:
            history: liked items, each once, latest first.
        """
        known = [place for place, item in enumerate(history.item_ids) if item in self.columns_of]
        weights = decayed(np.ones(len(history), np.float32), history.ages_s, half_life_s)[known]
        columns = np.array([self.columns_of[history.item_ids[place]] for place in known], np.int64)
        if interests <= 1 or len(known) < 2:
            return self.users_of(self._rows([(columns, weights)]))
        columns, weights = columns[:LATEST], weights[:LATEST]
        vectors = self.of(tuple(self.columns[column] for column in columns))
        chosen, owners = medoids(vectors, weights, interests)
        parts = []
        for number, medoid in enumerate(chosen):
            own = np.flatnonzero(owners == number) if self.learnt else np.array([medoid])
            parts.append((columns[own], weights[own]))
        return self.users_of(self._rows(parts))

    def _rows(self, parts: list[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> csr_matrix:
        """Histories as rows, csr [B, H]."""
        from scipy.sparse import csr_matrix

        lengths = np.cumsum([0, *(len(columns) for columns, _ in parts)])
        columns = np.concatenate([columns for columns, _ in parts])
        weights = np.concatenate([weights for _, weights in parts])
        return csr_matrix((weights, columns, lengths), shape=(len(parts), len(self.columns)), dtype=np.float32)

    def average(self, histories: csr_matrix) -> Vectors:
        """What users with any history like on average, float32 [1, D]; zero where there is none."""
        asked = histories[np.diff(histories.indptr) > 0]
        if not asked.shape[0]:
            return np.zeros((1, self.vectors.shape[1]), np.float32)
        total = sum(block.sum(axis=0, dtype=np.float64) for block in self.users(asked))
        return np.asarray(total / asked.shape[0], np.float32)[None]

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

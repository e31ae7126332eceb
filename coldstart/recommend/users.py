"""What lists are scored by: the space of behaviour, or where nothing is fitted, content alone.

Either way an item and a user are vectors, and their product is the score. Knows no rules and no words.

What a long history says: what counts how much, which interests it holds, and which of it a new item is like.

Plain vectors in, plain numbers out. A history must end before the request: what came later is not to be known.

What one user did, from the table of interactions or from JSON. Knows no vectors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions, interactions
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.fusion import Content

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.recommend.model.fitted import Behaviour


Reals = NDArray[np.floating[Any]]


Indices = NDArray[np.intp]


_ROUNDS = 20


def decay_weights(weights: Reals, ages_s: NDArray[Any], half_life_s: float | None) -> NDArray[np.float32]:
    """Weights halved with every half-life of age; as they are where there is none. An age below 0 counts as 0.

    Raises:
        ValueError: a half-life that is not above 0.
    """
    if half_life_s is None:
        return np.asarray(weights, np.float32)
    if half_life_s <= 0:
        raise ValueError(f"a half-life of {half_life_s:g} s: give one above 0")
    aged = np.exp2(-np.maximum(np.asarray(ages_s, np.float64), 0) / half_life_s)
    return np.asarray(weights * aged, np.float32)


def interests(
    vectors: Vectors, weights: Reals, ages_s: NDArray[Any], *, count: int, half_life_s: float | None
) -> tuple[Vectors, NDArray[np.float32]]:
    """Up to `count` vectors that stand for a history, each one of its own, and their shares of its decayed weight.

    Medoids and not means: between two interests lies nothing that anybody asked for (Pal et al., PinnerSage, KDD 2020).

    Args:
        vectors: [H, D]; weights: [H], at least 0; ages_s: [H] seconds before the request.

    Returns:
        float32 [C, D], by falling share; float32 [C], of sum 1. C is less than `count` where the history has fewer
        different vectors, 0 for an empty one.
    """
    places, owners = medoids(vectors, decay_weights(weights, ages_s, half_life_s), count)
    counted = decay_weights(weights, ages_s, half_life_s)
    shares = np.bincount(owners, counted, minlength=len(places))
    shares = shares / max(shares.sum(), np.finfo(np.float64).tiny)
    order = np.argsort(-shares, kind="stable")
    return np.asarray(vectors[places][order], np.float32), shares[order].astype(np.float32)


def medoids(vectors: Vectors, weights: Reals, count: int) -> tuple[Indices, Indices]:
    """k-medoids by cosine: greedy seeds (the BUILD of Kaufman and Rousseeuw's PAM, 1990), then alternating rounds.

    Memory is H x H: meant for the last few hundred of a history, not for a catalogue.

    Returns:
        Places of the medoids [C], and for each of the history the number of its medoid [H].
    """
    if not len(vectors) or count < 1:
        return np.empty(0, np.intp), np.zeros(len(vectors), np.intp)
    rows = unit(vectors)
    far = np.clip(1 - rows @ rows.T, 0, 2).astype(np.float64)
    np.fill_diagonal(far, 0)
    mass = np.asarray(weights, np.float64)
    chosen = [int((far @ mass).argmin())]
    nearest = far[chosen[0]].copy()
    while len(chosen) < min(count, len(rows)):
        gain = np.maximum(nearest - far, 0) @ mass
        gain[chosen] = -1
        best = int(gain.argmax())
        if gain[best] <= 1e-9 * max(mass.sum(), 1e-30):
            break
        chosen.append(best)
        nearest = np.minimum(nearest, far[best])
    places = np.array(chosen, np.intp)
    for _ in range(_ROUNDS):
        owners = far[places].argmin(axis=0)
        moved = places.copy()
        for number in range(len(places)):
            own = np.flatnonzero(owners == number)
            if len(own):
                moved[number] = own[(far[np.ix_(own, own)] @ mass[own]).argmin()]
        if (moved == places).all():
            break
        places = moved
    return places, far[places].argmin(axis=0)


def most_similar(target: Vectors, history: Vectors, k: int) -> tuple[Indices, NDArray[np.float32]]:
    """Places in a history [H, D] of the k most like a target [D], and their cosines; equal ones by place."""
    if not len(history):
        return np.empty(0, np.intp), np.empty(0, np.float32)
    cosines = unit(history) @ unit(target[None])[0]
    order = np.argsort(-cosines, kind="stable")[:k]
    return order, cosines[order]


LATEST = 500
"""So many of a history are asked for its interests."""


ROWS = 2048
"""Users at a time."""


@dataclass(frozen=True)
class ScoringModel:
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
        known = replace(liked, weights=decay_weights(np.ones(len(liked), np.float32), ages, half_life_s)).over(
            self.columns
        )
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

    def only(self, places: NDArray[np.intp]) -> ScoringModel:
        """The same with some of the items."""
        chosen = tuple(self.item_ids[place] for place in places)
        return replace(self, item_ids=chosen, vectors=self.vectors[places], cold=self.cold[places])


def behaviour_scoring(item_ids: list[str], vectors: Vectors, fitted: Behaviour) -> ScoringModel:
    """By a fit of behaviour and the rows of its space."""
    cold = ~fitted.is_warm(item_ids)
    return ScoringModel("behaviour", tuple(item_ids), vectors, cold, fitted.item_ids, fitted.users, learnt=True)


def content_scoring(content: Content, cold: NDArray[np.bool_]) -> ScoringModel:
    """By content alone: a user is the mean of what was liked, and a score its cosine in the joined spaces."""
    joined = joined_vectors(content)
    there = np.flatnonzero(np.any(joined != 0, axis=1))
    vectors = joined[there]
    item_ids = tuple(content.item_ids[place] for place in there)

    def users_of(histories: csr_matrix) -> Vectors:
        return unit(np.asarray(histories @ vectors, np.float32))

    return ScoringModel(", ".join(content.blocks), item_ids, vectors, cold[there], item_ids, users_of, learnt=False)


def joined_vectors(content: Content) -> Vectors:
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


SHAPE = '[{"item_id": …, "timestamp": …, "event": …, "weight": …}]'


_MICRO = 1_000_000


@dataclass(frozen=True)
class History:
    """Rows of one user, in no order.

    Attributes:
        item_ids: of each row; times: seconds since 1970, int64 [H]; weights: float32 [H]; events: empty for none.
    """

    item_ids: tuple[str, ...]
    times: NDArray[np.int64]
    weights: NDArray[np.float32]
    events: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.item_ids)

    def liked(self, min_weight: float | None) -> History:
        """Each item that was liked, once, by its latest such row; latest first."""
        speaks = self.weights > 0 if min_weight is None else self.weights >= min_weight
        order = [place for place in np.argsort(-self.times, kind="stable") if speaks[place]]
        latest: dict[str, int] = {}
        for place in order:
            latest.setdefault(self.item_ids[place], int(place))
        return self._take(list(latest.values()))

    def first(self, most: int) -> History:
        """The first so many rows."""
        return self._take(range(min(most, len(self))))

    def _take(self, places: Sequence[int]) -> History:
        chosen = np.array(places, np.intp)
        return History(
            tuple(self.item_ids[place] for place in chosen),
            self.times[chosen],
            self.weights[chosen],
            tuple(self.events[place] for place in chosen),
        )

    def rows(self, user_id: str) -> Interactions:
        """The same as rows of one user."""
        count = len(self)
        if not count:
            nothing = np.empty(0, np.int32)
            return Interactions((user_id,), (), nothing, nothing, self.times, self.weights)
        return interactions([user_id] * count, self.item_ids, self.times, self.weights)


def history_from_rows(rows: pa.Table) -> History:
    """Rows of the table of interactions."""
    times = rows["timestamp"].cast(pa.int64()).to_numpy() // _MICRO
    events = tuple(event or "" for event in rows["event"].to_pylist())
    return History(tuple(rows["item_id"].to_pylist()), times, rows["weight"].to_numpy().astype(np.float32), events)


def history_from_json(text: str | Sequence[Any], *, weight: float = 1.0) -> History:
    """A history as JSON text, or as the list that it holds: objects, or item ids alone.

    A row without `timestamp` (ISO 8601, or seconds) is as late as the last; one without `weight` has that of
    the argument, since what is named with no word against it is meant as liked.

    Raises:
        ColdstartError: it is none; with the number of the entry, from 1.
    """
    try:
        entries = json.loads(text) if isinstance(text, str) else list(text)
    except ValueError as error:
        raise ColdstartError(f"the history is not JSON ({error}): give {SHAPE}") from None
    if not isinstance(entries, list):
        raise ColdstartError(f"the history is no list: give {SHAPE}")
    rows = [_row(entry, number, weight) for number, entry in enumerate(entries, start=1)]
    last = max((time for _, time, _, _ in rows if time is not None), default=0)
    return History(
        tuple(item for item, _, _, _ in rows),
        np.array([last if time is None else time for _, time, _, _ in rows], np.int64),
        np.array([weight for _, _, weight, _ in rows], np.float32),
        tuple(event for _, _, _, event in rows),
    )


def _row(entry: Any, number: int, default: float) -> tuple[str, int | None, float, str]:
    if isinstance(entry, str):
        entry = {"item_id": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("item_id"), str | int) or entry["item_id"] == "":
        raise ColdstartError(f"entry {number} of the history has no item_id: give {SHAPE}")
    weight = entry.get("weight", default)
    if not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ColdstartError(f"entry {number} of the history: weight {weight!r} is no number")
    return str(entry["item_id"]), _seconds(entry.get("timestamp"), number), float(weight), str(entry.get("event") or "")


def _seconds(value: Any, number: int) -> int | None:
    if value is None:
        return None
    try:
        if isinstance(value, int | float):
            datetime.fromtimestamp(value, UTC)
            return int(value)
        moment = datetime.fromisoformat(value)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (TypeError, ValueError, OverflowError, OSError):
        raise ColdstartError(
            f"entry {number} of the history: timestamp {value!r} is neither ISO 8601 nor seconds since 1970"
        ) from None

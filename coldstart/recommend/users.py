"""Model users by their histories: interests, decayed weights, and the vectors that score items for them.

A scoring model is the space of a behaviour fit, or content alone where nothing is fitted; in both an item and a user
are vectors whose product is the score. Histories come from rows of the interactions table or from JSON. A history must
end before the request: later rows must not be known. Knows no rules of lists and no texts of items.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions, interactions
from coldstart.core.values import is_missing, parse_id, parse_time
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.fusion import Content

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.recommend.model.fitted import Behaviour

Reals = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]
_ROUNDS = 20  # of k-medoids at most
MAX_HISTORY = 500
"""Latest items of a history that interests and reasons are computed from."""
BATCH_USERS = 2048
"""Users scored in one batch."""
_FIRST_DATE = 19_000_101
HISTORY_FORMAT = '[{"item_id": …, "timestamp": …, "event": …, "weight": …}]'
_MICRO = 1_000_000


def decay_weights(weights: Reals, ages_s: NDArray[Any], half_life_s: float | None) -> NDArray[np.float32]:
    """Decay weights by half with every half-life of age; without a half-life they stay. An age below 0 counts as 0.

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
    """Find up to `count` vectors of a history that represent its interests, and their shares of its decayed weight.

    Medoids, not means: the mean of two interests is near neither (Pal et al., PinnerSage, KDD 2020).

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
    """Cluster vectors by k-medoids on cosine: greedy seeds (BUILD of Kaufman and Rousseeuw's PAM, 1990), then rounds.

    Memory is H x H: for the last few hundred items of a history, not for a catalogue.

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
    """Find the k items of a history [H, D] most similar to a target [D]: places and cosines; equal ones by place."""
    if not len(history):
        return np.empty(0, np.intp), np.empty(0, np.float32)
    cosines = unit(history) @ unit(target[None])[0]
    order = np.argsort(-cosines, kind="stable")[:k]
    return order, cosines[order]


@dataclass(frozen=True)
class ScoringModel:
    """Scoring model: vectors of items, and of users from their histories.

    Attributes:
        name: `behaviour`, or the spaces of content.
        item_ids: N of them; vectors: float32 [N, D]; cold: bool [N].
        columns: items that a history may contain, H of them.
        users_of: csr [B, H] -> float32 [B, D]; zero for an empty history.
        is_fitted: whether scores come from a fit of behaviour. Without one, an interest is represented by its medoid.
    """

    name: str
    item_ids: tuple[str, ...]
    vectors: Vectors
    cold: NDArray[np.bool_]
    columns: tuple[str, ...]
    users_of: Callable[[csr_matrix], Vectors]
    is_fitted: bool

    @cached_property
    def places(self) -> dict[str, int]:
        """Place of each item among the items: item_id -> place."""
        return {item: place for place, item in enumerate(self.item_ids)}

    def item_vectors(self, item_ids: tuple[str, ...]) -> Vectors:
        """Look up vectors of items, float32 [M, D]; zero for an item without one."""
        found = np.zeros((len(item_ids), self.vectors.shape[1]), np.float32)
        own = [(row, self.places[item]) for row, item in enumerate(item_ids) if item in self.places]
        if own:
            rows, places = np.array(own, np.intp).T
            found[rows] = self.vectors[places]
        return found

    def likes(self, rows: Interactions, half_life_s: float | None, min_weight: float | None) -> csr_matrix:
        """Collect the liked items of users, csr float32 [U, H]: latest first within a row, each item once.

        Values are 1, or with a half-life less the longer before the user's last liked item.
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

    def query_vectors(self, likes: csr_matrix, interests: int) -> Vectors:
        """Compute the vectors that users are scored with, float32 [B, C, D]; zero rows for missing interests.

        Args:
            likes: [B, H], from `likes`; some thousand rows at a time.
        """
        if interests <= 1:
            return self.users_of(likes)[:, None, :]
        parts: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        at: list[tuple[int, int]] = []
        for row in range(likes.shape[0]):
            own = slice(likes.indptr[row], min(likes.indptr[row + 1], likes.indptr[row] + MAX_HISTORY))
            columns, weights = likes.indices[own], likes.data[own]
            chosen, owners = medoids(self._past(columns), weights, interests)
            for number, medoid in enumerate(chosen):
                members = np.flatnonzero(owners == number) if self.is_fitted else np.array([medoid])
                parts.append((columns[members], weights[members]))
                at.append((row, number))
        found = np.zeros((likes.shape[0], interests, self.vectors.shape[1]), np.float32)
        if at:
            rows, numbers = np.array(at, np.intp).T
            found[rows, numbers] = self.users_of(_rows(parts, len(self.columns)))
        return found

    def _past(self, columns: NDArray[np.int32]) -> Vectors:
        return self.item_vectors(tuple(self.columns[column] for column in columns))

    def average_user(self, likes: csr_matrix) -> Vectors:
        """Average the vectors of users with a history, float32 [D]; zero where there are none."""
        known = likes[np.diff(likes.indptr) > 0]
        total = np.zeros(self.vectors.shape[1])
        for start in range(0, known.shape[0], BATCH_USERS):
            total += self.users_of(known[start : start + BATCH_USERS]).sum(axis=0, dtype=np.float64)
        return np.asarray(total / max(known.shape[0], 1), np.float32)

    def subset(self, places: NDArray[np.intp]) -> ScoringModel:
        """Restrict the model to some of its items, in that order."""
        chosen = tuple(self.item_ids[place] for place in places)
        return replace(self, item_ids=chosen, vectors=self.vectors[places], cold=self.cold[places])


def behaviour_scoring(item_ids: list[str], vectors: Vectors, fitted: Behaviour) -> ScoringModel:
    """Build the scoring model of a behaviour fit from the rows of its space."""
    cold = ~fitted.is_warm(item_ids)
    return ScoringModel("behaviour", tuple(item_ids), vectors, cold, fitted.item_ids, fitted.users, is_fitted=True)


def content_scoring(content: Content, cold: NDArray[np.bool_]) -> ScoringModel:
    """Build a scoring model from content alone: a user is the mean of the liked items, a score is a cosine."""
    joined = joined_vectors(content)
    present = np.flatnonzero(np.any(joined != 0, axis=1))
    vectors = joined[present]
    item_ids = tuple(content.item_ids[place] for place in present)

    def users_of(histories: csr_matrix) -> Vectors:
        return unit(np.asarray(histories @ vectors, np.float32))

    return ScoringModel(
        ", ".join(content.blocks), item_ids, vectors, cold[present], item_ids, users_of, is_fitted=False
    )


def joined_vectors(content: Content) -> Vectors:
    """Concatenate the unit vectors of all spaces with equal weight, float32 [N, D]; zero for an item without any."""
    if not content.blocks:
        return np.zeros((len(content), 1), np.float32)
    return unit(np.concatenate([unit(block) for block in content.blocks.values()], axis=1))


def _rows(parts: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]], width: int) -> csr_matrix:
    """Assemble columns and weights into rows, csr [B, width]."""
    from scipy.sparse import csr_matrix

    starts = np.cumsum([0, *(len(columns) for columns, _ in parts)])
    columns = np.concatenate([columns for columns, _ in parts])
    weights = np.concatenate([weights for _, weights in parts])
    return csr_matrix((weights, columns, starts), shape=(len(parts), width), dtype=np.float32)


@dataclass(frozen=True)
class History:
    """Interactions of one user, in no order.

    Attributes:
        item_ids: item of each row; times: seconds since 1970, int64 [H]; weights: float32 [H]; events: empty for none.
    """

    item_ids: tuple[str, ...]
    times: NDArray[np.int64]
    weights: NDArray[np.float32]
    events: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.item_ids)

    def liked(self, min_weight: float | None) -> History:
        """Select the liked items, each once by its latest such row; latest first."""
        positive = self.weights > 0 if min_weight is None else self.weights >= min_weight
        order = [place for place in np.argsort(-self.times, kind="stable") if positive[place]]
        latest: dict[str, int] = {}
        for place in order:
            latest.setdefault(self.item_ids[place], int(place))
        return self._take(list(latest.values()))

    def in_order(self, min_weight: float | None) -> tuple[str, ...]:
        """List the liked items in order of time, each once by its latest such row; of equal times in order of rows."""
        positive = self.weights > 0 if min_weight is None else self.weights >= min_weight
        order = [self.item_ids[place] for place in np.argsort(self.times, kind="stable") if positive[place]]
        return tuple(reversed(dict.fromkeys(reversed(order))))

    def first(self, most: int) -> History:
        """Take the first rows, at most `most`."""
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
        """Convert to interactions of one user."""
        count = len(self)
        if not count:
            nothing = np.empty(0, np.int32)
            return Interactions((user_id,), (), nothing, nothing, self.times, self.weights)
        return interactions([user_id] * count, self.item_ids, self.times, self.weights)


def history_from_rows(rows: pa.Table) -> History:
    """Read a history from rows of the interactions table."""
    times = rows["timestamp"].cast(pa.int64()).to_numpy() // _MICRO
    events = tuple(event or "" for event in rows["event"].to_pylist())
    return History(tuple(rows["item_id"].to_pylist()), times, rows["weight"].to_numpy().astype(np.float32), events)


def history_from_json(text: str | Sequence[Any], *, weight: float = 1.0) -> History:
    """Read a history from JSON text or from its list: objects, or item ids alone.

    A row without `timestamp` (ISO 8601, or seconds since 1970) is as late as the last; one without `weight` gets the
    `weight` of the argument, so that a bare item id counts as liked.

    Raises:
        ColdstartError: it is not a history; names the entry by its number, from 1.
    """
    if isinstance(text, str) and not text.strip():
        raise ColdstartError(f"the history is empty: give {HISTORY_FORMAT}, or [] for a visitor without likes")
    try:
        entries = json.loads(text) if isinstance(text, str) else list(text)
    except ValueError as error:
        raise ColdstartError(f"the history is not JSON ({error}): give {HISTORY_FORMAT}") from None
    if not isinstance(entries, list):
        raise ColdstartError(f"the history is not a list: give {HISTORY_FORMAT}")
    rows = [_row(entry, number, weight) for number, entry in enumerate(entries, start=1)]
    last = max((time for _, time, _, _ in rows if time is not None), default=0)
    return History(
        tuple(item for item, _, _, _ in rows),
        np.array([last if time is None else time for _, time, _, _ in rows], np.int64),
        np.array([weight for _, _, weight, _ in rows], np.float32),
        tuple(event for _, _, _, event in rows),
    )


def _row(entry: Any, number: int, default: float) -> tuple[str, int | None, float, str]:
    entry = entry if isinstance(entry, Mapping) else {"item_id": entry}
    given = entry.get("item_id")
    if isinstance(given, bool) or not isinstance(given, str | int | float) or is_missing(given):
        raise ColdstartError(f"entry {number} of the history has no item_id: give {HISTORY_FORMAT}")
    try:
        item_id = str(parse_id(given))
    except ValueError as error:
        raise ColdstartError(f"entry {number} of the history: item_id {given!r}: {error}") from None
    weight = default if is_missing(entry.get("weight")) else entry["weight"]
    if not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ColdstartError(f"entry {number} of the history: weight {weight!r} is not a finite number")
    return item_id, _seconds(entry.get("timestamp"), number), float(weight), str(entry.get("event") or "")


def _seconds(value: Any, number: int) -> int | None:
    if is_missing(value):
        return None
    if isinstance(value, int | float) and 0 < value < _FIRST_DATE:  # places in an order, which some use as times
        return int(value)
    try:
        return int(parse_time(value).timestamp())
    except (TypeError, ValueError):
        raise ColdstartError(
            f"entry {number} of the history: timestamp {value!r} is neither ISO 8601 nor seconds since 1970"
        ) from None

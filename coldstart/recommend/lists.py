"""Lists for users out of vectors: who may be on them, how many of what kind, and what is left to chance.

The steps, in this order:
1. a shelf holds what filters let through (kind, condition, freshness); what a user has seen is left out;
2. exact scores: the product of an item's vector with a user's, or the best over a user's several interests;
3. cold items are boosted, if wanted, by standard deviations of the list's own scores;
4. of one creator no more than so many are kept, the best of them;
5. picking, from a pool deeper than the list: by score, or against likeness (MMR, DPP), with a share kept for cold items
   in every beginning of the list;
6. exploration last: a share of slots goes to cold items by chance, and every slot gets the probability of what stands
   there. Were the list reordered after that, the probabilities would be wrong.
Plain arrays in and out; knows no tables and no words.

Pools of candidates: rows of places with what each is worth, joined, capped and put on one scale.

Rows are users; a place of -1 is nothing, and is worth -inf.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.scoring import Scorer
from coldstart.recommend.rerank import Quota, dpp, explore, mmr, relevance_weight

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


Places = NDArray[np.int64]


POOL = 200  # candidates that a list is picked from, at least


BASE_RATE = 0.1
"""Rate of clicks that a new item of middling score is expected to have, where nobody counted impressions."""


@dataclass(frozen=True)
class Candidates:
    """N items that may be recommended.

    Attributes:
        vectors: float32 [N, D].
        cold: bool [N].
        creators: int64 [N], -1 where one has none; None: nobody asks.
        looks: what likeness is judged by, float32 [N, E]; by default `vectors`.
        clicks, impressions: how often each was shown and liked, [N]; None: nobody counted.
    """

    item_ids: tuple[str, ...]
    vectors: Vectors
    cold: NDArray[np.bool_]
    creators: NDArray[np.int64] | None = None
    looks: Vectors | None = None
    clicks: NDArray[np.int64] | None = None
    impressions: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def columns(self) -> dict[str, int]:
        """item_id -> place."""
        return {item: place for place, item in enumerate(self.item_ids)}


@dataclass(frozen=True)
class Rules:
    """What a list should be like.

    Attributes:
        top_k: its length.
        per_creator: at most so many of one creator.
        cold_share: of its first n at least so great a share is cold, as far as there are cold items; cold_boost: or
            cold items score so many standard deviations more.
        explore: expected share of slots that go to cold items by chance; seed: of that chance.
        diversity: 0 by score alone, 1 by difference alone; diversify: how.
        merge: how lists of several interests become one: by the best score, or by reciprocal rank (Cormack, Clarke and
            Büttcher 2009).
    """

    top_k: int = 20
    per_creator: int | None = None
    cold_share: float = 0.0
    cold_boost: float = 0.0
    explore: float = 0.0
    seed: int = 0
    diversity: float = 0.0
    diversify: Literal["mmr", "dpp"] = "mmr"
    merge: Literal["max", "rrf"] = "max"

    def __post_init__(self) -> None:
        """Raise `ColdstartError` for what cannot be meant."""
        for name in ("cold_share", "explore", "diversity"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ColdstartError(f"{name} {value:g}: give a number from 0 to 1")
        if self.top_k < 1 or (self.per_creator is not None and self.per_creator < 1):
            raise ColdstartError(f"top_k {self.top_k}, per_creator {self.per_creator}: ask for 1 or more")
        if self.cold_share and self.cold_boost:
            raise ColdstartError("give cold_share or cold_boost, not both: each decides how many cold items are listed")
        for name, known in (("diversify", ("mmr", "dpp")), ("merge", ("max", "rrf"))):
            if getattr(self, name) not in known:
                raise ColdstartError(f"{name} {getattr(self, name)!r}: use {' or '.join(known)}")

    @property
    def plain(self) -> bool:
        """Whether a list is the best by score and nothing else."""
        default = {field.name: field.default for field in fields(self) if field.name not in ("top_k", "seed", "merge")}
        return all(getattr(self, name) == value for name, value in default.items())


@dataclass(frozen=True)
class Lists:
    """Lists of B users, K slots each; empty slots stand at the end, with place -1, score -inf and propensity 0.

    Attributes:
        places: int64 [B, K], places on the shelf.
        scores: float32 [B, K], products of vectors, as they are before any rule.
        explored: bool [B, K]; propensity: float64 [B, K], 1 where nothing is left to chance.
    """

    places: Places
    scores: NDArray[np.float32]
    explored: NDArray[np.bool_]
    propensity: NDArray[np.float64]


class ListBuilder:
    """A shelf and its rules, ready for many users."""

    def __init__(self, shelf: Candidates, rules: Rules, *, device: str = "auto") -> None:
        self.shelf, self.rules = shelf, rules
        apart = rules.cold_share > 0 or rules.cold_boost != 0 or rules.explore > 0
        parts = [np.flatnonzero(shelf.cold), np.flatnonzero(~shelf.cold)] if apart else [np.arange(len(shelf))]
        self._parts = [(own, Scorer(shelf.vectors[own], device=device)) for own in parts if len(own)]

    def lists(self, queries: Vectors, seen: csr_matrix | None = None, names: tuple[str, ...] | None = None) -> Lists:
        """Lists of users.

        Args:
            queries: their vectors, float32 [B, D], or [B, C, D] for C interests each; an interest of zeros is none.
            seen: csr [B, N]: what is stored there is left out.
            names: of the users: chance differs from user to user, and is the same for one in every batch.
        """
        asked = queries[:, None, :] if queries.ndim == 2 else queries
        if not len(self.shelf):
            none = np.full((len(asked), self.rules.top_k), -1, np.int64)
            return Lists(none, self.scores(asked, none), none >= 0, np.zeros(none.shape))
        depth = min(len(self.shelf), self.rules.top_k if self.rules.plain else max(POOL, 10 * self.rules.top_k))
        while True:
            places, worth = self._pool(asked, seen, depth)
            if self.rules.per_creator is not None and self.shelf.creators is not None:
                places, worth = cap_per_creator(places, worth, self.shelf.creators, self.rules.per_creator)
            found = self._picked(places, worth)
            short = (found[:, -1:] < 0).any() if self.rules.per_creator is not None else False
            if not short or depth >= len(self.shelf):
                break
            depth = min(len(self.shelf), 4 * depth)
        explored, propensity = np.zeros(found.shape, bool), (found >= 0).astype(np.float64)
        if self.rules.explore:
            for row in range(len(found)):
                name = names[row] if names else str(row)
                found[row], explored[row], propensity[row] = self._explored(name, found[row], places[row], worth[row])
        return Lists(found, self.scores(asked, found), explored, propensity)

    def scores(self, queries: Vectors, places: Places) -> NDArray[np.float32]:
        """Product of each listed item with the nearest interest of its user, float32 [B, K]; -inf at place -1."""
        if not len(self.shelf):
            return np.full(places.shape, -np.inf, np.float32)
        products = np.einsum("bcd,bkd->bck", queries, self.shelf.vectors[np.maximum(places, 0)])
        products = np.where(present_interests(queries)[:, :, None], products, -np.inf).max(axis=1)
        return np.where(places < 0, -np.inf, products).astype(np.float32)

    def _pool(self, asked: Vectors, seen: csr_matrix | None, depth: int) -> tuple[Places, NDArray[np.float64]]:
        """Candidates [B, M] by falling worth, -1 and -inf at the end; worth is the score, or a sum of ranks."""
        users, interests, width = asked.shape
        joined, values = [np.empty((users, 0), np.int64)], [np.empty((users, 0))]
        for own, scorer in self._parts:
            left_out = None if seen is None else repeat_rows(seen if len(self._parts) == 1 else seen[:, own], interests)
            found, scores = scorer.top_k(asked.reshape(-1, width), min(depth, len(own)), exclude=left_out)
            found, scores = found.reshape(users, interests, -1), scores.reshape(users, interests, -1)
            if interests > 1:
                merged, worth = merge_interests(found, scores, present_interests(asked), self.rules.merge)
            else:
                merged, worth = found[:, 0], scores[:, 0].astype(np.float64)
            joined.append(np.where(merged < 0, -1, own[merged]))
            values.append(worth)
        places, worth = np.concatenate(joined, axis=1), np.concatenate(values, axis=1)
        if self.rules.cold_boost:
            worth = worth + self.rules.cold_boost * row_deviation(worth) * ((places >= 0) & self.shelf.cold[places])
        return sort_by_score(places, worth)

    def _picked(self, places: Places, worth: NDArray[np.float64]) -> Places:
        """The list of each user out of the pool, [B, K]; -1 at the end where it is short."""
        rules, count = self.rules, len(places)
        found = np.full((count, rules.top_k), -1, np.int64)
        quota = Quota((places >= 0) & self.shelf.cold[places], rules.cold_share) if rules.cold_share else None
        if not rules.diversity and quota is None:
            found[:, : places.shape[1]] = places[:, : rules.top_k]
            return found
        if rules.diversity:
            looks = self.shelf.vectors if self.shelf.looks is None else self.shelf.looks
            chosen, relevance = looks[np.maximum(places, 0)], min_max_scaled(worth)
        else:
            chosen, relevance = np.zeros((*places.shape, 1), np.float32), worth
        if rules.diversity and rules.diversify == "dpp":
            order = dpp(relevance, chosen, rules.top_k, relevance_weight(rules.diversity), quota=quota)
        else:
            order = mmr(relevance, chosen, rules.top_k, 1 - rules.diversity, quota=quota)
        return np.where(order < 0, -1, np.take_along_axis(places, np.maximum(order, 0), axis=1))

    def _explored(self, name: str, listed: Places, pool: Places, worth: NDArray[np.float64]) -> tuple[Any, Any, Any]:
        """One list with chance in it; see `exploration.explore`."""
        shelf = self.shelf
        fit = (pool >= 0) & shelf.cold[pool] & ~np.isin(pool, listed)
        if self.rules.per_creator is not None and shelf.creators is not None:
            fit &= ~np.isin(shelf.creators[pool], shelf.creators[listed[listed >= 0]]) | (shelf.creators[pool] < 0)
            fit[fit] = occurrence_ranks(shelf.creators[pool[fit]][None])[0] == 0
        candidates = pool[fit]
        clicks, impressions = shelf.clicks, shelf.impressions
        rates = _rates(worth[fit], BASE_RATE if clicks is None or impressions is None else _rate(clicks, impressions))
        seed = int.from_bytes(sha256(f"{self.rules.seed}\0{name}".encode()).digest()[:8], "big")
        drawn = explore(
            listed,
            candidates,
            rates,
            None if clicks is None else clicks[candidates],
            None if impressions is None else impressions[candidates],
            share=self.rules.explore,
            rng=np.random.default_rng(seed),
        )
        there = drawn.places >= 0
        order = np.argsort(~there, kind="stable")
        return drawn.places[order], drawn.explored[order], np.where(there, drawn.propensity, 0)[order]


def _rates(worth: NDArray[np.float64], base: float) -> NDArray[np.float64]:
    """Expected rates of candidates: that of all, more or less by how their worth stands among them."""
    if not len(worth):
        return np.empty(0)
    spread = worth.std()
    standing = (worth - worth.mean()) / spread if spread > 0 else np.zeros(len(worth))
    return np.asarray(1 / (1 + np.exp(-(np.log(base / (1 - base)) + standing))), np.float64)


def _rate(clicks: NDArray[np.int64], impressions: NDArray[np.int64]) -> float:
    """Clicks an impression over all items, kept off 0 and 1."""
    return float(np.clip((clicks.sum() + BASE_RATE) / (impressions.sum() + 1), 0.001, 0.999))


Worth = NDArray[np.float64]


RRF_K = 60


def present_interests(queries: Vectors) -> NDArray[np.bool_]:
    """Which interests are any, bool [B, C]; the first always is, so that every user gets a list."""
    found: NDArray[np.bool_] = np.any(queries != 0, axis=2)
    found[:, 0] = True
    return found


def repeat_rows(rows: csr_matrix, times: int) -> csr_matrix:
    return rows if times == 1 else rows[np.repeat(np.arange(rows.shape[0]), times)]


def merge_interests(
    places: Places, scores: NDArray[np.float32], there: NDArray[np.bool_], how: str
) -> tuple[Places, NDArray[np.float64]]:
    """One pool out of those of several interests [B, C, P], each item once: [B, C * P]."""
    count, _, depth = places.shape
    places = np.where(there[:, :, None], places, -1)
    ranks = 1 / (RRF_K + 1 + np.arange(depth))
    worth = np.where(places < 0, -np.inf, scores if how == "max" else np.broadcast_to(ranks, places.shape))
    flat, values = places.reshape(count, -1), worth.reshape(count, -1).astype(np.float64)
    order = np.lexsort((-values, flat), axis=1)
    flat, values = np.take_along_axis(flat, order, 1), np.take_along_axis(values, order, 1)
    first = np.ones(flat.shape, bool)
    first[:, 1:] = flat[:, 1:] != flat[:, :-1]
    if how == "rrf":
        starts = np.flatnonzero(first.ravel())
        totals = np.add.reduceat(np.where(np.isneginf(values), 0, values).ravel(), starts)
        values[first] = totals
    kept = first & (flat >= 0)
    return sort_by_score(np.where(kept, flat, -1), np.where(kept, values, -np.inf))


def sort_by_score(places: Places, worth: NDArray[np.float64]) -> tuple[Places, NDArray[np.float64]]:
    """By falling worth, then place; what is not there at the end."""
    worth = np.where(places < 0, -np.inf, worth)
    order = np.lexsort((places, -worth), axis=1)
    return np.take_along_axis(places, order, 1), np.take_along_axis(worth, order, 1)


def occurrence_ranks(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same code stand before each in its row; 0 for -1."""
    order = np.argsort(codes, axis=1, kind="stable")
    ranked = np.take_along_axis(codes, order, 1)
    at = np.broadcast_to(np.arange(codes.shape[1]), codes.shape)
    first = np.ones(codes.shape, bool)
    first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    since = at - np.maximum.accumulate(np.where(first, at, 0), axis=1)
    found = np.empty(codes.shape, np.int64)
    np.put_along_axis(found, order, since, 1)
    return np.where(codes < 0, 0, found)


def cap_per_creator(
    places: Places, worth: NDArray[np.float64], creators: NDArray[np.int64], most: int
) -> tuple[Places, NDArray[np.float64]]:
    """The pool without what goes beyond so many of one creator."""
    if not places.size:
        return places, worth
    codes = np.where(places < 0, -1, creators[places])
    return sort_by_score(np.where(occurrence_ranks(codes) < most, places, -1), worth)


def row_deviation(worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each row's finite values, [B, 1]; 0 for none."""
    there = np.isfinite(worth)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    mean = np.where(there, worth, 0).sum(axis=1, keepdims=True) / count
    found: NDArray[np.float64] = np.sqrt(np.where(there, (worth - mean) ** 2, 0).sum(axis=1, keepdims=True) / count)
    return found


def min_max_scaled(worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row from 0 to 1; -inf stays."""
    there = np.isfinite(worth)
    low = np.where(there, worth, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, worth, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    wide = np.where(np.isfinite(high - low) & (high > low), high - low, 1)
    return np.where(there, (np.where(there, worth, 0) - np.where(np.isfinite(low), low, 0)) / wide, -np.inf)

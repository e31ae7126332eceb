"""Build lists of items for users from vectors: candidates, rules, and slots drawn for exploration.

The steps, in this order: candidates by exact score (the product of an item's vector with a user's, or the best over
several interests), without what the user has seen; a boost for cold items in standard deviations of the list's own
scores; at most so many items of one creator; selection from a pool deeper than the list, by score or against
similarity (MMR, DPP), with a share of cold items in every beginning of the list; exploration last, since reordering
after it would make the propensities wrong. In all pools rows are users; place -1 is an empty slot with score -inf.
Plain arrays in and out: knows no tables and no texts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.core.candidates import RRF_K
from coldstart.core.diversity import Quota, dpp, mmr, relevance_weight
from coldstart.errors import ColdstartError
from coldstart.recommend.explore import explore
from coldstart.recommend.model import Vectors
from coldstart.recommend.model.scoring import Scorer
from coldstart.store.published import check_top_k

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Places = NDArray[np.int64]
POOL = 200  # least number of candidates that a list is selected from
BASE_RATE = 0.1
"""Expected click rate of a new item of average score, where impressions were not counted."""
_MOST_LOWERED, _STEPS = 8.0, 16  # deviations that cold items are lowered by for the average user; halvings of it


@dataclass(frozen=True)
class Candidates:
    """Items that may be recommended, N of them.

    Attributes:
        vectors: float32 [N, D].
        cold: bool [N].
        creators: int64 [N], -1 where an item has none; None: no rule needs them.
        similarity_vectors: vectors that diversity compares, float32 [N, E]; by default `vectors`.
        clicks, impressions: how often each item was liked and shown, [N]; None: not counted.
    """

    item_ids: tuple[str, ...]
    vectors: Vectors
    cold: NDArray[np.bool_]
    creators: NDArray[np.int64] | None = None
    similarity_vectors: Vectors | None = None
    clicks: NDArray[np.int64] | None = None
    impressions: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Place of each item: item_id -> place."""
        return {item: place for place, item in enumerate(self.item_ids)}


@dataclass(frozen=True)
class Rules:
    """Rules of a list.

    Attributes:
        top_k: length of the list.
        per_creator: at most so many of one creator.
        cold_share: least share of cold items among the first n, for every n, as far as there are cold items; with 0
            none is guaranteed and none is left out: they are listed where their scores put them.
        cold_boost: standard deviations added to the scores of cold items; not together with `cold_share`.
        explore: expected share of slots that go to cold items drawn by Thompson sampling; seed: of those draws.
        diversity: 0 selects by score alone, 1 by dissimilarity alone; diversify: the method, `mmr` or `dpp`.
        merge: how candidates of several interests are joined: `max`, by the best score, or `rrf`, by reciprocal rank
            fusion (Cormack, Clarke and Büttcher 2009).
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
        """Raise `ColdstartError` for a value out of range, or for rules that exclude each other."""
        for name in ("cold_share", "explore", "diversity"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ColdstartError(f"{name} {value:g}: give a number from 0 to 1")
        check_top_k(self.top_k)
        if self.per_creator is not None and self.per_creator < 1:
            raise ColdstartError(f"per_creator {self.per_creator}: ask for 1 or more")
        if self.cold_share and self.cold_boost:
            raise ColdstartError("give cold_share or cold_boost, not both: each decides how many cold items are listed")
        for name, known in (("diversify", ("mmr", "dpp")), ("merge", ("max", "rrf"))):
            if getattr(self, name) not in known:
                raise ColdstartError(f"{name} {getattr(self, name)!r}: use {' or '.join(known)}")

    @property
    def is_score_only(self) -> bool:
        """Tell whether a list is the best items by score and nothing else."""
        default = {field.name: field.default for field in fields(self) if field.name not in ("top_k", "seed", "merge")}
        return all(getattr(self, name) == value for name, value in default.items())


@dataclass(frozen=True)
class Lists:
    """Lists of B users, K slots each; empty slots come last, with place -1, score -inf and propensity 0.

    Attributes:
        places: int64 [B, K], places among the candidates.
        scores: float32 [B, K], products of vectors before any rule.
        explored: bool [B, K]: slots given by exploration; propensity: float64 [B, K], the probability of the item at
            its slot, 1 where nothing is drawn.
    """

    places: Places
    scores: NDArray[np.float32]
    explored: NDArray[np.bool_]
    propensity: NDArray[np.float64]

    def replaced(self, rows: NDArray[np.intp], others: Lists) -> Lists:
        """Copy the lists with those of some users, [R], in the place of their own."""
        copies = {one.name: getattr(self, one.name).copy() for one in fields(self)}
        for name, array in copies.items():
            array[rows] = getattr(others, name)
        return Lists(**copies)


class ListBuilder:
    """Builder of lists for many users from fixed candidates and rules."""

    def __init__(self, candidates: Candidates, rules: Rules, *, device: str = "auto") -> None:
        self.candidates, self.rules, self._device = candidates, rules, device
        apart = rules.cold_share > 0 or rules.cold_boost != 0 or rules.explore > 0
        parts = [np.flatnonzero(candidates.cold), np.flatnonzero(~candidates.cold)]
        parts = parts if apart else [np.arange(len(candidates))]
        self._parts = [(own, Scorer(candidates.vectors[own], device=device)) for own in parts if len(own)]

    def lists(self, queries: Vectors, seen: csr_matrix | None = None, names: tuple[str, ...] | None = None) -> Lists:
        """Build lists of users.

        Args:
            queries: user vectors, float32 [B, D], or [B, C, D] for C interests each; an interest of zeros is absent.
            seen: csr [B, N]: stored entries are left out.
            names: user ids, which seed exploration: one user gets the same draws in every batch.
        """
        interests = queries[:, None, :] if queries.ndim == 2 else queries
        if not len(self.candidates):
            none = np.full((len(interests), self.rules.top_k), -1, np.int64)
            return Lists(none, self.scores(interests, none), none >= 0, np.zeros(none.shape))
        depth = min(
            len(self.candidates), self.rules.top_k if self.rules.is_score_only else max(POOL, 10 * self.rules.top_k)
        )
        while True:
            places, pool_scores = self._pool(interests, seen, depth)
            if self.rules.per_creator is not None and self.candidates.creators is not None:
                places, pool_scores = cap_per_creator(
                    places, pool_scores, self.candidates.creators, self.rules.per_creator
                )
            found = self._select(places, pool_scores)
            short = (found[:, -1:] < 0).any() if self.rules.per_creator is not None else False
            if not short or depth >= len(self.candidates):
                break
            depth = min(len(self.candidates), 4 * depth)
        explored, propensity = np.zeros(found.shape, bool), (found >= 0).astype(np.float64)
        if self.rules.explore:
            for row in range(len(found)):
                name = names[row] if names else str(row)
                found[row], explored[row], propensity[row] = self._explored(
                    name, found[row], places[row], pool_scores[row]
                )
        return Lists(found, self.scores(interests, found), explored, propensity)

    def for_average_user(self, average: Vectors, users: Vectors) -> ListBuilder:
        """Build lists for the average user, in which cold items have no larger share than in the lists of known users.

        Scores that are predicted from content err more than others, and items whose scores are too high for all users
        come first where users are averaged. So the scores of cold items are lowered by as many deviations as it takes.
        Rules that decide the share of cold items by themselves stay as they are.

        Args:
            average: float32 [D]; users: known ones, float32 [B, D].
        """
        rules, cold = self.rules, self.candidates.cold
        if rules.cold_share or rules.cold_boost or rules.explore or not len(users) or cold.all() or not cold.any():
            return self
        wanted = self._cold_share(users)
        if self._cold_share(average[None]) <= wanted:
            return self
        lowered = ListBuilder(self.candidates, replace(rules, cold_boost=-_MOST_LOWERED), device=self._device)
        low, high = _MOST_LOWERED, 0.0
        for _ in range(_STEPS):
            middle = (low + high) / 2
            lowered.rules = replace(rules, cold_boost=-middle)
            low, high = (middle, high) if lowered._cold_share(average[None]) <= wanted else (low, middle)
        lowered.rules = replace(rules, cold_boost=-low)
        return lowered

    def _cold_share(self, users: Vectors) -> float:
        """Compute the share of the places of these users' lists that cold items have."""
        found = self.lists(users).places
        filled = found[found >= 0]
        return float(self.candidates.cold[filled].mean()) if len(filled) else 0.0

    def scores(self, queries: Vectors, places: Places) -> NDArray[np.float32]:
        """Score listed items: the product with the nearest interest of the user, float32 [B, K]; -inf at place -1."""
        if not len(self.candidates):
            return np.full(places.shape, -np.inf, np.float32)
        products = np.einsum("bcd,bkd->bck", queries, self.candidates.vectors[np.maximum(places, 0)])
        products = np.where(present_interests(queries)[:, :, None], products, -np.inf).max(axis=1)
        return np.where(places < 0, -np.inf, products).astype(np.float32)

    def _pool(self, queries: Vectors, seen: csr_matrix | None, depth: int) -> tuple[Places, NDArray[np.float64]]:
        """Rank candidates [B, M] by falling score, -1 and -inf at the end; the score is a product or a sum of ranks."""
        users, interests, width = queries.shape
        joined, values = [np.empty((users, 0), np.int64)], [np.empty((users, 0))]
        for own, scorer in self._parts:
            left_out = None if seen is None else repeat_rows(seen if len(self._parts) == 1 else seen[:, own], interests)
            found, scores = scorer.top_k(queries.reshape(-1, width), min(depth, len(own)), exclude=left_out)
            found, scores = found.reshape(users, interests, -1), scores.reshape(users, interests, -1)
            if interests > 1:
                merged, pool_scores = merge_interests(found, scores, present_interests(queries), self.rules.merge)
            else:
                merged, pool_scores = found[:, 0], scores[:, 0].astype(np.float64)
            joined.append(np.where(merged < 0, -1, own[merged]))
            values.append(pool_scores)
        places, pool_scores = np.concatenate(joined, axis=1), np.concatenate(values, axis=1)
        if self.rules.cold_boost:
            pool_scores = pool_scores + self.rules.cold_boost * row_deviation(pool_scores) * (
                (places >= 0) & self.candidates.cold[places]
            )
        return sort_by_score(places, pool_scores)

    def _select(self, places: Places, pool_scores: NDArray[np.float64]) -> Places:
        """Select the list of each user from its pool, [B, K]; -1 at the end of a short list."""
        rules, count = self.rules, len(places)
        found = np.full((count, rules.top_k), -1, np.int64)
        quota = Quota((places >= 0) & self.candidates.cold[places], rules.cold_share) if rules.cold_share else None
        if not rules.diversity and quota is None:
            found[:, : places.shape[1]] = places[:, : rules.top_k]
            return found
        if rules.diversity:
            vectors = self.candidates.similarity_vectors
            vectors = self.candidates.vectors if vectors is None else vectors
            chosen, relevance = vectors[np.maximum(places, 0)], min_max_scaled(pool_scores)
        else:
            chosen, relevance = np.zeros((*places.shape, 1), np.float32), pool_scores
        if rules.diversity and rules.diversify == "dpp":
            order = dpp(relevance, chosen, rules.top_k, relevance_weight(rules.diversity), quota=quota)
        else:
            order = mmr(relevance, chosen, rules.top_k, 1 - rules.diversity, quota=quota)
        return np.where(order < 0, -1, np.take_along_axis(places, np.maximum(order, 0), axis=1))

    def _explored(
        self, name: str, listed: Places, pool: Places, pool_scores: NDArray[np.float64]
    ) -> tuple[Any, Any, Any]:
        """Add exploration to one list; see `coldstart.recommend.explore.explore`."""
        items = self.candidates
        fit = (pool >= 0) & items.cold[pool] & ~np.isin(pool, listed)
        if self.rules.per_creator is not None and items.creators is not None:
            fit &= ~np.isin(items.creators[pool], items.creators[listed[listed >= 0]]) | (items.creators[pool] < 0)
            fit[fit] = occurrence_ranks(items.creators[pool[fit]][None])[0] == 0
        candidates = pool[fit]
        clicks, impressions = items.clicks, items.impressions
        rates = _rates(
            pool_scores[fit], BASE_RATE if clicks is None or impressions is None else _rate(clicks, impressions)
        )
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
        present = drawn.places >= 0
        order = np.argsort(~present, kind="stable")
        return drawn.places[order], drawn.explored[order], np.where(present, drawn.propensity, 0)[order]


def _rates(pool_scores: NDArray[np.float64], base: float) -> NDArray[np.float64]:
    """Estimate click rates of candidates: the base rate, shifted on the logit scale by their standardised scores."""
    if not len(pool_scores):
        return np.empty(0)
    spread = pool_scores.std()
    deviations = (pool_scores - pool_scores.mean()) / spread if spread > 0 else np.zeros(len(pool_scores))
    return np.asarray(1 / (1 + np.exp(-(np.log(base / (1 - base)) + deviations))), np.float64)


def _rate(clicks: NDArray[np.int64], impressions: NDArray[np.int64]) -> float:
    """Compute clicks an impression over all items, clipped away from 0 and 1."""
    return float(np.clip((clicks.sum() + BASE_RATE) / (impressions.sum() + 1), 0.001, 0.999))


def present_interests(queries: Vectors) -> NDArray[np.bool_]:
    """Mark interests that are present, bool [B, C]; the first always is, so that every user gets a list."""
    found: NDArray[np.bool_] = np.any(queries != 0, axis=2)
    found[:, 0] = True
    return found


def repeat_rows(rows: csr_matrix, times: int) -> csr_matrix:
    """Repeat each row so many times, in order."""
    return rows if times == 1 else rows[np.repeat(np.arange(rows.shape[0]), times)]


def merge_interests(
    places: Places, scores: NDArray[np.float32], present: NDArray[np.bool_], how: str
) -> tuple[Places, NDArray[np.float64]]:
    """Merge the pools of several interests [B, C, P] into one, each item once: [B, C * P]."""
    count, _, depth = places.shape
    places = np.where(present[:, :, None], places, -1)
    ranks = 1 / (RRF_K + 1 + np.arange(depth))
    pool_scores = np.where(places < 0, -np.inf, scores if how == "max" else np.broadcast_to(ranks, places.shape))
    flat, values = places.reshape(count, -1), pool_scores.reshape(count, -1).astype(np.float64)
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


def sort_by_score(places: Places, pool_scores: NDArray[np.float64]) -> tuple[Places, NDArray[np.float64]]:
    """Sort by falling score, then place; empty slots last."""
    pool_scores = np.where(places < 0, -np.inf, pool_scores)
    order = np.lexsort((places, -pool_scores), axis=1)
    return np.take_along_axis(places, order, 1), np.take_along_axis(pool_scores, order, 1)


def occurrence_ranks(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count, for each code, the equal ones before it in its row; 0 for -1."""
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
    places: Places, pool_scores: NDArray[np.float64], creators: NDArray[np.int64], most: int
) -> tuple[Places, NDArray[np.float64]]:
    """Drop from a pool whatever goes beyond `most` items of one creator."""
    if not places.size:
        return places, pool_scores
    codes = np.where(places < 0, -1, creators[places])
    return sort_by_score(np.where(occurrence_ranks(codes) < most, places, -1), pool_scores)


def row_deviation(pool_scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the standard deviation of each row's finite values, [B, 1]; 0 for none."""
    present = np.isfinite(pool_scores)
    count = np.maximum(present.sum(axis=1, keepdims=True), 1)
    mean = np.where(present, pool_scores, 0).sum(axis=1, keepdims=True) / count
    found: NDArray[np.float64] = np.sqrt(
        np.where(present, (pool_scores - mean) ** 2, 0).sum(axis=1, keepdims=True) / count
    )
    return found


def min_max_scaled(pool_scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale each row to 0 to 1; -inf stays."""
    present = np.isfinite(pool_scores)
    low = np.where(present, pool_scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(present, pool_scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    wide = np.where(np.isfinite(high - low) & (high > low), high - low, 1)
    return np.where(present, (np.where(present, pool_scores, 0) - np.where(np.isfinite(low), low, 0)) / wide, -np.inf)

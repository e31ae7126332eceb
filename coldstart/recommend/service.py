"""Recommend items of an opened workspace: scoring model, histories and filters brought together for list builders.

A behaviour fit scores items; without one, content alone does, and a note says so. Only items of the published catalog
are listed. The rules of a list are in `coldstart.recommend.lists`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions, interactions
from coldstart.core.likes import find_likes
from coldstart.core.pipeline import Pipeline
from coldstart.core.vectors import spaced
from coldstart.errors import ColdstartError, NotFitted
from coldstart.recommend.inputs import FIT, load_content, load_item_vectors, load_newest_fit
from coldstart.recommend.lists import Candidates, ListBuilder, Rules
from coldstart.recommend.reasons import SCORES, Reason, Record, chance_cosine, explain
from coldstart.recommend.users import (
    MAX_HISTORY,
    History,
    ScoringModel,
    behaviour_scoring,
    content_scoring,
    history_from_rows,
    joined_vectors,
)
from coldstart.store import Store
from coldstart.store.empty import why_empty
from coldstart.store.freshness import PipelineState
from coldstart.store.impressions import ImpressionTable
from coldstart.store.interactions import INTERACTIONS, InteractionTable
from coldstart.store.similar import similar_ids
from coldstart.store.sql import equals

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.store.published import Published

WARM_MIN = 5
"""Users from which on an item is warm, where no fit decides."""
DISPLAY = ("kind", "title", "category", "price")
_CACHED = 4
_CONTENTS = 4096
"""Items whose vectors and records are kept for reasons: some 12 kB each in the four spaces of the demo."""
_ItemContent: TypeAlias = "tuple[dict[str, NDArray[np.float32]], Record]"
_SAMPLED_USERS = 200  # known users with whose lists those of the average user are compared
_PAIRED = 100
"""Items of whose pairs the cosines of chance are measured."""


class Recommender:
    """Recommender over the published catalog of one workspace. Vectors are read once, histories at every call."""

    def __init__(self, store: Store, pipeline: Pipeline, catalog: Published, device: str = "auto") -> None:
        self.store, self.pipeline, self.catalog, self.device = store, pipeline, catalog, device
        self._list_builders: dict[Any, ListBuilder] = {}
        self._average_builders: dict[ListBuilder, ListBuilder] = {}
        self._contents: dict[str, _ItemContent] = {}
        self._content_lock = threading.Lock()
        self._next = "`coldstart finetune behaviour` learns from interactions"

    @cached_property
    def pipeline_state(self) -> PipelineState:
        """State of the pipeline's stages, with the fresh items of each."""
        return PipelineState(self.store, self.pipeline)

    @cached_property
    def scoring_model(self) -> ScoringModel:
        """Scoring model of the behaviour fit, or of content where nothing is fitted.

        Raises:
            ColdstartError: no item has a vector.
        """
        try:
            fitted, _ = load_newest_fit(self.store, self.pipeline)
        except NotFitted:
            pass
        else:
            try:
                item_ids, vectors = load_item_vectors(self.store, self.pipeline)
                return behaviour_scoring(item_ids, vectors, fitted)
            except NotFitted as error:
                self._next = str(error)
        content = load_content(self.store, self.pipeline, pipeline_state=self.pipeline_state)
        rows = self.interactions()
        users = dict(zip(rows.item_ids, rows.counts().tolist(), strict=True))
        cold = np.array([users.get(item, 0) < WARM_MIN for item in content.item_ids], bool)
        found = content_scoring(content, cold)
        if not len(found.item_ids):
            raise ColdstartError(
                f"no item of workspace {self.store.uri} has a vector: see `coldstart status`", kind="not_ready"
            )
        return found

    @property
    def content_note(self) -> str:
        """Note that nothing is fitted, for lists scored by content."""
        spaces = self.scoring_model.name
        return f"scored by content alone ({spaces}): {self._next}"

    @cached_property
    def min_weight(self) -> float | None:
        """Least weight of a like: as the settings have it, or the fit that scores was made, or the log has it."""
        fits = self.pipeline.of_kind(FIT)
        given: float | None = fits[-1].settings.min_weight if fits else None
        if given is not None:
            return given
        if self.scoring_model.is_fitted:
            return load_newest_fit(self.store, self.pipeline)[0].min_weight
        return find_likes(self.interactions().weights).min_weight

    @property
    def liked_weight(self) -> float:
        """Weight of a row that counts as a plain like."""
        return max(1.0, self.min_weight or 1.0)

    def interactions(self) -> Interactions:
        """Read all interactions of the workspace."""
        return InteractionTable(self.store).read()

    def history_of(self, user_id: str) -> History:
        """Read all interactions of one user."""
        columns = ["item_id", "timestamp", "event", "weight"]
        if not self.store.has(INTERACTIONS):
            return History((), np.empty(0, np.int64), np.empty(0, np.float32), ())
        return history_from_rows(self.store.read(INTERACTIONS, columns, where=equals("user_id", user_id)))

    def _similar_users(self, user_id: str) -> str:
        return similar_ids(user_id, self.store.batches(INTERACTIONS, ["user_id"]), "user_id")

    # -- one user

    def recommend(
        self,
        user_id: str | None,
        history: History,
        rules: Rules,
        filters: Filters,
        query: QuerySettings,
        reasons: bool,
        scored: Scored | None = None,
    ) -> Recommended:
        """Recommend items to a user, or to the owner of a history.

        Args:
            user_id: None for a history without a user; it also seeds exploration.
            reasons: explain every item.
            scored: the only candidates, with the scores that take the place of the scoring model's.

        Raises:
            ColdstartError: the history has no usable item, and nothing is fitted that knows the average user.
        """
        model, liked = self.scoring_model, history.liked(self.min_weight)
        notes = [] if model.is_fitted or scored else [self.content_note]
        notes += _unliked_note(history, self.min_weight) + _ignored_note(model, liked)
        likes = model.likes(history.rows(user_id or ""), query.half_life_s, self.min_weight)
        queries = model.query_vectors(likes, query.interests)
        is_average = scored is None and not queries.any()
        if is_average:
            queries = self.average_user[None, None]
            who = "the history" if user_id is None else f"the history of user {user_id!r}"
            if user_id is not None and not len(history.item_ids):
                who = f"user {user_id!r}{self._similar_users(user_id)} has no interactions, and so"
            if not queries.any():
                raise ColdstartError(
                    f"{who} has no known item: give --history FILE with items of this workspace, or run `coldstart "
                    "finetune behaviour` to score for the average user",
                    kind="not_found",
                )
            notes.append(f"{who} has no known item: the list is scored for the average user")
            liked = liked.first(0)
        builder = self.list_builder(rules, filters)
        if is_average:
            builder = self.builder_for_average(builder)
        if scored is not None:
            builder, queries = scored.builder(builder), np.ones((1, 1, 1), np.float32)
        seen = self.seen(history.rows(user_id or ""), builder.candidates) if filters.seen == "drop" else None
        found = builder.lists(queries, seen, (user_id or "",))
        places = [int(place) for place in found.places[0] if place >= 0]
        ids = [builder.candidates.item_ids[place] for place in places]
        shown = self.catalog.items(ids, DISPLAY)
        found_details = {} if scored is None else scored.details
        reason_of: Mapping[str, Reason | None] = dict.fromkeys(ids)
        if reasons:
            reason_of = self.reasons(ids, liked, found_details)
        items = []
        for slot, (place, item) in enumerate(zip(places, ids, strict=True)):
            kind, title, category, price = (shown[item][column] for column in DISPLAY)
            exploration = bool(found.explored[0, slot]), float(found.propensity[0, slot])
            score, cold = float(found.scores[0, slot]), bool(builder.candidates.cold[place])
            details = _agreeing(found_details.get(item, {}), reason_of[item])
            own = Recommendation(
                item, slot + 1, score, cold, *exploration, kind, title, category, price, reason_of[item], details
            )
            items.append(own)
        if len(items) < rules.top_k:
            notes.append(f"{len(items)} items are left after the filters, and {rules.top_k} were requested")
        if not items and not builder.candidates.item_ids:
            notes.append(why_empty(self.catalog, kind=filters.kind, where=filters.where))
        name = model.name if scored is None else scored.name
        return Recommended(user_id, name, len(liked), tuple(items), tuple(notes))

    def top(
        self, histories: Sequence[History], rules: Rules, filters: Filters, most: int, most_cold: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rank candidates by their scores for R histories, without any rule.

        All scores of the histories are in memory: some hundred histories at a time.

        Args:
            most, most_cold: greatest number of candidates, and of cold ones alone.

        Returns:
            Places among the candidates of `list_builder`, best first, int64 [R, most] and [R, most_cold]; -1 at the
            end, and everywhere for a history without a known item.
        """
        model, names = self.scoring_model, tuple(map(str, range(len(histories))))
        owners = [name for name, own in zip(names, histories, strict=True) for _ in own.item_ids]
        rows = interactions(
            owners,
            [item for own in histories for item in own.item_ids],
            np.concatenate([np.empty(0, np.int64), *(own.times for own in histories)]),
            np.concatenate([np.empty(0, np.float32), *(own.weights for own in histories)]),
        )
        rows = rows.over(rows.item_ids, names)
        queries = model.query_vectors(model.likes(rows, None, self.min_weight), 1)[:, 0]
        candidates = self.list_builder(rules, filters).candidates
        scores = queries @ candidates.vectors.T
        scores[~queries.any(1)] = -np.inf
        if filters.seen == "drop":
            met = self.seen(rows, candidates)
            scores[np.repeat(np.arange(len(histories)), np.diff(met.indptr)), met.indices] = -np.inf
        found = _best(scores, most)
        scores[:, ~candidates.cold] = -np.inf
        return found, _best(scores, most_cold)

    def can_score(self, histories: Sequence[History]) -> list[bool]:
        """Tell of each history whether the scoring model knows a liked item of it."""
        columns = frozenset(self.scoring_model.columns)
        return [any(item in columns for item in own.liked(self.min_weight).item_ids) for own in histories]

    def popular(self, rules: Rules, filters: Filters, history: History) -> Scored:
        """Order candidates by the number of users who like them, then those that nobody does, the newest first."""
        candidates = self.list_builder(rules, filters).candidates
        kept = set(candidates.item_ids)
        if filters.seen == "drop":
            kept -= set(history.item_ids)
        order = [item for item in self._by_popularity if item in kept]
        scores = (1 / np.arange(1, len(order) + 1)).astype(np.float32)
        return Scored("popularity", tuple(order), scores, is_personal=False)

    @cached_property
    def _by_popularity(self) -> list[str]:
        liked = self.interactions().positive(self.min_weight)
        users = dict(zip(liked.item_ids, np.diff(liked.matrix().tocsc().indptr).tolist(), strict=True))
        created: dict[str, float] = {}
        for block in self.catalog.blocks(["created_at"], where=None):
            times = block["created_at"].to_pylist()
            created |= {
                item: 0.0 if at is None else at.timestamp()
                for item, at in zip(block["item_id"].to_pylist(), times, strict=True)
            }
        return sorted(created, key=lambda item: (-users.get(item, 0), -created[item], item))

    @cached_property
    def average_user(self) -> NDArray[np.float32]:
        """Mean vector of users with a history, float32 [D]; zero where content alone scores, or without any like."""
        model = self.scoring_model
        if not model.is_fitted:
            return np.zeros(model.vectors.shape[1], np.float32)
        return model.average_user(self._known_likes)

    @cached_property
    def _known_likes(self) -> csr_matrix:
        """Likes of users with a history, csr [U, H]."""
        likes = self.scoring_model.likes(self.interactions(), None, self.min_weight)
        return likes[np.diff(likes.indptr) > 0]

    def builder_for_average(self, builder: ListBuilder) -> ListBuilder:
        """Build lists of the same candidates for the average user; see `ListBuilder.for_average_user`."""
        if builder not in self._average_builders:
            _make_room(self._average_builders)
            likes = self._known_likes
            users = self.scoring_model.users_of(likes[spaced(np.arange(likes.shape[0]), _SAMPLED_USERS)])
            self._average_builders[builder] = builder.for_average_user(self.average_user, users)
        return self._average_builders[builder]

    def reasons(
        self, item_ids: Sequence[str], liked: History, details: Mapping[str, Mapping[str, Any]] | None = None
    ) -> dict[str, Reason]:
        """Explain items to a user who liked these; `details`: of a ranked list, whose `nearest` lead the reasons."""
        recent = liked.item_ids[:MAX_HISTORY]
        spaces, records = self._content([*item_ids, *recent])
        history = [records[item] for item in recent if item in records]
        ids = tuple(str(record["item_id"]) for record in history)
        own, past = self.scoring_model.item_vectors(tuple(item_ids)), self.scoring_model.item_vectors(ids)
        events = dict(zip(liked.item_ids, liked.events, strict=True))
        found = {}
        for item, vector in zip(item_ids, own, strict=True):
            blocks = {name: (block[item], _stacked(block, ids)) for name, block in spaces.items() if item in block}
            cold = self._is_cold(item)
            by, leading = _leading((details or {}).get(item, {}))
            found[item] = explain(
                records[item],
                history,
                vector,
                past,
                blocks,
                events,
                cold,
                self._chance,
                self.scoring_model.is_fitted,
                taken_with=leading if by == "cooccurrence" else None,
                alike_to=leading if by != "cooccurrence" else None,
            )
        return found

    @cached_property
    def _chance(self) -> Mapping[str, float]:
        """Cosine that any two items reach by chance, by space: a lower one is no reason."""
        model = self.scoring_model
        places = spaced(np.arange(len(model.item_ids)), _PAIRED)
        blocks: dict[str, list[NDArray[np.float32]]] = {}
        for vectors, _ in self._read_content([model.item_ids[place] for place in places]).values():
            for space, vector in vectors.items():
                blocks.setdefault(space, []).append(vector)
        found = {space: chance_cosine(np.stack(rows)) for space, rows in blocks.items()}
        return {**found, SCORES: chance_cosine(model.vectors[places])}

    def records(self, item_ids: Sequence[str]) -> dict[str, Record]:
        """Read records of items with their checked claims: item_id -> record."""
        return self._content(item_ids)[1]

    def _content(self, item_ids: Sequence[str]) -> tuple[dict[str, dict[str, NDArray[np.float32]]], dict[str, Record]]:
        """Read vectors (space -> item -> vector) and records with checked claims (item -> record)."""
        wanted = list(dict.fromkeys(item_ids))
        with self._content_lock:
            found = {item: self._contents[item] for item in wanted if item in self._contents}
        missing = [item for item in wanted if item not in found]
        if missing:
            found |= self._read_content(missing)
            with self._content_lock:
                for item in wanted:
                    if item in found:
                        self._contents[item] = self._contents.pop(item, found[item])  # the last asked for stay longest
                while len(self._contents) > _CONTENTS:
                    del self._contents[next(iter(self._contents))]
        blocks: dict[str, dict[str, NDArray[np.float32]]] = {}
        for item in wanted:
            for space, vector in found[item][0].items() if item in found else ():
                blocks.setdefault(space, {})[item] = vector
        return blocks, {item: found[item][1] for item in wanted if item in found}

    def _read_content(self, item_ids: Sequence[str]) -> dict[str, _ItemContent]:
        """Read the same from the store, by item; it takes ten times as long as all the rest of a list."""
        content = load_content(self.store, self.pipeline, items=list(item_ids), pipeline_state=self.pipeline_state)
        claims = self.catalog.items(content.item_ids, ["claims"]) if self._has_claims else {}
        return {
            item: (
                {space: np.array(block[place]) for space, block in content.blocks.items()},
                {**content.records[place], "claims": (claims.get(item) or {}).get("claims")},
            )
            for place, item in enumerate(content.item_ids)
        }

    @cached_property
    def _has_claims(self) -> bool:
        return bool(self.pipeline.of_kind("describe.check")) and "claims" in self.store.columns("catalog")

    def _is_cold(self, item: str) -> bool:
        place = self.scoring_model.places.get(item)
        return place is None or bool(self.scoring_model.cold[place])

    # -- candidates

    def list_builder(self, rules: Rules, filters: Filters) -> ListBuilder:
        """Build a list builder over the items that pass the filters; the last few are cached."""
        key = (rules, filters)
        if key not in self._list_builders or (filters.fresh_days is not None and filters.now is None):
            _make_room(self._list_builders)
            self._list_builders[key] = ListBuilder(self._candidates(rules, filters), rules, device=self.device)
        return self._list_builders[key]

    def _candidates(self, rules: Rules, filters: Filters) -> Candidates:
        model = self.scoring_model
        condition = self.catalog.condition(where=filters.where, kind=filters.kind)
        since = None
        if filters.fresh_days is not None:
            since = pa.scalar((filters.now or datetime.now(UTC)) - timedelta(days=filters.fresh_days))
        wanted: list[int] = []
        creators: list[str | None] = []
        for block in self.catalog.blocks(["creator", "created_at"], where=condition):
            if since is not None:
                block = block.filter(pc.greater_equal(block["created_at"], since.cast(block["created_at"].type)))
            for item, creator in zip(block["item_id"].to_pylist(), block["creator"].to_pylist(), strict=True):
                if item in model.places:
                    wanted.append(model.places[item])
                    creators.append(creator)
        order = np.argsort(np.array(wanted, np.int64), kind="stable")
        chosen = model.subset(np.array(wanted, np.intp)[order])
        clicks = impressions = None
        if rules.explore:
            clicks, impressions = self._counts(chosen.item_ids)
        similarity_vectors = None
        if rules.diversity:
            similarity_vectors = joined_vectors(
                load_content(self.store, self.pipeline, items=chosen.item_ids, pipeline_state=self.pipeline_state)
            )
        codes = _codes([creators[place] for place in order])
        return Candidates(chosen.item_ids, chosen.vectors, chosen.cold, codes, similarity_vectors, clicks, impressions)

    def _counts(self, item_ids: Sequence[str]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
        """Count clicks and impressions of each item, by the log of impressions where that states clicks or likes, else
        by the interactions; None where no row of these is an impression without a like."""
        if (counted := ImpressionTable(self.store).counts(item_ids)) is not None:
            return counted
        rows = self.interactions().over(item_ids)
        liked = rows.positive(self.min_weight)
        if len(liked) == len(rows):
            return None, None
        count = len(item_ids)
        return np.bincount(liked.items, minlength=count), np.bincount(rows.items, minlength=count)

    @staticmethod
    def seen(rows: Interactions, candidates: Candidates) -> csr_matrix:
        """Mark the candidates that users have met, csr [U, N]."""
        return rows.over(candidates.item_ids).matrix()


def _best(scores: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Find the places of the greatest scores of each row above -inf, equal ones by place, int64 [R, most]; else -1."""
    width = min(most, scores.shape[1])
    found = np.full((len(scores), most), -1, np.int64)
    if width:
        chosen = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        values = np.take_along_axis(scores, chosen, 1)
        order = np.lexsort((chosen, -values), axis=1)
        values = np.take_along_axis(values, order, 1)
        found[:, :width] = np.where(values > -np.inf, np.take_along_axis(chosen, order, 1), -1)
    return found


def _make_room(cache: dict[Any, Any]) -> None:
    """Drop the oldest entries of a cache until another one fits in."""
    while len(cache) >= _CACHED:
        cache.pop(next(iter(cache)))


def _unliked_note(history: History, min_weight: float | None) -> list[str]:
    """Note how many rows of a history are likes, where a least weight leaves some out."""
    liked = 0 if min_weight is None else int((history.weights >= min_weight).sum())
    if min_weight is None or liked == len(history):
        return []
    return [f"{liked} of {len(history)} rows of the history count as likes ({min_weight:g} or more)"]


def _leading(details: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Read from the details of a ranked item how its first liked item speaks for it, and which that is."""
    near = details.get("nearest") or ()
    return (str(near[0]["by"]), str(near[0]["item_id"])) if near else (None, None)


def _agreeing(details: Mapping[str, Any], reason: Reason | None) -> Mapping[str, Any]:
    """Leave out of `nearest` what speaks for another liked item than the reason does, where that does not lead."""
    if reason is None or "nearest" not in details or _leading(details)[1] in (None, reason.because):
        return details
    return {**details, "nearest": [one for one in details["nearest"] if one["item_id"] == reason.because]}


def _ignored_note(model: ScoringModel, liked: History) -> list[str]:
    """Note liked items that the scoring model does not know."""
    known = frozenset(model.columns)
    unknown = [item for item in liked.item_ids if item not in known]
    if not unknown:
        return []
    reason = (
        "are not in the catalogue, came after the fit, or nobody had met them" if model.is_fitted else "have no vector"
    )
    return [f"{len(unknown)} of {len(liked)} liked items are ignored, since they {reason}: such as {unknown[0]!r}"]


def _stacked(block: Mapping[str, NDArray[np.float32]], item_ids: Sequence[str]) -> NDArray[np.float32]:
    """Stack vectors of items, float32 [H, D]."""
    dim = len(next(iter(block.values())))
    return np.array([block[item] for item in item_ids], np.float32).reshape(len(item_ids), dim)


def _codes(names: Sequence[str | None]) -> NDArray[np.int64]:
    """Number names by first appearance, int64; -1 for None."""
    known: dict[str, int] = {}
    return np.array([-1 if name is None else known.setdefault(name, len(known)) for name in names], np.int64)


@dataclass(frozen=True)
class Filters:
    """Filters of the items that may be listed.

    Attributes:
        where: an SQL condition over the columns of the catalog.
        fresh_days: items created at most so many days before `now`, by default the time of the call.
        seen: `drop` leaves out all items that the user has met, liked or not; `keep` may list them again.
    """

    kind: str | None = None
    where: str | None = None
    fresh_days: float | None = None
    seen: str = "drop"
    now: datetime | None = None

    def __post_init__(self) -> None:
        """Raise `ColdstartError` for a value out of range."""
        if self.seen not in ("drop", "keep"):
            raise ColdstartError(f"seen {self.seen!r}: use drop or keep")
        if self.fresh_days is not None and self.fresh_days <= 0:
            raise ColdstartError(f"fresh_days {self.fresh_days:g}: give a number above 0")


@dataclass(frozen=True)
class QuerySettings:
    """Settings of user vectors: number of interests, and half-life of likes in days (None: no decay)."""

    interests: int = 1
    half_life_days: float | None = None

    def __post_init__(self) -> None:
        """Raise `ColdstartError` for a value out of range."""
        if self.interests < 1:
            raise ColdstartError(f"interests {self.interests}: ask for 1 or more")
        if self.half_life_days is not None and self.half_life_days <= 0:
            raise ColdstartError(f"half_life_days {self.half_life_days:g}: give a number above 0")

    @property
    def half_life_s(self) -> float | None:
        """Half-life in seconds."""
        return None if self.half_life_days is None else self.half_life_days * 86_400


@dataclass(frozen=True)
class Scored:
    """Candidates scored elsewhere, best first: `name` of the model, `scores` float32 [N].

    `details`: item -> what a ranker tells of it beside the score; see `Recommendation`. `is_personal`: whether
    they depend on the history.
    """

    name: str
    item_ids: tuple[str, ...]
    scores: NDArray[np.float32]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_personal: bool = True

    def builder(self, whole: ListBuilder) -> ListBuilder:
        """Build lists by the same rules, of these candidates alone and by their scores; a query is one number, 1."""
        candidates = whole.candidates
        kept = [place for place, item in enumerate(self.item_ids) if item in candidates.columns]
        places = np.array([candidates.columns[self.item_ids[place]] for place in kept], np.intp)
        vectors = np.ascontiguousarray(self.scores[kept][:, None], np.float32)
        compared = candidates.similarity_vectors
        own = Candidates(
            tuple(candidates.item_ids[place] for place in places),
            vectors,
            candidates.cold[places],
            None if candidates.creators is None else candidates.creators[places],
            None if compared is None else compared[places],
            None if candidates.clicks is None else candidates.clicks[places],
            None if candidates.impressions is None else candidates.impressions[places],
        )
        return ListBuilder(own, whole.rules)


@dataclass(frozen=True)
class Recommendation:
    """One recommended item: its slot as in `Lists`, and the fields that are displayed.

    Attributes:
        details: of a ranked list `sources`, channels that named the item with its rank in each, `nearest`, liked items
            that spoke for it, and perhaps `p`, the probability of each event.
    """

    item_id: str
    rank: int
    score: float
    cold: bool
    explored: bool
    propensity: float
    kind: str | None
    title: str | None
    category: str | None
    price: float | None
    reason: Reason | None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values; `reason`, `evidence` and what a ranker tells where there is any."""
        own = {name: value for name, value in self.__dict__.items() if name not in ("reason", "details")}
        return own | dict(self.details) | ({} if self.reason is None else self.reason.to_dict())


@dataclass(frozen=True)
class Recommended:
    """List of one user.

    Attributes:
        scored_by: `behaviour`, or the spaces of content.
        history: number of liked items that it is computed from.
        notes: caveats, a sentence each.
        rerank: what was `requested`, the `kind` that ordered the list, `why` it is not another, `fault`, and `ms`; None
            where nothing was requested.
        ranked: whether a ranker ordered the list, `on`, and `why`; None where none is fitted.
    """

    user_id: str | None
    scored_by: str
    history: int
    items: tuple[Recommendation, ...]
    notes: tuple[str, ...] = field(default=())
    rerank: Mapping[str, Any] | None = None
    ranked: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values; `rerank` where it was asked for, `ranked` where a ranker is fitted."""
        extra = ("rerank", "ranked")
        own = {name: value for name, value in self.__dict__.items() if name not in extra or value is not None}
        return own | {"items": [one.to_dict() for one in self.items], "notes": list(self.notes)}

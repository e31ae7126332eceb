"""`recommend` over an opened workspace: what it scores by, who is asked for, what may be listed, and why it is.

The rules of a list are in `recommend`; here vectors, histories and filters are brought together. A fit of behaviour is
what scores, and where there is none, content alone, which is said. Only items of the published catalog are listed.

What is asked for beside the rules of a list, and what a list for one user is: plain records. Knows no tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.pipeline import Pipeline
from coldstart.errors import ColdstartError, NotFitted
from coldstart.recommend import users as scoring
from coldstart.recommend.inputs import fit_stage_of, load_content, load_item_vectors, load_newest_fit
from coldstart.recommend.lists import Candidates, ListBuilder, Rules
from coldstart.recommend.reasons import Reason, Record, explain
from coldstart.recommend.users import LATEST, History, ScoringModel, history_from_rows
from coldstart.store import Store
from coldstart.store.freshness import Standing
from coldstart.store.interactions import INTERACTIONS, InteractionTable
from coldstart.store.sql import equals

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from coldstart.store.published import Published


WARM_MIN = 5
"""Users from which an item is warm, where no fit says so."""


DISPLAY = ("kind", "title", "category", "price")


_CACHED = 4


class Recommender:
    """Lists for users of one workspace, as it is published. Vectors are read once, histories for every call."""

    def __init__(self, store: Store, pipeline: Pipeline, catalog: Published, device: str = "auto") -> None:
        self.store, self.pipeline, self.catalog, self.device = store, pipeline, catalog, device
        self._recommenders: dict[Any, ListBuilder] = {}

    @cached_property
    def standing(self) -> Standing:
        """Where items are."""
        return Standing(self.store, self.pipeline)

    @cached_property
    def tastes(self) -> ScoringModel:
        """What scores: the fit of behaviour, or where there is none, content.

        Raises:
            ColdstartError: there is neither.
        """
        try:
            fitted, _ = load_newest_fit(self.store, self.pipeline)
            item_ids, vectors = load_item_vectors(self.store, self.pipeline)
            return scoring.behaviour_scoring(item_ids, vectors, fitted)
        except NotFitted:
            pass
        content = load_content(self.store, self.pipeline, standing=self.standing)
        rows = self.interactions()
        users = dict(zip(rows.item_ids, rows.counts().tolist(), strict=True))
        cold = np.array([users.get(item, 0) < WARM_MIN for item in content.item_ids], bool)
        found = scoring.content_scoring(content, cold)
        if not len(found.item_ids):
            raise ColdstartError(f"no item of workspace {self.store.uri} has a vector: see `coldstart status`")
        return found

    @property
    def by_content(self) -> str:
        """What is to be said where nothing is fitted."""
        return f"scored by content alone ({self.tastes.name}): `coldstart finetune behaviour` learns from interactions"

    @property
    def min_weight(self) -> float | None:
        """Weight from which on a row says that an item was liked, as the fit has it."""
        try:
            found: float | None = fit_stage_of(self.pipeline).settings.min_weight
        except NotFitted:
            return None
        return found

    @property
    def liked_weight(self) -> float:
        """Weight of a row that says no more than that an item was liked."""
        return max(1.0, self.min_weight or 1.0)

    def interactions(self) -> Interactions:
        """All rows of the table."""
        return InteractionTable(self.store).read()

    def history_of(self, user_id: str) -> History:
        """All rows of one user."""
        columns = ["item_id", "timestamp", "event", "weight"]
        if not self.store.has(INTERACTIONS):
            return History((), np.empty(0, np.int64), np.empty(0, np.float32), ())
        return history_from_rows(self.store.read(INTERACTIONS, columns, where=equals("user_id", user_id)))

    # -- one user

    def one(
        self,
        user_id: str | None,
        history: History,
        rules: Rules,
        filters: Filters,
        asking: QuerySettings,
        reasons: bool,
    ) -> Recommended:
        """The list of a user, or of whoever has this history.

        Raises:
            ColdstartError: nothing is known of the user, and nothing is fitted that would say what most like.
        """
        tastes, liked = self.tastes, history.liked(self.min_weight)
        notes = [] if tastes.learnt else [self.by_content]
        notes += _left_out(tastes, liked)
        likes = tastes.likes(history.rows(user_id or ""), asking.half_life_s, self.min_weight)
        queries = tastes.queries(likes, asking.interests)
        if not queries.any():
            queries = self.average[None, None]
            who = "the history has" if user_id is None else f"user {user_id!r} has"
            if not queries.any():
                raise ColdstartError(
                    f"{who} nothing to go by: give --history FILE with items of this workspace, or run `coldstart "
                    "finetune behaviour` to learn what most users like"
                )
            notes.append(f"{who} nothing to go by: this is what users like on average, judged by content")
            liked = liked.first(0)
        maker = self.recommender(rules, filters)
        seen = self.seen(history.rows(user_id or ""), maker.shelf) if filters.seen == "drop" else None
        found = maker.lists(queries, seen, (user_id or "",))
        places = [int(place) for place in found.places[0] if place >= 0]
        ids = [maker.shelf.item_ids[place] for place in places]
        shown = self.catalog.items(ids, DISPLAY)
        why: Mapping[str, Reason | None] = self.reasons(ids, liked) if reasons else dict.fromkeys(ids)
        items = []
        for slot, (place, item) in enumerate(zip(places, ids, strict=True)):
            kind, title, category, price = (shown[item][column] for column in DISPLAY)
            chance = bool(found.explored[0, slot]), float(found.propensity[0, slot])
            score, cold = float(found.scores[0, slot]), bool(maker.shelf.cold[place])
            own = Recommendation(item, slot + 1, score, cold, *chance, kind, title, category, price, why[item])
            items.append(own)
        if len(items) < rules.top_k:
            notes.append(f"{len(items)} items are left after the filters, and {rules.top_k} were asked for")
        return Recommended(user_id, tastes.name, len(liked), tuple(items), tuple(notes))

    @cached_property
    def average(self) -> NDArray[np.float32]:
        """What users ask with on average, float32 [D]; zero where content alone scores, or nobody liked anything."""
        tastes = self.tastes
        if not tastes.learnt:
            return np.zeros(tastes.vectors.shape[1], np.float32)
        return tastes.average(tastes.likes(self.interactions(), None, self.min_weight))

    def reasons(self, item_ids: Sequence[str], liked: History) -> dict[str, Reason]:
        """Why each item is there for somebody who liked these."""
        recent = liked.item_ids[:LATEST]
        spaces, records = self._content([*item_ids, *recent])
        history = [records[item] for item in recent if item in records]
        ids = tuple(str(record["item_id"]) for record in history)
        own, past = self.tastes.of(tuple(item_ids)), self.tastes.of(ids)
        events = dict(zip(liked.item_ids, liked.events, strict=True))
        found = {}
        for item, vector in zip(item_ids, own, strict=True):
            blocks = {name: (block[item], _stacked(block, ids)) for name, block in spaces.items() if item in block}
            cold = self._is_cold(item)
            found[item] = explain(records[item], history, vector, past, blocks, events, cold)
        return found

    def records(self, item_ids: Sequence[str]) -> dict[str, Record]:
        """item_id -> what is known of it in words."""
        return self._content(item_ids)[1]

    def _content(self, item_ids: Sequence[str]) -> tuple[dict[str, dict[str, NDArray[np.float32]]], dict[str, Record]]:
        """Space -> item -> vector, and item -> record with its checked claims."""
        content = load_content(self.store, self.pipeline, items=list(item_ids), standing=self.standing)
        claims = self.catalog.items(content.item_ids, ["claims"]) if self._has_claims else {}
        records: dict[str, Record] = {
            item: {**record, "claims": (claims.get(item) or {}).get("claims")}
            for item, record in zip(content.item_ids, content.records, strict=True)
        }
        blocks = {
            name: dict(zip(content.item_ids, block, strict=True))
            for name, block in content.blocks.items()
            if len(block)
        }
        return blocks, records

    @cached_property
    def _has_claims(self) -> bool:
        return bool(self.pipeline.of_kind("describe.check")) and "claims" in self.store.columns("catalog")

    def _is_cold(self, item: str) -> bool:
        place = self.tastes.places.get(item)
        return place is None or bool(self.tastes.cold[place])

    # -- the shelf

    def recommender(self, rules: Rules, filters: Filters) -> ListBuilder:
        """A shelf that filters let through, with its rules; the last few are kept."""
        key = (rules, filters)
        if key not in self._recommenders or (filters.fresh_days is not None and filters.now is None):
            while len(self._recommenders) >= _CACHED:
                self._recommenders.pop(next(iter(self._recommenders)))
            self._recommenders[key] = ListBuilder(self._shelf(rules, filters), rules, device=self.device)
        return self._recommenders[key]

    def _shelf(self, rules: Rules, filters: Filters) -> Candidates:
        tastes = self.tastes
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
                if item in tastes.places:
                    wanted.append(tastes.places[item])
                    creators.append(creator)
        order = np.argsort(np.array(wanted, np.int64), kind="stable")
        chosen = tastes.only(np.array(wanted, np.intp)[order])
        clicks = impressions = None
        if rules.explore:
            clicks, impressions = self._counts(chosen.item_ids)
        looks = None
        if rules.diversity:
            looks = scoring.joined_vectors(
                load_content(self.store, self.pipeline, items=chosen.item_ids, standing=self.standing)
            )
        codes = _codes([creators[place] for place in order])
        return Candidates(chosen.item_ids, chosen.vectors, chosen.cold, codes, looks, clicks, impressions)

    def _counts(self, item_ids: Sequence[str]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
        """Rows that liked each item, and all rows of it; none where no row says that an item was not liked."""
        rows = self.interactions().over(item_ids)
        liked = rows.positive(self.min_weight)
        if len(liked) == len(rows):
            return None, None
        count = len(item_ids)
        return np.bincount(liked.items, minlength=count), np.bincount(rows.items, minlength=count)

    @staticmethod
    def seen(rows: Interactions, shelf: Candidates) -> csr_matrix:
        """What users have met of a shelf, csr [U, N]."""
        return rows.over(shelf.item_ids).matrix()


def _left_out(tastes: ScoringModel, liked: History) -> list[str]:
    """What is to be said of liked items that say nothing."""
    known = frozenset(tastes.columns)
    unknown = [item for item in liked.item_ids if item not in known]
    if not unknown:
        return []
    why = "came after the fit, or nobody had met them" if tastes.learnt else "have no vector"
    return [f"{len(unknown)} of {len(liked)} liked items are not gone by, as they {why}: such as {unknown[0]!r}"]


def _stacked(block: Mapping[str, NDArray[np.float32]], item_ids: Sequence[str]) -> NDArray[np.float32]:
    """Rows of items, float32 [H, D]."""
    dim = len(next(iter(block.values())))
    return np.array([block[item] for item in item_ids], np.float32).reshape(len(item_ids), dim)


def _codes(names: Sequence[str | None]) -> NDArray[np.int64]:
    """A number a name, -1 for none."""
    known: dict[str, int] = {}
    return np.array([-1 if name is None else known.setdefault(name, len(known)) for name in names], np.int64)


@dataclass(frozen=True)
class Filters:
    """What may be listed.

    Attributes:
        where: an SQL condition over the columns of the catalog.
        fresh_days: created at most so many days ago; `now` is when that is counted from, by default now.
        seen: `drop` leaves out whatever a user has met, liked or not; `keep` lets it be listed again.
    """

    kind: str | None = None
    where: str | None = None
    fresh_days: float | None = None
    seen: str = "drop"
    now: datetime | None = None

    def __post_init__(self) -> None:
        """Raise `ColdstartError` for what cannot be meant."""
        if self.seen not in ("drop", "keep"):
            raise ColdstartError(f"seen {self.seen!r}: use drop or keep")
        if self.fresh_days is not None and self.fresh_days <= 0:
            raise ColdstartError(f"fresh_days {self.fresh_days:g}: give a number above 0")


@dataclass(frozen=True)
class QuerySettings:
    """How a user's vector is made: of how many interests, and how fast what was liked fades (None: not)."""

    interests: int = 1
    half_life_days: float | None = None

    def __post_init__(self) -> None:
        """Raise `ColdstartError` for what cannot be meant."""
        if self.interests < 1:
            raise ColdstartError(f"interests {self.interests}: ask for 1 or more")
        if self.half_life_days is not None and self.half_life_days <= 0:
            raise ColdstartError(f"half_life_days {self.half_life_days:g}: give a number above 0")

    @property
    def half_life_s(self) -> float | None:
        """In seconds."""
        return None if self.half_life_days is None else self.half_life_days * 86_400


@dataclass(frozen=True)
class Recommendation:
    """One item of a list. Attributes are those of `Lists`, and what is shown of the item."""

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

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; `reason` and `evidence` where there are any."""
        own = {name: value for name, value in self.__dict__.items() if name != "reason"}
        return own | ({} if self.reason is None else self.reason.to_dict())


@dataclass(frozen=True)
class Recommended:
    """The list of one user.

    Attributes:
        scored_by: `behaviour`, or the spaces of content.
        history: how many liked items it comes from.
        notes: what a reader should know.
    """

    user_id: str | None
    scored_by: str
    history: int
    items: tuple[Recommendation, ...]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.__dict__ | {"items": [one.to_dict() for one in self.items], "notes": list(self.notes)}

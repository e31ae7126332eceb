"""Answer questions about users: lists of items for them, a ranking of items, the audience of an item."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from coldstart.core.values import unix_seconds
from coldstart.errors import ColdstartError
from coldstart.serve import results
from coldstart.serve.cursors import make_cursor, query_mark, read_cursor
from coldstart.serve.readers import Reader, Readers
from coldstart.serve.workspace_state import MOST_PAGE, WorkspaceState, check_limit

if TYPE_CHECKING:
    from coldstart.rank.service import Ranked, RankedItem
    from coldstart.recommend.service import Recommendation

MOST_RANKED = 10_000
"""Items of one ranking."""
MOST_LISTED = 1000
"""Items of one list, and of one page of a ranking."""
Rank: TypeAlias = Literal["auto", "on", "off"]
Rerank: TypeAlias = Literal["auto", "none", "mmr", "dpp", "listwise", "llm"]
_KEPT_RANKINGS = 4
_YEARS_S = 60_000_000_000
"""Some 1,900 years, by which a time may be from 1970."""
_SHOWN = ("kind", "title", "category", "price", "creator", "media")


class UserLists(WorkspaceState):
    """Questions about users of a workspace; safe to call from many threads."""

    def __init__(self, readers: Readers) -> None:
        super().__init__(readers)
        self._ranking = threading.Lock()
        self._rankings: OrderedDict[tuple[Any, ...], Ranked] = OrderedDict()

    def recommend(
        self, user: str | None = None, history: Sequence[Any] | None = None, **options: Any
    ) -> results.Recommendations:
        """List items for a user of the workspace, or for a history; options as for `Workspace.recommend`.

        Raises:
            ColdstartError: as `Workspace.recommend`.
        """

        def ask(reader: Reader) -> results.Recommendations:
            reader.await_lists()
            found = reader.recommend(user, history=history, **options)
            shown = reader.published().items((one.item_id for one in found.items), ["media", "creator"])
            near = {own["item_id"] for one in found.items for own in one.details.get("nearest", ())}
            titles = {item: row["title"] for item, row in reader.published().items(near, ["title"]).items()}
            return results.Recommendations(
                publication=reader.tag,
                notes=list(found.notes),
                user_id=found.user_id,
                scored_by=found.scored_by,
                history=found.history,
                ranked=None if found.ranked is None else results.RankedBy(**found.ranked),
                rerank=None if found.rerank is None else results.RerankedBy(**found.rerank),
                items=[_listed(one, shown[one.item_id], titles) for one in found.items],
            )

        return self.readers.answer(ask)

    def rank(
        self,
        user: str,
        items: Sequence[str] | None = None,
        *,
        at: int | datetime | None = None,
        events: Iterable[str] | Mapping[str, float] | None = None,
        kind: str | None = None,
        where: str | None = None,
        limit: int = MOST_PAGE,
        cursor: str | None = None,
    ) -> results.Ranking:
        """Rank items for a user by the fit of `finetune rank`, as `Workspace.rank` does.

        Args:
            items: ids; by default the catalogue, or what of it is of the `kind` and meets `where`.
            at: time of the request, in seconds since 1970 or as a datetime, without a zone in UTC; by default now.
            events: outcomes to rank by, perhaps with weights; by default all of the fit, with its weights.
            limit: items a page; cursor: as an earlier answer gave it, with the `at` of that answer.

        Raises:
            ColdstartError: as `Workspace.rank`; there are too many candidates, or no such outcome; a cursor of another
                query or publication.
        """
        check_limit(limit, MOST_LISTED)
        if cursor is not None and at is None:
            raise ColdstartError(
                "cursor: the order depends on the time: give `at` as the answer before has it", kind="usage"
            )
        if items is not None and (kind is not None or where is not None):
            raise ColdstartError(
                "kind and where choose items of the catalogue: leave them out, or leave out items", kind="usage"
            )
        seconds = _seconds(at)
        weights = None if events is None else _weights(events)
        mark = query_mark(["rank", user, None if items is None else list(items), seconds, weights, kind, where])

        def ask(reader: Reader) -> results.Ranking:
            reader.await_lists()
            start = read_cursor(cursor, reader.tag, mark)
            found = self._ranked(reader, (reader.version, mark), cursor is not None, user, items, seconds, kind, where)
            if weights is not None:
                found = by_events(found, weights)
            page = found.items[start : start + limit]
            more = len(found.items) > start + limit
            shown = reader.published().items((one.item_id for one in page), _SHOWN)
            return results.Ranking(
                publication=reader.tag,
                notes=_ranking_notes(found),
                user_id=user,
                at=datetime.fromtimestamp(found.at, UTC).isoformat(),
                model=found.model,
                weights=found.weights,
                calibrated=found.calibrated,
                known_user=found.known_user,
                actions=found.actions,
                dropped=found.dropped,
                total=len(found.items),
                items=[_ranked_item(one, shown.get(one.item_id), reader) for one in page],
                next_cursor=make_cursor(start + limit, reader.tag, mark) if more else None,
            )

        return self.readers.answer(ask)

    def _ranked(
        self,
        reader: Reader,
        key: tuple[Any, ...],
        is_later_page: bool,
        user: str,
        items: Sequence[str] | None,
        at: int,
        kind: str | None,
        where: str | None,
    ) -> Ranked:
        """Rank, or return the ranking that the page before was of: it costs once, and stays the same."""
        if is_later_page:
            with self._ranking:
                if (kept := self._rankings.get(key)) is not None:
                    return kept
        found = reader.rank(user, _candidates(reader, kind, where) if items is None else items, at=at)
        with self._ranking:
            self._rankings[key] = found
            self._rankings.move_to_end(key)
            while len(self._rankings) > _KEPT_RANKINGS:
                self._rankings.popitem(last=False)
        return found

    def audience(
        self, item_id: str, top_k: int = 100, by: str = "score", reasons: bool = True
    ) -> results.AudienceResult:
        """List the users who are most likely to like an item.

        Raises:
            ColdstartError: as `Workspace.audience`.
        """

        def ask(reader: Reader) -> results.AudienceResult:
            reader.await_lists()
            found = reader.audience(item_id, top_k=top_k, by=by, reasons=reasons)
            return results.AudienceResult(
                publication=reader.tag,
                notes=list(found.notes),
                item_id=found.item_id,
                scored_by=found.scored_by,
                by=found.by,
                cold=found.cold,
                users=found.users,
                met=found.met,
                people=[
                    results.AudienceMember(
                        user_id=one.user_id,
                        rank=one.rank,
                        score=one.score,
                        **(one.reason.to_dict() if one.reason else {}),
                    )
                    for one in found.people
                ],
            )

        return self.readers.answer(ask)


def by_events(found: Ranked, weights: Mapping[str, float | None]) -> Ranked:
    """Rank by some of the outcomes alone.

    Args:
        weights: outcome -> weight of its log p in the score; None: that of the fit.

    Raises:
        ColdstartError: the fit has no such outcome.
    """
    from coldstart.rank.model import score

    if unknown := [event for event in weights if event not in found.calibrated]:
        raise ColdstartError(
            f"events: {unknown[0][:60]!r} is no outcome of the fit: give some of {', '.join(found.calibrated)}",
            kind="usage",
        )
    own = {event: found.weights.get(event, 1.0) if given is None else given for event, given in weights.items()}
    known = [one for one in found.items if one.p]
    scores = score({event: np.array([one.p[event] for one in known]) for event in own}, own) if known else np.empty(0)
    order = np.lexsort((np.arange(len(known)), -scores)).tolist()
    ranked = []
    for rank, place in enumerate(order, 1):
        one = known[place]
        p = {event: one.p[event] for event in own}
        interval = {event: ends for event, ends in one.interval.items() if event in own}
        ranked.append(replace(one, rank=rank, score=float(scores[place]), p=p, interval=interval))
    return replace(
        found,
        items=(*ranked, *(one for one in found.items if not one.p)),
        calibrated={event: found.calibrated[event] for event in own},
        weights=own,
    )


def _listed(one: Recommendation, shown: Mapping[str, Any], titles: Mapping[str, str | None]) -> results.RecommendedItem:
    details = dict(one.details)
    if "nearest" in details:
        details["nearest"] = [{**own, "title": titles.get(own["item_id"])} for own in details["nearest"]]
    return results.RecommendedItem(
        item_id=one.item_id,
        kind=one.kind,
        title=one.title,
        category=one.category,
        price=one.price,
        creator=shown["creator"],
        cold=one.cold,
        media=results.media_links(one.item_id, shown["media"]),
        rank=one.rank,
        score=one.score,
        explored=one.explored,
        propensity=one.propensity,
        **details,
        **(one.reason.to_dict() if one.reason else {}),
    )


def _ranked_item(one: RankedItem, shown: Mapping[str, Any] | None, reader: Reader) -> results.RankedItem:
    """Convert one item; one that only the log knows has no title and no media."""
    row = {name: (shown or {}).get(name) for name in _SHOWN}
    return results.RankedItem(
        item_id=one.item_id,
        media=results.media_links(one.item_id, row.pop("media")),
        cold=reader.is_cold(one.item_id) if shown is not None else None,
        rank=one.rank,
        state=one.state,
        score=one.score,
        p=one.p,
        interval=one.interval,
        **row,
    )


def _ranking_notes(found: Ranked) -> list[str]:
    notes = []
    if not found.known_user:
        notes.append(f"user {found.user!r} has no history and was shown nothing: ranked by the items alone")
    if found.dropped:
        notes.append(f"{found.dropped:,} actions are not before the request, and were left out")
    return notes


def _candidates(reader: Reader, kind: str | None, where: str | None) -> list[str]:
    """List the items of the catalogue that meet conditions; raises `ColdstartError` where they are too many."""
    published = reader.published()
    condition = published.condition(where=where, kind=kind)
    found: list[str] = []
    for block in published.blocks([], where=condition):
        found += block["item_id"].to_pylist()
        if len(found) > MOST_RANKED:
            raise ColdstartError(
                f"over {MOST_RANKED:,} items of the catalogue are candidates: give items, such as those of a list by "
                "recommend, or a condition that fewer meet",
                kind="usage",
            )
    if not found:
        raise ColdstartError("no item of the catalogue meets the conditions: give others, or items", kind="usage")
    return found


def _seconds(at: int | datetime | None) -> int:
    """Read a time in seconds since 1970, by default now; raises `ColdstartError` where it is too far from 1970."""
    found = unix_seconds(at) if isinstance(at, datetime) else int(time() if at is None else at)
    if not -_YEARS_S <= found <= _YEARS_S:
        raise ColdstartError(f"at {found}: give seconds since 1970, not milliseconds, or a date", kind="usage")
    return found


def _weights(events: Iterable[str] | Mapping[str, float]) -> dict[str, float | None]:
    """Read outcomes and their weights; raises `ColdstartError` for none, and for a weight that is no finite number."""
    found = dict(events) if isinstance(events, Mapping) else dict.fromkeys(events)
    if not found:
        raise ColdstartError("events: give at least one outcome, or leave it out", kind="usage")
    for event, weight in found.items():
        if weight is not None and not math.isfinite(weight):
            raise ColdstartError(f"events: weight {weight} of {event[:60]!r}: give a finite number", kind="usage")
    return found

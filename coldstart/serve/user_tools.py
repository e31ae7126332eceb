"""Tools about users: lists of items for them, a ranking of items, the audience of an item."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from coldstart.errors import ColdstartError
from coldstart.serve import results, tool_results
from coldstart.serve.bounded import BYTES, page, shorten, without_places
from coldstart.serve.state_tools import StateTools
from coldstart.serve.tool_parts import PAGE, byte_limit, item_summary, notes_of, page_limit

_NO_USERS = "data of users is not given out here: start the server with --users"


class UserTools(StateTools):
    """Tools about users, where the server may answer about them."""

    def recommend(
        self,
        user: str | None = None,
        history: Sequence[str] | None = None,
        kind: str | None = None,
        where: str | None = None,
        rank: str = "auto",
        rerank: str | None = None,
        limit: int = PAGE,
        max_bytes: int = BYTES,
    ) -> tool_results.Suggestions:
        """List items for a user of the workspace, or for a list of liked items."""
        if user is not None and not self.users:
            raise ColdstartError(f"user: {_NO_USERS}", kind="usage")

        def make(limit: int) -> tool_results.Suggestions:
            found = self.catalogue.recommend(
                user,
                history=None if history is None else list(history),
                kind=kind,
                where=where,
                rank=rank,
                rerank=rerank,
                top_k=limit,
            )
            by, again = found.ranked, found.rerank
            return tool_results.Suggestions(
                publication=found.publication,
                notes=notes_of(found),
                scored_by=found.scored_by,
                history=found.history,
                ranked=None if by is None else _ordered(by.on, by.why),
                reranked=None if again is None else _ordered(again.kind != "none", again.why or f"by {again.kind}"),
                calibrated={} if by is None else by.calibrated or {},
                items=[_suggested(one) for one in found.items],
            )

        return page(make, page_limit(limit), byte_limit(max_bytes))

    def rank_items(
        self,
        user: str,
        item_ids: Sequence[str] | None = None,
        kind: str | None = None,
        where: str | None = None,
        at: datetime | None = None,
        events: Sequence[str] | None = None,
        limit: int = PAGE,
        cursor: str | None = None,
        max_bytes: int = BYTES,
    ) -> tool_results.RankedItems:
        """Rank items, or the catalogue, by what a user will do with them."""
        if not self.users:
            raise ColdstartError(f"rank_items: {_NO_USERS}", kind="usage")

        def make(limit: int) -> tool_results.RankedItems:
            found = self.catalogue.rank(
                user, item_ids, at=at, events=events, kind=kind, where=where, limit=limit, cursor=cursor
            )
            return tool_results.RankedItems(
                publication=found.publication,
                notes=notes_of(found),
                at=found.at,
                model=found.model,
                calibrated=found.calibrated,
                known_user=found.known_user,
                total=found.total,
                items=[
                    tool_results.RankedLine(
                        **item_summary(one),
                        rank=one.rank,
                        state=one.state,
                        score=_rounded(one.score),
                        p={event: round(p, 4) for event, p in one.p.items()},
                        interval={
                            event: (round(low, 4), round(high, 4)) for event, (low, high) in one.interval.items()
                        },
                    )
                    for one in found.items
                ],
                more=found.next_cursor is not None,
                next_cursor=found.next_cursor,
            )

        return page(make, page_limit(limit), byte_limit(max_bytes))

    def audience(self, item_id: str, limit: int = PAGE, max_bytes: int = BYTES) -> tool_results.Audience:
        """List the users who are most likely to like an item."""
        if not self.users:
            raise ColdstartError(f"audience: {_NO_USERS}", kind="usage")

        def make(limit: int) -> tool_results.Audience:
            found = self.catalogue.audience(item_id, top_k=limit)
            return tool_results.Audience(
                publication=found.publication,
                notes=notes_of(found),
                item_id=found.item_id,
                scored_by=found.scored_by,
                users=found.users,
                met=found.met,
                people=[
                    tool_results.Person(
                        user_id=one.user_id,
                        rank=one.rank,
                        score=round(one.score, 4),
                        untrusted_reason=shorten(one.reason),
                    )
                    for one in found.people
                ],
            )

        return page(make, page_limit(limit), byte_limit(max_bytes))


def _suggested(one: results.RecommendedItem) -> tool_results.Suggested:
    return tool_results.Suggested(
        **item_summary(one),
        rank=one.rank,
        score=round(one.score, 4),
        untrusted_reason=shorten(one.reason),
        sources={own.channel: own.rank for own in one.sources or ()},
        nearest=[own.item_id for own in one.nearest or ()],
        p={event: round(p, 4) for event, p in (one.p or {}).items()},
    )


def _ordered(on: bool, why: str | None) -> tool_results.Ordered:
    return tool_results.Ordered(on=on, why=shorten(without_places(why or "")) or "")


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)

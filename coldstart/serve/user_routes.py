"""Routes about users: lists of items for them, a ranking of items, the audience of an item."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from coldstart.serve import results
from coldstart.serve.route_parts import PROBLEMS, Body, ItemId, Kind, Where, answer, needs
from coldstart.serve.user_lists import MOST_LISTED, MOST_RANKED, Rank, Rerank
from coldstart.serve.workspace_state import MOST_PAGE

_RANK = "order by the ranker of `finetune rank`; auto: where it won"
_RERANK = "order the first 30 anew, within `deadline_ms`; auto: as certified by `evaluate rerank`; not with `explore`"
_Id = Annotated[str, Field(max_length=1024)]


class Liked(Body):
    """Item of a history."""

    item_id: str = Field(max_length=1024)
    timestamp: int | None = Field(None, description="seconds since 1970")
    event: str | None = Field(None, max_length=100)
    weight: float | None = Field(None, allow_inf_nan=False)


class RecommendBody(Body):
    """One list, for a user or a history."""

    user: str | None = Field(None, max_length=1024)
    history: list[Liked | str] | None = Field(None, max_length=10_000, examples=[["clip-7", "sku-1"]])
    limit: int = Field(10, ge=1, le=MOST_LISTED, description="items")
    kind: Literal["product", "video"] | None = None
    where: str | None = Field(None, max_length=2000)
    fresh_days: float | None = Field(None, gt=0, le=36_500, description="created at most so many days ago")
    seen: Literal["drop", "keep"] = "drop"
    interests: int = Field(1, ge=1, le=20)
    half_life_days: float | None = Field(None, gt=0, le=36_500)
    reasons: bool = True
    per_creator: int | None = Field(None, ge=1, le=1000)
    cold_share: float = Field(0.0, ge=0, le=1)
    cold_boost: float = Field(0.0, ge=-10, le=10)
    explore: float = Field(0.0, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)
    diversity: float = Field(0.0, ge=0, le=1)
    diversify: Literal["mmr", "dpp"] = "mmr"
    merge: Literal["max", "rrf"] = "max"
    rank: Rank = Field("auto", description=_RANK)
    rerank: Rerank | None = Field(None, description=_RERANK)
    deadline_ms: float = Field(300, ge=1, le=10_000, description="after which `rerank` leaves the list as it is")


class RankBody(Body):
    """One ranking: a user, and the items or the part of the catalogue to rank."""

    user: str = Field(max_length=1024)
    items: list[_Id] | None = Field(
        None, min_length=1, max_length=MOST_RANKED, description="ids; by default the catalogue", examples=[["clip-7"]]
    )
    kind: Literal["product", "video"] | None = Field(None, description="of the catalogue, only items of this kind")
    where: str | None = Field(None, max_length=2000, description="of the catalogue, only items that meet it")
    at: int | datetime | None = Field(
        None, description="time of the request: ISO 8601, without a zone in UTC, or seconds since 1970; by default now"
    )
    events: list[_Id] | dict[_Id, float] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="outcomes to rank by, perhaps with weights; by default all of the fit",
        examples=[["click"]],
    )
    limit: int = Field(MOST_PAGE, ge=1, le=MOST_LISTED, description="items a page")
    cursor: str | None = Field(None, max_length=400, description="`next_cursor` of the answer before, with its `at`")


users = APIRouter(prefix="/v1", tags=["users"], dependencies=needs("read"), responses=PROBLEMS)


@users.get("/recommend", response_model=results.Recommendations)
async def recommend(
    request: Request,
    user: Annotated[str, Query(max_length=1024)],
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 10,
    kind: Kind = None,
    where: Where = None,
    cold_share: Annotated[float, Query(ge=0, le=1)] = 0.0,
    diversity: Annotated[float, Query(ge=0, le=1)] = 0.0,
    explore: Annotated[float, Query(ge=0, le=1)] = 0.0,
    seed: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    rank: Annotated[Rank, Query(description=_RANK)] = "auto",
    rerank: Annotated[Rerank | None, Query(description=_RERANK)] = None,
) -> Response:
    """List items for a user of the workspace; POST has all settings."""
    rules: dict[str, Any] = {"cold_share": cold_share, "diversity": diversity, "explore": explore, "seed": seed}
    rules["rank"] = rank
    if rerank is not None:
        rules["rerank"] = rerank
    return await answer(
        request,
        lambda catalogue: catalogue.recommend(user, None, top_k=limit, kind=kind, where=where, **rules),
        cached=False,
    )


@users.post("/recommend", response_model=results.Recommendations)
async def recommend_by_body(request: Request, body: RecommendBody) -> Response:
    """List items for a user of the workspace, or for a history of liked items."""
    given = body.model_dump(exclude={"user", "history", "limit"}, exclude_none=True)
    history = None
    if body.history is not None:
        history = [one if isinstance(one, str) else one.model_dump(exclude_none=True) for one in body.history]
    return await answer(
        request,
        lambda catalogue: catalogue.recommend(body.user, history, top_k=body.limit, **given),
        cached=False,
    )


@users.post("/rank", response_model=results.Ranking)
async def rank(request: Request, body: RankBody) -> Response:
    """Rank items, or the catalogue, for a user, with the probability of each outcome."""
    given = body.model_dump()
    return await answer(request, lambda catalogue: catalogue.rank(**given), cached=False)


@users.get("/items/{item_id}/audience", response_model=results.AudienceResult)
async def audience(
    request: Request,
    item_id: ItemId,
    limit: Annotated[int, Query(ge=1, le=10_000, description="users")] = 100,
    by: Annotated[
        Literal["score", "lift"], Query(description="rank users by score, or by how far above their mean")
    ] = "score",
    reasons: bool = True,
) -> Response:
    """List the users who are most likely to like an item, best first."""
    return await answer(request, lambda catalogue: catalogue.audience(item_id, limit, by, reasons), cached=False)

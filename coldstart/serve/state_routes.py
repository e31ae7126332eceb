"""Routes that tell the state of the workspace: counts, ledger, runs, publications, evaluations, a map of items."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from coldstart.serve import state_results
from coldstart.serve.route_parts import PROBLEMS, Cursor, Kind, Limit, Where, answer, needs
from coldstart.serve.workspace_state import MOST_PAGE

state = APIRouter(prefix="/v1", tags=["workspace"], dependencies=needs("read"), responses=PROBLEMS)
anyone = APIRouter(prefix="/v1", tags=["workspace"], dependencies=needs(), responses=PROBLEMS)


@anyone.get("/me", response_model=state_results.Me)
async def me(request: Request) -> Response:
    """Tell what the sender of the request may do."""
    identity = request.state.identity
    found = state_results.Me(
        name=identity.name, scopes=sorted(identity.scopes), writable=request.app.state.jobs is not None
    )
    return Response(found.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})


@state.get("/status", response_model=state_results.Status)
async def status(request: Request) -> Response:
    """Count the items in each state, stage by stage."""
    return await answer(request, lambda catalogue: catalogue.status(), cached=False)


@state.get("/impressions", response_model=state_results.ImpressionCounts)
async def impressions(request: Request) -> Response:
    """Count the showings that were logged: days, users, items, outcomes, known propensities."""
    return await answer(request, lambda catalogue: catalogue.impressions(), cached=False)


@state.get("/ledger", response_model=state_results.Ledger)
async def ledger(
    request: Request,
    state: Annotated[Literal["failed", "filtered", "duplicate"] | None, Query()] = None,
    stage: Annotated[str | None, Query(max_length=200)] = None,
    reason: Annotated[str | None, Query(max_length=200, description="reason code")] = None,
    limit: Limit = MOST_PAGE,
    cursor: Cursor = None,
) -> Response:
    """List items that were turned away, and why."""
    return await answer(request, lambda catalogue: catalogue.ledger(state, stage, reason, limit, cursor), cached=False)


@state.get("/runs", response_model=state_results.Runs)
async def runs(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> Response:
    """List the last runs of stages, newest first."""
    return await answer(request, lambda catalogue: catalogue.runs(limit), cached=False)


@state.get("/publications", response_model=state_results.Publications)
async def publications(request: Request) -> Response:
    """List the published versions that are stored, with the recall of their indexes."""
    return await answer(request, lambda catalogue: catalogue.publications(), cached=False)


@state.get("/counts", response_model=state_results.Counts)
async def counts(
    request: Request,
    by: Annotated[
        Literal["publication", "week"], Query(description="of each publication, or of items by their creation")
    ] = "publication",
) -> Response:
    """Count the catalogue over time: items by kind, category and language, and those that lack something."""
    return await answer(request, lambda catalogue: catalogue.counts(by))


@state.get("/map", response_model=state_results.ItemMap)
async def item_map(
    request: Request,
    space: Annotated[str | None, Query(max_length=100, description="by default `image`, or the first")] = None,
    kind: Kind = None,
    where: Where = None,
) -> Response:
    """Place the items of a space on a map, by principal components: columns of at most 20,000 points."""
    return await answer(request, lambda catalogue: catalogue.item_map(space, kind, where))


@state.get("/evaluations", response_model=state_results.Evaluations)
async def evaluations(request: Request, limit: Annotated[int, Query(ge=1, le=50)] = 10) -> Response:
    """List the results of `coldstart evaluate all`, newest first."""
    return await answer(request, lambda catalogue: catalogue.evaluations(limit), cached=False)

"""Routes of review: what waits for a person, and decisions, queued for the pipeline, which follows them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from coldstart.serve import state_results
from coldstart.serve.jobs import MOST_ROWS
from coldstart.serve.problems import RequestProblem
from coldstart.serve.route_parts import PROBLEMS, Body, Cursor, Limit, answer, in_thread, needs
from coldstart.serve.workspace_state import PAGE
from coldstart.serve.writing import IdempotencyKey, JobResult, accepted

if TYPE_CHECKING:
    from coldstart.serve.jobs import JobQueue

_Plain = str | bool | int | float
By = Annotated[
    str | None,
    Field(max_length=200, description="who decides; where the server has tokens, the name of the token is kept"),
]
Reason = Annotated[str, Field(min_length=1, max_length=2000, description="why; kept with who and when")]


class DecisionRow(Body):
    """Decision on an item, on the verdict of a gate, on a field or on a claim."""

    item_id: str = Field(max_length=1024, examples=["sku-77"])
    action: Literal["approve", "reject", "correct"]
    reason: Reason
    stage: str | None = Field(None, max_length=200, description="gate that the item is approved at")
    claim: str | None = Field(None, max_length=1000, description="name of a claim of its description")
    field: str | None = Field(
        None, max_length=1000, description="field to correct", examples=["title", "attributes.colour"]
    )
    value: _Plain | list[_Plain | None] | None = Field(None, description="new value of the field, or text of the claim")
    by: By = None


class DecisionsBody(Body):
    """Several decisions."""

    decisions: list[DecisionRow] = Field(min_length=1, max_length=MOST_ROWS["decisions"])


def _sort(given: Any) -> str:
    """Tell one decision from several, so that a fault is stated of the one that was meant."""
    several = isinstance(given, DecisionsBody) or (isinstance(given, dict) and "decisions" in given)
    return "decisions" if several else "decision"


OneOrMore = Annotated[
    Annotated[DecisionRow, Tag("decision")] | Annotated[DecisionsBody, Tag("decisions")], Discriminator(_sort)
]


class UndoBody(Body):
    """Undoing of a decision."""

    reason: Reason
    by: By = None


reviewed = APIRouter(prefix="/v1", tags=["review"], dependencies=needs("read", "review"), responses=PROBLEMS)
deciding = APIRouter(prefix="/v1", tags=["review"], dependencies=needs("review"), responses=PROBLEMS)


@reviewed.get("/review", response_model=state_results.ReviewQueue)
async def review(
    request: Request,
    state: Annotated[Literal["failed", "filtered", "duplicate", "claim"] | None, Query()] = None,
    stage: Annotated[str | None, Query(max_length=200)] = None,
    reason: Annotated[str | None, Query(max_length=200, description="reason code")] = None,
    item_id: Annotated[str | None, Query(max_length=1024)] = None,
    limit: Limit = PAGE,
    cursor: Annotated[str | None, Query(max_length=8000, description="`next_cursor` of the answer before")] = None,
) -> Response:
    """List what waits for a person: items that were turned away, and claims that were removed from descriptions."""
    return await answer(
        request, lambda catalogue: catalogue.review(state, stage, reason, item_id, limit, cursor), cached=False
    )


@reviewed.get("/decisions", response_model=state_results.Decisions)
async def decisions(
    request: Request,
    item_id: Annotated[str | None, Query(max_length=1024)] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response:
    """List decisions, newest first, with who, when and why; those that were undone, too."""
    return await answer(request, lambda catalogue: catalogue.decisions(item_id, limit, cursor), cached=False)


@deciding.post("/decisions", status_code=202, response_model=JobResult)
async def decide(request: Request, body: OneOrMore, idempotency_key: IdempotencyKey = None) -> Response:
    """Queue decisions; `GET /v1/jobs/{job_id}` tells when they are in effect."""
    listed = body.decisions if isinstance(body, DecisionsBody) else [body]
    rows = [{**row.model_dump(exclude_none=True), "by": _who(request, row.by)} for row in listed]
    return await _queued(request, rows, idempotency_key)


@deciding.delete("/decisions/{decision_id}", status_code=202, response_model=JobResult)
async def undo_decision(
    request: Request,
    decision_id: Annotated[str, PathParameter(max_length=100)],
    body: UndoBody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queue the undoing of a decision, which stays in the list with who, when and why."""
    row = {"action": "undo", "decision_id": decision_id, "reason": body.reason, "by": _who(request, body.by)}
    return await _queued(request, [row], idempotency_key)


async def _queued(request: Request, rows: list[dict[str, Any]], key: str | None) -> Response:
    jobs: JobQueue = request.app.state.jobs
    return accepted(request, await in_thread(request, partial(jobs.submit_decisions, rows, key)))


def _who(request: Request, by: str | None) -> str:
    """Name who decides: by the token where there are tokens, so that nobody decides in the name of another.

    Raises:
        RequestProblem: the request names another.
    """
    name = str(request.state.identity.name)
    if not request.app.state.settings.tokens:
        return by or name
    if by not in (None, name):
        raise RequestProblem(422, f"by {by[:100]!r}: the token is that of {name!r}: leave it out", "input")
    return name

"""Routes that take in items, logs and removals: queued, and done by the workspace's pipeline."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Header, Query, Request, UploadFile
from fastapi import Path as PathParameter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import Response

from coldstart.core import reasons
from coldstart.core.impressions import check_signal
from coldstart.core.scratch import scratch_folder
from coldstart.errors import ColdstartError
from coldstart.serve import results
from coldstart.serve.jobs import MOST_ROWS
from coldstart.serve.route_parts import PROBLEMS, Body, ItemId, in_thread, needs, place_of, save_upload

if TYPE_CHECKING:
    from coldstart.serve.jobs import JobQueue, Running
    from coldstart.serve.readers import Readers
    from coldstart.serve.spool import Job

MOST_FILES = 100

IdempotencyKey = Annotated[
    str | None,
    Header(max_length=200, description="a request that is sent again with the same key makes no second job"),
]


class MediumRow(Body):
    """Medium of an item that is added."""

    role: Literal["image", "video", "audio"] = Field(description="image, video or audio")
    uri: str = Field(
        max_length=4000,
        description="name of a file that is sent along, or an address that the pipeline's settings allow",
        examples=["photo.jpg"],
    )


class ItemRow(BaseModel):
    """Item that is added, or that replaces the one of its id."""

    model_config = ConfigDict(extra="forbid")

    item_id: str = Field(max_length=1024, examples=["sku-77"])
    kind: Literal["product", "video"] | None = None
    title: str | None = Field(None, max_length=10_000, examples=["Oat drink, 1 l"])
    description: str | None = Field(None, max_length=100_000)
    category: str | None = Field(None, max_length=1000)
    tags: list[str] | None = Field(None, max_length=1000)
    creator: str | None = Field(None, max_length=1000)
    created_at: str | None = Field(None, max_length=100, description="ISO 8601; by default now")
    price: float | None = Field(None, allow_inf_nan=False)
    attributes: dict[str, str | float | int | bool | None] | None = None
    media: list[MediumRow] = Field(default_factory=list, max_length=100)


class ItemsBody(Body):
    """Items to add."""

    items: list[ItemRow] = Field(min_length=1, max_length=MOST_ROWS["items"])


Time = Annotated[int, Field(ge=0, lt=2**40)] | Annotated[str, Field(max_length=100)] | None


class InteractionRow(Body):
    """One user's action on one item."""

    user_id: str = Field(max_length=1024)
    item_id: str = Field(max_length=1024)
    timestamp: Time = Field(
        None, description="seconds since 1970, or ISO 8601; by default now", examples=[1_790_000_000]
    )
    event: str | None = Field(None, max_length=100)
    weight: float | None = Field(None, allow_inf_nan=False)


class InteractionsBody(Body):
    """Interactions to add."""

    interactions: list[InteractionRow] = Field(min_length=1, max_length=MOST_ROWS["interactions"])


OutcomeName = Annotated[str, Field(max_length=40), AfterValidator(check_signal)]


class ImpressionRow(Body):
    """One item that was shown to one user, and what came of it so far."""

    user_id: str = Field(max_length=1024)
    item_id: str = Field(max_length=1024)
    timestamp: Time = Field(None, description="when it was shown: seconds since 1970, or ISO 8601; by default now")
    request_id: str | None = Field(
        None, max_length=1024, description="the list that it stood in; the same request and item again adds outcomes"
    )
    position: int | None = Field(None, ge=0, lt=2**31)
    surface: str | None = Field(None, max_length=100)
    propensity: float | None = Field(None, gt=0, le=1, description="probability with which it was shown there")
    outcome_at: Time = Field(None, description="when the outcomes were known")
    outcomes: dict[OutcomeName, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict, max_length=16, description="numbers by name", examples=[{"click": 1, "dwell_s": 12.5}]
    )


class ImpressionsBody(Body):
    """Impressions to add."""

    impressions: list[ImpressionRow] = Field(min_length=1, max_length=MOST_ROWS["impressions"])


class JobResult(BaseModel):
    """State of a job."""

    job_id: str
    kind: str = Field(description="items, interactions, impressions, removal or decisions")
    state: str = Field(description="queued, running, waiting, done or failed")
    rows: int
    submitted_at: str = Field(description="ISO 8601, UTC")
    finished_at: str | None = None
    detail: str = Field("", description="why it waits, failed or turned rows away, or the stage that runs")
    results: list[dict[str, Any]] = Field(
        default_factory=list, description="of each item or decision: item_id, state, reason and detail"
    )
    publication: str | None = Field(None, description="tag of the publication that has them")


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobResult]
    counts: dict[str, int]
    next_cursor: str | None = None


writing = APIRouter(prefix="/v1", tags=["changes"], responses=PROBLEMS)


@writing.post("/items", status_code=202, response_model=JobResult, dependencies=needs("write"))
async def add_items(request: Request, body: ItemsBody, idempotency_key: IdempotencyKey = None) -> Response:
    """Queue items; `GET /v1/jobs/{job_id}` tells when they are found."""
    rows = [row.model_dump(exclude_none=True) for row in body.items]
    jobs: JobQueue = request.app.state.jobs
    return accepted(
        request, await in_thread(request, partial(jobs.submit_items, rows, {}, idempotency_key=idempotency_key))
    )


@writing.post("/items/media", status_code=202, response_model=JobResult, dependencies=needs("write"))
async def add_items_with_media(
    request: Request,
    items: Annotated[str, Form(description="the items as JSON: a list, or one", max_length=1_000_000)],
    files: Annotated[list[UploadFile], File(description="their media; rows name them as `uri`", max_length=MOST_FILES)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queue items with media that are sent along."""
    rows = _rows_of(items)
    jobs: JobQueue = request.app.state.jobs
    with scratch_folder("media") as folder:
        saved = {}
        for number, file in enumerate(files):
            name = file.filename or ""
            if not name or name in saved:
                raise ColdstartError(f"files: {name[:100]!r} stands twice or has no name: name each once", kind="input")
            own = folder / str(number)
            own.mkdir()
            saved[name], _ = await save_upload(request, file, own)
        named = {medium["uri"] for row in rows for medium in row.get("media", ())}
        if unused := sorted(saved.keys() - named):
            raise ColdstartError(f"files: no item names {unused[0][:100]!r} among its media", kind="input")
        return accepted(
            request, await in_thread(request, partial(jobs.submit_items, rows, saved, idempotency_key=idempotency_key))
        )


@writing.delete("/items/{item_id}", status_code=202, response_model=JobResult, dependencies=needs("write"))
async def remove_item(request: Request, item_id: ItemId) -> Response:
    """Queue the removal of an item from every table and from the served catalogue."""
    jobs: JobQueue = request.app.state.jobs
    return accepted(request, await in_thread(request, partial(jobs.submit_removal, [item_id])))


@writing.post("/interactions", status_code=202, response_model=JobResult, dependencies=needs("write"))
async def add_interactions(
    request: Request, body: InteractionsBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Queue interactions; those that the workspace has already are not added again."""
    rows = [row.model_dump(exclude_none=True) for row in body.interactions]
    jobs: JobQueue = request.app.state.jobs
    return accepted(
        request, await in_thread(request, partial(jobs.submit_interactions, rows, idempotency_key=idempotency_key))
    )


@writing.post("/impressions", status_code=202, response_model=JobResult, dependencies=needs("write"))
async def add_impressions(request: Request, body: ImpressionsBody, idempotency_key: IdempotencyKey = None) -> Response:
    """Queue what was shown to whom; a request and item that the workspace has already gets its new outcomes."""
    rows = [row.model_dump(exclude_none=True) for row in body.impressions]
    jobs: JobQueue = request.app.state.jobs
    return accepted(
        request, await in_thread(request, partial(jobs.submit_impressions, rows, idempotency_key=idempotency_key))
    )


@writing.get("/jobs/{job_id}", response_model=JobResult, dependencies=needs("read", "review"))
async def job(request: Request, job_id: Annotated[str, PathParameter(max_length=100)]) -> Response:
    """Tell the state of a job, and of each of its items; where it is done, searches see what it did."""
    jobs: JobQueue = request.app.state.jobs
    found = await in_thread(request, partial(jobs.get, job_id))
    await in_thread(request, partial(_follow, request.app.state.catalogue.readers, found))
    return Response(_result(request, found, jobs.running).model_dump_json(), media_type="application/json")


@writing.get("/jobs", response_model=JobList, dependencies=needs("read"))
async def list_jobs(
    request: Request,
    state: Annotated[Literal["queued", "running", "waiting", "done", "failed"] | None, Query()] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """List jobs, newest first."""
    jobs: JobQueue = request.app.state.jobs
    found, after = await in_thread(request, partial(jobs.list, state, cursor))
    listed = JobList(
        jobs=[_result(request, one, jobs.running) for one in found], counts=jobs.counts(), next_cursor=after
    )
    return Response(listed.model_dump_json(), media_type="application/json")


def _follow(readers: Readers, job: Job) -> None:
    """Let requests have the publication that a job made, if they do not have it yet."""
    made = (job.result or {}).get("publication")
    try:
        before = made is not None and readers.current().tag < made
    except ColdstartError:  # it is the first
        before = made is not None
    if before:
        readers.refresh()


def _rows_of(text: str) -> list[dict[str, Any]]:
    """Read items from the form.

    Raises:
        ColdstartError: they are no JSON, or no items.
    """
    from pydantic import ValidationError

    try:
        given = json.loads(text)
        body = ItemsBody.model_validate({"items": given if isinstance(given, list) else [given]})
    except ValidationError as error:
        first = error.errors()[0]
        place = place_of(first["loc"])
        raise ColdstartError(f"{place}: {first['msg']}", kind="input", where=place) from None
    except (ValueError, RecursionError) as error:
        raise ColdstartError(f"items: they are no JSON ({error}): give a list of items", kind="input") from None
    return [row.model_dump(exclude_none=True) for row in body.items]


def _result(request: Request, job: Job, running: Running | None = None) -> JobResult:
    place = str(request.app.state.settings.workspace).rstrip("/")
    found, error = (  # where files are on this machine concerns no client
        json.loads(json.dumps(dict(part or {})).replace(json.dumps(place)[1:-1], PurePath(place).name))
        for part in (job.result, job.error)
    )
    if job.state == "waiting" and error.get("kind") == "busy":
        detail = "another process writes to the workspace: the job waits until that has ended"
    else:
        detail = results.without_folders(str(error.get("message") or ""))
    if job.state == "done" and (found.get("fault") or found.get("rejected")):
        turned = reasons.counted(found["rejected"])
        detail = found.get("fault") or f"of {job.rows:,} rows were turned away: {turned}"
    if not detail and running and job.id in running.jobs:
        detail = running.stage
    return JobResult(
        job_id=job.id,
        kind=job.kind,
        state=job.state,
        rows=job.rows,
        submitted_at=_iso(job.submitted_at),
        finished_at=None if job.finished_at is None else _iso(job.finished_at),
        detail=detail,
        results=[results.hide_folders(dict(one)) for one in found.get("items") or ()],
        publication=found.get("publication"),
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def accepted(request: Request, job: Job) -> Response:
    """Answer that a job was accepted, and where its state is."""
    return Response(
        _result(request, job).model_dump_json(),
        202,
        media_type="application/json",
        headers={"Location": f"/v1/jobs/{job.id}", "Cache-Control": "no-store"},
    )

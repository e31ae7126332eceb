"""HTTP interface of a workspace: the application, its health, and the problems that its routes answer with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

import coldstart
from coldstart.errors import ColdstartError
from coldstart.serve import measures
from coldstart.serve.catalogue import Catalogue
from coldstart.serve.gate import Gate
from coldstart.serve.page import page_routes
from coldstart.serve.problems import TITLES, RequestProblem, problem, problem_of
from coldstart.serve.readers import LISTS_ARE_LOADED, Readers
from coldstart.serve.reading import reading
from coldstart.serve.reviewing import deciding, reviewed
from coldstart.serve.route_parts import place_of
from coldstart.serve.settings import ServeSettings
from coldstart.serve.state_routes import anyone, state
from coldstart.serve.user_routes import users
from coldstart.serve.writing import writing

if TYPE_CHECKING:
    from coldstart.serve.jobs import JobQueue

_LISTS = frozenset({"items", "interactions", "impressions", "decisions"})
"""Fields that rows are sent in."""
THREADS = 40
"""Threads that answer; most wait for the batch that their search is in."""


class Health(BaseModel):
    """State of the server."""

    status: str
    coldstart: str


class Ready(BaseModel):
    """State of the answers: the publication that they are from, or why there are none."""

    ready: bool
    publication: str | None = None
    items: int | None = None
    why: str | None = None


def create_app(settings: ServeSettings, readers: Readers, jobs: JobQueue | None = None) -> FastAPI:
    """Create the application; starting it opens the present publication.

    Args:
        jobs: takes in new items; without it the server only reads.
    """
    catalogue = Catalogue(readers)
    measured = measures.Measures(readers, jobs)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(readers.start)
        if jobs is not None:
            await anyio.to_thread.run_sync(jobs.start)
        try:
            yield
        finally:
            readers.stop()
            if jobs is not None:
                await anyio.to_thread.run_sync(jobs.close)

    app = FastAPI(
        title="coldstart",
        version=coldstart.__version__,
        description="Search, match and recommend new videos and products by their content.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings, app.state.catalogue, app.state.jobs = settings, catalogue, jobs
    app.state.limiter, app.state.unlimited = anyio.CapacityLimiter(THREADS), anyio.CapacityLimiter(math.inf)
    app.include_router(health)
    app.include_router(reading)
    app.include_router(users)
    app.include_router(state)
    app.include_router(anyone)
    app.include_router(reviewed)
    app.router.routes.extend(page_routes())
    if jobs is not None:
        app.include_router(writing)
        app.include_router(deciding)

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        text = await anyio.to_thread.run_sync(measured.text)  # it counts jobs, which are on the disk
        return Response(text, media_type=measures.CONTENT_TYPE)

    app.add_exception_handler(ColdstartError, _on_fault)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Request-Id"],
            expose_headers=["ETag", "Location", "Retry-After", "X-Request-Id"],
        )
    app.add_middleware(Gate, settings=settings, measures=measured)
    app.openapi = partial(_describe, app.openapi)  # type: ignore[method-assign]  # the way that FastAPI documents
    return app


def _describe(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Describe the interface; summaries are the first lines of what each path does, and no names of functions."""
    described = describe()
    for path in described["paths"].values():
        for operation in path.values():
            operation["summary"] = operation["description"].partition("\n")[0].rstrip(".")
    return described


async def _on_fault(request: Request, error: Exception) -> Response:
    hidden = {request.app.state.settings.workspace: PurePath(request.app.state.settings.workspace).name}
    hidden |= getattr(request.state, "uploads", {})
    return problem_of(error, request.state.request_id, hidden=hidden)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = place_of(first["loc"])
    count = len(error.errors())
    more = f"; and {count - 1} more fault{'s' if count > 2 else ''}" if count > 1 else ""
    detail = f"{place}: {first['msg']}{more}"
    next = None
    if first["loc"] == ("body",) and not request.headers.get("content-type", "").startswith("application/json"):
        next = "send JSON, with the header `Content-Type: application/json`"
    elif first["loc"] == ("body",):
        next = "send a JSON object, as `/openapi.json` describes it"
    elif first["type"] == "missing" and isinstance(first.get("input"), dict) and first["loc"][-1] in _LISTS:
        next = f'wrap the rows: {{"{first["loc"][-1]}": [ … ]}}'
    return problem(422, detail, kind="input", where=place, next=next, request_id=request.state.request_id)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, RequestProblem):
        return problem(error.status_code, error.detail, kind=error.kind, request_id=request.state.request_id)
    kind = "not_found" if error.status_code == 404 else "usage"
    why = TITLES.get(error.status_code, error.detail)
    if error.status_code == 400:  # parts that are too many or too large, or no JSON: which of them
        why = f"{why}: {error.detail}"
    detail = f"{request.method} {request.url.path[:200]}: {why}"
    next = None
    if error.status_code == 404:
        next = "`/openapi.json` describes all paths"
    elif error.status_code == 405:
        next = f"use {(error.headers or {}).get('Allow', 'another method')}"
    found = problem(error.status_code, detail, kind=kind, next=next, request_id=request.state.request_id)
    for name, value in (error.headers or {}).items():
        found.headers[name] = value
    return found


# -- health

health = APIRouter(tags=["health"])


@health.get("/healthz")
async def healthz() -> Health:
    """Tell that the server runs."""
    return Health(status="ok", coldstart=coldstart.__version__)


@health.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "nothing to answer from, or not yet"}},
)
async def readyz(request: Request) -> Response:
    """Tell whether the server can answer: 503 while nothing is published or opened, or models of lists are loaded."""
    readers = request.app.state.catalogue.readers
    try:
        reader = readers.current()
    except ColdstartError:
        found = Ready(ready=False, why="nothing is published yet")  # who may not read learns no more
        return Response(found.model_dump_json(), 503, media_type="application/json")
    found = Ready(ready=readers.is_ready, publication=reader.tag, items=len(reader.published()))
    if not found.ready:
        found.why = f"{LISTS_ARE_LOADED}; searches are answered already"
    return Response(found.model_dump_json(), 200 if found.ready else 503, media_type="application/json")

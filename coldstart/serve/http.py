"""HTTP interface of a workspace: FastAPI routes over `Catalogue` and `JobQueue`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response

import coldstart
from coldstart.core.scratch import scratch_folder
from coldstart.core.settings import suggestion
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.media import guard
from coldstart.media.guard import IMAGE_FORMATS
from coldstart.media.limits import Limits
from coldstart.serve import measures, results
from coldstart.serve.catalogue import MOST_PAGE, PAGE, Catalogue, SearchQuery
from coldstart.serve.gate import Gate
from coldstart.serve.page import page_routes
from coldstart.serve.problems import TITLES, RequestProblem, problem, problem_of
from coldstart.serve.readers import Reader, Readers
from coldstart.serve.settings import Scope, ServeSettings

if TYPE_CHECKING:
    from coldstart.serve.jobs import JobQueue

T = TypeVar("T", bound=BaseModel)

THREADS = 40
"""Threads that answer; most wait for the batch that their search is in."""
_CONTENT_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "matroska": "video/x-matroska",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
}
"""Format of a file, by its content -> content type that browsers may play; others are sent as bytes."""

Where = Annotated[
    str | None, Query(max_length=2000, description="SQL condition over the fields", examples=["price < 20"])
]
Kind = Annotated[Literal["product", "video"] | None, Query(description="only items of this kind")]
Limit = Annotated[int, Query(ge=1, le=MOST_PAGE, description="items a page")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next_cursor` of the answer before")]
ItemId = Annotated[
    str,
    PathParameter(description="id of the item; a slash in it as %2F", max_length=1024, examples=["clip-7"]),
    AfterValidator(lambda item_id: item_id.replace("\0", "/")),  # as the gate has it
]
Spaces = Annotated[list[str] | None, Query(max_length=32, description="spaces to search; by default all that fit")]


class Body(BaseModel):
    """Base of request bodies: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class SearchBody(Body):
    """One search, by exactly one of a text and an item."""

    text: str | None = Field(None, max_length=4000, examples=["oat milk"])
    item: str | None = Field(None, max_length=1024)
    kind: Literal["product", "video"] | None = None
    where: str | None = Field(None, max_length=2000, examples=["price < 20"])
    spaces: list[str] | None = Field(None, max_length=32)
    hybrid: bool = Field(True, description="match words as well as vectors")
    copies: bool = Field(False, description="also return items that are linked to an original")
    limit: int = Field(PAGE, ge=1, le=MOST_PAGE)
    cursor: str | None = Field(None, max_length=400)


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
    limit: int = Field(10, ge=1, le=1000, description="items")
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
    app.router.routes.extend(page_routes())
    if jobs is not None:
        from coldstart.serve.writing import writing

        app.include_router(writing)

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
    return app


async def _on_fault(request: Request, error: Exception) -> Response:
    hidden = {request.app.state.settings.workspace: PurePath(request.app.state.settings.workspace).name}
    hidden |= getattr(request.state, "uploads", {})
    return problem_of(error, request.state.request_id, hidden=hidden)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = place_of(first["loc"])
    count = len(error.errors())
    more = f"; and {count - 1} more faults" if count > 1 else ""
    detail = f"{place}: {first['msg']}{more}"
    return problem(422, detail, kind="input", where=place, request_id=request.state.request_id)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, RequestProblem):
        return problem(error.status_code, error.detail, kind=error.kind, request_id=request.state.request_id)
    kind = "not_found" if error.status_code == 404 else "usage"
    why = TITLES.get(error.status_code, error.detail)
    if error.status_code == 400:  # parts that are too many or too large, or no JSON: which of them
        why = f"{why}: {error.detail}"
    detail = f"{request.method} {request.url.path[:200]}: {why}"
    found = problem(error.status_code, detail, kind=kind, request_id=request.state.request_id)
    for name, value in (error.headers or {}).items():
        found.headers[name] = value
    return found


def place_of(parts: Sequence[int | str]) -> str:
    """Name a place in a request, bounded: a client chooses the names of its fields."""
    return ".".join(str(part)[:100] for part in parts[:20]).encode("utf-8", "replace").decode()


# -- parts of all routes

_BEARER = HTTPBearer(auto_error=False, description="a token of the server's token file")


def needs(scope: Scope) -> Any:
    """Create the dependency of a route that needs a scope."""

    async def check(request: Request) -> None:
        identity = request.state.identity
        if scope not in identity.scopes:
            has = ", ".join(sorted(identity.scopes))
            raise RequestProblem(403, f"this needs the scope {scope!r}, and the token has {has}: take another token")

    return [Depends(_BEARER), Depends(check), Depends(_check_query)]


async def _check_query(request: Request) -> None:
    """Refuse query names that the route does not have: a misspelt filter would be left out in silence."""
    known = {one.alias for one in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            has = f"there are {', '.join(sorted(known))}" if known else "there are none"
            raise RequestProblem(422, f"query.{name[:100]}: no such parameter{suggestion(name, known)}: {has}", "input")


PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {
        "description": TITLES[code],
        "model": results.Problem,
        "content": {"application/problem+json": {}},
    }
    for code in (400, 401, 403, 404, 409, 413, 422, 503, 504)
}


async def in_thread(request: Request, work: Callable[[], Any]) -> Any:
    """Do blocking work in a thread, within the server's deadline.

    Work that was given up counts among the threads until it ends: a client cannot start more of it than there are.

    Raises:
        RequestProblem: it takes longer.
    """
    limiter: anyio.CapacityLimiter = request.app.state.limiter
    loop = asyncio.get_running_loop()
    own, lock = object(), threading.Lock()
    owner: str | None = None

    def claim(who: str) -> bool:
        """Tell whether the thread or its caller is the first to claim the place, and so the one to give it back."""
        nonlocal owner
        with lock:
            owner = owner or who
            return owner == who

    def run() -> Any:
        if not claim("thread"):
            return None
        try:
            return work()
        finally:
            with contextlib.suppress(RuntimeError):  # the server ended meanwhile
                loop.call_soon_threadsafe(limiter.release_on_behalf_of, own)

    seconds = request.app.state.settings.deadline_s
    try:
        with anyio.fail_after(seconds):
            await limiter.acquire_on_behalf_of(own)
            try:
                return await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=request.app.state.unlimited)
            except BaseException:
                if claim("caller"):
                    limiter.release_on_behalf_of(own)
                raise
    except TimeoutError:
        raise RequestProblem(
            504, f"the answer takes longer than {seconds:g} s: ask for less at a time", "busy"
        ) from None


async def answer(request: Request, work: Callable[[Catalogue], BaseModel], *, cached: bool = True) -> Response:
    """Answer by a result of the catalogue: 304 where the client has that of the present publication.

    Args:
        cached: the answer stays the same as long as the publication does.
    """
    catalogue: Catalogue = request.app.state.catalogue
    reader = catalogue.readers.current()
    tag = _etag(reader)
    if cached and request.method == "GET" and tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "private, no-cache"})
    began = time.perf_counter()
    found = await in_thread(request, partial(work, catalogue))
    headers = {"Server-Timing": f"answer;dur={1e3 * (time.perf_counter() - began):.1f}", "Cache-Control": "no-store"}
    if cached and catalogue.readers.current() is reader:  # otherwise the answer may be of the next publication
        headers |= {"ETag": tag, "Cache-Control": "private, no-cache"}
    return Response(found.model_dump_json(), media_type="application/json", headers=headers)


def _etag(reader: Reader) -> str:
    tag, version, settings, fits = reader.version
    return f'"{tag}-{version}.{settings}.{fits}"'


# -- health

health = APIRouter(tags=["health"])


@health.get("/healthz")
async def healthz() -> Health:
    """Tell that the server runs."""
    return Health(status="ok", coldstart=coldstart.__version__)


@health.get("/readyz", response_model=Ready, responses={503: {"model": Ready, "description": "nothing to answer from"}})
async def readyz(request: Request) -> Response:
    """Tell whether the server can answer: 503 while nothing is published or opened."""
    try:
        reader = request.app.state.catalogue.readers.current()
    except ColdstartError:
        found = Ready(ready=False, why="nothing is published yet")  # who may not read learns no more
        return Response(found.model_dump_json(), 503, media_type="application/json")
    return Response(
        Ready(ready=True, publication=reader.tag, items=len(reader.published())).model_dump_json(),
        media_type="application/json",
    )


# -- reading

reading = APIRouter(prefix="/v1", tags=["catalogue"], dependencies=needs("read"), responses=PROBLEMS)


@reading.get("/search", response_model=results.SearchResult)
async def search(
    request: Request,
    text: Annotated[str | None, Query(max_length=4000, examples=["oat milk"])] = None,
    item: Annotated[str | None, Query(max_length=1024, description="in place of a text: items like this one")] = None,
    kind: Kind = None,
    where: Where = None,
    space: Spaces = None,
    hybrid: Annotated[bool, Query(description="match words as well as vectors")] = True,
    copies: Annotated[bool, Query(description="also return items that are linked to an original")] = False,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response:
    """Find the items nearest to a text or an item, best first."""
    query = SearchQuery(
        text=text, item=item, kind=kind, where=where, spaces=None if space is None else tuple(space), hybrid=hybrid,
        copies=copies, limit=limit, cursor=cursor,
    )  # fmt: skip
    return await answer(request, lambda catalogue: catalogue.search(query))


@reading.post("/search", response_model=results.SearchResult)
async def search_by_body(request: Request, body: SearchBody) -> Response:
    """Find the items nearest to a text or an item: as GET, for long queries."""
    given = body.model_dump()
    given["spaces"] = None if body.spaces is None else tuple(body.spaces)
    return await answer(request, lambda catalogue: catalogue.search(SearchQuery(**given)))


@reading.post("/search/media", response_model=results.SearchResult)
async def search_by_media(
    request: Request,
    file: Annotated[UploadFile, File(description="a picture or a video")],
    kind: Annotated[Literal["product", "video"] | None, Form()] = None,
    where: Annotated[str | None, Form(max_length=2000)] = None,
    space: Annotated[list[str] | None, Form(max_length=32)] = None,
    limit: Annotated[int, Form(ge=1, le=MOST_PAGE)] = PAGE,
) -> Response:
    """Find the items nearest to a picture or a video that is sent."""
    with scratch_folder("query") as folder:
        path, is_image = await save_upload(request, file, folder)
        query = SearchQuery(
            image=path if is_image else None,
            video=None if is_image else path,
            kind=kind,
            where=where,
            spaces=None if space is None else tuple(space),
            limit=limit,
        )
        return await answer(request, lambda catalogue: catalogue.search(query), cached=False)


@reading.get("/items", response_model=results.ItemList)
async def items(
    request: Request, where: Where = None, kind: Kind = None, limit: Limit = PAGE, cursor: Cursor = None
) -> Response:
    """List the published items that meet conditions, by rising id."""
    return await answer(request, lambda catalogue: catalogue.items(where, kind, limit, cursor))


@reading.get("/items/{item_id}", response_model=results.Item)
async def item(request: Request, item_id: ItemId) -> Response:
    """Read one item as it is published."""
    return await answer(request, lambda catalogue: catalogue.item(item_id))


@reading.get("/items/{item_id}/report", response_model=results.ItemReport)
async def report(request: Request, item_id: ItemId) -> Response:
    """Collect all that is known of one item, published or not, and its state in every stage."""
    return await answer(request, lambda catalogue: catalogue.report(item_id), cached=False)


@reading.get("/items/{item_id}/similar", response_model=results.SearchResult)
async def similar(
    request: Request, item_id: ItemId, space: Spaces = None, kind: Kind = None, where: Where = None, limit: Limit = PAGE
) -> Response:
    """Find the items nearest to one, in some spaces or in all that fit."""
    return await answer(request, lambda catalogue: catalogue.similar(item_id, space, kind, where, limit))


@reading.get("/items/{item_id}/audience", response_model=results.AudienceResult)
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


@reading.get("/items/{item_id}/match", response_model=results.MatchResult)
async def match(
    request: Request, item_id: ItemId, kind: Kind = "product", where: Where = None, limit: Limit = 5
) -> Response:
    """Find the products that a video of the catalogue shows or names."""
    return await answer(request, lambda catalogue: catalogue.match(item=item_id, kind=kind, where=where, limit=limit))


@reading.post("/match/media", response_model=results.MatchResult)
async def match_media(
    request: Request,
    file: Annotated[UploadFile, File(description="a video")],
    title: Annotated[str | None, Form(max_length=1000, description="its title, whose words are compared too")] = None,
    listen: Annotated[bool, Form(description="transcribe its speech and read its text on screen, too")] = False,
    kind: Annotated[Literal["product", "video"], Form()] = "product",
    where: Annotated[str | None, Form(max_length=2000)] = None,
    limit: Annotated[int, Form(ge=1, le=MOST_PAGE)] = 5,
) -> Response:
    """Find the products that a video shows or names which is sent."""
    with scratch_folder("query") as folder:
        path, _ = await save_upload(request, file, folder)
        return await answer(
            request,
            lambda catalogue: catalogue.match(
                video=path, title=title, listen=listen, kind=kind, where=where, limit=limit
            ),
            cached=False,
        )


@reading.get("/items/{item_id}/media/{place}", response_class=FileResponse)
async def medium(
    request: Request,
    item_id: ItemId,
    place: Annotated[int, PathParameter(ge=0, le=10_000, description="place of the medium, from 0")],
    side: Annotated[int | None, Query(ge=16, le=2048, description="a JPEG of at most so many pixels a side")] = None,
) -> Response:
    """Send one medium of an item, or a small picture of it; a video in the ranges that a player asks for."""
    catalogue: Catalogue = request.app.state.catalogue
    return await in_thread(request, lambda: _medium(catalogue, item_id, place, side))  # type: ignore[no-any-return]


@reading.get("/recommend", response_model=results.Recommendations)
async def recommend(
    request: Request,
    user: Annotated[str, Query(max_length=1024)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    kind: Kind = None,
    where: Where = None,
    cold_share: Annotated[float, Query(ge=0, le=1)] = 0.0,
    diversity: Annotated[float, Query(ge=0, le=1)] = 0.0,
    explore: Annotated[float, Query(ge=0, le=1)] = 0.0,
    seed: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> Response:
    """List items for a user of the workspace; POST has all settings."""
    rules = {"cold_share": cold_share, "diversity": diversity, "explore": explore, "seed": seed}
    return await answer(
        request,
        lambda catalogue: catalogue.recommend(user, None, top_k=limit, kind=kind, where=where, **rules),
        cached=False,
    )


@reading.post("/recommend", response_model=results.Recommendations)
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


@reading.get("/status", response_model=results.Status, tags=["workspace"])
async def status(request: Request) -> Response:
    """Count the items in each state, stage by stage."""
    return await answer(request, lambda catalogue: catalogue.status(), cached=False)


@reading.get("/ledger", response_model=results.Ledger, tags=["workspace"])
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


@reading.get("/runs", response_model=results.Runs, tags=["workspace"])
async def runs(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> Response:
    """List the last runs of stages, newest first."""
    return await answer(request, lambda catalogue: catalogue.runs(limit), cached=False)


@reading.get("/publications", response_model=results.Publications, tags=["workspace"])
async def publications(request: Request) -> Response:
    """List the published versions that are stored, with the recall of their indexes."""
    return await answer(request, lambda catalogue: catalogue.publications(), cached=False)


# -- media


async def save_upload(request: Request, file: UploadFile, folder: Path) -> tuple[Path, bool]:
    """Save a file that a client sent under a name of our own; returns its path, and whether it is a picture.

    Problems of the request name the file as the client does.

    Raises:
        ColdstartError: it is empty.
    """
    path = folder / "upload"
    if not hasattr(request.state, "uploads"):
        request.state.uploads = {}
    request.state.uploads[str(path)] = PurePath(file.filename or "").name[:100] or "file"
    async with await anyio.open_file(path, "wb") as target:
        while part := await file.read(1 << 20):
            await target.write(part)
    found = guard.sniff_format(path)
    if path.stat().st_size == 0:
        raise ColdstartError("file: it is empty: send a picture or a video", kind="input")
    return path, found in IMAGE_FORMATS


def _medium(catalogue: Catalogue, item_id: str, place: int, side: int | None) -> Response:
    entry, reader = catalogue.medium(item_id, place)
    limits = reader.media_limits()
    headers = {"Cache-Control": "private, max-age=60", "Content-Security-Policy": "sandbox; default-src 'none'"}
    try:
        if side is not None:
            return Response(_small(str(entry["uri"]), side, limits), media_type="image/jpeg", headers=headers)
        if "://" in str(entry["uri"]):
            raise Reject("not_a_file", "it is not on this server: ask for a small picture of it with ?side=320")
        with guard.local_path(str(entry["uri"]), limits) as path:
            content_type = _CONTENT_TYPES.get(guard.sniff_format(path) or "", "application/octet-stream")
            return FileResponse(path, media_type=content_type, headers=headers)
    except Reject as reject:
        detail = f"medium {place} of item {item_id!r}: {reject.reason.replace('_', ' ')}"  # no place of this machine
        raise ColdstartError(f"{detail}: `coldstart show` has more", kind="not_found") from None
    except OSError as error:
        raise ColdstartError(f"medium {place} of item {item_id!r}: {error.strerror}", kind="not_found") from None


def _small(uri: str, side: int, limits: Limits) -> bytes:
    from coldstart.pages import Tile
    from coldstart.pages.page import loader

    found = loader(limits, side)(Tile("", uri, "", ""))
    if not found.pictures:
        raise Reject(found.reason or "no_picture", "it has no picture")
    buffer = io.BytesIO()
    found.pictures[0].image.convert("RGB").save(buffer, "JPEG", quality=82)
    return buffer.getvalue()

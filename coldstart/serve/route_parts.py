"""Parts that routes share: types of what they take, scopes, deadlines, answers, files that clients send."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
from fastapi import Depends, Query, Request, UploadFile
from fastapi import Path as PathParameter
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict
from starlette.responses import Response

from coldstart.core.settings import suggestion
from coldstart.errors import ColdstartError
from coldstart.media import guard
from coldstart.media.guard import IMAGE_FORMATS
from coldstart.serve import results
from coldstart.serve.catalogue import Catalogue
from coldstart.serve.problems import TITLES, RequestProblem
from coldstart.serve.readers import Reader
from coldstart.serve.settings import Scope
from coldstart.serve.workspace_state import MOST_PAGE

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


def place_of(parts: Sequence[int | str]) -> str:
    """Name a place in a request, bounded: a client chooses the names of its fields."""
    return ".".join(str(part)[:100] for part in parts[:20]).encode("utf-8", "replace").decode()


_BEARER = HTTPBearer(auto_error=False, description="a token of the server's token file")


def needs(*scopes: Scope) -> Any:
    """Create the dependency of a route that needs one of some scopes; any token where none is named."""

    async def check(request: Request) -> None:
        identity = request.state.identity
        if scopes and not identity.scopes & {*scopes}:
            has = ", ".join(sorted(identity.scopes))
            wanted = " or ".join(map(repr, scopes))
            raise RequestProblem(403, f"this needs the scope {wanted}, and the token has {has}: take another token")

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
            504,
            f"the answer takes longer than {seconds:g} s: ask again, since what was loaded stays, or "
            "ask for less at a time",
            "busy",
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

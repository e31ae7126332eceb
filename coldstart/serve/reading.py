"""Routes that read the published catalogue: items, searches, matches, labels, media."""

from __future__ import annotations

import io
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi import Path as PathParameter
from pydantic import Field
from starlette.responses import FileResponse, Response

from coldstart.core.scratch import scratch_folder
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.media import guard
from coldstart.media.limits import Limits
from coldstart.serve import results
from coldstart.serve.catalogue import Catalogue, SearchQuery
from coldstart.serve.route_parts import (
    PROBLEMS,
    Body,
    Cursor,
    ItemId,
    Kind,
    Limit,
    Spaces,
    Where,
    answer,
    in_thread,
    needs,
    save_upload,
)
from coldstart.serve.workspace_state import MOST_PAGE, PAGE

MOST_LABELLED = 1000
_EXACT = "compare with all vectors, whatever index there is: slower, misses none"
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


class SearchBody(Body):
    """One search, by exactly one of a text and an item."""

    text: str | None = Field(None, max_length=4000, examples=["oat milk"])
    item: str | None = Field(None, max_length=1024)
    kind: Literal["product", "video"] | None = None
    where: str | None = Field(None, max_length=2000, examples=["price < 20"])
    spaces: list[str] | None = Field(None, max_length=32)
    hybrid: bool = Field(True, description="match words as well as vectors")
    copies: bool = Field(False, description="also return items that are linked to an original")
    exact: bool = Field(False, description=_EXACT)
    limit: int = Field(PAGE, ge=1, le=MOST_PAGE)
    cursor: str | None = Field(None, max_length=400)


class LabelBody(Body):
    """Classes, and the items to label: ids, or a condition."""

    classes: list[str] | dict[str, list[str]] = Field(
        description="2 to 200 names, or names with the words that say what each looks like",
        examples=[["dress", "shoe"]],
    )
    items: list[Annotated[str, Field(max_length=1024)]] | None = Field(None, min_length=1, max_length=MOST_LABELLED)
    kind: Literal["product", "video"] | None = None
    where: str | None = Field(None, max_length=2000)
    spaces: list[str] | None = Field(None, min_length=1, max_length=32)
    threshold: float | None = Field(None, gt=0, le=1, description="score that a label needs; by default 0.8")
    limit: int = Field(MOST_PAGE, ge=1, le=MOST_LABELLED, description="items, by rising id")


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
    exact: Annotated[bool, Query(description=_EXACT)] = False,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response:
    """Find the items nearest to a text or an item, best first."""
    query = SearchQuery(
        text=text, item=item, kind=kind, where=where, spaces=None if space is None else tuple(space), hybrid=hybrid,
        copies=copies, exact=exact, limit=limit, cursor=cursor,
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
    exact: Annotated[bool, Form(description=_EXACT)] = False,
    limit: Annotated[int, Form(ge=1, le=MOST_PAGE)] = PAGE,
) -> Response:
    """Find the items nearest to a picture or a video that is sent."""
    with scratch_folder("media") as folder:
        path, is_image = await save_upload(request, file, folder)
        query = SearchQuery(
            image=path if is_image else None,
            video=None if is_image else path,
            kind=kind,
            where=where,
            spaces=None if space is None else tuple(space),
            exact=exact,
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


@reading.get("/items/{item_id}/match", response_model=results.MatchResult)
async def match(
    request: Request,
    item_id: ItemId,
    kind: Kind = "product",
    where: Where = None,
    exact: Annotated[bool, Query(description=_EXACT)] = False,
    limit: Limit = 5,
) -> Response:
    """Find the products that a video of the catalogue shows or names."""
    return await answer(
        request, lambda catalogue: catalogue.match(item=item_id, kind=kind, where=where, exact=exact, limit=limit)
    )


@reading.post("/match/media", response_model=results.MatchResult)
async def match_media(
    request: Request,
    file: Annotated[UploadFile, File(description="a video")],
    title: Annotated[str | None, Form(max_length=1000, description="its title, whose words are compared too")] = None,
    listen: Annotated[bool, Form(description="transcribe its speech and read its text on screen, too")] = False,
    kind: Annotated[Literal["product", "video"], Form()] = "product",
    where: Annotated[str | None, Form(max_length=2000)] = None,
    exact: Annotated[bool, Form(description=_EXACT)] = False,
    limit: Annotated[int, Form(ge=1, le=MOST_PAGE)] = 5,
) -> Response:
    """Find the products that a video shows or names which is sent."""
    with scratch_folder("media") as folder:
        path, _ = await save_upload(request, file, folder)
        return await answer(
            request,
            lambda catalogue: catalogue.match(
                video=path, title=title, listen=listen, kind=kind, where=where, exact=exact, limit=limit
            ),
            cached=False,
        )


@reading.post("/label", response_model=results.LabelResult)
async def label(request: Request, body: LabelBody) -> Response:
    """Label items with classes that are given now; nothing is stored."""
    given = body.model_dump(exclude_none=True)
    if body.items is not None:
        given["limit"] = MOST_LABELLED
    return await answer(request, lambda catalogue: catalogue.label(**given), cached=False)


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

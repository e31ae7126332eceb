"""Explorer: the page at `/`, from built files in the package, so that users need no build step.

Its sources are in `explorer/src`, written in Preact and built by Vite: `npm ci && npm run build` in `explorer/` fetches
what `package-lock.json` names and writes `dist`.
Preact, because the views hold state that changes as one looks (a player that jumps, dials, pages that grow), for which
pages rendered by the server would ask anew each time; it is a small, kept library with the components and hooks that
most who write pages know, and it renders text as text: titles of strangers are never markup.
The page asks only what other clients ask: `/v1`, with the token that its user gives it.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

BUILT = Path(__file__).parent / "explorer" / "dist"
_CONTENT_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_ASSET = re.compile(r"[\w-]+-[\w-]{8}\.(js|css|svg)")
"""Names that the build gives: with a hash of the content, so that a file of one name never changes."""


async def _index(request: Request) -> Response:
    return FileResponse(BUILT / "index.html", media_type="text/html", headers={"Cache-Control": "no-cache"})


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    path = BUILT / "assets" / name
    if not _ASSET.fullmatch(name) or not path.is_file():
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(path, media_type=_CONTENT_TYPES[path.suffix], headers=headers)


def page_routes() -> list[Route]:
    """List the routes of the explorer: its page and the files that it loads. They need no token and say nothing."""
    return [Route("/", _index, methods=["GET"]), Route("/assets/{name}", _asset, methods=["GET"])]

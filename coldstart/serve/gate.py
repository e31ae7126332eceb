"""Middleware that every request passes: names, tokens, limits, ids, logs and measures.

It is plain ASGI: what frameworks wrap around each request costs more than a search on a small catalogue.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import sys
import time
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldstart.serve.measures import Measures
from coldstart.serve.problems import RequestProblem, problem, problem_of
from coldstart.serve.settings import ServeSettings

LOG = logging.getLogger("coldstart.serve")

UPLOADS = re.compile(r"/v1/(search/media|match/media|items|items/media|interactions|impressions)")
"""Paths that media, or many rows, may be sent to."""
OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: what a load balancer calls. They say nothing of the catalogue."""
LEAST_RATE = 8 << 10
"""Bytes a second that a body must come at, on the whole: a byte at a time would keep a place for days."""
_REQUEST_ID = re.compile(r"[\w.-]{1,64}")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CSP = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
)


class Gate:
    """Middleware that every request passes; see the module."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, measures: Measures) -> None:
        self._app, self._settings, self._measures = app, settings, measures
        self._in_flight = self._receiving = 0
        self._busy = f"{settings.in_flight} requests are being answered: try again"
        self._too_large = (
            f"the request is larger than {settings.max_body_bytes:,} bytes, or {settings.max_upload_bytes:,} with "
            "media or rows: send less at a time"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        method = scope["method"]
        if method == "HEAD":  # answered as GET, without the body
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        if b"%2f" in scope.get("raw_path", b"").lower():  # a slash inside an id is none between parts of the path
            kept = re.sub(rb"(?i)%2f", b"%00", scope["raw_path"].partition(b"?")[0])
            scope["path"] = unquote_to_bytes(kept).decode("utf-8", "replace")
        sent = {"status": 0, "bytes": 0}
        place = _Place(self)
        answering = anyio.CancelScope()

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                place.move(None)  # who reads slowly, a player say, keeps no other from an answer
                sent["status"] = message["status"]
                own = MutableHeaders(scope=message)
                own["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    own.setdefault(name, value)
                own.setdefault("Content-Security-Policy", CSP)
            elif message["type"] == "http.response.body":
                if method == "HEAD":
                    message = {"type": "http.response.body"}
                sent["bytes"] += len(message.get("body", b""))
            await send(message)
            if method == "HEAD" and message["type"] == "http.response.body":
                answering.cancel()  # the rest of a file need not be read

        refused = self._refusal(scope, headers, request_id)
        if refused is not None:
            await refused(scope, receive, reply)
        else:
            place.move("receiving" if _has_body(headers) else "in_flight")
            try:
                with answering:
                    await self._app(scope, self._limited(scope, headers, receive, place), reply)
            except Exception as error:
                LOG.exception("request failed", extra={"fields": {"request_id": request_id}})
                if sent["status"]:
                    raise
                await problem_of(error, request_id)(scope, receive, reply)
            finally:
                place.move(None)
        seconds = time.perf_counter() - began
        route = getattr(scope.get("route"), "path", "") or ("(static)" if sent["status"] == 200 else "(none)")
        self._measures.observe(scope["method"], route, sent["status"], seconds)
        if route not in OPEN:
            fields = {
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": sent["status"],
                "ms": round(1e3 * seconds, 2),
                "bytes": sent["bytes"],
                "who": getattr(scope["state"].get("identity"), "name", None),
            }
            LOG.info("request", extra={"fields": fields})

    def _refusal(self, scope: Scope, headers: Headers, request_id: str) -> Response | None:
        """Refuse a request before any of its body is read; None where it may go on."""
        settings = self._settings
        if not settings.is_allowed_host(headers.get("host", "")):
            return problem(
                421,
                f"host {headers.get('host', '')[:100]!r} is not a name of this server: call it by its own, or start it "
                "with --allow-host NAME",
                kind="usage",
                request_id=request_id,
            )
        origin = headers.get("origin")
        if origin and scope["method"] not in _SAFE and not self._own_origin(origin, headers):
            return problem(
                403,
                f"origin {origin[:100]!r}: pages of other sites may not call this server; start it with --allow-origin",
                kind="usage",
                request_id=request_id,
            )
        if scope["path"] in OPEN or self._is_preflight(scope, headers):
            return None
        identity = settings.identify(_bearer(headers))
        if identity is None and scope["path"].startswith(("/v1", "/metrics", "/openapi", "/docs")):
            return problem(
                401,
                "no known token: send one in the header `Authorization: Bearer TOKEN`",
                kind="usage",
                next="send one in the header `Authorization: Bearer TOKEN`",
                request_id=request_id,
            )
        scope["state"]["identity"] = identity
        if (self._receiving if _has_body(headers) else self._in_flight) >= settings.in_flight:
            return problem(503, self._busy, kind="busy", request_id=request_id)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most(scope):
            return problem(413, self._too_large, kind="input", request_id=request_id)
        return None

    def _is_preflight(self, scope: Scope, headers: Headers) -> bool:
        """Tell whether a browser asks if a page of an allowed site may call; it sends no token with that."""
        return (
            scope["method"] == "OPTIONS"
            and "access-control-request-method" in headers
            and headers.get("origin") in self._settings.allowed_origins
        )

    def _own_origin(self, origin: str, headers: Headers) -> bool:
        if origin in self._settings.allowed_origins:
            return True
        try:
            return urlsplit(origin).netloc == headers.get("host")
        except ValueError:  # it is no address at all
            return False

    def _most(self, scope: Scope) -> int:
        upload = UPLOADS.fullmatch(scope["path"])
        return self._settings.max_upload_bytes if upload else self._settings.max_body_bytes

    def count(self, place: str, by: int) -> None:
        """Count the requests whose bodies come in (`receiving`), or that are being answered (`in_flight`)."""
        if place == "receiving":
            self._receiving += by
        else:
            self._in_flight += by
            self._measures.in_flight.set(self._in_flight)

    def _limited(self, scope: Scope, headers: Headers, receive: Receive, place: _Place) -> Receive:
        """Wrap `receive`: a body that is too large or comes too slowly ends the request."""
        most, read = self._most(scope), 0
        finished = not _has_body(headers)
        began = time.monotonic()

        async def limited() -> Message:
            nonlocal read, finished
            if finished:
                return await receive()  # waits for the end of the connection
            part_s = self._settings.body_s
            left_s = began + part_s + read / LEAST_RATE - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, min(part_s, left_s)))
            except TimeoutError:
                raise RequestProblem(
                    408,
                    f"no part of the request came for {part_s:g} s, or less than {LEAST_RATE:,} bytes a second: send "
                    "it again",
                ) from None
            read += len(message.get("body", b""))
            if read > most:
                raise RequestProblem(413, self._too_large, "input")
            finished = message["type"] != "http.request" or not message.get("more_body", False)
            if finished:
                if self._in_flight >= self._settings.in_flight:
                    raise RequestProblem(503, self._busy, "busy")
                place.move("in_flight")
            return message

        return limited


class _Place:
    """Where one request is counted: its body comes in, it is being answered, or neither."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._now: str | None = None

    def move(self, to: str | None) -> None:
        if self._now is not None:
            self._gate.count(self._now, -1)
        if to is not None:
            self._gate.count(to, 1)
        self._now = to


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _bearer(headers: Headers) -> str | None:
    kind, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" and secret.strip() else None


class JsonLines(logging.Formatter):
    """Formatter of one JSON object a line: time, level, event and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        entry = {"at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"), "level": record.levelname.lower()}
        entry |= {"event": record.getMessage(), **fields}
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def log_to_stderr() -> None:
    """Let the server's log go to stderr, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)

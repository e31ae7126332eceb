"""Problems of requests as RFC 9457 has them, in the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from coldstart.core.error_fields import KINDS, error_fields
from coldstart.core.sanitize import without_controls
from coldstart.errors import ColdstartError, machine_fault

STATUS = {
    "usage": 400,
    "settings": 409,
    "input": 422,
    "not_found": 404,
    "not_ready": 409,
    "busy": 503,
    "damaged": 500,
    "machine": 503,
    "failed": 422,
    "internal": 500,
}
"""Kind of an error -> HTTP status."""

RETRY_S = 1
MEDIA_TYPE = "application/problem+json"

TITLES = {
    400: "The request is not understood",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "The method is not allowed here",
    408: "The request came too slowly",
    409: "The workspace is not ready for this",
    413: "The request is too large",
    415: "The content type is not read here",
    421: "The server has another name",
    422: "The input has a fault",
    429: "Too many requests",
    500: "The server failed",
    503: "The server is busy",
    504: "The answer takes too long",
}


class RequestProblem(HTTPException):
    """Problem of a request that a route or its body states in words of its own."""

    def __init__(self, status: int, detail: str, kind: str = "usage") -> None:
        super().__init__(status, detail)
        self.kind = kind


def problem(
    status: int, detail: str, *, kind: str, where: str | None = None, next: str | None = None, request_id: str = ""
) -> Response:
    """Create the response that states a problem; what its detail says to do next is said once, as `next`."""
    detail = without_controls(detail)
    next = next or error_fields(ColdstartError(detail))["next"]
    if next and detail.endswith(f": {next}"):
        detail = detail.removesuffix(f": {next}")
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(status, "The request failed"),
        "status": status,
        "detail": detail,
        "kind": kind,
        "where": where,
        "next": next,
        "request_id": request_id or None,
    }
    headers = {"Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = str(RETRY_S)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def problem_of(error: BaseException, request_id: str = "", *, hidden: Mapping[str, str] | None = None) -> Response:
    """Create the response for an error: a fault that the client can mend, of the machine, or of the program.

    Args:
        hidden: places on this machine -> what clients read in their stead.
    """
    shown: BaseException = error if isinstance(error, ColdstartError) else machine_fault(error) or error
    if not isinstance(shown, ColdstartError):  # its text may hold anything of the server
        return problem(500, "the server failed: its log has the request id", kind="internal", request_id=request_id)
    fields = error_fields(shown)
    kind = str(fields["kind"] if fields["kind"] in KINDS else "usage")

    def shown_text(text: str | None) -> str | None:
        for place, name in (hidden or {}).items():
            text = text and re.sub(
                rf"(?<![-\w])workspace {re.escape(place)}(?![-\w/])", "this workspace", text
            ).replace(place, name)
        return text

    message, where, next = (shown_text(fields[name]) for name in ("message", "where", "next"))
    return problem(STATUS.get(kind, 400), str(message), kind=kind, where=where, next=next, request_id=request_id)

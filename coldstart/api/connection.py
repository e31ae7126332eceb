"""Connection to a server of coldstart: requests that are sent again where they may be, and problems as errors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx

from coldstart.errors import ColdstartError

TIMEOUT_S = 60.0
"""Seconds for one answer."""
TRIES = 4
"""Times that a request is sent while the server is busy or cannot be reached: one that reads, or has a key."""


class Connection:
    """Connection to one server; use it in a `with` block, or `close` it."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise ColdstartError(
                f"url {url}: it names no scheme: write http://{url.rpartition('://')[2]}", kind="usage"
            )
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._client = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)
        except httpx.InvalidURL as error:
            raise ColdstartError(f"url {url}: {error}: give one such as http://127.0.0.1:8123", kind="usage") from None
        self.url = url

    def __repr__(self) -> str:
        return f"coldstart.connect({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def health(self) -> dict[str, Any]:
        """Read whether the server runs, and its version."""
        return self._get("/healthz")

    def _get(self, path: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        params = {name: value for name, value in (given or {}).items() if value is not None}
        return self._request("GET", path, params=params)

    def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        given = {name: value for name, value in body.items() if value is not None}
        repeatable = path in ("/v1/search", "/v1/recommend", "/v1/label") or bool(headers)
        return self._request("POST", path, repeatable=repeatable, json=given, headers=headers)

    def _send(self, path: str, file: Path, fields: Mapping[str, Any], role: str) -> dict[str, Any]:
        given = {name: value for name, value in fields.items() if value is not None}
        with open_file(file, role) as content:
            return self._request("POST", path, data=given, files={"file": (file.name, content)})

    def _request(self, method: str, path: str, *, repeatable: bool | None = None, **given: Any) -> dict[str, Any]:
        """Send a request, again where it may be and the server is busy.

        Raises:
            ColdstartError: the server states a problem, or does not answer.
        """
        repeatable = method == "GET" if repeatable is None else repeatable
        for number in range(1, TRIES + 1):
            last = number == TRIES or not repeatable
            try:
                answer = self._client.request(method, path, **given)
            except httpx.HTTPError as error:
                if last:
                    raise ColdstartError(
                        f"{self.url} does not answer ({type(error).__name__}: {error}): is `coldstart serve` running?",
                        kind="not_ready",
                    ) from None
            else:
                if answer.status_code != 503 or last:
                    return _read(answer, self.url)
            time.sleep(0.2 * 2**number)
        raise AssertionError("the last try returns or raises")


def open_file(file: Path, role: str) -> BinaryIO:
    """Open a file that is sent.

    Args:
        role: of the file in the request, which a message names.

    Raises:
        ColdstartError: it cannot be read.
    """
    try:
        return file.open("rb")
    except FileNotFoundError:
        raise ColdstartError(f"{role} {file}: there is no such file: give the path of one", kind="input") from None
    except OSError as error:
        raise ColdstartError(f"{role} {file}: {error.strerror}: give a file that can be read", kind="input") from None


def _read(answer: httpx.Response, url: str) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ColdstartError(f"{url} is no server of coldstart: it answers {answer.status_code}: look at the address")
    if answer.is_success:
        return found
    message = str(found.get("detail") or f"{url} answers {answer.status_code}")
    if (next := found.get("next")) and not message.endswith(str(next)):
        message = f"{message}: {next}"
    raise ColdstartError(
        message,
        **{name: found.get(name) for name in ("kind", "where", "next")},
    )

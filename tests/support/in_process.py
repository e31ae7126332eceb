"""A transport by which `coldstart.connect` asks an application in this process."""

from __future__ import annotations

import httpx
from starlette.testclient import TestClient


class InProcess(httpx.BaseTransport):
    """Transport to an application in this process."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        found = self._client.request(
            request.method, path, content=request.read(), headers=dict(request.headers) | {"host": "localhost"}
        )
        return httpx.Response(found.status_code, headers=dict(found.headers), content=found.content)

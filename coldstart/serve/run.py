"""Run the HTTP server until it is told to stop: uvicorn, with bounds on connections that send nothing."""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import platformdirs
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from coldstart.serve.gate import LOG, log_to_stderr
from coldstart.serve.http import create_app
from coldstart.serve.jobs import JobQueue
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings

HEADER_S = 10.0
"""Seconds in which a connection must send the head of its first request."""
KEEP_ALIVE_S = 20
SHUTDOWN_S = 20
"""Seconds that requests under way have to end after the signal to stop."""


class BoundedProtocol(H11Protocol):
    """HTTP connection that is closed if no request comes on it for a while: half-open ones would fill the server."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._first = asyncio.get_running_loop().call_later(HEADER_S, self._close_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._first.cancel()
        super().connection_lost(exc)

    def _close_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def open_queue(workspace: str) -> JobQueue:
    """Open the queue of a workspace: beside its folder; of a remote one in the data folder of this user.

    Raises:
        ColdstartError: the folder cannot be written.
    """
    if "://" not in workspace:
        return JobQueue(Path(f"{workspace.rstrip(chr(47))}.queue"), workspace)
    name = sha256(workspace.encode()).hexdigest()[:16]
    return JobQueue(platformdirs.user_data_path("coldstart") / "queues" / name, workspace)


def serve(settings: ServeSettings, *, read_only: bool = False) -> None:
    """Serve a workspace until SIGINT or SIGTERM; requests under way are answered first.

    Args:
        read_only: take in no items, interactions and removals.

    Raises:
        ColdstartError: there is no such workspace, or the port is taken.
    """
    from coldstart.errors import ColdstartError

    readers = Readers(settings.workspace)
    jobs = None if read_only else open_queue(settings.workspace)
    log_to_stderr()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        create_app(settings, readers, jobs),
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    LOG.info(
        "serving", extra={"fields": {"workspace": settings.workspace, "host": settings.host, "port": settings.port}}
    )
    try:
        server.run()
    except SystemExit as error:
        if not server.started:
            raise ColdstartError(
                f"cannot listen on {settings.host}:{settings.port}: another program may: take another --port",
                kind="machine",
            ) from error
        raise

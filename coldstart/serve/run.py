"""Run the HTTP server until it is told to stop: uvicorn, with bounds on connections that send nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import h11
import platformdirs
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from coldstart.core.sanitize import without_controls
from coldstart.errors import ColdstartError
from coldstart.serve.gate import LOG, log_to_stderr
from coldstart.serve.http import create_app
from coldstart.serve.jobs import JobQueue
from coldstart.serve.readers import Readers
from coldstart.serve.settings import ServeSettings

HEADER_S = 10.0
"""Seconds in which a connection must send the head of a request, once it is open or began to send it."""
REFUSED_S = 2.0
"""Seconds for which the rest of a body that was refused is read, so that the client finds the answer."""
SEND_S = 30.0
"""Seconds in which a client must read some of an answer."""
KEEP_ALIVE_S = 20
SHUTDOWN_S = 20
"""Seconds that requests under way have to end after the signal to stop."""


class BoundedProtocol(H11Protocol):
    """HTTP connection that cannot be held by doing nothing.

    It is closed when the head of a request takes too long, the first one or a later one; when a body that was refused
    goes on coming; and when nothing of an answer is read. Where there are too many, the one that has waited longest for
    a request makes room, so that a thousand half-open connections keep nobody from an answer.

    Args:
        room: the connections of the server that wait for a request, oldest first; most: of all of them.
    """

    def __init__(self, *given: Any, room: dict[BoundedProtocol, None], most: int, **options: Any) -> None:
        super().__init__(*given, **options)
        self._room, self._most = room, most
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @property
    def _is_busy(self) -> bool:
        """Tell whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and close the one that has waited longest where there are too many."""
        super().connection_made(transport)
        self._room[self] = None
        if len(self.connections) > self._most:
            next(iter(self._room)).transport.abort()
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self._is_busy and not self.transport.is_closing():
            self._room[self] = None
            if self.conn.their_state is h11.SEND_BODY:  # of what was refused
                self._watch_head()

    def pause_writing(self) -> None:
        """Wait until the client has read some of the answer."""
        super().pause_writing()
        self._unread = asyncio.get_running_loop().call_later(SEND_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        self._stop_timers(self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timers(self._head, self._unread)
        self._room.pop(self, None)
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self._is_busy:
            self._stop_timers(self._head)
            self._head = None
            self._room.pop(self, None)
        elif self._head is None and not self.transport.is_closing():
            seconds = REFUSED_S if self.conn.their_state is h11.SEND_BODY else HEADER_S
            self._head = asyncio.get_running_loop().call_later(seconds, self.transport.abort)

    @staticmethod
    def _stop_timers(*timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()


class _Server(uvicorn.Server):
    """Server that says in a line on stdout where it listens, and in another what is missing for answers."""

    def __init__(self, config: uvicorn.Config, readers: Readers) -> None:
        super().__init__(config)
        self._readers = readers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if not self.started:
            return
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        sys.stdout.write(f"listening on http://{host}:{self.config.port}; Ctrl-C ends it\n")
        try:
            self._readers.current()
        except ColdstartError as error:
            sys.stdout.write(f"no answers yet: {without_controls(str(error))}\n")
        sys.stdout.flush()


def open_queue(workspace: str) -> JobQueue:
    """Open the queue of a workspace: beside its folder; of a remote one in the data folder of this user.

    Raises:
        ColdstartError: the folder cannot be written.
    """
    if "://" not in workspace:
        return JobQueue(Path(f"{workspace.rstrip(chr(47))}.queue"), workspace)
    name = sha256(workspace.encode()).hexdigest()[:16]
    return JobQueue(platformdirs.user_data_path("coldstart") / "queues" / name, workspace)


def serve(settings: ServeSettings, *, read_only: bool = False, warm: bool = False) -> None:
    """Serve a workspace until SIGINT or SIGTERM; requests under way are answered first.

    Args:
        read_only: take in no items, interactions and removals.
        warm: load the models for new items now, and keep them while no items come.

    Raises:
        ColdstartError: there is no such workspace, the port is taken, or faiss is missing for an index in memory.
    """
    readers = Readers(settings.workspace, index=settings.index)
    jobs = None if read_only else open_queue(settings.workspace)
    log_to_stderr()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        create_app(settings, readers, jobs),
        host=settings.host,
        port=settings.port,
        http=partial(BoundedProtocol, room={}, most=settings.connections),  # type: ignore[arg-type]  # makes one
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        proxy_headers=False,
    )
    server = _Server(config, readers)
    if jobs is not None:
        jobs.start(warm=warm)  # before anything is loaded: another server may work it off
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

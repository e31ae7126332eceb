"""End a request at a moment, however slowly its answer comes: a server that sends a byte now and then is given up.

Time-outs of HTTP clients count from one byte to the next. Here each read and write of a connection may take only what
is left of the whole request. Names of hosts are looked up by the system, which has a limit of its own.
"""

from __future__ import annotations

import ssl
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

_moments = threading.local()


@contextmanager
def end_by(moment: float) -> Iterator[None]:
    """Bound what connections of a `DeadlineBackend` do in this thread for the length of the block.

    Args:
        moment: as of `time.monotonic`.
    """
    before = getattr(_moments, "end", None)
    _moments.end = moment
    try:
        yield
    finally:
        _moments.end = before


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    end = getattr(_moments, "end", None)
    if end is None:
        return timeout
    left: float = end - time.monotonic()
    if left <= 0:
        raise error("not complete in time")
    return left if timeout is None else min(timeout, left)


class DeadlineStream(httpcore.NetworkStream):
    """Connection that keeps to `end_by`."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class DeadlineBackend(httpcore.SyncBackend):
    """Network backend whose connections keep to `end_by`."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return DeadlineStream(super().connect_tcp(host, port, left, local_address, socket_options))


def unpacked(content: bytes, encoding: str, most_bytes: int) -> bytes | None:
    """Decompress an answer that was sent as `gzip`, `deflate` or plain; None where it is or becomes too long.

    Raises:
        ValueError: another encoding, or content that is not so encoded.
    """
    if encoding in ("", "identity"):
        return content if len(content) <= most_bytes else None
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ValueError(f"sent as {encoding[:50]}, which was not asked for")
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)  # finds out which of the two it is
    try:
        plain = reader.decompress(content, most_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"no {encoding}: {error}") from error
    if len(plain) > most_bytes:
        return None
    if not reader.eof:
        raise ValueError(f"no whole {encoding}")
    return plain

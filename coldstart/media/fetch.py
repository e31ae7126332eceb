"""Fetch media over http(s), from named hosts at public addresses.

A name is resolved once, every address it has must be public, and the connection goes to one of those addresses: a name
that resolves differently the second time gains nothing. Redirects are followed by hand, each hop under the same rules.
Proxy settings and stored credentials of the environment are not used: behind a proxy the address that is reached could
not be checked.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import httpcore
import httpx

from coldstart.core.stage import Reject
from coldstart.media.http_deadline import DeadlineBackend, end_by
from coldstart.media.limits import Limits

AddressCheck = Callable[[str], bool]
"""IP address as text -> whether a connection to it is permitted."""

_MAX_REDIRECTS = 5
_TIMEOUTS_S = {"connect": 10.0, "read": 20.0, "write": 20.0, "pool": 20.0}
_SHARE_OF_DEADLINE = 0.8  # a slow server is then named as such, before the worker's deadline blames the decoder
_HEADERS = [("User-Agent", "coldstart"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]


def public_address(address: str) -> bool:
    """Tell whether an IP address (v4 or v6, as text) is public, also where it is embedded in another address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1]) or _nat64(ip)
        if inner is not None:
            return public_address(str(inner))
    return ip.is_global and not ip.is_multicast


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in ipaddress.IPv6Network("64:ff9b::/96") else None


def check_url(url: str, limits: Limits, address_ok: AddressCheck = public_address) -> httpx.URL:
    """Parse a URL and check its host; resolve and send nothing.

    Raises:
        Reject: `private_address` for a literal address that is not public, `host_not_allowed` for a host that
            `limits.allowed_hosts` does not name or a malformed URL, `scheme_not_allowed` for other schemes.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Reject("host_not_allowed", f"{url[:500]}: {error}") from error
    if parsed.scheme not in ("http", "https"):
        raise Reject("scheme_not_allowed", f"{url[:500]}: {parsed.scheme} is not permitted here")
    host = parsed.host.rstrip(".")
    if _is_address(host) and not address_ok(host):
        raise Reject("private_address", f"{url[:500]}: {host} is not a public address")
    names = (host, parsed.raw_host.decode("ascii").rstrip("."))  # the second in punycode
    if not any(_matches(name, pattern.lower()) for name in names for pattern in limits.allowed_hosts):
        allowed = ", ".join(limits.allowed_hosts) or "none"
        raise Reject("host_not_allowed", f"{url[:500]}: {host or 'no host'} is not among allowed_hosts ({allowed})")
    return parsed


class Fetcher:
    """HTTP client that keeps connections open between fetches; one in a process.

    Args:
        address_ok: the check that every address of a host must pass.
    """

    def __init__(self, address_ok: AddressCheck = public_address) -> None:
        self._address_ok = address_ok
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_keepalive_connections=8,
            keepalive_expiry=30.0,
            network_backend=_CheckedBackend(address_ok),
        )

    def get(self, url: str, limits: Limits, file: BinaryIO, max_bytes: int) -> None:
        """Write the body of `url` to `file`.

        Raises:
            Reject: `not_found`, `fetch_failed`, `too_many_bytes`, and what `check_url` raises, on every hop.
        """
        stop_at = _stop_at(limits)
        too_many = Reject("too_many_bytes", f"{url}: more than {max_bytes} bytes")
        with self._response("GET", url, limits, stop_at) as (response, headers):
            if response.status != 200:
                raise Reject("fetch_failed", f"{url}: HTTP status {response.status}")
            if headers.get("content-encoding", "identity") != "identity":
                raise Reject("fetch_failed", f"{url}: sent as {headers['content-encoding']}, which was not asked for")
            if headers.get("content-length", "").isdecimal() and int(headers["content-length"]) > max_bytes:
                raise too_many
            received = 0
            for chunk in response.iter_stream():
                received += len(chunk)
                if received > max_bytes:
                    raise too_many
                _check_time(url, stop_at)
                file.write(chunk)

    def signature(self, url: str, limits: Limits) -> str:
        """Return ETag, date and size of `url` as its server states them; if it states none, a text that never repeats.

        Raises:
            Reject: as `get`, without `too_many_bytes`.
        """
        with self._response("HEAD", url, limits, _stop_at(limits)) as (response, headers):
            stated = [headers.get(name, "") for name in ("etag", "last-modified", "content-length")]
        if response.status == 200 and (stated[0] or stated[1]):
            return " ".join(filter(None, stated))
        return f"unstated-{time.time_ns()}"  # many servers and signed links refuse HEAD, yet answer GET

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    @contextmanager
    def _response(
        self, method: str, url: str, limits: Limits, stop_at: float
    ) -> Iterator[tuple[httpcore.Response, dict[str, str]]]:
        """Request a URL, follow its redirects, and return the last response with lower-case header names."""
        target = check_url(url, limits, self._address_ok)
        for _ in range(_MAX_REDIRECTS + 1):
            _check_time(url, stop_at)
            where = httpcore.URL(
                scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path
            )
            extensions = {"timeout": _TIMEOUTS_S}
            with (
                _http_errors(url, stop_at),
                end_by(stop_at),
                self._pool.stream(method, where, headers=_HEADERS, extensions=extensions) as response,
            ):
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status in (404, 410):
                    raise Reject("not_found", f"{url}: HTTP status {response.status}")
                if response.status not in (301, 302, 303, 307, 308) or "location" not in headers:
                    yield response, headers
                    return
                target = check_url(str(target.join(headers["location"])), limits, self._address_ok)
        raise Reject("fetch_failed", f"{url}: more than {_MAX_REDIRECTS} redirects")


@functools.cache
def fetcher() -> Fetcher:
    """Return the process's own fetcher."""
    return Fetcher()


class _CheckedBackend(DeadlineBackend):
    """Network backend that connects to the very address that was checked."""

    def __init__(self, address_ok: AddressCheck) -> None:
        self._address_ok = address_ok

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host}: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not self._address_ok(address):
                raise Reject("private_address", f"{host} leads to {address}, which is not a public address")
        for address in addresses[:-1]:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return super().connect_tcp(addresses[-1], port, timeout, local_address, socket_options)


@contextmanager
def _http_errors(url: str, stop_at: float) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        late = time.monotonic() >= stop_at
        words = "not complete in time" if late else f"{type(error).__name__} {error}"
        raise Reject("fetch_failed", f"{url}: {words}"[:500]) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.InvalidURL) as error:
        raise Reject("fetch_failed", f"{url}: {type(error).__name__} {error}"[:500]) from error


def _stop_at(limits: Limits) -> float:
    return time.monotonic() + limits.deadline_s * _SHARE_OF_DEADLINE


def _check_time(url: str, stop_at: float) -> None:
    if time.monotonic() > stop_at:
        raise Reject("fetch_failed", f"{url}: not complete in time")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern

"""Settings of the HTTP server: where it listens, who may ask for what, and how much one request may take."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from coldstart.errors import ColdstartError

Scope = Literal["read", "write", "review"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
LEAST_TOKEN = 16
"""Characters of a token, at least: shorter ones can be guessed."""


@dataclass(frozen=True)
class Identity:
    """Sender of a request: a name for logs and reviews, and the scopes that it has."""

    name: str
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class Token:
    """Token with its scopes; of the secret only the digest is kept."""

    digest: bytes = field(repr=False)
    identity: Identity


@dataclass(frozen=True)
class ServeSettings:
    """Settings of the HTTP server.

    Attributes:
        tokens: none: whoever reaches the port may do everything, which is for this machine alone.
        allowed_hosts: names by which the server may be called, besides those of this machine.
        allowed_origins: web pages of other sites that may call it; none by default.
        max_body_bytes: of a request without media; max_upload_bytes: of one with.
        deadline_s: seconds for one answer; body_s: seconds in which a client must send the next part of its request.
        in_flight: requests at one time; more are refused with 503.
        connections: open connections at one time, idle ones too.
        index: `memory`: hold the whole catalogue in memory and search graphs of its vectors; `disk`: the indexes of
            the workspace.
    """

    workspace: str
    host: str = "127.0.0.1"
    port: int = 8123
    tokens: tuple[Token, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body_bytes: int = 1 << 20
    max_upload_bytes: int = 256 << 20
    deadline_s: float = 30.0
    body_s: float = 20.0
    in_flight: int = 64
    connections: int = 512
    index: str = "disk"

    def __post_init__(self) -> None:
        if not self.tokens and not is_loopback(self.host):
            raise ColdstartError(
                f"--host {self.host}: other machines can reach it: give --token-file FILE, or listen on 127.0.0.1",
                kind="usage",
            )
        if not is_loopback(self.host) and not self.allowed_hosts:
            raise ColdstartError(
                f"--host {self.host}: name the server as clients call it, with --allow-host NAME", kind="usage"
            )

    def identify(self, secret: str | None) -> Identity | None:
        """Find who a token belongs to, in a time that says nothing of it; None for an unknown one."""
        if not self.tokens:
            return Identity("local", frozenset(SCOPES))
        digest = _digest(secret or "")
        found = None
        for token in self.tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token.identity
        return found

    def is_allowed_host(self, host: str) -> bool:
        """Tell whether a Host header names this server; a page of another site that resolves to it does not."""
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower()
        return name == "localhost" or is_loopback(name) or name in {one.lower() for one in self.allowed_hosts}


def is_loopback(host: str) -> bool:
    """Tell whether a host is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read tokens from a file: a line each of `SCOPES TOKEN [NAME]`, scopes joined by commas; `#` begins a remark.

    Raises:
        ColdstartError: it cannot be read, others may read it, or a line is something else.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ColdstartError(f"token file {path}: other users may read it: run `chmod 600 {path}`", kind="input")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ColdstartError(f"cannot read token file {path}: {reason}: give one that can be read") from None
    found = []
    for number, line in enumerate(lines, start=1):
        parts = line.partition("#")[0].split()
        if parts:
            found.append(_parse_token(parts, f"{path} line {number}"))
    if not found:
        raise ColdstartError(f"token file {path} has no token: write lines such as `read TOKEN shop`", kind="input")
    return tuple(found)


def parse_token(secret: str, scopes: Iterable[Scope] = SCOPES, name: str = "token") -> Token:
    """Create a token from its secret.

    Raises:
        ColdstartError: it is too short.
    """
    return _parse_token([",".join(scopes), secret, name], "the token")


def _parse_token(parts: list[str], place: str) -> Token:
    if not 2 <= len(parts) <= 3:
        raise ColdstartError(f"{place}: write SCOPES TOKEN [NAME], such as `read,write s3cr3t… shop`", kind="input")
    scopes = parts[0].split(",")
    if unknown := [one for one in scopes if one not in SCOPES]:
        raise ColdstartError(f"{place}: no scope {unknown[0]!r}: there are {', '.join(SCOPES)}", kind="input")
    if len(parts[1]) < LEAST_TOKEN:
        raise ColdstartError(
            f"{place}: a token of {len(parts[1])} characters can be guessed: take {LEAST_TOKEN} or more, such as "
            "`openssl rand -hex 24` prints",
            kind="input",
        )
    granted: frozenset[Scope] = frozenset(one for one in SCOPES if one in scopes)
    return Token(_digest(parts[1]), Identity(parts[2] if len(parts) == 3 else "token", granted))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()

"""One chat endpoint over http(s): its address, its key, and what its errors mean for whoever set it up.

The key is read from the environment for each request, goes into the `Authorization` header alone, and is struck out of
whatever the endpoint says. Redirects are not followed. Proxies of the environment stand between here and other hosts,
never between here and this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import httpx

from coldstart.errors import ColdstartError
from coldstart.generators import _chat

CONNECT_S = 10.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Endpoint:
    """One model at one address.

    Args:
        name: the generator's, for messages.
        model, url: as `parse` gives them.
        key_env: environment variable with the key; none is sent where it is not set.
        timeout_s: how long one answer may take.
    """

    def __init__(self, name: str, model: str, url: str, key_env: str, timeout_s: float) -> None:
        self.name, self.model, self.url, self._key_env = name, model, url, key_env
        self._timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)

    def client(self) -> httpx.Client:
        """Connections to it, for any number of threads; to be closed."""
        return httpx.Client(timeout=self._timeout, trust_env=httpx.URL(self.url).host not in _LOOPBACK)

    def post(self, client: httpx.Client, body: Mapping[str, Any]) -> httpx.Response | str:
        """The response, whatever its status; or what kept it from coming, for a person.

        Raises:
            ColdstartError: the key cannot stand in a header.
        """
        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            return client.post(f"{self.url}/chat/completions", json=body, headers=headers)
        except httpx.TransportError as error:
            return self.clean(f"{type(error).__name__} {error}")

    def words(self, response: httpx.Response | str) -> str:
        """Status and message of an error; nothing of an answer."""
        if isinstance(response, str):
            return response
        if response.status_code == 200:
            return ""
        return f"HTTP status {response.status_code} {self.clean(response.text)}".strip()

    def clean(self, text: str) -> str:
        """What an endpoint says, on one short line; some repeat the key that they do not know."""
        key = self._key()
        return _chat.words_of(text.replace(key, "***") if key else text)

    def settings_fault(self, response: httpx.Response) -> ColdstartError:
        """What to do about an error that no waiting mends."""
        status, said = response.status_code, self.words(response)
        place = f"generator {self.name!r}: {self.url} answers {said}"
        if status in (401, 403) and self._key():
            next_step = f"put the right key into {self._key_env}, or name its variable by key_env"
        elif status in (401, 403):
            next_step = f"put its key into {self._key_env}, which is not set, or name another variable by key_env"
        elif status in (402, 429):
            next_step = "the account has no credit left: add some, or name another endpoint"
        elif 300 <= status < 400:
            there = self.clean(response.headers.get("location", "nowhere"))
            next_step = f"it points to {there}: write the address that it should have"
        else:
            next_step = f"is {self.model!r} among the models of {self.url}/models, and is this its base URL?"
        return ColdstartError(f"{place}: {next_step}")

    def _key(self) -> str:
        key = os.environ.get(self._key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ColdstartError(f"generator {self.name!r}: {self._key_env} holds marks that no key has: set it again")
        return key


def parse(name: str, rest: str, key_env: str) -> tuple[str, str]:
    """(model, base URL) of `MODEL@BASE_URL`.

    Raises:
        ColdstartError: no model, no http(s) URL, or more in it than host and path.
    """
    found = re.fullmatch(r"(?P<model>\S+?)@(?P<url>https?://\S+)", rest)
    if found is None:
        raise ColdstartError(
            f"generator {name!r}: write openai:MODEL@BASE_URL, such as openai:smollm2@http://127.0.0.1:8000/v1"
        )
    model, url = found["model"], found["url"].rstrip("/")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ColdstartError(f"generator 'openai:{model}@…': the base URL is none: {error}") from None
    if parsed.userinfo or parsed.query or parsed.fragment or not parsed.host:
        raise ColdstartError(
            f"generator 'openai:{model}@…': the base URL has a host and a path alone; "
            f"its key goes into the environment variable {key_env}"
        )
    return model, url

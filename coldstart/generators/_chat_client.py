"""Client of one chat completions endpoint: request bodies and answers, connection and key, rate limits and back-off.

Endpoints differ: some bind text to a JSON schema, some to any JSON object, some to nothing; some do not know a
parameter. A `Dialect` is one form of request, `fallback_dialect` the next one to try after an error 400.
The key is read from the environment for each request, goes into the `Authorization` header alone, and is removed from
error texts. Redirects are not followed. Proxies of the environment are used for other hosts, never for this machine.
Limits are safe to use from several threads and never sleep themselves.

Sources: the OpenAI API reference for chat completions; llama-cpp-python's server, which takes a schema beside
`json_object` alone; and vLLM's server.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from PIL import Image

from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Pixels, Request, Sampling
from coldstart.media.http_deadline import DeadlineBackend, end_by, unpacked

FORMATS = ("json_schema", "json_object with schema", "json_object", "text")
"""Ways to ask for JSON, the most binding first."""

JPEG_QUALITY = 90

_MAX_WORDS = 300
_MOST_TOKENS = 10**8

TOO_LONG = re.compile(
    r"context.{0,3}(length|window|size)|maximum (model|context|prompt)|max_model_len|too (long|many tokens)", re.I
)
"""Errors that say that prompt and answer are over the model's context."""

_FILTERED = ("content_filter", "content_policy_violation")


@dataclass(frozen=True)
class Dialect:
    """Form of a request that an endpoint takes.

    Attributes:
        form: place in `FORMATS`.
        limit: name of the parameter that bounds the tokens of an answer.
        left_out: sampling parameters that the endpoint does not take.
    """

    form: int = 0
    limit: str = "max_tokens"
    left_out: frozenset[str] = frozenset()


def request_body(model: str, request: Request, sampling: Sampling, dialect: Dialect) -> dict[str, Any]:
    """Build the JSON body of one request.

    If the endpoint does not get the schema by itself, the system message states it. Otherwise the messages stay
    as they are, since a model may have been tuned on them.
    """
    form = FORMATS[dialect.form]
    system = request.system
    if request.schema is not None and form in ("json_object", "text"):
        stated = f"Answer with one JSON object that this JSON schema allows: {json.dumps(request.schema)}"
        system = f"{system}\n{stated}" if system else stated
    content: Any = request.prompt
    if request.images:
        pictures = [{"type": "image_url", "image_url": {"url": data_url(pixels)}} for pixels in request.images]
        content = [*pictures, {"type": "text", "text": request.prompt}]
    messages = [{"role": "system", "content": system}] if system else []
    sent: dict[str, Any] = {
        "model": model,
        "messages": [*messages, {"role": "user", "content": content}],
        dialect.limit: sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
    if request.schema is not None and form != "text":
        sent["response_format"] = _response_format(form, request.schema)
    return {name: value for name, value in sent.items() if name not in dialect.left_out}


def _response_format(form: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if form == "json_schema":
        # `strict` would refuse attributes that may be left out; servers that bind text to grammars bind it either way.
        return {"type": form, "json_schema": {"name": "description", "strict": False, "schema": schema}}
    return {"type": "json_object", "schema": schema} if form.endswith("schema") else {"type": form}


def data_url(pixels: Pixels) -> str:
    """Encode uint8 [H, W, 3] RGB as the data URL of a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def fallback_dialect(dialect: Dialect, words: str, *, bound: bool) -> Dialect | None:
    """Choose the next form of request after an error 400 (or 422); None if there is none.

    Args:
        words: what the endpoint says of the error.
        bound: whether the request has a schema.
    """
    if "max_completion_tokens" in words and dialect.limit == "max_tokens":
        return replace(dialect, limit="max_completion_tokens")
    for name in ("seed", "top_p", "temperature"):
        if re.search(rf"\b{name}\b", words) and name not in dialect.left_out:
            return replace(dialect, left_out=dialect.left_out | {name})
    if bound and dialect.form + 1 < len(FORMATS):
        return replace(dialect, form=dialect.form + 1)
    return None


def looks_bound(written: Generation | Reject, schema: Mapping[str, Any] | None) -> bool:
    """Tell whether an answer looks bound: a JSON object with the required fields, or one that was cut or refused."""
    if schema is None or isinstance(written, Reject) or written.finish == "length":
        return True
    try:
        found = json.loads(written.text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(schema.get("required", ())) <= found.keys()


def error_text(text: str) -> str:
    """Extract the message of an error body, on one line of printable characters.

    The message and code where it is in OpenAI's form or FastAPI's, else its beginning.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    if isinstance(found, dict):
        error = found.get("error", found)
        if isinstance(error, dict):
            stated = [error.get(name) for name in ("message", "detail", "code", "param")]
            error = " ".join(one if isinstance(one, str) else json.dumps(one) for one in stated if one) or error
        found = error
    line = found if isinstance(found, str) else json.dumps(found)
    return " ".join("".join(mark if mark.isprintable() else " " for mark in line).split())[:_MAX_WORDS]


def item_reject(words: str) -> Reject | None:
    """Return the verdict on the item, if an error 400 is about its text or pictures."""
    if any(code in words for code in _FILTERED):
        return Reject("refused", words)
    return Reject("prompt_too_long", words) if TOO_LONG.search(words) else None


def parse_answer(answer: Any, estimate: tuple[int, int]) -> Generation | Reject:
    """Parse an answer.

    Args:
        answer: the parsed JSON.
        estimate: (prompt, most new) tokens, for endpoints that state none.

    Raises:
        ValueError: it is no chat completion.
    """
    try:
        choice = answer["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = message.get("content") or ""
        usage = answer.get("usage") or {}
        tokens = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        refusal = message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion: {type(error).__name__} {error}") from None
    if refusal or finish == "content_filter":
        return Reject(
            "refused", error_text(str(refusal)) if refusal else "the endpoint's content filter cut the answer"
        )
    if not isinstance(text, str):
        raise ValueError(f"no chat completion: content is {type(text).__name__}")
    text = text.encode("utf-8", "replace").decode()  # half a character, which no table can hold
    prompt, new = (
        stated if isinstance(stated, int) and 0 <= stated <= _MOST_TOKENS else guess
        for stated, guess in zip(tokens, estimate, strict=True)
    )
    return Generation(text, "length" if finish == "length" else "stop", prompt, new)


CONNECT_S = 10.0
MOST_BYTES = 4 * 2**20
"""Bytes of the longest answer that is read; one of 100,000 tokens has a tenth."""
_HEADERS = ("retry-after", "location", "content-type")

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Endpoint:
    """Endpoint of one model at one address.

    Args:
        name: the generator's, for messages.
        model, url: as `parse_name` gives them.
        key_env: environment variable with the key; none is sent where it is not set.
        timeout_s: how long one answer may take.
    """

    def __init__(self, name: str, model: str, url: str, key_env: str, timeout_s: float) -> None:
        self.name, self.model, self.url, self._key_env = name, model, url, key_env
        self._timeout_s = timeout_s
        self._timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)

    def client(self) -> httpx.Client:
        """Open connections to it, for any number of threads; to be closed."""
        client = httpx.Client(timeout=self._timeout, trust_env=httpx.URL(self.url).host not in _LOOPBACK)
        for transport in (client._transport, *client._mounts.values()):
            if isinstance(transport, httpx.HTTPTransport):
                transport._pool._network_backend = DeadlineBackend()  # httpx has no setting for it
        return client

    def post(self, client: httpx.Client, body: Mapping[str, Any]) -> httpx.Response | str:
        """Send a body and return the whole response, whatever its status; or a text on why none came.

        The answer may take `timeout_s` from beginning to end, and `MOST_BYTES`, compressed or not.

        Raises:
            ColdstartError: the key cannot stand in a header.
        """
        key = self._key()
        headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {key}"} if key else {})}
        request = client.build_request("POST", f"{self.url}/chat/completions", json=body, headers=headers)
        try:
            with end_by(time.monotonic() + self._timeout_s):
                response = client.send(request, stream=True, follow_redirects=False)
                try:
                    content = bytearray()
                    for chunk in response.iter_raw():
                        content += chunk
                        if len(content) > MOST_BYTES:
                            return f"the answer has more than {MOST_BYTES:,} bytes"
                finally:
                    response.close()
            plain = unpacked(bytes(content), response.headers.get("content-encoding", "").strip().lower(), MOST_BYTES)
        except httpx.TransportError as error:
            return self.redacted_line(f"{type(error).__name__} {error}")
        except ValueError as error:
            return self.redacted_line(f"the answer is {error}")
        if plain is None:
            return f"the answer has more than {MOST_BYTES:,} bytes"
        kept = {name: response.headers[name] for name in _HEADERS if name in response.headers}
        return httpx.Response(response.status_code, headers=kept, content=plain, request=request)

    def error_line(self, response: httpx.Response | str) -> str:
        """Write status and message of an error; "" for an answer."""
        if isinstance(response, str):
            return response
        if response.status_code == 200:
            return ""
        return f"HTTP status {response.status_code} {self.redacted_line(response.text)}".strip()

    def redacted_line(self, text: str) -> str:
        """Write an endpoint's text on one short line, without the key, which some endpoints repeat."""
        key = self._key()
        return error_text(text.replace(key, "***") if key else text)

    def settings_fault(self, response: httpx.Response) -> ColdstartError:
        """Build the error for a fault of the set-up, which no waiting repairs, with the next step."""
        status, text = response.status_code, self.error_line(response)
        place = f"generator {self.name!r}: {self.url} answers {text}"
        if status in (401, 403) and self._key():
            next_step = f"put the right key into {self._key_env}, or name its variable by key_env"
        elif status in (401, 403):
            next_step = f"put its key into {self._key_env}, which is not set, or name another variable by key_env"
        elif status in (402, 429):
            next_step = "the account has no credit left: add some, or name another endpoint"
        elif 300 <= status < 400:
            there = self.redacted_line(response.headers.get("location", "nowhere"))
            next_step = f"it points to {there}: write the address that it should have"
        else:
            next_step = f"is {self.model!r} among the models of {self.url}/models, and is this its base URL?"
        return ColdstartError(f"{place}: {next_step}")

    def _key(self) -> str:
        key = os.environ.get(self._key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ColdstartError(
                f"generator {self.name!r}: {self._key_env} holds characters that no key has: set it again"
            )
        return key


def parse_name(name: str, rest: str, key_env: str) -> tuple[str, str]:
    """Parse (model, base URL) from `MODEL@BASE_URL`.

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


FIRST_PAUSE_S = 0.5

LONGEST_PAUSE_S = 20.0


Clock = Callable[[], float]


class RateLimiter:
    """Rate limiter that spaces requests evenly, so that no minute has more than its limits.

    Args:
        requests_per_minute, tokens_per_minute: None: no limit. Tokens are counted before they are written: prompt and
            the most that the answer may take, as endpoints themselves do.
        clock: seconds.
    """

    def __init__(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, clock: Clock = time.monotonic
    ) -> None:
        self._per_request_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token_s = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock, self._lock = clock, threading.Lock()
        self._request_at = self._token_at = self._open_at = 0.0

    def reserve(self, tokens: int) -> float:
        """Reserve the next place for a request of so many tokens, and return the seconds to wait for it."""
        with self._lock:
            now = self._clock()
            at = max(now, self._request_at, self._token_at, self._open_at)
            self._request_at, self._token_at = at + self._per_request_s, at + tokens * self._per_token_s
            return at - now

    def pause(self, seconds: float) -> None:
        """Delay all requests by at least so many seconds, as the endpoint requested."""
        with self._lock:
            self._open_at = max(self._open_at, self._clock() + seconds)


class CircuitBreaker:
    """Circuit breaker of an endpoint that fails for too long.

    Args:
        patience_s: how long it may fail without one answer in between.
        clock: seconds.
    """

    def __init__(self, patience_s: float, clock: Clock = time.monotonic) -> None:
        self.patience_s = patience_s
        self._clock = clock
        self._since: float | None = None

    def record_failure(self) -> float:
        """Record a failure, and return the present time."""
        now = self._clock()
        if self._since is None:
            self._since = now
        return now

    def record_success(self) -> None:
        """Record an answer, which closes the breaker."""
        self._since = None

    def seconds_left(self, since: float) -> float:
        """Return the seconds until what fails since then is given up; the endpoint's own failing counts if older."""
        began = self._since
        return self.patience_s - (self._clock() - (since if began is None else min(since, began)))

    def is_open(self) -> bool:
        """Tell whether the endpoint failed for too long."""
        since = self._since
        return since is not None and self._clock() - since >= self.patience_s


def backoff_s(attempt: int, retry_after: str | None) -> float:
    """Compute the seconds to wait after a failed attempt (0 is the first): what the endpoint requests, else exponential
    back-off with jitter, so that clients do not come back all at once.

    Args:
        retry_after: the header of that name: seconds or a date.
    """
    requested = _retry_after_s(retry_after)
    if requested is not None:
        return requested
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt, 16)) * random.uniform(0.5, 1.0)


def _retry_after_s(header: str | None) -> float | None:
    if not header:
        return None
    with suppress(ValueError):
        seconds = float(header)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())

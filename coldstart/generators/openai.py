"""`openai:MODEL@BASE_URL`: any endpoint that speaks the chat completions protocol, such as
`openai:smollm2@http://127.0.0.1:8000/v1`.

Everything a request holds goes to that URL: the prompt with the item's text in it, and the item's pictures where the
option `image_side` is given. No other host is asked. The key comes from the environment variable that `key_env` names.

An endpoint that fails is waited for; where it stays down for `patience_s` seconds its requests end as rejects
`endpoint_failed`, so that a run goes on and those items can be tried again. What no waiting mends (a wrong key, model
or URL, an account without credit) is raised. Texts are as repeatable as the endpoint makes them: temperature and seed
are passed on. What it cannot know: which weights answer. The option `revision` names them, else the URL stands for
them. Text is bound to a schema where the endpoint does that; the first answer shows whether it does, and no later
one is looked at.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

import httpx
import numpy as np

from coldstart.core.keys import digest
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, GeneratorPassport, Request, Sampling, _chat_client
from coldstart.generators._chat_client import (
    FORMATS,
    CircuitBreaker,
    Dialect,
    Endpoint,
    RateLimiter,
    backoff_s,
    parse_name,
)
from coldstart.media.image import ImageTransform

BYTES_PER_TOKEN = 3
PIXELS_PER_TOKEN = 750
_MARKS = re.compile(r"[!-@\[-`{-~]")  # of ASCII: all that is printed and is no letter
_BINDING = 1  # raised by hand when what is sent changes
_BAD_REQUEST = (400, 422)
_PASSING = (408, 409, 425, 429)
_SETTINGS = (401, 402, 403, 404, 405)


class OpenAI:
    """Generator by an endpoint; see the module. Safe to use from one thread; it starts its own for open requests.

    Args:
        prices: of a million tokens read and written.
        image_side: the longer side of a picture in pixels; None: it takes none.
        revision: name of the weights that are served.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        concurrency: int,
        limiter: RateLimiter,
        breaker: CircuitBreaker,
        *,
        prices: tuple[float | None, float | None] = (None, None),
        image_side: int | None = None,
        context_tokens: int | None = None,
        revision: str | None = None,
    ) -> None:
        self.name, self.context_tokens = endpoint.name, context_tokens
        self.image_transform = ImageTransform((image_side, image_side), "longest") if image_side else None
        self._endpoint, self._concurrency, self._limiter, self._breaker = endpoint, concurrency, limiter, breaker
        self._prices, self._revision, self._image_side = prices, revision, image_side
        self._dialect, self._proven = Dialect(), False
        self._lock = threading.Lock()
        self._answers = self._prompt_tokens = self._new_tokens = 0

    def passport(self) -> GeneratorPassport:
        weights = f"revision {self._revision}" if self._revision else f"as served at {self._endpoint.url}"
        template = digest({"binding": _BINDING, "image_side": self._image_side})
        return GeneratorPassport(f"openai:{self._endpoint.model}", weights, template=template)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Estimate tokens on the high side, without a tokenizer: a token for each ASCII digit and mark, and for
        every three bytes of all else in UTF-8.
        """
        return [_estimate(text) for text in texts]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        """Generate as `Generator.generate`; as many requests are under way at once as `concurrency` says.

        An endpoint that was given up gets one request first: while it stays down, a call costs one attempt.

        Raises:
            ColdstartError: the endpoint refuses the key, the model or the URL; or a request has pictures and
                `image_side` is not set.
        """
        if self.image_transform is None and any(request.images for request in requests):
            raise ColdstartError(
                f"generator {self.name!r} sends no pictures: allow it by the option image_side, such as 768"
            )
        stop = threading.Event()
        first: list[Generation | Reject] = []
        with self._endpoint.client() as client, ThreadPoolExecutor(self._concurrency) as pool:
            if requests and self._breaker.is_open():
                first = [self._write(client, requests[0], sampling, stop, probe=True)]
                if self._breaker.is_open():
                    return first * len(requests)
            rest = [pool.submit(self._write, client, request, sampling, stop) for request in requests[len(first) :]]
            try:
                for future in wait(rest, return_when=FIRST_EXCEPTION).done:
                    future.result()  # a fault of the set-up ends all
                return [*first, *(future.result() for future in rest)]
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def notes(self) -> list[str]:
        """List notes on the answers so far, a line each: tokens, cost, a format that was refused."""
        if not self._answers:
            return []
        spent = f"{self.name}: {self._answers:,} answers, {self._prompt_tokens:,} tokens read, "
        spent += f"{self._new_tokens:,} written"
        if any(price is not None for price in self._prices):
            read, new = (price or 0.0 for price in self._prices)
            spent += f", {(self._prompt_tokens * read + self._new_tokens * new) / 1e6:.4f} at the prices given"
        form = self._dialect.form
        less = f"{self.name} does not bind by response_format {FORMATS[0]}: used {FORMATS[form]} instead"
        return [spent, less] if form else [spent]

    def _write(
        self,
        client: httpx.Client,
        request: Request,
        sampling: Sampling,
        stop: threading.Event,
        *,
        probe: bool = False,
    ) -> Generation | Reject:
        """Send one request until it is answered, refused or given up."""
        dialect, attempt, since = self._dialect, 0, None
        while True:
            if self._breaker.is_open() and not (probe and attempt == 0):
                return self._failed("it was given up")
            if stop.wait(self._limiter.reserve(self._cost(request) + sampling.max_new_tokens)):
                return self._failed("the run ended")
            response = self._endpoint.post(
                client, _chat_client.request_body(self._endpoint.model, request, sampling, dialect)
            )
            words = self._endpoint.error_line(response)
            if _passes(response, words):
                if not isinstance(response, str) and "insufficient_quota" in words:
                    raise self._endpoint.settings_fault(response)
                now = self._breaker.record_failure()
                since = now if since is None else since
                header = None if isinstance(response, str) else response.headers.get("retry-after")
                pause = backoff_s(attempt, header)
                if pause >= self._breaker.seconds_left(since):
                    return self._failed(words)
                if header:
                    self._limiter.pause(pause)
                if stop.wait(pause):
                    return self._failed("the run ended")
                attempt += 1
                continue
            assert not isinstance(response, str)
            self._breaker.record_success()
            if response.status_code < 500 and response.status_code not in _BAD_REQUEST:
                written = self._read(response, request, sampling)
                fallback = _chat_client.fallback_dialect(dialect, "", bound=True)
                if fallback is None or self._proven or _chat_client.looks_bound(written, request.schema):
                    whole = isinstance(written, Generation) and written.finish == "stop"
                    self._remember(dialect, proven=whole and request.schema is not None)
                    return written
                dialect = fallback  # the endpoint takes the schema, and does not bind by it
                continue
            if verdict := _chat_client.item_reject(words):
                return verdict
            if "model_not_found" in words:
                raise self._endpoint.settings_fault(response)
            fallback = _chat_client.fallback_dialect(dialect, words, bound=request.schema is not None)
            if fallback is None:
                return Reject("request_refused", f"{self._endpoint.url}: {words}")
            dialect = fallback

    def _read(self, response: httpx.Response, request: Request, sampling: Sampling) -> Generation | Reject:
        if response.status_code in _SETTINGS or 300 <= response.status_code < 400:
            raise self._endpoint.settings_fault(response)
        if response.status_code != 200:
            return Reject("request_refused", f"{self._endpoint.url}: {self._endpoint.error_line(response)}")
        try:
            written = _chat_client.parse_answer(response.json(), (self._cost(request), sampling.max_new_tokens))
        except (ValueError, RecursionError) as error:
            why = (
                f"{self._endpoint.url} does not answer as a chat endpoint ({self._endpoint.redacted_line(str(error))})"
            )
            if self._answers:
                return Reject("endpoint_failed", why)
            raise ColdstartError(
                f"generator {self.name!r}: {why}: write its base URL, such as http://HOST:8000/v1"
            ) from None
        with self._lock:
            self._answers += 1
            if isinstance(written, Generation):
                self._prompt_tokens += written.prompt_tokens
                self._new_tokens += written.new_tokens
        return written

    def _remember(self, dialect: Dialect, *, proven: bool) -> None:
        """Remember the first form of request that worked for all later ones."""
        with self._lock:
            if not self._proven:
                self._dialect, self._proven = dialect, proven

    def _failed(self, why: str) -> Reject:
        return Reject("endpoint_failed", f"{self._endpoint.url}: {why} (patience_s: {self._breaker.patience_s:g})")

    def _cost(self, request: Request) -> int:
        """Estimate the tokens of a request before it is sent, pictures at a token for every 750 pixels."""
        pixels = sum(int(np.prod(picture.shape[:2])) for picture in request.images)
        return self.count_tokens([request.system + request.prompt])[0] + pixels // PIXELS_PER_TOKEN


def _estimate(text: str) -> int:
    marks = len(_MARKS.findall(text))
    return marks - (-(len(text.encode("utf-8", "replace")) - marks) // BYTES_PER_TOKEN)


def _passes(response: httpx.Response | str, words: str) -> bool:
    """Tell whether waiting may repair a fault. llama-cpp-python answers 500 to a format that it does not know."""
    if isinstance(response, str) or response.status_code in _PASSING:
        return True
    return response.status_code >= 500 and "response_format" not in words


def build(
    rest: str,
    *,
    device: str,
    dtype: str,
    adapter: Path | None,
    key_env: str = "OPENAI_API_KEY",
    concurrency: int = 8,
    timeout_s: float = 120.0,
    patience_s: float = 180.0,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    prompt_price_per_million: float | None = None,
    new_price_per_million: float | None = None,
    image_side: int | None = None,
    context_tokens: int | None = None,
    revision: str | None = None,
) -> OpenAI:
    """Build the generator. Device and dtype have no effect. Sends nothing.

    Args:
        key_env: environment variable with the key.
        concurrency: requests under way at once.
        timeout_s: how long one answer may take.
        patience_s: how long to wait for an endpoint that fails, and for one request that fails while others do not.
        requests_per_minute, tokens_per_minute: limits to keep to; None: those that the endpoint enforces itself.
        prompt_price_per_million, new_price_per_million: price of a million tokens read and written, for the notes.
        image_side: send pictures, their longer side at most this many pixels; None: send none.
        context_tokens: the model's limit of prompt and answer together.
        revision: what the served weights are called; with another one descriptions are made anew. It stands in the
            passport in place of the URL.

    Raises:
        ColdstartError: no model or no http(s) URL, a password in the URL, an option out of range, or an adapter.
    """
    name = f"openai:{rest}"
    model, url = parse_name(name, rest, key_env)
    if adapter is not None:
        raise ColdstartError(
            f"generator {name!r} takes no adapter: serve {adapter / 'adapter'} beside the model at the endpoint "
            "(vLLM: --enable-lora --lora-modules NAME=FOLDER) and write openai:NAME@BASE_URL"
        )
    above_0 = {
        "concurrency": concurrency,
        "timeout_s": timeout_s,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "image_side": image_side,
        "context_tokens": context_tokens,
    }
    for option, given in above_0.items():
        if given is not None and given <= 0:
            raise ColdstartError(f"generator {name!r}: option {option}: {given} is not above 0")
    return OpenAI(
        Endpoint(name, model, url, key_env, timeout_s),
        concurrency,
        RateLimiter(requests_per_minute, tokens_per_minute),
        CircuitBreaker(patience_s),
        prices=(prompt_price_per_million, new_price_per_million),
        image_side=image_side,
        context_tokens=context_tokens,
        revision=revision,
    )

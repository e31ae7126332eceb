"""A hostile endpoint: drips, endless and compressed answers, nesting, headers, redirects; and hosts of media."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from coldstart import generators
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Request, Sampling, _chat_client
from coldstart.media.fetch import Fetcher
from coldstart.media.http_deadline import unpacked
from coldstart.media.limits import Limits

ANSWER = {"choices": [{"message": {"content": "a shoe"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
PLAIN = json.dumps(ANSWER).encode()

Answer = Callable[[BaseHTTPRequestHandler], None]


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server on this machine that answers as told; gives its root and the headers of each request."""
    seen: list[dict[str, str]] = []
    closed = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.closed = closed
            try:
                answer(self)
            except OSError:  # the client has gone
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        closed.set()
        server.shutdown()
        server.server_close()


def drip(handler: Any, pieces: bytes = b"") -> None:
    """Send a byte now and then, for as long as somebody listens."""
    handler.wfile.write(pieces)
    while not handler.closed.wait(0.02):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def ask(answer: Answer, **options: Any) -> Generation | Reject:
    given: dict[str, Any] = {"patience_s": 0.3, "timeout_s": 0.3, **options}
    with serving(answer) as (root, _):
        return generators.load(f"openai:m@{root}/v1", **given).generate([Request("shoe")], Sampling())[0]


def failure(answer: Answer, **options: Any) -> str:
    found = ask(answer, **options)
    assert isinstance(found, Reject) and found.reason == "endpoint_failed"
    return found.detail.partition("/v1: ")[2]


def test_an_honest_answer_is_read() -> None:
    assert ask(lambda handler: send(handler, PLAIN), timeout_s=20) == Generation("a shoe", "stop", 3, 128)


def test_a_body_that_drips_is_given_up() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        drip(handler, b"{")

    assert failure(answer) in (
        "ReadTimeout not complete in time (patience_s: 0.3)",
        "ReadTimeout timed out (patience_s: 0.3)",
    )


def test_headers_that_drip_are_given_up() -> None:
    assert failure(lambda handler: drip(handler, b"HTTP/1.1 200 OK\r\nX-Slow: ")).startswith("ReadTimeout ")


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chat_client, "MOST_BYTES", 100_000)

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not handler.closed.is_set():
            handler.wfile.write(b"x" * 65536)

    assert failure(answer, timeout_s=20) == "the answer has more than 100,000 bytes (patience_s: 0.3)"


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_answers_are_read_up_to_the_limit(
    encoding: str, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ask(lambda handler: send(handler, pack(PLAIN), Content_Encoding=encoding), timeout_s=20)
    assert isinstance(found, Generation) and found.text == "a shoe"
    monkeypatch.setattr(_chat_client, "MOST_BYTES", 100_000)
    bomb = pack(bytes(10_000_000))
    assert len(bomb) < 100_000
    assert failure(lambda handler: send(handler, bomb, Content_Encoding=encoding), timeout_s=20) == (
        "the answer has more than 100,000 bytes (patience_s: 0.3)"
    )


def test_other_encodings_are_refused() -> None:
    assert failure(lambda handler: send(handler, b"x", Content_Encoding="br"), timeout_s=20) == (
        "the answer is sent as br, which was not asked for (patience_s: 0.3)"
    )
    for content, words in ((b"xx", "no gzip: "), (gzip.compress(PLAIN)[:-20], "no whole gzip")):
        with pytest.raises(ValueError, match=words):
            unpacked(content, "gzip", 1000)


def test_a_flood_of_headers_is_refused() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, PLAIN, **{f"X-{number}": "y" * 500 for number in range(1000)})

    assert "ProtocolError" in failure(answer, timeout_s=20)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"choices": ' + b"[" * 100_000, b"9" * 100_000, b"\xff\xfe"])
def test_nesting_and_absurd_numbers_are_no_chat(body: bytes) -> None:
    with pytest.raises(ColdstartError, match="does not answer as a chat endpoint"):
        ask(lambda handler: send(handler, body), timeout_s=20)


def test_numbers_and_letters_of_an_answer_are_bounded() -> None:
    absurd = {**ANSWER, "usage": {"prompt_tokens": 10**30, "completion_tokens": -5}}
    absurd["choices"] = [{"message": {"content": "a \ud800 shoe"}}]
    body = json.dumps(absurd).encode()
    found = ask(lambda handler: send(handler, body), timeout_s=20)
    assert isinstance(found, Generation)
    assert found.text == "a ? shoe" and found.prompt_tokens < 10 and found.new_tokens == 128


def test_a_redirect_never_carries_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving(lambda handler: send(handler, PLAIN)) as (other, seen):
        for status in (301, 302, 303, 307, 308):
            with pytest.raises(ColdstartError) as caught:
                ask(lambda handler, status=status: send(handler, b"", status, Location=f"{other}/v1?k=sk-secret"))
            assert "write the address that it should have" in str(caught.value)
            assert "sk-secret" not in str(caught.value)
    assert seen == []


def test_the_key_is_sent_to_the_endpoint_alone_and_said_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving(lambda handler: send(handler, b"no key like sk-secret", 401)) as (root, seen):
        with pytest.raises(ColdstartError) as caught:
            generators.load(f"openai:m@{root}/v1").generate([Request("shoe")], Sampling())
        assert seen[0]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(caught.value)


def test_proxies_keep_to_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda handler: drip(handler, b"HTTP/1.1 200 OK\r\nX-Slow: ")) as (proxy, _):
        monkeypatch.setenv("http_proxy", proxy)
        endpoint = _chat_client.Endpoint("openai:m", "m", "http://llm.example/v1", "NO_KEY", 0.3)
        with endpoint.client() as client:
            found = endpoint.post(client, {})
    assert isinstance(found, str) and found.startswith("ReadTimeout ")


# -- media


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nx"])
def test_a_medium_that_drips_is_given_up(start: bytes, tmp_path: Any) -> None:
    limits = Limits(allowed_hosts=("localhost",), deadline_s=0.4)
    with serving(lambda handler: drip(handler, start)) as (root, _), (tmp_path / "x").open("wb") as file:
        url = root.replace("127.0.0.1", "localhost")
        fetcher = Fetcher(lambda _: True)
        with pytest.raises(Reject) as caught:
            fetcher.get(url, limits, file, 10**6)
        assert str(caught.value) == f"fetch_failed: {url}: not complete in time"
        fetcher.close()


def test_httpx_still_has_the_place_where_the_deadline_hangs() -> None:
    endpoint = _chat_client.Endpoint("openai:m", "m", "http://127.0.0.1:1/v1", "NO_KEY", 1.0)
    with endpoint.client() as client:
        assert isinstance(client._transport, httpx.HTTPTransport)
        assert type(client._transport._pool._network_backend).__name__ == "DeadlineBackend"

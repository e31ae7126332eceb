"""A small chat completions server that answers by the fake generator, with the faults that a test asks for.

In a thread (`running`) for tests of the client; as a process of its own (`chat_server`, or this file run as a script)
for tests that kill it. It is a real server on a real socket, and no more than that: it checks nothing that a test does
not ask it to. `llama` is llama-cpp-python's own server.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from coldstart import generators
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Request, Sampling
from coldstart.models import install

ALL_FORMATS = ("json_schema", "json_object with schema", "json_object", "text")


@dataclass(frozen=True)
class Behaviour:
    """What the server does.

    Attributes:
        formats: ways to ask for JSON that it takes; others get a 400.
        faults: (status, headers, body) of the first answers, in order; status 0 closes the connection unanswered.
        key: what `Authorization` must bear.
        models: names that it knows; none: any.
        unknown: parameters that get a 400.
        refuses: prompts with this word are refused; `filters`: cut by a content filter.
        context: words over which a prompt gets a 400.
        delay_s: how long each answer takes.
        dies_at: the process kills itself when the request of that number (from 0) has come in.
        states_usage: whether answers count tokens.
    """

    formats: tuple[str, ...] = ALL_FORMATS
    faults: tuple[tuple[int, dict[str, str], str], ...] = ()
    key: str = ""
    models: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    refuses: str = ""
    filters: str = ""
    context: int = 10_000
    delay_s: float = 0.0
    dies_at: int = -1
    states_usage: bool = True


class Server(ThreadingHTTPServer):
    """`seen` holds, for each request in order, its path, its body and its `Authorization` header."""

    daemon_threads = True

    def __init__(self, behaviour: Behaviour, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.behaviour, self.seen = behaviour, []
        self.seen: list[dict[str, Any]]
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self.generator = generators.load("fake")
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            number = len(server.seen)
            server.seen.append({"path": self.path, "body": body, "authorization": self.headers["authorization"]})
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            if number == server.behaviour.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(server.behaviour.delay_s)
            if number < len(server.behaviour.faults):
                status, headers, text = server.behaviour.faults[number]
            else:
                (status, answer), headers = self._answer(body), {}
                text = json.dumps(answer)
            if status == 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            sent = text.encode()
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)
        finally:
            with server.lock:
                server.under_way -= 1

    def _answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        behaviour = self.server.behaviour
        if self.path != "/v1/chat/completions":
            return error(404, f"no such path: {self.path}")
        if behaviour.key and self.headers["authorization"] != f"Bearer {behaviour.key}":
            return error(401, f"Incorrect API key provided: {self.headers['authorization']}", "invalid_api_key")
        if behaviour.models and body["model"] not in behaviour.models:
            return error(404, f"The model `{body['model']}` does not exist", "model_not_found")
        for name in behaviour.unknown:
            if name in body:
                instead = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                return error(400, f"Unsupported parameter: '{name}'.{instead}", "unsupported_parameter")
        form, schema = asked_for(body)
        if form not in behaviour.formats:
            return error(400, f"response_format {form} is unavailable now")
        *system, user = body["messages"]
        prompt = user["content"]
        if not isinstance(prompt, str):
            prompt = " ".join(part["text"] for part in prompt if part["type"] == "text")
        if len(prompt.split()) > behaviour.context:
            return error(400, f"This model's maximum context length is {behaviour.context} tokens.")
        if behaviour.refuses and behaviour.refuses in prompt:
            return 200, {"choices": [{"message": {"content": None, "refusal": "I cannot help."}}]}
        request = Request(prompt, system[0]["content"] if system else "", schema)
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        (made,) = self.server.generator.generate([request], Sampling(max_new_tokens=limit))
        assert isinstance(made, Generation)
        finish = "content_filter" if behaviour.filters and behaviour.filters in prompt else made.finish
        answer: dict[str, Any] = {
            "choices": [{"message": {"role": "assistant", "content": made.text}, "finish_reason": finish}]
        }
        if behaviour.states_usage:
            answer["usage"] = {"prompt_tokens": made.prompt_tokens, "completion_tokens": made.new_tokens}
        return 200, answer


def asked_for(body: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Which of `ALL_FORMATS` a body asks for, and the schema, wherever it stands."""
    asked = body.get("response_format", {"type": "text"})
    if asked["type"] == "json_schema":
        return "json_schema", asked["json_schema"]["schema"]
    if "schema" in asked:
        return "json_object with schema", asked["schema"]
    told = next((message["content"] for message in body["messages"] if message["role"] == "system"), "")
    _, found, schema = told.partition("allows: ")
    return asked["type"], json.loads(schema) if found else None


def error(status: int, message: str, code: str | None = None) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


@contextmanager
def running(behaviour: Behaviour | None = None, port: int = 0) -> Iterator[Server]:
    """A server in a thread of this process."""
    with Server(behaviour or Behaviour(), port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def await_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Return when somebody listens there; fail when the process ends first."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no server on port {port}: {process.args!r} ended with {process.poll()}")


@contextmanager
def chat_server(port: int, behaviour: Behaviour | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The server as a process of its own, ready; killed at the end."""
    plain = json.dumps(dataclasses.asdict(behaviour or Behaviour()))
    started = subprocess.Popen([sys.executable, str(Path(__file__)), str(port), plain])
    try:
        await_port(port, started)
        yield started
    finally:
        started.kill()
        started.wait()


@contextmanager
def llama(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """llama-cpp-python's server, ready; killed at the end."""
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed: pip install 'llama-cpp-python[server]'")
    try:
        folder = install.starter_folder("language")
    except ColdstartError as error:
        pytest.skip(str(error))
    asked = {"model": next(folder.glob("*.gguf")), "host": "127.0.0.1", "port": port, "n_ctx": 1024, "n_threads": 1}
    flags = [part for name, value in asked.items() for part in (f"--{name}", str(value))]
    started = subprocess.Popen(
        [sys.executable, "-m", "llama_cpp.server", *flags, "--verbose", "false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_port(port, started)
        yield started
    finally:
        started.kill()
        started.wait()


if __name__ == "__main__":
    stated = json.loads(sys.argv[2])
    listed = {name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()}
    Server(Behaviour(**listed), int(sys.argv[1])).serve_forever()

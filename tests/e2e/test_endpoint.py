"""Descriptions from an endpoint that is killed while it writes: a process answering by the fake generator, and
llama-cpp-python's server with the starter's language model where it is installed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest
from openai_server import Behaviour, chat_server, free_port, llama

from coldstart import generators
from coldstart.core.attributes import Attribute
from coldstart.core.description import json_schema, parse
from coldstart.core.stage import Reject
from coldstart.generators import Generation, Generator, Request, Sampling

COLOURS = ("red", "blue", "green", "black")
TYPES = ("Shoes", "Shirt", "Watch")
OUTPUT = ("attributes", "summary")
SCHEMA = json_schema({"colour": Attribute(values=COLOURS), "type": Attribute(values=TYPES)}, OUTPUT)
SAMPLING = Sampling(max_new_tokens=160)
Start = Callable[[int], AbstractContextManager[subprocess.Popen[bytes]]]


def requests(count: int) -> list[Request]:
    """Each with a colour and a type of its own among the first twelve."""
    return [
        Request(
            f"title: Men {COLOURS[n % 4]} {TYPES[n % 3]} number {n}\nJSON with attributes (colour, type) and summary:",
            "Describe the product for a shop, from its data alone.",
            SCHEMA,
        )
        for n in range(count)
    ]


def small(port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return chat_server(port, Behaviour(delay_s=0.05))


ENDPOINTS = [
    pytest.param(small, 40, id="small"),
    pytest.param(llama, 4, id="llama-cpp", marks=pytest.mark.slow),
]


def load(port: int, **options: Any) -> Generator:
    return generators.load(f"openai:any@http://127.0.0.1:{port}/v1", concurrency=2, **options)


def described(results: Sequence[Generation | Reject]) -> list[dict[str, str]]:
    """Attributes of each; fails where one is no description of the schema."""
    found = []
    for result in results:
        assert isinstance(result, Generation), result
        assert result.finish == "stop"
        attributes = dict(parse(result.text, OUTPUT).attributes)
        assert set(attributes) <= {"colour", "type"}
        assert attributes.get("colour", "red") in COLOURS
        assert attributes.get("type", "Shirt") in TYPES
        found.append(attributes)
    return found


class Run(threading.Thread):
    """Requests under way in a thread of their own; `results` are there when it has ended."""

    def __init__(self, generator: Generator, asked: Sequence[Request]) -> None:
        super().__init__()
        self.generator, self.asked = generator, asked
        self.results: list[Generation | Reject] = []

    def run(self) -> None:
        self.results = self.generator.generate(self.asked, SAMPLING)

    def await_an_answer(self) -> None:
        """Return when one has come, of several."""
        while not self.generator.notes():
            assert self.is_alive()
            time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("start", "count"), ENDPOINTS)
def test_killed_in_the_middle_and_started_again_everything_is_written(start: Start, count: int) -> None:
    port = free_port()
    run = Run(load(port, patience_s=200), requests(count))
    with start(port) as server:
        run.start()
        run.await_an_answer()
        server.send_signal(signal.SIGKILL)
        server.wait()
    time.sleep(1)
    assert run.is_alive(), "it was to wait"
    with start(port):
        run.join(timeout=250)
        assert len(described(run.results)) == count
        again = load(port).generate(requests(count), SAMPLING)
    if start is small:  # a model's own numbers depend on what it has just read
        assert described(run.results) == described(again)


@pytest.mark.slow
@pytest.mark.parametrize(("start", "count"), ENDPOINTS)
def test_killed_for_good_the_rest_is_turned_away_and_written_when_tried_again(start: Start, count: int) -> None:
    port = free_port()
    run = Run(load(port, patience_s=1), requests(count))
    with start(port) as server:
        run.start()
        run.await_an_answer()
        server.kill()
        run.join(timeout=250)
    results = run.results
    kinds = Counter(type(result) for result in results)
    assert 0 < kinds[Generation] < count
    assert kinds[Generation] + kinds[Reject] == count
    turned_away = [place for place, result in enumerate(results) if isinstance(result, Reject)]
    for place in turned_away:
        verdict = results[place]
        assert isinstance(verdict, Reject)
        assert (verdict.reason, verdict.state) == ("endpoint_failed", "failed")
        assert verdict.detail.startswith(f"http://127.0.0.1:{port}/v1: ")
        assert verdict.detail.endswith("(patience_s: 1)")
    with start(port):
        tried_again = run.generator.generate([run.asked[place] for place in turned_away], SAMPLING)
    for place, result in zip(turned_away, tried_again, strict=True):
        results[place] = result
    assert len(described(results)) == count


@pytest.mark.slow
def test_a_process_that_dies_of_one_request_is_asked_again_when_it_is_back() -> None:
    """The third request kills it before it is answered."""
    port = free_port()
    run = Run(load(port, patience_s=100), requests(6))
    with chat_server(port, Behaviour(dies_at=2)) as server:
        run.start()
        assert server.wait(timeout=200) == -signal.SIGKILL
    with chat_server(port):
        run.join(timeout=250)
    expected = [{"colour": COLOURS[n % 4], "type": TYPES[n % 3]} for n in range(6)]
    assert described(run.results) == expected
    assert [json.loads(result.text)["summary"] for result in run.results if isinstance(result, Generation)] == [
        f"{one['colour']} {one['type']}." for one in expected
    ]

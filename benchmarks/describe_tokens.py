"""Tokens per second of the starter language model: a batch against one text at a time, and against llama.cpp.

    python -m benchmarks [--full] describe_tokens

64 titles of the sample catalogue under one system message, greedy, at most 48 new tokens each; reading the prompts is
part of the time. Bound texts keep to a description's schema. llama.cpp (llama-cpp-python, `make peers`) runs the same
GGUF with its packed weights and no grammar, in a process of its own, one text at a time with its own cache of the
common beginning; ours are free as well in that comparison. Contenders take turns; ratios are taken round by round. The
short form takes 16 titles and one round.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.process import Peer, PeerMissing
from benchmarks.report import Row, against
from coldstart import generators, sample
from coldstart.core.attributes import Attribute
from coldstart.core.description import json_schema, parse
from coldstart.generators import Generation, Generator, Request, Sampling, _chat_template, _smollm2

SYSTEM = "You describe products of a shop. Answer with JSON: the attributes that the title states, and one sentence."
OUTPUT = ("attributes", "summary")
VALUES = {"type": ("fruit", "vegetable", "milk", "juice", "yoghurt"), "colour": ("red", "green", "yellow", "white")}
NEW = 48
THREADS = 1 if os.getloadavg()[0] > (os.cpu_count() or 1) else os.cpu_count() or 1
"""Of every contender; on a busy machine threads that wait for each other drown the difference."""
Contender = Callable[[], tuple[int, float]]


def titles(count: int) -> list[str]:
    """Titles of the sample catalogue's products."""
    lines = (Path(sample.__file__).parent / "manifest.jsonl").read_text("utf-8").splitlines()
    found = [item["title"] for item in map(json.loads, lines) if item["kind"] == "product"]
    return found[:count]


def ours(generator: Generator, batches: list[list[Request]], kept: list[Generation]) -> Contender:
    """Writes all batches; `kept` gets what was written in the last run."""

    def turn() -> tuple[int, float]:
        began = time.perf_counter()
        found = [one for batch in batches for one in generator.generate(batch, Sampling(NEW))]
        spent = time.perf_counter() - began
        kept[:] = [one for one in found if isinstance(one, Generation)]
        return sum(one.new_tokens for one in kept), spent

    return turn


def theirs(requests: list[Request], stack: ExitStack) -> tuple[Contender, str] | None:
    """llama.cpp on the same file and the same tokens, and its version; None where it is not installed."""
    tokenizer = _smollm2.load_tokenizer()
    prompts = [_chat_template.prompt_ids(tokenizer, request.system, request.prompt) for request in requests]
    job = {"model": str(_smollm2.weights_path()), "threads": THREADS, "prompts": prompts, "new": NEW}
    try:
        peer = stack.enter_context(Peer("benchmarks.peers.llama_cpp", job, environment="llama", threads=THREADS))
    except PeerMissing:
        return None

    def turn() -> tuple[int, float]:
        answer = peer.ask(few=False)
        return answer["tokens"], answer["seconds"]

    peer.ask(few=True)
    return turn, peer.about["versions"]["llama_cpp_python"]


def run(short: bool) -> dict[str, Any]:
    """Tokens per second of every contender, a list over rounds, and how many bound texts are valid."""
    torch.set_num_threads(THREADS)
    schema = json_schema({name: Attribute(values=values) for name, values in VALUES.items()}, OUTPUT)
    prompts = [f"Title: {title}" for title in titles(16 if short else 64)]
    bound = [Request(prompt, SYSTEM, schema) for prompt in prompts]
    free = [Request(prompt, SYSTEM) for prompt in prompts]
    kept: list[Generation] = []
    speeds: dict[str, list[float]] = {}
    load = os.getloadavg()[0]
    generator = generators.load("starter", device="cpu")
    generator.generate(bound[:1], Sampling(2))  # reads the weights
    with ExitStack() as stack:
        contenders: dict[str, Contender] = {
            "bound, batched": ours(generator, [bound], kept),
            "bound, one at a time": ours(generator, [[request] for request in bound], []),
            "free, batched": ours(generator, [free], []),
        }
        peer = theirs(free, stack)
        if peer:
            contenders["llama.cpp"] = peer[0]
        for _ in range(1 if short else 3):
            for name, turn in contenders.items():
                tokens, spent = turn()
                speeds.setdefault(name, []).append(round(tokens / spent, 2))
    return {
        "prompts": len(prompts),
        "load": round(load, 1),
        "threads": THREADS,
        "llama_cpp": peer[1] if peer else None,
        "speeds": speeds,
        "valid": sum(map(_valid, kept)),
    }


def _valid(generation: Generation) -> bool:
    try:
        parse(generation.text, OUTPUT)
    except ValueError:
        return False
    return True


def rows(result: dict[str, Any]) -> list[Row]:
    """The claims' lines in the table."""
    speeds, count = result["speeds"], result["prompts"]
    setting = f"SmolLM2-135M, {count} prompts, {NEW} new tokens, {result['threads']} threads, load {result['load']:.0f}"

    def line(claim: str, first: str, second: str, goal: str = "") -> Row:
        absolute = f"{max(speeds[first]):.0f} against {max(speeds[second]):.0f} tok/s at best"
        return against("peer", claim, f"{setting}; {absolute}", speeds[first], speeds[second], goal)

    lines = [
        line("batched writing against one at a time", "bound, batched", "bound, one at a time", "at least 4"),
        line("text bound to a schema against free text", "bound, batched", "free, batched"),
    ]
    claim = "batched writing against llama.cpp, same GGUF"
    if "llama.cpp" in speeds:
        setting += f", llama-cpp-python {result.get('llama_cpp')}"
        lines.append(line(claim, "free, batched", "llama.cpp"))
    else:
        lines.append(Row(claim, setting, "not run", "llama-cpp-python is not installed (make peers)"))
    share = result["valid"] / count
    lines.append(Row("bound texts that are valid JSON", setting, f"{share:.3f}", f"{count} texts", "at least 0.99"))
    return lines

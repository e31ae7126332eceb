"""Tokens per second of the starter language model: a batch against one text at a time, and against llama.cpp.

    python -m benchmarks [--full] describe_tokens

64 titles of the sample catalogue under one system message, greedy, at most 48 new tokens each; reading the prompts is
part of the time. Bound texts keep to a description's schema. llama.cpp (the server in xllamacpp, `make peers`) runs the
same GGUF with its packed weights and no grammar, in a process of its own: with as many texts at once as ours (slots of
one batch), and one at a time; each slot keeps the beginning that prompts share. It is as PyPI has it, for AVX2. Ours
are free as well in that comparison. Contenders take turns; ratios are taken round by round, of the clock and of the
processor's time. The short form takes 16 titles and one round.
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
from benchmarks.report import Row, against, ratio
from coldstart import generators, sample
from coldstart.core.attributes import Attribute
from coldstart.core.description import json_schema, parse
from coldstart.generators import Generation, Generator, Request, Sampling, _chat_template, _smollm2

SYSTEM = "You describe products of a shop. Answer with JSON: the attributes that the title states, and one sentence."
OUTPUT = ("attributes", "summary")
VALUES = {"type": ("fruit", "vegetable", "milk", "juice", "yoghurt"), "colour": ("red", "green", "yellow", "white")}
NEW = 48
BATCH = 32
THREADS = 1 if os.getloadavg()[0] > (os.cpu_count() or 1) else os.cpu_count() or 1
"""Of every contender; on a busy machine threads that wait for each other drown the difference."""
Contender = Callable[[], tuple[int, float, float]]
"""Tokens written, seconds of the clock, and seconds of the processor."""


def titles(count: int) -> list[str]:
    """Titles of the sample catalogue's products."""
    lines = (Path(sample.__file__).parent / "manifest.jsonl").read_text("utf-8").splitlines()
    found = [item["title"] for item in map(json.loads, lines) if item["kind"] == "product"]
    return found[:count]


def ours(generator: Generator, batches: list[list[Request]], kept: list[Generation]) -> Contender:
    """Writes all batches; `kept` gets what was written in the last run."""

    def turn() -> tuple[int, float, float]:
        began, worked = time.perf_counter(), time.process_time()
        found = [one for batch in batches for one in generator.generate(batch, Sampling(NEW))]
        spent, cpu = time.perf_counter() - began, time.process_time() - worked
        kept[:] = [one for one in found if isinstance(one, Generation)]
        return sum(one.new_tokens for one in kept), spent, cpu

    return turn


def theirs(requests: list[Request], stack: ExitStack) -> tuple[dict[int, Contender], str] | None:
    """llama.cpp on the same file and the same tokens by texts at once, and its version; None if it is not installed."""
    tokenizer = _smollm2.load_tokenizer()
    prompts = [_chat_template.prompt_ids(tokenizer, request.system, request.prompt) for request in requests]
    job = {"model": str(_smollm2.weights_path()), "threads": THREADS, "prompts": prompts, "new": NEW}
    try:
        peer = stack.enter_context(Peer("benchmarks.peers.llama_cpp", job, environment="llama", threads=THREADS))
    except PeerMissing:
        return None

    def contender(parallel: int) -> Contender:
        def turn() -> tuple[int, float, float]:
            answer = peer.ask(parallel=parallel, places=list(range(len(prompts))))
            return answer["tokens"], answer["seconds"], answer["cpu_s"]

        peer.ask(parallel=parallel, places=[0])  # reads the weights
        return turn

    return {parallel: contender(parallel) for parallel in (BATCH, 1)}, peer.about["versions"]["xllamacpp"]


def run(short: bool) -> dict[str, Any]:
    """Tokens per second of every contender, a list over rounds, and how many bound texts are valid."""
    torch.set_num_threads(THREADS)
    schema = json_schema({name: Attribute(values=values) for name, values in VALUES.items()}, OUTPUT)
    prompts = [f"Title: {title}" for title in titles(16 if short else 64)]
    bound = [Request(prompt, SYSTEM, schema) for prompt in prompts]
    free = [Request(prompt, SYSTEM) for prompt in prompts]
    kept: list[Generation] = []
    speeds: dict[str, list[float]] = {}
    per_cpu_s: dict[str, list[float]] = {}
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
            contenders["llama.cpp, batched"], contenders["llama.cpp, one at a time"] = peer[0][BATCH], peer[0][1]
        for _ in range(1 if short else 3):
            for name, turn in contenders.items():
                tokens, spent, cpu = turn()
                speeds.setdefault(name, []).append(round(tokens / spent, 2))
                per_cpu_s.setdefault(name, []).append(round(tokens / cpu, 2))
    return {
        "prompts": len(prompts),
        "load": round(load, 1),
        "threads": THREADS,
        "llama_cpp": peer[1] if peer else None,
        "speeds": speeds,
        "per_cpu_s": per_cpu_s,
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
    claim = "batched writing against llama.cpp, same GGUF and batch"
    if "llama.cpp, batched" in speeds:
        setting += f", xllamacpp {result.get('llama_cpp')} (AVX2)"
        lines.append(line(claim, "free, batched", "llama.cpp, batched", "at least 1"))
        cpu = [result["per_cpu_s"][name] for name in ("free, batched", "llama.cpp, batched")]
        lines.append(Row(f"{claim}, by processor seconds", setting, *ratio(*cpu), "at least 1"))
        lines.append(
            line("batched writing against llama.cpp one at a time", "free, batched", "llama.cpp, one at a time")
        )
    else:
        lines.append(Row(claim, setting, "not run", "xllamacpp is not installed (make peers)"))
    share = result["valid"] / count
    lines.append(Row("bound texts that are valid JSON", setting, f"{share:.3f}", f"{count} texts", "at least 0.99"))
    return lines

"""llama.cpp's server in this process (xllamacpp): prompts as tokens, greedy, `parallel` texts at once in one batch."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import xllamacpp

from benchmarks.peers.answer import Answer, Turn, serve, versions

ROOM = 256
"""Tokens of a text, prompt included."""


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    servers: dict[int, Any] = {}

    def turn(question: dict[str, Any]) -> Answer:
        parallel = question["parallel"]
        if parallel not in servers:
            servers[parallel] = _server(job, parallel)
        server = servers[parallel]
        prompts = [job["prompts"][place] for place in question["places"]]
        began, worked = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(parallel) as pool:
            written = sum(pool.map(partial(_complete, server, job["new"]), prompts))
        return {
            "seconds": time.perf_counter() - began,
            "cpu_s": time.process_time() - worked,
            "tokens": written,
        }

    return {"versions": versions("xllamacpp"), "features": xllamacpp.get_system_info()}, turn


def _server(job: dict[str, Any], parallel: int) -> Any:
    settings = xllamacpp.CommonParams()
    settings.model.path = job["model"]
    settings.n_parallel, settings.n_ctx, settings.kv_unified = parallel, parallel * ROOM, True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = job["threads"]
    settings.verbosity, settings.warmup = -1, False
    return xllamacpp.Server(settings)


def _complete(server: Any, new: int, prompt: list[int]) -> int:
    """Complete one prompt; return the number of new tokens. A slot keeps the beginning that its last prompt shares."""
    answer = server.handle_completions({"prompt": prompt, "n_predict": new, "temperature": 0.0, "cache_prompt": True})
    found = json.loads(answer) if isinstance(answer, str | bytes) else answer
    if "usage" not in found:
        raise RuntimeError(f"llama.cpp answered {str(found)[:300]}")
    return int(found["usage"]["completion_tokens"])


if __name__ == "__main__":
    serve(start)

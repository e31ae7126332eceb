"""llama.cpp through llama-cpp-python: prompts as tokens, one text at a time, greedy."""

from __future__ import annotations

import time
from typing import Any

from llama_cpp import Llama

from benchmarks.peers.answer import Answer, Turn, serve, versions


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    threads, new = job["threads"], job["new"]
    model = Llama(job["model"], n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)

    def turn(question: dict[str, Any]) -> Answer:
        written, began = 0, time.perf_counter()
        for ids in job["prompts"][: 1 if question["few"] else None]:
            answer = model.create_completion(ids, max_tokens=new, temperature=0.0)
            written += answer["usage"]["completion_tokens"]
        return {"seconds": time.perf_counter() - began, "tokens": written}

    return {"versions": versions("llama_cpp_python")}, turn


if __name__ == "__main__":
    serve(start)

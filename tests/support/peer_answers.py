"""A peer for the tests of the protocol: `python -m tests.support.peer_answers`."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from benchmarks.peers.answer import Answer, Turn, serve


def start(job: dict[str, Any]) -> tuple[Answer, Turn]:
    sys.stdout.write("printed, and not an answer\n")
    if job.get("refuse"):
        raise ValueError("no such model")

    def turn(question: dict[str, Any]) -> Answer:
        sys.stdout.write("printed again\n")
        if question.get("fail"):
            raise RuntimeError("a round that fails")
        if question.get("die"):
            sys.stderr.write("last words\n")
            os._exit(3)
        time.sleep(question.get("sleep", 0))
        return {"seconds": 1.5, "threads": os.environ.get("OMP_NUM_THREADS"), "job": job}

    return {"versions": {"peer": "1"}}, turn


if __name__ == "__main__":
    serve(start)

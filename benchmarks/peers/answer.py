"""The peer's side of the pipe. Imports nothing but the standard library: it runs in every peer's environment."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

Answer = dict[str, Any]
Turn = Callable[[dict[str, Any]], Answer]
"""A question in, its answer out; it holds `seconds`."""


def serve(start: Callable[[dict[str, Any]], tuple[Answer, Turn]]) -> None:
    """Read the job, start, and answer until nothing more is asked.

    What the peer prints goes to standard error, wherever it is printed from: the pipe carries answers alone.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as pipe:
        os.dup2(2, 1)
        turn: Turn | None = None
        for line in sys.stdin:
            question = json.loads(line)
            try:
                if turn is None:
                    answer, turn = start(question)
                else:
                    answer = turn(question)
            except Exception as error:
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            pipe.write(json.dumps(answer) + "\n")
            pipe.flush()


def versions(*packages: str) -> dict[str, str]:
    """Of these packages, as this process finds them."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found

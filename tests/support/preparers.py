"""What worker processes run in the tests of the engine. They import this module, so it stays light."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError

_kept: list[bytes] = []


def act(row: dict[str, Any]) -> tuple[Any, float]:
    """Do what the row says; without an `act`, hand on its value at its cost."""
    match row.get("act"):
        case "reject":
            raise Reject("too_small", "1 x 1")
        case "bug":
            raise ZeroDivisionError("a bug")
        case "bug once" if not Path(row["once"]).exists():
            Path(row["once"]).touch()
            raise ZeroDivisionError("a bug in the first try")
        case "panic":
            raise SystemExit("a panic")
        case "assert":
            raise AssertionError("an assertion of a library")
        case "own assertion":
            in_our_module("def check():\n    raise AssertionError('impossible')", "check")()
        case "nested":
            in_our_module("def load_image(decode):\n    decode()", "load_image")(decode)
        case "set-up":
            raise ColdstartError("install what is missing")
        case "disk full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "unpicklable":
            return threading.Lock(), 1.0
        case "hog":
            held = [bytes(2**20) * 64 for _ in range(10)]  # 640 MB, written to
            time.sleep(600)
            return float(len(held)), 1.0
        case "keep":
            _kept.append(bytes(2**20) * 200)
        case "no memory":
            raise MemoryError
        case "spin":
            while True:
                pass
        case "hang":
            time.sleep(600)
        case "exit":
            os._exit(3)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "slow":
            time.sleep(0.5)
    return row["value"], row.get("cost", 1.0)


class Acts:
    """Preparer of a stage that takes part in passes over videos (`coldstart.media.one_pass`)."""

    def __call__(self, row: dict[str, Any]) -> tuple[Any, float]:
        return act(row)

    def collector(self, row: dict[str, Any]) -> None:
        return None


class DiesInPass(Acts):
    """Preparer that ends its process in a pass, and only there."""

    def collector(self, row: dict[str, Any]) -> None:
        act({**row, "act": "exit"})


def decode() -> None:
    raise ValueError("https://user:password@host/")


def in_our_module(source: str, name: str) -> Any:
    """A function that stands in a module of the package."""
    module: dict[str, Any] = {"__name__": "coldstart.media.image"}
    exec(source, module)
    return module[name]


class NeedsMissingModule:
    """Cannot be made anew in a worker."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return __import__, ("no_such_module",)

    def __call__(self, row: dict[str, Any]) -> tuple[Any, float]:
        raise AssertionError("never reached")

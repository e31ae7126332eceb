"""What worker processes run in the tests of the engine. They import this module, so it stays light."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from coldstart.core.stage import Reject


def act(row: dict[str, Any]) -> tuple[Any, float]:
    """Do what the row says; without an `act`, hand on its value at its cost."""
    match row.get("act"):
        case "reject":
            raise Reject("too_small", "1 x 1")
        case "bug":
            raise ZeroDivisionError("a bug")
        case "hang":
            time.sleep(600)
        case "exit":
            os._exit(3)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "slow":
            time.sleep(0.5)
    return row["value"], row.get("cost", 1.0)


class NeedsMissingModule:
    """Cannot be made anew in a worker."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return __import__, ("no_such_module",)

    def __call__(self, row: dict[str, Any]) -> tuple[Any, float]:
        raise AssertionError("never reached")

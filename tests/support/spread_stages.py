"""Stages that the tests of several devices spread: their processes import this module."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preparers import act

from coldstart.core.stage import MapStageDefaults, Reject, Row
from coldstart.errors import ColdstartError


class AcceleratorError(RuntimeError):
    """Named as torch's, which the engine knows by name alone."""


class NeedsTwoError(Exception):
    """An exception that cannot be made anew in another process."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


@dataclass
class Squares(MapStageDefaults):
    """Squares numbers. What `does` says of a number happens when it is computed.

    Attributes:
        pause_s: seconds that an item takes to compute.
        mark: a file; made by the first process that dies `once`, or that has to `call` one that has to `wait`.
    """

    does: Mapping[float, str]
    isolated: bool = False
    batch_cost: float = 4.0
    pause_s: float = 0.0
    mark: str = ""
    device: str = ""

    name = "square"
    kind = "square"
    table = "stage.square"
    deadline_s = 30.0

    @property
    def schema(self) -> Any:
        import pyarrow as pa  # only the process that commits needs it

        text = pa.string()
        return pa.schema([("item_id", text), ("row_key", text), ("value", pa.float64()), ("where", text)])

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def preparer(self) -> Any:
        return act

    def compute(self, batch: Sequence[float]) -> list[Row | Reject]:
        return [self._one(value) for value in batch]

    def _one(self, value: float) -> Row | Reject:
        time.sleep(self.pause_s)
        match self.does.get(value):
            case "reject":
                return Reject("bad_vector", "nan")
            case "bug":
                raise ZeroDivisionError("a bug")
            case "two":
                raise NeedsTwoError("this", "that")
            case "set-up":
                raise ColdstartError("weights of X are not here: run `coldstart models pull`")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "cuda":
                raise AcceleratorError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA")
            case "wait":  # until another process has got to the item that says "call"
                deadline = time.monotonic() + 200
                while not Path(self.mark).exists() and time.monotonic() < deadline:
                    time.sleep(0.05)
            case "call":
                Path(self.mark).touch()
            case "once":
                mark = Path(self.mark)
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return {"value": value**2, "where": f"{self.device} {os.getpid()}"}


@dataclass(frozen=True)
class Builder:
    """Builds `Squares` in the process of a device."""

    settings: Mapping[str, Any]

    def build(self, **engine: Any) -> Squares:
        if self.settings["does"].get(-1.0) == "no build":
            os._exit(9)
        return Squares(**self.settings, device=engine["device"])


@dataclass(frozen=True)
class Threads:
    """Builds a stage that says how many threads its process computes with, and how many workers it would start."""

    def build(self, **engine: Any) -> Counts:
        return Counts({}, device=str(engine["workers"]))


class Counts(Squares):
    def _one(self, value: float) -> Row | Reject:
        import torch
        from threadpoolctl import threadpool_info

        pools = sorted({pool["num_threads"] for pool in threadpool_info()})
        return {"value": float(torch.get_num_threads()), "where": f"{pools} {self.device}"}

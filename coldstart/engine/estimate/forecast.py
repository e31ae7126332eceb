"""Forecast the time of a stage on all rows, on this machine or another, from its figures on a few items.

A machine is named (`h100x8`, `cpu16`) or described: `gpus=2,tflops=300,cores=64`, or a YAML file of the same fields;
fields left out are those of the machine it starts `from`, by default one without a GPU. `tflops`: rate that models
reach on one GPU, taken as half of the dense bfloat16 rate of its maker (picture encoders reach 0.54 to 0.65 of it on
an RTX 4090 by timm's published table), relative to that of matrix products here in the same run. `decode`: rate of one
core relative to one here, 1 unless given. Decoders and the model run at once: the wall time is the greatest of the
decoders alone, the model alone, and, on shared cores, the core-seconds of both over the cores; start-up and commits
come on top.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.pipeline import Engine
from coldstart.core.settings import suggestion
from coldstart.core.yaml_text import parse_yaml
from coldstart.engine.estimate.probe import Probe
from coldstart.errors import ColdstartError


@dataclass(frozen=True)
class Machine:
    """One machine.

    Attributes:
        gpus: how many; 0 for none. `tflops`: what models reach on one, in 10^12 operations a second; None without one.
        gpu_gb: memory of one GPU; memory_gb: of the machine, None where it is not known.
        cores: that decode; decode: rate of one relative to one of this machine.
        disk_mb_s: what is written a second.
        price: of an hour of the whole machine, in whatever currency; None where none is given.
        source: where the figures are from.
    """

    name: str
    gpus: int = 0
    tflops: float | None = None
    gpu_gb: float | None = None
    cores: int = 2
    decode: float = 1.0
    memory_gb: float | None = None
    disk_mb_s: float = 500.0
    price: float | None = None
    source: str = "given"

    @property
    def facts(self) -> str:
        """List its figures for a person."""
        parts = []
        if self.gpus:
            parts.append(f"{self.gpus} GPU of {self.tflops:g} TFLOP/s and {self.gpu_gb or 0:g} GB")
        parts += [f"{self.cores} cores at {self.decode:g} of a core here", f"disk {self.disk_mb_s:g} MB/s"]
        if self.memory_gb:
            parts.append(f"{self.memory_gb:g} GB of memory")
        if self.price is not None:
            parts.append(f"{self.price:g} an hour")
        return ", ".join(parts)


_HALF = "half of the dense bfloat16 rate its maker states; cores of the usual host"


_GPUS = {
    "h100": Machine("h100", 1, 495, 80, 16, 1.0, 200, 1500, source=_HALF),
    "h200": Machine("h200", 1, 495, 141, 16, 1.0, 200, 1500, source=_HALF),
    "a100": Machine("a100", 1, 156, 80, 12, 1.0, 120, 1000, source=_HALF),
    "l40s": Machine("l40s", 1, 181, 48, 12, 1.0, 96, 1000, source=_HALF),
    "l4": Machine("l4", 1, 60, 24, 8, 1.0, 32, 500, source=_HALF),
    "a10g": Machine("a10g", 1, 62, 24, 8, 1.0, 32, 500, source=_HALF),
    "rtx4090": Machine("rtx4090", 1, 90, 24, 16, 1.0, 64, 1000, source="timm's published table: 0.54 of 165"),
}


_CPU = Machine("cpu", source="as many cores as its name says, each like one here")


def parse_machine(text: str) -> Machine:
    """Parse the machine given as a name, `key=value,…` or a YAML file.

    Raises:
        ColdstartError: there is no such machine, or a fault in its description.
    """
    if "=" in text:
        return _described(dict(_pair(part, text) for part in text.split(",") if part.strip()), text)
    if Path(text).suffix in (".yaml", ".yml"):
        return _described(_file(Path(text)), text)
    word = text.strip().lower()
    for pattern in (r"(?P<name>[a-z]+[0-9]*[a-z]*?)(x(?P<count>\d+))?", r"(?P<count>\d+)x(?P<name>[a-z]+[0-9]*[a-z]*)"):
        found = re.fullmatch(pattern, word)
        if found and found["name"] in _GPUS:
            return _times(_GPUS[found["name"]], int(found["count"] or 1), word)
    if found := re.fullmatch(r"cpu(\d+)|(\d+)xcpu", word):
        return replace(_CPU, name=word, cores=_at_least_1(int(found[1] or found[2]), text))
    known = [*sorted(_GPUS), "cpuN"]
    raise ColdstartError(
        f"--on {text!r}: no such machine{suggestion(word, list(_GPUS))}: use one of {', '.join(known)}, each with xN "
        "for several GPUs (h100x8), or describe one: gpus=1,tflops=300,gpu_gb=80,cores=32"
    )


def _times(one: Machine, count: int, name: str) -> Machine:
    """Multiply the GPUs, each with its share of the host."""
    count = _at_least_1(count, name)
    memory = None if one.memory_gb is None else one.memory_gb * count
    return replace(one, name=name, gpus=count, cores=one.cores * count, memory_gb=memory)


def _at_least_1(count: int, text: str) -> int:
    if count < 1:
        raise ColdstartError(f"--on {text!r}: a machine has at least one")
    return count


def _pair(part: str, text: str) -> tuple[str, Any]:
    key, equals, value = part.partition("=")
    if not equals or not value.strip():
        raise ColdstartError(f"--on {text!r}: {part.strip()!r} is no key=value")
    return key.strip(), parse_yaml(value)


def _file(path: Path) -> dict[str, Any]:
    try:
        read = parse_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise ColdstartError(f"cannot read machine {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ColdstartError(f"machine {path}: {error}") from error
    if not isinstance(read, dict):
        raise ColdstartError(f"machine {path} holds no fields, such as `cores: 16`")
    return {str(key): value for key, value in read.items()}


def _described(given: Mapping[str, Any], text: str) -> Machine:
    given = dict(given)
    start = parse_machine(str(given.pop("from"))) if "from" in given else _CPU
    known = {field.name: field for field in fields(Machine)}
    for key, value in given.items():
        if key not in known:
            raise ColdstartError(
                f"--on {text}: unknown field {key!r}{suggestion(key, known)}; there is {', '.join(known)}"
            )
        if key in ("name", "source"):
            continue
        least = 0 if key in ("gpus", "price") else 1 if key == "cores" else 1e-9
        whole = key in ("gpus", "cores")
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or value < least:
            raise ColdstartError(
                f"--on {text}: {key}={value!r}: give a {'whole ' if whole else ''}number from {least:g}"
            )
    made = Machine(**{**asdict(start), "name": text, "source": "given", **given})
    if made.gpus and made.tflops is None:
        raise ColdstartError(
            f"--on {text}: gpus={made.gpus} needs tflops, what models reach on one of them, or from=h100"
        )
    return made


DRAWS = 400
"""Times that the probed items are drawn anew, with repetition, for the range (bootstrap of Efron, 1979)."""


_RANGE = (5.0, 95.0)


_MODEL_WAITS = 0.1
"""Cores that a model keeps busy at least; one that needs fewer, and no GPU, waits for somebody else."""


Array = NDArray[np.float64]


@dataclass(frozen=True)
class ThisMachine:
    """This machine: cores, what matrix products reach on one device, in 10^12 operations a second, and GPUs in use."""

    cores: int
    tflops: float | None = None
    gpus: int = 0


@dataclass(frozen=True)
class StageTime:
    """Wall seconds of one stage; `low` and `high`: bounds of 90 % of the values by other draws of items."""

    seconds: float
    low: float
    high: float
    bottleneck: str
    parts: Mapping[str, float]


@dataclass(frozen=True)
class StageNeeds:
    """Resources that all rows of a stage need: the first number by the probed items, the others by draws from them.

    Attributes:
        decode_s: seconds of workers [1 + DRAWS]; dispatch_s: of this process, to hand items over.
        model_s: seconds of the model as it is here [1 + DRAWS]; `busy`: cores that it keeps busy meanwhile.
        once_s: workers that start, weights that load.
        isolated: whether workers decode beside the model.
    """

    rows: int
    decode_s: Array
    dispatch_s: float
    model_s: Array
    busy: float
    once_s: float
    isolated: bool
    workers: int
    commit_s: float
    """Of one commit."""
    commit_rows: int
    commit_every_s: float
    on_device: bool

    def here(self, here: ThisMachine) -> StageTime:
        """Forecast the time on this machine."""
        decode = self.decode_s / self.workers + self.dispatch_s
        core_s = self.decode_s * min(self.workers, here.cores) / self.workers + self.dispatch_s
        model = self.model_s / (max(here.gpus, 1) if self.on_device else 1)
        busy = min(self.busy, here.cores)
        if self.isolated:
            shared = (core_s + self.model_s * busy) / here.cores
            wall = np.maximum(np.maximum(decode, model), shared)
        else:
            core_s = decode = self.decode_s
            wall = decode + model
        idle = not (here.gpus and self.on_device) and busy < _MODEL_WAITS
        return self._took(wall, core_s / here.cores if self.isolated else core_s, model, idle)

    def on(self, other: Machine, here: ThisMachine) -> StageTime:
        """Forecast the time on another machine: decoding by its cores, the model by its GPUs if the stage uses one."""
        cores = other.cores * other.decode
        core_s = self.decode_s * min(self.workers, here.cores) / self.workers + self.dispatch_s
        decode = core_s / cores if self.isolated else self.decode_s / other.decode
        idle = self.busy < _MODEL_WAITS and not (here.gpus and self.on_device)
        if idle:
            model = self.model_s
        elif self.on_device and other.gpus and here.tflops and other.tflops:
            model = self.model_s * here.tflops / (other.tflops * other.gpus)
        else:
            model = self.model_s * min(self.busy, here.cores) / (cores if self.busy > 1 else other.decode)
        beside = self.isolated and (idle or bool(self.on_device and other.gpus))
        wall = np.maximum(decode, model) if beside else decode + model
        return self._took(wall, decode, model, idle)

    def _took(self, wall: Array, decode: Array, model: Array, idle: bool) -> StageTime:
        commits = np.maximum(math.ceil(self.rows / self.commit_rows), np.ceil(wall / self.commit_every_s))
        commit = commits * self.commit_s
        every = wall + commit + self.once_s
        low, high = np.percentile(every[1:], _RANGE)
        parts = {"decode": float(decode[0]), "wait" if idle else "model": float(model[0])}
        parts |= {"commit": float(commit[0]), "start": self.once_s}
        return StageTime(float(every[0]), float(low), float(high), max(parts, key=lambda name: parts[name]), parts)


def stage_needs(
    probe: Probe, counts: Mapping[str, int], kinds: Mapping[str, str], settings: Engine, **fixed: float | bool
) -> StageNeeds:
    """Scale a probe to all rows, each kind by its own probed items, a kind without any by all of them.

    Args:
        counts: kind -> rows to do; kinds: item -> kind.
        fixed: `isolated`, `on_device`, `commit_s`.
    """
    random = np.random.default_rng(0)
    rates = np.asarray(probe.rates or [0.0])
    drawn_rates = np.concatenate(
        [[np.median(rates)], rates[random.integers(0, len(rates), (DRAWS, len(rates)))].mean(axis=1)]
    )
    decode_s = np.zeros(1 + DRAWS)
    cost = np.zeros(1 + DRAWS)
    for kind, rows in counts.items():
        own = [item for item in probe.items if kinds.get(item.work.item_id) == kind] or list(probe.items)
        seconds, costs = np.asarray([i.prepare_s for i in own]), np.asarray([i.cost for i in own])
        places = random.integers(0, len(own), (DRAWS, len(own)))
        decode_s += rows * np.concatenate([[seconds.mean()], seconds[places].mean(axis=1)])
        cost += rows * np.concatenate([[costs.mean()], costs[places].mean(axis=1)])
    rows = sum(counts.values())
    return StageNeeds(
        rows,
        decode_s,
        probe.dispatch_s * rows,
        cost * drawn_rates,
        probe.busy,
        probe.start_s + probe.load_s,
        bool(fixed["isolated"]),
        settings.workers,
        float(fixed["commit_s"]),
        settings.commit_rows,
        settings.commit_s,
        bool(fixed["on_device"]),
    )

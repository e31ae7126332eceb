"""From what a stage took on a few items to what it takes on all of them, on this machine or another.

Decoders and the model work at the same time. Where both need the same cores they share them, so the wall time is the
greatest of: the decoders alone, the model alone, and the core-seconds of both over the cores. Where the model has a GPU
it is the slower of the two. What is needed once (workers, weights) and commits come on top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.engine.machines import Machine
from coldstart.engine.probe import Probe
from coldstart.pipeline import Engine

DRAWS = 400
"""Times that the probed items are drawn anew, with repetition, for the range (bootstrap of Efron, 1979)."""
_RANGE = (5.0, 95.0)
_MODEL_WAITS = 0.1
"""Cores that a model keeps busy at least; one that needs fewer, and no GPU, waits for somebody else."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Here:
    """This machine: cores, what matrix products reach on one device, in 10^12 operations a second, and GPUs in use."""

    cores: int
    tflops: float | None = None
    gpus: int = 0


@dataclass(frozen=True)
class Took:
    """Wall seconds of one stage; `low` and `high`: between them 90 % of what other draws of items would have said."""

    seconds: float
    low: float
    high: float
    bottleneck: str
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Needs:
    """What all rows of a stage need, the first number by the probed items, the others by draws from them.

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

    def here(self, here: Here) -> Took:
        """On this machine."""
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

    def on(self, other: Machine, here: Here) -> Took:
        """On another machine: decoding by its cores, the model by its GPUs where the stage uses a device."""
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

    def _took(self, wall: Array, decode: Array, model: Array, idle: bool) -> Took:
        commits = np.maximum(math.ceil(self.rows / self.commit_rows), np.ceil(wall / self.commit_every_s))
        commit = commits * self.commit_s
        every = wall + commit + self.once_s
        low, high = np.percentile(every[1:], _RANGE)
        parts = {"decode": float(decode[0]), "wait" if idle else "model": float(model[0])}
        parts |= {"commit": float(commit[0]), "start": self.once_s}
        return Took(float(every[0]), float(low), float(high), max(parts, key=lambda name: parts[name]), parts)


def needs(
    probe: Probe, counts: Mapping[str, int], kinds: Mapping[str, str], settings: Engine, **fixed: float | bool
) -> Needs:
    """What all rows need, each kind by the items of it that were probed, a kind without any by all of them.

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
    return Needs(
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

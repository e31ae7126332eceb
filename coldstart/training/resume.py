"""A training's state in one file, so that a killed one goes on where it was. Weights as safetensors, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from coldstart.heads import Heads
from coldstart.training.adamw import AdamW
from coldstart.training.pairs import Pairs


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        best: weights of the best epoch so far; `best_epoch`: its number, 0 before the first.
        history: of each epoch its number, loss, scale and mean reciprocal rank.
    """

    best: dict[str, torch.Tensor]
    best_mrr: float | None
    best_epoch: int = 0
    epoch: int = 0
    seconds: float = 0.0
    stopped: bool = False
    history: list[tuple[int, float, float, float | None]] = field(default_factory=list)


def digest_of(recipe: Mapping[str, Any], given: Heads, train: Pairs, valid: Pairs | None) -> str:
    """SHA-256 of all that a training follows from, as hexadecimal digits."""
    sha = sha256(json.dumps([dict(recipe), train.digest(), valid and valid.digest()], sort_keys=True).encode())
    for name, weight in given.state_dict().items():
        sha.update(f"{name} {tuple(weight.shape)} ".encode())
        sha.update(weight.cpu().numpy().tobytes())
    return sha.hexdigest()


def store(path: Path, digest: str, done: Progress, now: Heads, optimiser: AdamW) -> None:
    """Write the state beside `path`, then rename: a reader sees the old state or the new one."""
    tensors = {f"best.{name}": weight for name, weight in done.best.items()}
    for name, weight in now.named_parameters():
        tensors[f"now.{name}"] = weight.detach()
        tensors |= {f"mean.{name}": optimiser.mean[name], f"square.{name}": optimiser.square[name]}
    state = {name: value for name, value in vars(done).items() if name != "best"} | {"steps": optimiser.steps}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    packed = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(packed, partial, {"digest": digest, "state": json.dumps(state)})
    partial.replace(path)


def restore(path: Path, digest: str, now: Heads, optimiser: AdamW) -> Progress | None:
    """Set weights and optimiser as `store` found them; None, and nothing set, where `path` holds no such training."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("digest") != digest:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    state = json.loads(about["state"])
    optimiser.steps = state.pop("steps")
    with torch.no_grad():
        for name, weight in now.named_parameters():
            weight.copy_(tensors[f"now.{name}"])
            optimiser.mean[name].copy_(tensors[f"mean.{name}"])
            optimiser.square[name].copy_(tensors[f"square.{name}"])
    best = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
    state["history"] = [tuple(line) for line in state["history"]]
    return Progress(best=best, **state)

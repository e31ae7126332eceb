"""Checkpoints of a training of towers, written after each epoch as safetensors and JSON."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from coldstart.align.towers.model import Towers

STATE, NOW, BEST, OPTIMISER = "state.json", "weights.safetensors", "best.safetensors", "optimiser.safetensors"
_PLAIN = ("epoch", "history", "measured", "best_epoch", "best_score", "seconds", "stopped")


@dataclass
class TrainingState:
    """State of a training.

    Attributes:
        best: what is trained, by name, as it was after the best epoch, in memory.
        epoch: epochs done; history: one entry each; measured: the model before training.
        best_epoch: 0: before training; best_score: what was measured then.
        seconds: spent, also before an interruption; stopped: by patience.
    """

    best: dict[str, torch.Tensor]
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, Any] | None = None
    best_epoch: int = 0
    best_score: list[float] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False


def save_checkpoint(
    folder: Path, digest: str, towers: Towers, optimiser: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write `folder/epoch-N` whole or not at all, then drop those before it."""
    final = folder / f"epoch-{state.epoch:04d}"
    draft = folder / f".{final.name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(towers.copy(), draft / NOW)
    save_file(state.best, draft / BEST)
    moments = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, weight in towers.weights().items()
        for key, value in optimiser.state.get(weight, {}).items()
    }
    save_file(moments, draft / OPTIMISER)
    plain = {key: getattr(state, key) for key in _PLAIN}
    (draft / STATE).write_text(json.dumps({"job": digest, **plain}, indent=2) + "\n", "utf-8")
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    for other in folder.glob("epoch-*"):
        if other != final:
            shutil.rmtree(other)


def load_checkpoint(
    folder: Path, digest: str, towers: Towers, optimiser: torch.optim.Optimizer
) -> TrainingState | None:
    """Restore weights and optimiser from the last epoch stored for this job; None where there is none."""
    for place in sorted(folder.glob("epoch-*"), reverse=True):
        plain = json.loads((place / STATE).read_bytes())
        if plain.pop("job") != digest:
            continue
        towers.put(load_file(place / NOW))
        moments = load_file(place / OPTIMISER)
        for name, weight in towers.weights().items():
            own = {key.rpartition("/")[2]: value for key, value in moments.items() if key.rpartition("/")[0] == name}
            if own:  # `step` stays in memory, as AdamW keeps it
                optimiser.state[weight] = {k: v if k == "step" else v.to(weight.device) for k, v in own.items()}
        return TrainingState(best=load_file(place / BEST), **plain)
    return None

"""Hold the state of a training of `starter-vlm`: float32 weights, optimiser, checkpoint file, epochs and result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.utils import clip_grad_norm_

from coldstart.core.scratch import scratch_folder
from coldstart.describe.finetune.training import VlmSettings
from coldstart.generators import _vision
from coldstart.generators._vision import Projector

Weights = dict[str, torch.Tensor]


MAX_GRADIENT_NORM = 1.0


class MasterWeights:
    """Float32 master weights of projector and LoRA: steps are too small for the bfloat16 of the computation.

    AdamW (Loshchilov & Hutter 2019), gradients clipped to a norm of one; matrices decay, the rest does not.
    """

    def __init__(self, projector: Projector, model: Any, weight_decay: float) -> None:
        self._used = _trained_weights(projector, model)
        lora = [name for name in self._used if name.startswith("lora.")]
        named = [name for name in self._used if not name.startswith("lora.")]
        self.weights: Weights = {name: weight.detach().float().clone() for name, weight in self._used.items()}
        self.optimiser = torch.optim.AdamW(
            [
                {
                    "params": [self.weights[name] for name in part if (self.weights[name].ndim > 1) == decays],
                    "weight_decay": weight_decay * decays,
                    "of": number,
                }
                for number, part in enumerate((named, lora))
                for decays in (True, False)
            ],
            betas=(0.9, 0.98),
        )

    def step(self, projector_lr: float, lora_lr: float) -> None:
        """Make one step with the gradients of the model's weights and clear them; a part of rate 0 stays."""
        for group in self.optimiser.param_groups:
            group["lr"] = (projector_lr, lora_lr)[group["of"]]
        for name, used in self._used.items():
            moves = lora_lr if name.startswith("lora.") else projector_lr
            self.weights[name].grad = used.grad.float() if moves and used.grad is not None else None
            used.grad = None
        clip_grad_norm_(self.weights.values(), MAX_GRADIENT_NORM)
        self.optimiser.step()
        self._use()

    def copy(self) -> Weights:
        """Copy the weights to the CPU, by name."""
        return {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}

    def load(self, weights: Weights) -> None:
        """Set the weights, here and in the model."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(weights[name])
        self._use()

    def _use(self) -> None:
        with torch.no_grad():
            for name, used in self._used.items():
                used.copy_(self.weights[name])


def load_weights(weights: Weights, projector: Projector, model: Any) -> None:
    """Set weights of a projector and a model with LoRA from `MasterWeights.copy`."""
    with torch.no_grad():
        for name, used in _trained_weights(projector, model).items():
            used.copy_(weights[name])


def _trained_weights(projector: Projector, model: Any) -> Weights:
    """Return the model's own trainable tensors by name, also those that are frozen in this stage."""
    named = {
        f"projector.{name}": weight for name, weight in projector.named_parameters() if not name.startswith("straight.")
    }
    return named | {f"lora.{name}": weight for name, weight in model.named_parameters() if "lora_" in name}


@dataclass
class TrainingState:
    """State of a training after some epochs.

    Attributes:
        best: weights of the best epoch so far; `best_epoch`: its number, 0 before the first.
        after_first: weights after the first stage.
        history: of each epoch its number, stage, loss, held-out loss, seconds and tokens.
    """

    best: Weights
    after_first: Weights
    best_loss: float | None = None
    best_epoch: int = 0
    epoch: int = 0
    stopped: bool = False
    history: list[tuple[int, int, float, float | None, float, int]] = field(default_factory=list)


def training_digest(
    settings: VlmSettings,
    seed: int,
    features: NDArray[np.float16],
    sets: Sequence[tuple[NDArray[np.int64], Any]],
    projector: Projector,
    table: torch.Tensor,
) -> str:
    """Return the SHA-256 of a training's inputs, as hexadecimal digits."""
    texts = [[places.tolist(), tokens] for places, tokens in sets]
    sha = sha256(json.dumps([settings.model_dump(), seed, list(features.shape), texts]).encode())
    for places, _ in sets:
        for start in range(0, len(places), 256):
            sha.update(np.ascontiguousarray(features[places[start : start + 256]]).data)
    for tensor in [*projector.state_dict().values(), table]:
        sha.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return sha.hexdigest()


def save_state(path: Path, digest: str, progress: TrainingState, masters: MasterWeights) -> None:
    """Save the state beside `path`, then rename: a reader sees the old state or the new one."""
    tensors = {f"now.{name}": weight for name, weight in masters.copy().items()}
    tensors |= {f"best.{name}": weight for name, weight in progress.best.items()}
    tensors |= {f"after_first.{name}": weight for name, weight in progress.after_first.items()}
    for name, weight in masters.weights.items():
        for key, value in masters.optimiser.state.get(weight, {}).items():
            tensors[f"adamw.{key}.{name}"] = value.detach().cpu().clone()
    state = {name: value for name, value in vars(progress).items() if name not in ("best", "after_first")}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    save_file(tensors, partial, {"digest": digest, "state": json.dumps(state)})
    partial.replace(path)


def restore_state(path: Path, digest: str, masters: MasterWeights) -> TrainingState | None:
    """Restore weights and optimiser from `save_state`; None, and nothing set, where `path` is of another training."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("digest") != digest:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    parts: dict[str, Weights] = {"now": {}, "best": {}, "after_first": {}, "adamw": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    masters.load(parts["now"])
    for full, tensor in parts["adamw"].items():
        key, _, name = full.partition(".")
        weight = masters.weights[name]
        masters.optimiser.state[weight][key] = tensor if key == "step" else tensor.to(weight.device)
    state = json.loads(about["state"])
    state["history"] = [tuple(line) for line in state["history"]]
    return TrainingState(best=parts["best"], after_first=parts["after_first"], **state)


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number from 1, stage (1 or 2), mean loss a token, that of the held-out part (None: there is none),
    seconds, and tokens read in them."""

    epoch: int
    stage: int
    loss: float
    valid_loss: float | None
    seconds: float
    tokens: int


@dataclass(frozen=True)
class VlmResult:
    """Weights of a training, and its history.

    Attributes:
        model: the language model with LoRA (of peft), and `projector`, both with the weights of the best epoch.
        after_first: weights as they were after the first stage, for comparison.
        history: of each epoch; best_epoch: number of the best; stopped: True where patience
            ended it.
    """

    model: Any
    projector: Projector
    after_first: Weights
    history: list[Epoch]
    best_epoch: int
    stopped: bool

    @property
    def seconds(self) -> float:
        """Seconds of all epochs."""
        return sum(epoch.seconds for epoch in self.history)

    @property
    def tokens(self) -> int:
        """Tokens read in all epochs."""
        return sum(epoch.tokens for epoch in self.history)

    def files(self) -> dict[str, bytes]:
        """Return the files of `save` by path."""
        with scratch_folder("fit") as folder:
            self.save(folder)
            paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    def load_first_stage(self) -> None:
        """Load the weights after the first stage, in which LoRA changes nothing yet."""
        load_weights(self.after_first, self.projector, self.model)

    def save(self, folder: Path) -> None:
        """Save `adapter/` of peft and `projector.safetensors`, as `generators.load(adapter=folder)` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)  # peft's empty form
        self.projector.save(folder / _vision.FILE)

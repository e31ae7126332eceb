"""How `starter-vlm` is trained, and what comes of it: settings, epochs, and the files of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coldstart.generators import _vision
from coldstart.generators._vision import Projector
from coldstart.training.starter_vlm_state import Weights, put


@dataclass(frozen=True)
class VlmSettings:
    """How it is trained.

    Attributes:
        projector_epochs: of the first stage; epochs: of the second, at most.
        patience: epochs of the second stage without a lower loss on the held-out part before it stops; 0: never.
        batch_size: examples a step.
        projector_lr: highest learning rate of the first stage; lr: of LoRA, and of the projector then, in the second.
            Each stage's rate rises over its first `warmup` of all steps, then falls as a cosine.
        weight_decay: of AdamW, on matrices.
        r, alpha, lora_dropout: of LoRA, on every linear layer.
        whole_tokens, hidden: of the projector, see `Shape`.
        dropout: share of a picture's numbers that a step does not see; mirror: whether its cells change sides every
            other time, by chance. (All else that is known of it stays: it hardly changes in a mirror.)
        ridge: penalty where the straight part is solved, see `solve`.
        seed: of weights, order, views and dropout.
    """

    projector_epochs: int = 1
    epochs: int = 4
    patience: int = 2
    batch_size: int = 16
    projector_lr: float = 1e-3
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    r: int = 16
    alpha: int = 32
    lora_dropout: float = 0.0
    whole_tokens: int = 3
    hidden: int = 1024
    dropout: float = 0.1
    mirror: bool = True
    ridge: float = 0.5
    seed: int = 0


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
    """What a training made.

    Attributes:
        model: the language model with LoRA (of peft), and `projector`, both with the weights of the best epoch.
        after_first: weights as they were after the first stage, for comparison.
        history: of each epoch; best_epoch: its number; stopped: by patience.
    """

    model: Any
    projector: Projector
    after_first: Weights
    history: list[Epoch]
    best_epoch: int
    stopped: bool

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.history)

    @property
    def tokens(self) -> int:
        return sum(epoch.tokens for epoch in self.history)

    def files(self) -> dict[str, bytes]:
        """What `save` writes, by path."""
        with TemporaryDirectory() as folder:
            self.save(Path(folder))
            paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    def put_after_first(self) -> None:
        """Put back the weights of the end of the first stage, in which LoRA changes nothing yet."""
        put(self.after_first, self.projector, self.model)

    def save(self, folder: Path) -> None:
        """`adapter/` of peft and `projector.safetensors`, as `generators.load(adapter=folder)` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)  # a form of peft's that nobody has filled in
        self.projector.save(folder / _vision.FILE)

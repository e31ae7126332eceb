"""How the towers of an open_clip model are trained: settings as plain data. Importing it imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Loss = Literal["auto", "infonce", "siglip"]


@dataclass(frozen=True)
class Change:
    """What of the towers is trained.

    Attributes:
        towers: `lora`, or `last_blocks` with all that comes after them.
        r, lora_alpha, lora_dropout: rank of LoRA's products, their weight times r, dropout before them.
        lora_layers: the linear layers of attention alone, or `all` in the blocks and pooling.
        last_blocks: how many of each tower.
        gradient_checkpointing: compute each block again in the backward pass, a third more work for less memory.
    """

    towers: Literal["lora", "last_blocks"] = "lora"
    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_layers: Literal["all", "attention"] = "all"
    last_blocks: int = 2
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class Recipe(Change):
    """How towers are trained; what of them, see `Change`.

    Attributes:
        loss: `infonce`, `siglip`, or `auto`: the one that the model was trained with, told by its bias.
        epochs: at most; `patience`: stop after so many without a better recall on the held-out part, 0: never.
        batch_size: pairs a step, over all processes; each is contrasted with all others.
        micro_batch: pairs in a process's memory at a time; halved by itself where memory runs out.
        lr: the highest learning rate of AdamW, by default 2e-4 for LoRA and 1e-5 for blocks; it rises over the first
            `warmup` of all steps and falls as a cosine.
        weight_decay: of matrices.
        augment: crop and mirror pictures at random. Spoils writing on them, so it is off.
        frames: a video without a stated time gives one of so many frames.
        seed: of weights, order and draws.
    """

    loss: Loss = "auto"
    epochs: int = 5
    patience: int = 2
    batch_size: int = 1024
    micro_batch: int = 64
    lr: float | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    augment: bool = False
    frames: int = 4
    seed: int = 0

"""How a language model is tuned: plain settings, the same for every base.

What a language model learns from: one prompt and the text that should follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LoraSettings:
    """LoRA on all linear layers (Hu et al. 2022; on all of them as in QLoRA, Dettmers et al. 2023).

    Attributes:
        r: rank; alpha: the change is scaled by `alpha / r`; dropout: of what goes into the low-rank pair.
        lr: the highest learning rate of AdamW: it rises over the first `warmup` of all steps, then falls as a cosine.
        epochs: at most; `patience`: stop after so many looks at the held-out part without a lower loss, 0: never.
        looks: at the held-out part, an epoch.
        batch_tokens: tokens a step, over all processes.
        pack_tokens: several examples share a row of so many, none sees another; a longer example has a row of its own.
            What attention does grows with its square. Pictures are not packed.
        weight_decay: pulls the low-rank pairs to zero.
        gradient_checkpointing: compute activations twice rather than keep them: slower, and much less memory.
        quantize: `4bit` keeps the frozen weights in NF4 where bitsandbytes runs.
        seed: of LoRA's random half, of the order and of dropout.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    lr: float = 2e-4
    epochs: int = 2
    patience: int = 3
    looks: int = 2
    batch_tokens: int = 4096
    pack_tokens: int = 512
    warmup: float = 0.05
    weight_decay: float = 0.0
    gradient_checkpointing: bool = False
    quantize: Literal["", "4bit"] = ""
    seed: int = 0


@dataclass(frozen=True)
class DpoSettings:
    """Direct preference optimisation (Rafailov et al. 2023) on top of an adapter, which stays the reference.

    Attributes:
        beta: how dear it is to move away from the reference.
        lr: the highest learning rate; `epochs`: over all pairs; `warmup`: share of the steps.
        batch_size: pairs a step; `micro_batch`: pairs at once.
        max_growth: stop where the texts that become likelier are longer by more than this share than those that become
            less likely, against where it began.
        gradient_checkpointing, seed: as for LoRA.
    """

    beta: float = 0.1
    lr: float = 5e-6
    epochs: int = 1
    warmup: float = 0.1
    batch_size: int = 16
    micro_batch: int = 4
    max_growth: float = 0.15
    gradient_checkpointing: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Example:
    """One item seen once, with what a cold item would have in its prompt.

    Attributes:
        item_id: the item; one item may stand in several examples, with other fields dropped.
        system, prompt: as a `Request` would have them.
        completion: what should be written; the loss is on this alone.
    """

    item_id: str
    system: str
    prompt: str
    completion: str

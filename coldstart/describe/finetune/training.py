"""Settings of the three trainings of a writer, and the example that each reads.

The pipeline file and the trainer read the same model, so that a default stands once. Imports neither the store nor
LanceDB nor torch: each process of a training over several GPUs imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from coldstart.core.pipeline import Section

MAX_BATCH_TOKENS, MIN_BATCH_TOKENS, MIN_STEPS = 4096, 256, 32
"""Bounds of the tokens of a step where `batch_tokens` is not set, and the steps that an epoch should have at least."""


LoadItemPictures = Callable[[str], Sequence[NDArray[np.uint8]]]
"""Item -> its pictures, each uint8 `[H, W, 3]` RGB."""


@dataclass(frozen=True)
class Example:
    """One training example: a prompt with some of an item's fields, and its completion.

    Attributes:
        item_id: the item; one item may stand in several examples, with other fields dropped.
        system, prompt: as in a `Request`.
        completion: the text to be written; the loss is on this alone.
    """

    item_id: str
    system: str
    prompt: str
    completion: str


class _TrainingSettings(Section):
    LATER: ClassVar[tuple[str, ...]] = ()
    """Settings that fingerprints of fits made by version 0.1 do not have: they count where they are not the default."""

    def counted(self) -> dict[str, Any]:
        """Return the settings that change a fit, as JSON values, for its fingerprint."""
        same = {name for name in self.LATER if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude=same)


class LoraSettings(_TrainingSettings):
    """Settings of LoRA on all linear layers of a language model (Hu et al. 2022; QLoRA: Dettmers et al. 2023).

    `starter-vlm` does not read them: it has `vision`.
    """

    LATER = ("warmup",)

    r: int = Field(default=16, ge=1)
    """Rank of the low-rank pairs: higher fits more, and takes more memory."""
    alpha: int = Field(default=32, ge=1)
    """The change of a layer is scaled by `alpha / r`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the inputs of the low-rank pairs."""
    lr: float = Field(default=2e-4, gt=0)
    """Highest learning rate of AdamW: it rises over the first `warmup` of all steps, then falls as a cosine."""
    epochs: int = Field(default=2, ge=1)
    """Epochs at most; fewer where the held-out loss stops falling."""
    patience: int = Field(default=3, ge=0)
    """Evaluations of the held-out part without a lower loss after which it stops; 0 never does."""
    looks: int = Field(default=2, ge=1)
    """Evaluations of the held-out part in an epoch."""
    batch_tokens: int | None = Field(default=None, ge=64)
    """Tokens a step, over all GPUs; by default 4,096, and fewer where there are so few examples that an epoch would
    have under 32 steps."""
    pack_tokens: int = Field(default=512, ge=64)
    """Tokens of a row, which several examples share; none attends to another, and a longer example has a row of its
    own. Attention grows with the square of it. Pictures are not packed."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW on the low-rank pairs."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of storing them: slower, and much less memory."""
    quantize: Literal["", "4bit"] = ""
    """`4bit` holds the frozen weights in NF4 (QLoRA), where bitsandbytes runs."""
    processes: int = Field(default=1, ge=1)
    """Processes that train together, one a GPU."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps over which the learning rate rises."""

    def counted(self) -> dict[str, Any]:
        values = super().counted()
        del values["processes"]
        return values


def batch_tokens(setting: int | None, tokens: int) -> int:
    """Return the tokens of a step: the setting, else as many as leave an epoch `MIN_STEPS` steps, within bounds.

    Args:
        tokens: of all training examples.
    """
    return setting or min(MAX_BATCH_TOKENS, max(MIN_BATCH_TOKENS, tokens // MIN_STEPS))


class VlmSettings(_TrainingSettings):
    """Settings of the training of `starter-vlm`: its projector alone, then projector and LoRA on every linear layer."""

    LATER = ("warmup", "weight_decay", "lora_dropout", "whole_tokens", "hidden", "ridge")

    projector_epochs: int = Field(default=1, ge=0)
    """Epochs of the first stage."""
    epochs: int = Field(default=3, ge=1)
    """Epochs of the second stage, projector and LoRA together, at most."""
    patience: int = Field(default=2, ge=0)
    """Epochs of the second stage without a lower held-out loss after which it stops; 0 never does."""
    batch_size: int = Field(default=32, ge=1)
    """Examples a step."""
    projector_lr: float = Field(default=1e-3, gt=0)
    """Highest learning rate of the first stage."""
    lr: float = Field(default=5e-4, gt=0)
    """Highest learning rate of the second stage, of LoRA and projector."""
    r: int = Field(default=16, ge=1)
    """Rank of LoRA."""
    alpha: int = Field(default=32, ge=1)
    """LoRA's change of a layer is scaled by `alpha / r`."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a picture's features that a step does not see."""
    mirror: bool = True
    """Mirror the cells of half of all pictures of an epoch, drawn at random; not where pictures hold text. Features of
    the whole picture stay: they hardly change in a mirror."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps of each stage over which its learning rate rises; then it falls as a cosine."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of AdamW on matrices."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the inputs of the low-rank pairs."""
    whole_tokens: int = Field(default=3, ge=1)
    """Tokens that the projector gives of the whole picture, see `coldstart.generators._vision.ProjectorShape`."""
    hidden: int = Field(default=1024, ge=1)
    """Width of the projector's hidden layer."""
    ridge: float = Field(default=0.5, gt=0)
    """Penalty of the ridge regression that sets the projector's linear part."""


class DpoSettings(_TrainingSettings):
    """Settings of `method: dpo`: preference pairs, and direct preference optimisation (Rafailov et al. 2023) on the
    adapter of an earlier fit, which is the reference."""

    LATER = ("warmup", "max_growth")

    samples: int = Field(default=4, ge=2, le=16)
    """Texts of each item, of which the best and the worst make a pair."""
    items: int = Field(default=200, ge=8)
    """Training items that pairs are made of, at most."""
    margin: float = Field(default=0.1, ge=0, le=2)
    """Least difference of the scores of the best and the worst."""
    temperature: float = Field(default=0.8, gt=0)
    """Temperature at which the texts are sampled."""
    beta: float = Field(default=0.1, gt=0)
    """Weight of the penalty on moving away from the reference."""
    lr: float = Field(default=5e-6, gt=0)
    """Highest learning rate."""
    epochs: int = Field(default=1, ge=1)
    """Epochs over all pairs."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs a step."""
    micro_batch: int = Field(default=4, ge=1)
    """Pairs computed at once."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of storing them: slower, and much less memory."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps over which the learning rate rises."""
    max_growth: float = Field(default=0.15, ge=0)
    """Stop where answers to some of the prompts are longer than before the training by more than this share."""

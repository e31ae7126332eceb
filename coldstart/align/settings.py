"""Settings of `align.text_image`, and which of them make another fit. Importing it imports no torch.

A pipeline with `align.text_image` in it: its settings changed where it has such a stage, and else one added.

How the towers of an open_clip model are trained: settings as plain data. Importing it imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import with_stage


class Training(Section):
    """How heads over frozen towers are trained; see `coldstart.align.train_heads.Recipe`."""

    loss: Literal["infonce", "siglip"] = "infonce"
    epochs: int = Field(default=50, ge=1)
    patience: int = Field(default=15, ge=0)
    """Stop after so many epochs that find no more of the held-out part; 0: never."""
    batch_size: int = Field(default=512, ge=2)
    """Items a step; all others of a batch, but those of the item's own group, are what it is told apart from."""
    lr: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1.0, ge=0)
    dim: int = Field(default=384, ge=8)
    """Numbers of the space, where the fit starts from nothing."""
    hidden: int = Field(default=0, ge=0)
    """Numbers of a layer between; 0 makes heads linear."""
    standardise: bool = True
    """Learn over numbers less their mean and by their deviation."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    hidden_dropout: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    prior: float = Field(default=0.0, ge=0)
    """How much heads are held to what they gave at the start."""
    seed: int = 0


class Tune(Section):
    """How the towers themselves are trained, where they are not frozen; see
    `coldstart.align.settings.Recipe`."""

    r: int = Field(default=16, ge=1)
    """Rank of what LoRA adds to each layer."""
    lora_alpha: int = Field(default=32, ge=1)
    """Weight of that, times the rank."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before LoRA's own products."""
    lora_layers: Literal["all", "attention"] = "all"
    """Which linear layers LoRA changes: those of attention, or all in the blocks and pooling."""
    last_blocks: int = Field(default=2, ge=1)
    """How many blocks of each tower are trained, with all that comes after them."""
    loss: Literal["auto", "infonce", "siglip"] = "auto"
    """`auto`: the one that the model was trained with."""
    epochs: int = Field(default=5, ge=1)
    """At most so many."""
    patience: int = Field(default=2, ge=0)
    """Stop after so many epochs that find no more of the held-out part; 0: never."""
    batch_size: int = Field(default=1024, ge=2)
    """Pairs a step, over all processes; each is told apart from all others."""
    lr: float | None = Field(default=None, gt=0)
    """The highest learning rate; by default 2e-4 for LoRA and 1e-5 for blocks."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of matrices."""
    augment: bool = False
    """Crop and mirror pictures at random; spoils writing on them."""
    seed: int = 0
    """Of weights, order, draws and the split."""
    micro_batch: int = Field(default=64, ge=1)
    """Pairs in the memory of a device at a time; halved by itself where it runs out. Changes no result, but for
    `lora_dropout`."""
    gradient_checkpointing: bool = False
    """Compute each block twice, a third more work for less memory. Changes no result."""
    processes: int = Field(default=1, ge=1)
    """GPUs to train on, a process each. Changes no result."""
    workers: int = Field(default=4, ge=0)
    """Processes that decode pictures, for each that trains; 0: that one does. Changes no result."""


class Settings(Section):
    """What is learnt from, and how."""

    image: str = "image"
    """The space whose vectors stand for pictures and frames."""
    text: str | None = None
    """The encoder of words; by default the one of that space where it reads words into it, else `starter`."""
    towers: Literal["frozen", "lora", "last_blocks"] = "frozen"
    """`frozen` learns heads over the vectors of encoders as they are; `lora` and `last_blocks` change the encoder
    itself, an `open_clip:…` one, which takes a GPU and decodes every picture in each epoch."""
    texts: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {"title": 1.0, "description": 0.5, "transcript": 0.25, "screen_text": 0.25}
    )
    """Words of an item -> how often they are drawn against its others: a field (title, description, category,
    transcript, screen_text), or a prompt by its name or path."""
    group_by: tuple[str, ...] = ("title",)
    """Fields whose equal values make items one group: `title`, `category`, `creator`, or `attributes.NAME`. Items of a
    group are not told apart from each other, and fall on one side of the split."""
    near_duplicates: float | None = Field(default=0.98, gt=0, le=1)
    """Items whose pictures have at least this cosine are of one group; null compares none."""
    start: str = "auto"
    """Of heads: `random`; `starter-clip`, or a folder with heads; `same`, where both encoders share a space already.
    `auto`: the last that fits, of random, starter-clip, same."""
    valid_share: float = Field(default=0.05, ge=0, lt=0.5)
    """Share of the groups by which training is stopped."""
    test_share: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the groups that nothing is learnt from: what `coldstart evaluate align` asks for."""
    min_items: int = Field(default=50, ge=4)
    """Fewer items with a picture and a text are refused: they would be learnt by heart."""
    training: Training = Training()
    """Of heads, where `towers` is frozen."""
    tune: Tune = Tune()
    """Of the towers, where they are not."""

    @property
    def seed(self) -> int:
        """Of the training that is asked for, and of its split."""
        return self.training.seed if self.towers == "frozen" else self.tune.seed

    def counted(self) -> dict[str, Any]:
        """The numbers that make another fit, besides encoders, texts and the heads it starts from."""
        chosen = self.model_dump(include={"group_by", "near_duplicates", "valid_share", "test_share"})
        if self.towers == "frozen":
            return {**chosen, "training": self.training.model_dump()}
        unused = {"gradient_checkpointing", "processes", "workers"}
        unused |= {"last_blocks"} if self.towers == "lora" else {"r", "lora_alpha", "lora_dropout", "lora_layers"}
        if self.towers != "lora" or not self.tune.lora_dropout:
            unused |= {"micro_batch"}
        return {**chosen, "towers": self.towers, "tune": self.tune.model_dump(exclude=unused)}


KIND = "align.text_image"


def with_align(pipeline: Pipeline, image: str | None, text: str | None) -> tuple[dict[str, Any], list[str]]:
    """Settings as plain data, and overrides of them, by which pictures and words are aligned.

    Args:
        image: the space of pictures to learn from; by default the stage's own, for a new one the pipeline's first.
        text: the encoder of words; by default the stage's own, for a new one as its settings choose it.
    """
    raw = dict(pipeline.raw)
    names = [spec.name for spec in pipeline.of_kind(KIND)]
    if names:
        given = {"image": image, "text": text}
        return raw, [f"{name}.{key}={value}" for name in names for key, value in given.items() if value is not None]
    spaces = [spec.name for spec in pipeline.of_kind("embed") if spec.settings.input == "image"]
    settings = {"image": image or (spaces or ["image"])[0], **({"text": text} if text else {})}
    return with_stage(raw, "align", "align", {"text_image": settings}), []


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

"""Settings of `align.text_image`: of the data, of heads over frozen towers, of towers that are trained.

The training code takes the same classes, in processes of their own too: importing this loads neither torch nor LanceDB.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import with_stage

TowerKind = Literal["lora", "last_blocks"]
"""Kind of training of towers: LoRA on their layers, or their last blocks with all that comes after them."""


KIND = "align.text_image"

RECIPE = 2
"""Number of the recipe of a fit: of its split, and of the defaults of its training. A fit of an earlier one stays in
use, and the next `coldstart finetune align` fits anew."""

STARTER_CLIP_OF_0_1 = "5218620262c416ed3f956b043f9dd963f188c042c5a2e595c0482ef67f7e32b4"
"""Digest of the packaged heads of version 0.1, from which fits over `starter` started."""

CLASS_FIELDS = ("category", "attributes.article_type", "attributes.product_type")
"""Fields of which `hold_out: auto` takes the first that has classes."""


class HeadTraining(Section):
    """Training of heads over frozen towers, as `coldstart.align.train_heads.fit` takes it.

    Each step draws one picture and one text of an item; `dropout` blanks out numbers of both vectors.
    """

    loss: Literal["infonce", "siglip"] = "infonce"
    """Loss of a step: InfoNCE over the batch, or SigLIP's pairwise sigmoid loss."""
    epochs: int = Field(default=50, ge=1)
    """Most epochs of a fit."""
    patience: int = Field(default=15, ge=0)
    """Stop after so many epochs without a better mean reciprocal rank on the validation part; 0: never."""
    batch_size: int = Field(default=512, ge=2)
    """Items a step; all others of a batch, but those of the item's own group, are negatives."""
    lr: float = Field(default=3e-3, gt=0)
    """Highest learning rate of AdamW: it rises over the first tenth of all steps, then falls as a cosine."""
    weight_decay: float = Field(default=1.0, ge=0)
    """Pull of weights, not biases, to zero."""
    dim: int = Field(default=384, ge=8)
    """Numbers of the trained heads, where the fit starts from random ones; a regression adds as many at most, and 2."""
    hidden: int = Field(default=0, ge=0)
    """Numbers of a hidden layer, where the fit starts from random heads; 0 makes heads linear."""
    standardise: bool = True
    """Train on numbers less their mean and by their deviation; the fitted heads take plain vectors all the same."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the numbers of each vector that a step does not see."""
    hidden_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the hidden layer."""
    noise: float = Field(default=0.0, ge=0)
    """Length of the random vector that is added to each unit vector."""
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Label smoothing of InfoNCE."""
    prior: float = Field(default=0.0, ge=0)
    """Weight of the mean squared distance to the output of the first heads, on the unit sphere."""
    regression: bool = True
    """Join a regression from texts to pictures to the trained heads, by weights that find known and new groups best."""
    seed: int = 0
    """Seed of weights, order, draws, dropout and the split."""


TRAINING_OF_0_1 = {
    "loss": "infonce", "epochs": 50, "patience": 15, "batch_size": 512, "lr": 3e-3, "weight_decay": 1.0, "dim": 384,
    "hidden": 0, "standardise": True, "dropout": 0.5, "hidden_dropout": 0.0, "noise": 0.0, "smoothing": 0.1,
    "prior": 0.0, "seed": 0,
}  # fmt: skip
"""Defaults of version 0.1, which stand in the keys of settings that leave them out: so its fits stay in use."""


class TowerTraining(Section):
    """Training of the towers of an open_clip model, as `coldstart.align.towers.job` takes it."""

    r: int = Field(default=16, ge=1)
    """Rank of LoRA's products in each layer."""
    lora_alpha: int = Field(default=32, ge=1)
    """Weight of LoRA's products, times the rank."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before LoRA's products."""
    lora_layers: Literal["all", "attention"] = "all"
    """Linear layers that LoRA changes: those of attention, or all in the blocks and pooling."""
    last_blocks: int = Field(default=2, ge=1)
    """Blocks of each tower that are trained, with all that comes after them."""
    loss: Literal["auto", "infonce", "siglip"] = "auto"
    """Loss of a step; `auto`: the one that the model was trained with, as its bias shows."""
    epochs: int = Field(default=5, ge=1)
    """Most epochs of a fit."""
    patience: int = Field(default=2, ge=0)
    """Stop after so many epochs without a better recall on the validation part; 0: never."""
    batch_size: int = Field(default=1024, ge=2)
    """Pairs a step, over all processes; each is contrasted with all others."""
    lr: float | None = Field(default=None, gt=0)
    """Highest learning rate of AdamW, by default 2e-4 for LoRA and 1e-5 for blocks; it falls as a cosine."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of matrices."""
    augment: bool = False
    """Crop and mirror pictures at random; spoils writing on them."""
    seed: int = 0
    """Seed of weights, order, draws and the split."""
    micro_batch: int = Field(default=64, ge=1)
    """Pairs in the memory of a device at a time; halved by itself where it runs out. Changes no result, but for
    `lora_dropout`."""
    gradient_checkpointing: bool = False
    """Compute each block twice, a third more work for less memory. Changes no result."""
    processes: int = Field(default=1, ge=1)
    """GPUs to train on, a process each. Changes no result."""
    workers: int = Field(default=4, ge=0)
    """Processes that decode pictures, for each that trains; 0: that one does. Changes no result."""

    def recipe(self) -> dict[str, Any]:
        """Return the settings of a job and its report: all but those of the machine."""
        return self.model_dump(exclude={"processes", "workers"})


class Settings(Section):
    """Settings of `align.text_image`: the data of a fit, and its training."""

    image: str = "image"
    """Space whose vectors stand for pictures and frames."""
    text: str | None = None
    """Encoder of words; by default the one of that space where it reads words into it, else `starter`."""
    towers: Literal["frozen", "lora", "last_blocks"] = "frozen"
    """`frozen` trains heads over the vectors of encoders as they are; `lora` and `last_blocks` change the encoder
    itself, an `open_clip:…` one, which needs a GPU and decodes every picture in each epoch."""
    texts: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {"title": 1.0, "description": 0.5, "transcript": 0.25, "screen_text": 0.25}
    )
    """Texts of an item -> how often they are drawn against its others: a field (title, description, category,
    transcript, screen_text), or a prompt by its name or path."""
    group_by: tuple[str, ...] = ("title",)
    """Fields whose equal values make items one group: `title`, `category`, `creator`, or `attributes.NAME`. Items of a
    group are no negatives of each other, and fall on one side of the split."""
    near_duplicates: float | None = Field(default=0.98, gt=0, le=1)
    """Items whose pictures have at least this cosine are of one group; null compares none."""
    start: str = "auto"
    """First heads: `random`; `starter-clip`, or a folder with heads; `same`, where both encoders share a space already.
    `auto`: the last that fits, of random, starter-clip, same."""
    valid_share: float = Field(default=0.05, ge=0, lt=0.5)
    """Share of the groups in the validation part, by which training is stopped."""
    test_share: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of the groups in the test part, by which `coldstart evaluate align` measures; and of the items of each
    other group that training leaves out, too, where they show other pictures."""
    hold_out: tuple[str, ...] | Literal["auto"] = "auto"
    """Fields of which some values stay whole in the test part, so that new classes are measured: `category`, `creator`
    or `attributes.NAME`. `auto`: the first of category, article type and product type that has ten values; [] none."""
    min_items: int = Field(default=50, ge=4)
    """Least items with a picture and a text: a fit on fewer would overfit, and is refused."""
    training: HeadTraining = HeadTraining()
    """Training of heads, where `towers` is frozen."""
    tune: TowerTraining = TowerTraining()
    """Training of the towers, where they are not."""

    @property
    def seed(self) -> int:
        """Seed of the training that is requested, and of its split."""
        return self.training.seed if self.towers == "frozen" else self.tune.seed

    def key_settings(self) -> dict[str, Any]:
        """Return the settings that make another fit, besides encoders, texts and first heads."""
        chosen = self.model_dump(include={"group_by", "near_duplicates", "valid_share", "test_share"})
        if self.hold_out != "auto":
            chosen["hold_out"] = list(self.hold_out)
        if self.towers == "frozen":
            given = self.training.model_dump(include=self.training.model_fields_set)
            return {**chosen, "training": {**TRAINING_OF_0_1, **given}}
        unused = {"gradient_checkpointing", "processes", "workers"}
        unused |= {"last_blocks"} if self.towers == "lora" else {"r", "lora_alpha", "lora_dropout", "lora_layers"}
        if self.towers != "lora" or not self.tune.lora_dropout:
            unused |= {"micro_batch"}
        return {**chosen, "towers": self.towers, "tune": self.tune.model_dump(exclude=unused)}


def with_align(pipeline: Pipeline, image: str | None, text: str | None) -> tuple[dict[str, Any], list[str]]:
    """Return settings as plain data, and overrides of them, by which pictures and words are aligned.

    Args:
        image: the space of pictures to fit on; by default the stage's own, for a new one the pipeline's first.
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

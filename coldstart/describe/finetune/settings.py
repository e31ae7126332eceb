"""Settings of `finetune.describe`.

A pipeline that describes: its settings changed where it has such stages, and else these added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import kind_of, mapping
from coldstart.describe.writing import PROMPTS

Share = Annotated[float, Field(ge=0, lt=1)]


class Training(Section):
    """How a language model is tuned: LoRA on all its linear layers. Not read for `starter-vlm`, which has `vision`."""

    r: int = Field(default=16, ge=1)
    """Rank of what is learnt: higher fits more, and keeps more in memory."""
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    lr: float = Field(default=2e-4, gt=0)
    epochs: int = Field(default=2, ge=1)
    """At most; fewer where the held-out loss stops falling."""
    patience: int = Field(default=3, ge=0)
    """Looks at the held-out part without a lower loss after which it stops; 0 never does."""
    looks: int = Field(default=2, ge=1)
    """At the held-out part, an epoch."""
    batch_tokens: int | None = Field(default=None, ge=64)
    """Tokens a step, over all GPUs; by default 4,096, and fewer where there are so few lessons that an epoch would have
    under 32 steps."""
    pack_tokens: int = Field(default=512, ge=64)
    """Lessons share rows of so many tokens; none sees another."""
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_checkpointing: bool = False
    """Slower, and much less memory."""
    quantize: Literal["", "4bit"] = ""
    """`4bit` keeps the frozen weights small (QLoRA), where bitsandbytes runs."""
    processes: int = Field(default=1, ge=1)
    """GPUs."""


MOST_TOKENS, LEAST_TOKENS, STEPS = 4096, 256, 32
"""Tokens of a step where nothing else is asked for, and the steps that an epoch should have at least."""


def batch_tokens(asked: int | None, lessons: int) -> int:
    """Tokens of a step, for lessons of so many tokens in all."""
    return asked or min(MOST_TOKENS, max(LEAST_TOKENS, lessons // STEPS))


class Vision(Section):
    """How `starter-vlm` is tuned: its projector alone, then projector and LoRA."""

    projector_epochs: int = Field(default=1, ge=0)
    epochs: int = Field(default=3, ge=1)
    """Of projector and LoRA together, at most."""
    patience: int = Field(default=2, ge=0)
    """Epochs without a lower held-out loss after which it stops; 0 never does."""
    batch_size: int = Field(default=32, ge=1)
    projector_lr: float = Field(default=1e-3, gt=0)
    lr: float = Field(default=5e-4, gt=0)
    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a picture's numbers that a step does not see."""
    mirror: bool = True
    """Whether pictures are also learnt from right to left: not where they hold text."""


class Preference(Section):
    """How `method: dpo` goes on from a fit."""

    samples: int = Field(default=4, ge=2, le=16)
    """Texts of each item, of which the best and the worst make a pair."""
    items: int = Field(default=200, ge=8)
    """Of the items learnt from, so many are written of."""
    margin: float = Field(default=0.1, ge=0, le=2)
    """By which the best must be better than the worst."""
    temperature: float = Field(default=0.8, gt=0)
    beta: float = Field(default=0.1, gt=0)
    """How dear it is to move away from the fit."""
    lr: float = Field(default=5e-6, gt=0)
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=16, ge=1)
    micro_batch: int = Field(default=4, ge=1)
    gradient_checkpointing: bool = False


class Settings(Section):
    """What is tuned, on which items, and how long."""

    generator: str = "starter"
    """What is tuned: `starter`, `starter-vlm`, or `hf:NAME_OR_PATH`, a language model or one with eyes."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of that generator."""
    prompt: dict[str, str] = Field(default_factory=lambda: dict(PROMPTS))
    """Kind of item -> a packaged prompt's name, or the path of a .md file; `describe.write` asks with the same."""
    given: tuple[str, ...] = ("title", "creator", "transcript", "screen_text", "picture")
    """Fields that a cold item may have. All else that the record tells is what is learnt."""
    drop: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=lambda: {"title": 0.5, "transcript": 0.25, "screen_text": 0.25}
    )
    """Field -> how often it is left out of a further view of an item, so that the writer learns to do without."""
    views: int = Field(default=2, ge=1, le=16)
    """Views of an item that are learnt from; the first has all of `given`."""
    summary: Literal["description", "attributes"] = "description"
    """What the summary learns to say: the item's own description where it has one and it is hidden, or its attributes
    as a plain sentence, which teaches no claim that cannot be checked."""
    group_by: tuple[str, ...] = ("title",)
    """Fields whose equal values put items on one side of the split."""
    sellers: Literal["auto", "apart", "together"] = "auto"
    """`apart` puts all items of a seller (`creator`) on one side of the split; `auto` does so where no seller has more
    than a tenth of them."""
    near_duplicates: float | None = Field(default=0.98, gt=0, le=1)
    """Cosine of pictures from which on two items fall on one side of the split; null compares none."""
    space: str | None = None
    """The space of pictures that this is measured in; the first of the pipeline by default."""
    test_share: Share = 0.1
    """Held out for `coldstart evaluate describe`."""
    valid_share: Share = 0.1
    """Held out to stop by."""
    min_items: int = Field(default=50, ge=4)
    """With fewer there is too little to learn from."""
    max_items: int | None = Field(default=None, ge=4)
    """At most so many items are learnt from, drawn at random; all by default."""
    method: Literal["sft", "dpo"] = "sft"
    """`dpo` goes on from what was fitted last, with the better and the worse of several texts by the checks."""
    pictures: int = Field(default=1, ge=1)
    """Pictures of a product, and `frames` of a video, that a generator with eyes is shown."""
    frames: int = Field(default=4, ge=1, le=64)
    judged: int = Field(default=48, ge=0)
    """Items of those held out that are described before and after, for the card; all of them are for `evaluate`."""
    training: Training = Training()
    vision: Vision = Vision()
    preference: Preference = Preference()
    seed: int = 0

    def counted(self) -> dict[str, Any]:
        """What changes a fit."""
        return self.model_dump(mode="json", exclude={"options": True, "judged": True, "training": {"processes"}})

    def by_seller(self, creators: Sequence[str | None]) -> tuple[bool, str]:
        """Whether sellers fall apart, and a line that says so."""
        if self.sellers != "auto":
            return self.sellers == "apart", f"sellers {self.sellers} in the split, as asked for"
        named = Counter(creator for creator in creators if creator)
        if not named:
            return False, "no sellers to keep apart in the split"
        name, most = named.most_common(1)[0]
        if most > 0.1 * len(creators):
            return False, f"sellers are not kept apart in the split: {name!r} alone has {most} of {len(creators)} items"
        return True, "each seller's items fall on one side of the split"


FINETUNE = "finetune.describe"


WRITE = "describe.write"


def with_finetune(pipeline: Pipeline, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings as plain data, and overrides of them, by which a writer is tuned; before what writes, if anything does.

    Args:
        given: settings of `finetune.describe`, such as `generator`; those that are None stay as they are.
    """
    return _with(pipeline, "finetune", FINETUNE, given, before=("describe", "index"))


def with_describe(pipeline: Pipeline, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings as plain data, and overrides of them, by which items are described.

    Args:
        given: settings of `describe.write`, such as `generator`; those that are None stay as they are.
    """
    return _with(pipeline, "describe", WRITE, given, before=("index",))


def _with(
    pipeline: Pipeline, group: str, kind: str, given: Mapping[str, Any], before: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    raw = dict(pipeline.raw)
    stated = {key: value for key, value in given.items() if value is not None}
    if names := [spec.name for spec in pipeline.of_kind(kind)]:
        return raw, [f"{name}.{key}={value}" for name in names for key, value in stated.items()]
    part = kind.rpartition(".")[2]
    stages: dict[str, Any] = {}
    added = {group: {part: stated}}
    for name, settings in (mapping(raw.get("stages")) or {}).items():
        if kind_of(name, settings) in before:
            stages |= added
            added = {}
        stages[name] = settings
    return {**raw, "stages": {**stages, **added}}, []

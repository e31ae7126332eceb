"""Hold the settings of `finetune.describe`, and add such a stage, or `describe.write`, to a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline
from coldstart.core.settings import as_mapping, kind_of
from coldstart.describe.finetune.training import DpoSettings, LoraSettings, VlmSettings
from coldstart.describe.held_out import HeldOut, Share
from coldstart.describe.writing import DEFAULT_PROMPTS


class Settings(HeldOut):
    """Settings of the fit of a writer: generator, items, split and training."""

    generator: str = "starter"
    """Generator to fit: `starter`, `starter-vlm`, or `hf:NAME_OR_PATH` of a language or vision-language model."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of that generator."""
    prompt: dict[str, str] = Field(default_factory=lambda: dict(DEFAULT_PROMPTS))
    """Kind of item -> a packaged prompt's name, or the path of a .md file; `describe.write` uses the same."""
    given: tuple[str, ...] = ("title", "creator", "transcript", "screen_text", "picture")
    """Fields that a cold item may have, shown in prompts; completions state the record's other fields."""
    drop: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=lambda: {"title": 0.5, "transcript": 0.25, "screen_text": 0.25}
    )
    """Field -> probability that a further view of an item drops it (field dropout)."""
    views: int = Field(default=2, ge=1, le=16)
    """Training views of an item; the first has all of `given`."""
    summary: Literal["description", "attributes"] = "description"
    """Target of the summary: the item's own description where it is hidden, or its attributes as a sentence, which
    teaches no claim that cannot be checked."""
    input: Literal["fields", "facts"] = "fields"
    """Input of prompts: the shown fields of an item, or, as `facts`, only which facts are known of it. Then the model
    learns sentences with slots for values, chosen once for each pattern of facts, and writing takes no model."""
    space: str | None = None
    """Space of pictures for `near_duplicates`; by default the pipeline's first."""
    valid_share: Share = 0.1
    """Share held out for early stopping."""
    min_items: int = Field(default=50, ge=4)
    """Least training items; with fewer the stage stops with an error."""
    max_items: int | None = Field(default=None, ge=4)
    """Most training items, drawn at random; by default all."""
    method: Literal["sft", "dpo"] = "sft"
    """`sft` fits on prompt/completion pairs; `dpo` continues the last fit with preference pairs of the checks."""
    pictures: int = Field(default=1, ge=1)
    """Pictures of a product in a prompt of a vision-language generator."""
    frames: int = Field(default=4, ge=1, le=64)
    """Frames of a video in such a prompt."""
    judged: int = Field(default=48, ge=0)
    """Held-out items described before and after the fit for the card; `evaluate describe` uses all of them."""
    training: LoraSettings = LoraSettings()
    """Training of a language model, or of a vision-language model of the hub."""
    vision: VlmSettings = VlmSettings()
    """Training of `starter-vlm`."""
    preference: DpoSettings = DpoSettings()
    """Training with `method: dpo`."""
    seed: int = 0
    """Seed of the split, the views and the training."""

    def counted(self) -> dict[str, Any]:
        """Return the settings that change a fit, as JSON values, for its fingerprint."""
        trainings = {name: getattr(self, name).counted() for name in ("training", "vision", "preference")}
        later = {"input"} if self.input == "fields" else set()  # fits of versions without it stay in use
        return self.model_dump(mode="json", exclude={"options", "judged", *later, *trainings}) | trainings


FINETUNE = "finetune.describe"


WRITE = "describe.write"


def with_finetune(pipeline: Pipeline, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return settings as plain data, and overrides, of the pipeline with a fit of its writer before stages that write.

    Where the pipeline predicts attributes, a new fit of a text model is one of sentences with slots (`input: facts`),
    and holds out the items that the models of attributes hold out.

    Args:
        given: settings of `finetune.describe`, such as `generator`; None leaves one unchanged.
    """
    if pipeline.of_kind(FINETUNE):
        return _with_stage(pipeline, "finetune", FINETUNE, given, before=("describe", "index"))
    stated = {key: value for key, value in given.items() if value is not None}
    alike = set(HeldOut.model_fields) | {"seed"}
    if pipeline.of_kind("describe.attributes") and stated.items() <= {"generator": "starter", "method": "sft"}.items():
        stated["input"] = "facts"
        alike.add("given")
    for spec in pipeline.of_kind("describe.grounds"):
        if spec.settings.test_share:
            stated = spec.settings.model_dump(mode="json", include=alike) | stated
    return _with_stage(pipeline, "finetune", FINETUNE, stated, before=("describe", "index"))


def with_describe(pipeline: Pipeline, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return settings as plain data, and overrides, of the pipeline with a stage that describes items.

    Args:
        given: settings of `describe.write`, such as `generator`; None leaves one unchanged.
    """
    return _with_stage(pipeline, "describe", WRITE, given, before=("index",))


def _with_stage(
    pipeline: Pipeline, group: str, kind: str, given: Mapping[str, Any], before: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    raw = dict(pipeline.raw)
    stated = {key: value for key, value in given.items() if value is not None}
    if names := [spec.name for spec in pipeline.of_kind(kind)]:
        return raw, [f"{name}.{key}={value}" for name in names for key, value in stated.items()]
    part = kind.rpartition(".")[2]
    stages: dict[str, Any] = {}
    added = {group: {part: stated}}
    for name, settings in (as_mapping(raw.get("stages")) or {}).items():
        if kind_of(name, settings) in before:
            stages |= added
            added = {}
        stages[name] = settings
    return {**raw, "stages": {**stages, **added}}, []

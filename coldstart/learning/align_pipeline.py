"""A pipeline with `align.text_image` in it: its settings changed where it has such a stage, and else one added."""

from __future__ import annotations

from typing import Any

from coldstart.pipeline import Pipeline
from coldstart.plain_settings import with_stage

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

"""A pipeline with `align.behaviour` and its space: settings changed where it has them, and else these added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coldstart.learning.behaviour_inputs import FIT, SPACE
from coldstart.pipeline import Pipeline
from coldstart.plain_settings import mapping, with_stage

OWN = "liking"
"""Name of the fit where the pipeline's `align` stands too early for it."""


def with_behaviour(pipeline: Pipeline, spaces: Sequence[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Settings as plain data, and overrides of them, by which content is brought to behaviour.

    Args:
        spaces: the embed stages to learn from; by default the stage's own, for a new one all that stand before it.
    """
    raw = dict(pipeline.raw)
    given = {} if spaces is None else {"spaces": list(spaces)}
    names = [spec.name for spec in pipeline.of_kind(FIT)]
    if not names:
        raw = _with_fit(raw, pipeline, given)
        overrides = []
    else:
        overrides = [f"{name}.spaces=[{', '.join(spaces)}]" for name in names if spaces is not None]
    if not pipeline.of_kind(SPACE):
        raw = with_stage(raw, SPACE, SPACE, {})
    return raw, overrides


def _with_fit(raw: dict[str, Any], pipeline: Pipeline, given: dict[str, Any]) -> dict[str, Any]:
    """With the fit as a part of the group `align`; where that stands before one of the wanted spaces, on its own."""
    align = (mapping(raw.get("stages")) or {}).get("align")
    if align is None:
        return with_stage(raw, "align", "align", {"text_image": False, "behaviour": given})
    names = [spec.name for spec in pipeline.stages]
    parts = [place for place, name in enumerate(names) if name.startswith("align.")]
    late = [space for space in given.get("spaces", ()) if space in names[max(parts, default=0) :]]
    if late:
        return with_stage(raw, OWN, FIT, given)
    return with_stage(raw, "align", "align", {"behaviour": given})

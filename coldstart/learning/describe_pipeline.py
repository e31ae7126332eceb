"""A pipeline that describes: its settings changed where it has such stages, and else these added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coldstart.pipeline import Pipeline
from coldstart.plain_settings import kind_of, mapping

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

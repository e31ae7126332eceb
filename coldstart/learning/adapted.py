"""Where the vectors of an encoder that a fit has changed are found again: in the spaces that are made with it."""

from __future__ import annotations

from typing import Any

from coldstart.encoders import Passport
from coldstart.errors import ColdstartError
from coldstart.freshness import Standing
from coldstart.pipeline import Pipeline
from coldstart.workspace import Store


def encoders_of(stage: str) -> set[str]:
    """The encoders that stand for what a fit stage makes."""
    return {f"align:{stage}", f"align:{stage.rpartition('.')[2]}"}


def picture_space(store: Store, pipeline: Pipeline, stage: str, passport: Passport) -> tuple[Any, frozenset[str]]:
    """The space of pictures with most fresh rows of what a stage has fitted last, as an embed stage, and their items.

    Args:
        passport: of what was fitted.

    Raises:
        ColdstartError: the pipeline has no such space, or nothing fresh stands in it.
    """
    standing = Standing(store, pipeline)
    named = [
        spec.name
        for spec in pipeline.of_kind("embed")
        if spec.settings.input == "image" and spec.settings.encoder in encoders_of(stage)
    ]
    if not named:
        short = stage.rpartition(".")[2]
        raise ColdstartError(
            f"{stage} has changed the encoder of pictures, and no space is made with it: `coldstart embed --workspace "
            f"{store.uri} --space aligned --encoder align:{short}` makes one"
        )
    spaces: list[Any] = [standing.stage(name) for name in named]
    found = [(space, standing.of(space.name).fresh) for space in spaces if space.passport == passport]
    space, fresh = max(found, key=lambda one: len(one[1]), default=(None, frozenset()))
    if not fresh:
        raise ColdstartError(
            f"{stage} has changed the encoder of pictures, and {', '.join(named)} holds no vectors by it yet: run "
            f"`coldstart run --workspace {store.uri}`"
        )
    return space, fresh

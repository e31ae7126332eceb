"""Where stages find what earlier stages of their pipeline have fitted, and searches the encoder of stored vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from coldstart import encoders
from coldstart.attributes import Attributes
from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError, NotFitted
from coldstart.pipeline import Pipeline
from coldstart.workspace import Store

FITTED = ("align.text_image",)
"""Kinds of fit stages that make encoders."""
WRITERS = ("finetune.describe",)
"""Kinds of fit stages that make generators."""
CARD = "card.json"
"""What such a fit says of itself: the generator that it tuned, and the values that attributes were seen to have."""


def bound(pipeline: Pipeline, workspace: Store) -> Pipeline:
    """The pipeline over a workspace, whose fitted artifacts its stages may use."""

    def fitted(name: str) -> Path | None:
        newest = workspace.artifacts.newest(name)
        return None if newest is None else newest.folder

    return replace(pipeline, fitted=fitted)


def fitted_encoder(name: str, stage: str, pipeline: Pipeline) -> tuple[str, dict[str, str]]:
    """What to load for the encoder of a stage: `align:NAME` becomes the folder of what the fit stage NAME made last.

    NAME is the name of a stage, or its part after the group: `align:text_image` is the stage `align.text_image`.

    Raises:
        NotFitted: the stage has fitted nothing yet.
        ColdstartError: it stands after the one that asks.
    """
    prefix, _, asked = name.partition(":")
    named = [s.name for s in pipeline.stages if s.kind in FITTED and asked in (s.name, s.name.rpartition(".")[2])]
    if prefix != "align" or not named:
        return name, {}
    names = [spec.name for spec in pipeline.stages]
    if names.index(named[0]) > names.index(stage):
        raise ColdstartError(f"{stage}.encoder={name!r}: stage {named[0]!r} stands after it; put it before")
    folder = pipeline.fitted(named[0])
    if folder is None:
        raise NotFitted(
            f"space {stage!r} waits for stage {named[0]!r}, which has fitted nothing: run `coldstart finetune align`"
        )
    return f"align:{folder}", {"label": f"align:{named[0]}"}


@dataclass(frozen=True)
class Writing:
    """Who writes for a stage, and how it is asked.

    Attributes:
        generator: what to load; adapter: folder of what was fitted on it, if anything was.
        attributes: what can be stated, with the values that the fit saw.
        given: fields that the fit showed; None: no fit says.
        prompt: kind of item -> the prompt that the fit learnt; None: no fit says.
    """

    generator: str
    adapter: Path | None
    attributes: Attributes
    given: tuple[str, ...] | None = None
    prompt: Mapping[str, str] | None = None


def writing_of(name: str, stage: str, pipeline: Pipeline) -> Writing:
    """What stands behind the generator of a stage: `finetune:NAME` is what the fit stage NAME tuned last.

    Raises:
        NotFitted: the stage has fitted nothing yet.
        ColdstartError: there is no such stage before the one that asks.
    """
    prefix, _, asked = name.partition(":")
    if prefix != "finetune":
        return Writing(name, None, pipeline.attributes)
    before = pipeline.stages[: [spec.name for spec in pipeline.stages].index(stage)]
    named = [s.name for s in before if s.kind in WRITERS and asked in (s.name, s.name.rpartition(".")[2])]
    if not named:
        known = [f"finetune:{s.name.rpartition('.')[2]}" for s in before if s.kind in WRITERS]
        raise ColdstartError(
            f"{stage}.generator={name!r}: no such fit stands before it; there is {', '.join(known) or 'none'}"
        )
    folder = pipeline.fitted(named[0])
    if folder is None:
        raise NotFitted(
            f"stage {stage!r} waits for stage {named[0]!r}, which has fitted nothing: run `coldstart finetune describe`"
        )
    return writing_in(folder, pipeline.attributes)


def writing_in(folder: Path, attributes: Attributes) -> Writing:
    """What a folder of a fit says of itself."""
    card = json.loads((folder / CARD).read_text("utf-8"))
    return Writing(
        card["generator"], folder, attributes.with_values(card["values"]), tuple(card["given"]), card["prompt"]
    )


def encoder_of(passport: Passport, pipeline: Pipeline, workspace: Store) -> Encoder:
    """The encoder that made the vectors of a space; if none has that passport any more, the one of its name, whose
    queries a search refuses.

    Raises:
        ColdstartError: its weights are not on this machine, or what it was fitted by is no longer kept.
    """
    specs = pipeline.of_kind("embed")
    random = any(spec.settings.allow_random_weights for spec in specs)
    engine = {"device": pipeline.engine.device, "dtype": pipeline.engine.dtype}
    prefix, _, name = passport.encoder.partition(":")
    if prefix == "align":
        for made in workspace.artifacts.all(name):
            folder = f"align:{made.folder}"
            encoder = encoders.load(folder, **engine, allow_random_weights=random, label=passport.encoder)
            if encoder.passport("image") == passport:
                return encoder
        raise ColdstartError(
            f"vectors of {passport.encoder} ({passport.digest}) were made by a fit that is no longer kept: run "
            f"`coldstart run --workspace {workspace.uri}` to make them with the one that is"
        )
    for spec in specs:
        if spec.settings.encoder.startswith("align:"):
            continue  # it stands for a fit of its own, looked for above
        encoder = encoders.load(
            spec.settings.encoder, **engine, allow_random_weights=spec.settings.allow_random_weights
        )
        if spec.settings.input in encoder.modalities and encoder.passport(spec.settings.input) == passport:
            return encoder
    return encoders.load(passport.encoder)

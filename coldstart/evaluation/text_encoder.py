"""The encoder by which an evaluation reads texts that a pipeline did not embed: that of the pipeline itself."""

from __future__ import annotations

from collections.abc import Mapping

from coldstart.encoders import Encoder
from coldstart.pipeline import Pipeline


def text_encoder(pipeline: Pipeline) -> tuple[Encoder, Mapping[str, int]]:
    """The encoder of the pipeline's first space of texts that stands on no fit, and its budgets; else the starter's."""
    from coldstart import encoders

    spaces = [
        spec.settings
        for spec in pipeline.of_kind("embed")
        if spec.settings.input == "text" and not spec.settings.encoder.startswith("align:")
    ]
    encoder = encoders.load(
        spaces[0].encoder if spaces else "starter",
        device=pipeline.engine.device,
        dtype=pipeline.engine.dtype,
        allow_random_weights=bool(spaces) and spaces[0].allow_random_weights,
    )
    return encoder, spaces[0].budgets if spaces else {}

"""Settings of `finetune.rerank`, and their way into a pipeline. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import with_stage

RERANK = "finetune.rerank"
"""Stage kind: the fit of a model of lists."""
OWN = "rerank"
"""Name of such a stage that is added to a pipeline."""


class Settings(Section):
    """Settings of the model of lists."""

    space: str | None = None
    """Space of content before this stage, by which items are alike; by default the first one of texts, else the first
    one that embeds items."""
    signal: str = Field(default="click", pattern=r"[a-z][a-z0-9_]{0,39}")
    """Outcome of a showing that counts, where it is above 0."""
    loss: Literal["bce", "listmle"] = "bce"
    """bce: p(click) of each item, by which lists are compared; listmle: order alone, after Xia et al. 2008."""
    dim: int = Field(default=32, ge=8, le=512)
    """Width of the model, a multiple of `heads`."""
    layers: int = Field(default=2, ge=1, le=8)
    """Layers of the set transformer."""
    heads: int = Field(default=2, ge=1, le=16)
    """Attention heads of a layer."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout within layers."""
    epochs: int = Field(default=20, ge=1, le=1000)
    """Most passes over the lists; fewer where the loss on the latest tenth no longer falls."""
    patience: int = Field(default=5, ge=1)
    """Epochs without a lower loss after which training ends."""
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    """Greatest step size of AdamW."""
    decay: float = Field(default=1e-2, ge=0, le=1)
    """Weight decay of AdamW."""
    min_items: int = Field(default=5, ge=2, le=30)
    """Items that a request must have shown to be learnt from."""
    min_requests: int = Field(default=500, ge=1)
    """Such requests below which the stage waits."""
    seed: int = 0
    """Random seed of the fit."""

    def training(self, device: str = "auto") -> dict[str, Any]:
        """Settings of `coldstart.rerank.listwise.ListwiseTraining`."""
        names = ("loss", "dim", "layers", "heads", "dropout", "epochs", "patience", "learning_rate", "decay", "seed")
        own = self.model_dump(mode="json")
        return {**{name: own[name] for name in names}, "device": device}


def with_rerank(pipeline: Pipeline) -> dict[str, Any]:
    """Add `finetune.rerank` to a pipeline where it lacks one: its raw settings."""
    raw = dict(pipeline.raw)
    return raw if pipeline.of_kind(RERANK) else with_stage(raw, OWN, RERANK, {})

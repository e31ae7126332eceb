"""Settings of `finetune.recall`, and their way into a pipeline. Imports no torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import suggestion, with_stage
from coldstart.errors import ColdstartError
from coldstart.semantic_ids.settings import FIT, IDS, with_sids

RECALL = "finetune.recall"
"""Stage kind: the fit of a sequence model."""
OWN_RECALL = "recall"
"""Name of such a stage that is added to a pipeline."""


class Settings(Section):
    """Settings of the sequence model of histories."""

    space: str | None = None
    """Space of content before this stage; by default the first one of texts, else the first one that embeds items. Not
    `behaviour`, which has learnt from the interactions that the model is judged by."""
    dim: int = Field(default=64, ge=8, le=1024)
    """Width of the model, a multiple of `heads`."""
    layers: int = Field(default=2, ge=1, le=12)
    """Layers of the transformer."""
    heads: int = Field(default=2, ge=1, le=16)
    """Attention heads of a layer."""
    length: int = Field(default=50, ge=2, le=1024)
    """Latest items of a history that are read."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout of states and attention."""
    id_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of id vectors that are left out at random, so that the model learns to do without, as for new items."""
    epochs: int = Field(default=80, ge=1, le=10_000)
    """Most passes over the histories; fewer where held-out NDCG@10 no longer grows."""
    patience: int = Field(default=5, ge=1)
    """Judgements without a gain, one every two epochs, after which training ends."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Step size of AdamW."""
    decay: float = Field(default=1e-4, ge=0, le=1)
    """Weight decay of AdamW."""
    min_weight: float | None = None
    """Least weight of an interaction that counts; by default ratings of 0.7 of their scale and more, else above 0."""
    min_users: int = Field(default=50, ge=1)
    """Users with two items and more below which the stage waits."""
    min_items: int = Field(default=64, ge=2)
    """Items with content and an interaction below which the stage waits."""
    seed: int = 0
    """Random seed of the fit."""

    def training(self, device: str = "auto") -> dict[str, Any]:
        """Settings of `coldstart.semantic_ids.train_sequence.Training`."""
        names = ("dim", "layers", "heads", "length", "dropout", "id_dropout", "epochs", "patience", "learning_rate")
        own = self.model_dump(mode="json")
        return {**{name: own[name] for name in (*names, "decay", "seed")}, "device": device}


def content_space(pipeline: Pipeline, stage: str, wanted: str | None) -> str:
    """Choose the space of content of a stage.

    Raises:
        ColdstartError: there is none before it, or not the wanted one.
    """
    before = pipeline.earlier(stage) if stage in [spec.name for spec in pipeline.stages] else pipeline.stages
    embedded = [spec for spec in before if spec.kind == "embed"]
    known = [spec.name for spec in embedded]
    if wanted is not None and wanted not in known:
        raise ColdstartError(
            f"{stage}.space={wanted!r}: no space that embeds items has that name before it{suggestion(wanted, known)}; "
            f"there is {', '.join(known) or 'none'}"
        )
    texts = [spec.name for spec in embedded if spec.settings.input == "text"]
    if not known:
        raise ColdstartError(f"{stage} has no content to read: put a stage of kind embed before it")
    return wanted or (texts or known)[0]


def with_recall(pipeline: Pipeline, *, space: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """Add `finetune.recall` to a pipeline where it lacks one, and semantic IDs: its raw settings, and overrides.

    New semantic IDs are of the same content, since those of behaviour have learnt from what the model is judged by.
    """
    names = [spec.name for spec in pipeline.of_kind(RECALL)]
    raw, overrides = dict(pipeline.raw), list[str]()
    if not pipeline.of_kind(IDS):
        wanted = space or (pipeline.stage(names[-1]).settings.space if names else None)
        coded = content_space(pipeline, names[-1] if names else OWN_RECALL, wanted)
        raw, overrides = with_sids(pipeline, space=None if pipeline.of_kind(FIT) else coded)
    given = {} if space is None else {"space": space}
    if not names:
        raw = with_stage(raw, OWN_RECALL, RECALL, given)
    elif space is not None:
        overrides = [*overrides, f"{names[-1]}.space={space}"]
    return raw, overrides

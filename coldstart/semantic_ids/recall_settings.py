"""Settings of `finetune.recall`, and their way into a pipeline. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section, content_space
from coldstart.core.settings import with_stage
from coldstart.errors import ColdstartError
from coldstart.semantic_ids.settings import FIT, IDS, with_sids

RECALL = "finetune.recall"
"""Stage kind: the fit of a sequence model."""
OWN_RECALL = "recall"
"""Name of such a stage that is added to a pipeline."""
LANGUAGE_VERSION = 2
"""Version of the training of a language model and of its files, part of the key of such a fit."""


class LanguageSettings(Section):
    """Settings of the language model that decodes semantic IDs, with `decoder: llm`."""

    steps: int = Field(default=1000, ge=1)
    """Steps on the histories without their last items; a quarter as many follow on everything."""
    batch: int = Field(default=16, ge=1, le=4096)
    """Histories a step."""
    length: int = Field(default=20, ge=1, le=512)
    """Latest items of a history that are read."""
    r: int = Field(default=16, ge=1, le=1024)
    """Rank of the low-rank pairs of linear layers (LoRA)."""
    alpha: int = Field(default=32, ge=1)
    """The change of a layer is scaled by `alpha / r`."""
    lr: float = Field(default=2e-4, gt=0, le=1)
    """Highest step size of the low-rank pairs."""
    row_lr: float = Field(default=2e-3, gt=0, le=1)
    """Highest step size of the rows of codes, which are learnt in full."""
    align_share: float = Field(default=0.2, ge=0, le=1)
    """Items a step that are told by text from their ID, and by ID from their text, as a share of `batch`; 0: none."""
    judged: int = Field(default=300, ge=1)
    """Users with a last item that the choice of `auto` asks, at most: each takes one decoding."""
    grpo_steps: int = Field(default=0, ge=0)
    """Steps of training by rewards of ranks (GRPO) after the supervised ones; for a GPU."""
    grpo_batch: int = Field(default=8, ge=1, le=1024)
    """Histories a step of training by rewards."""
    grpo_group: int = Field(default=16, ge=2, le=256)
    """IDs that are listed for each of them."""
    grpo_updates: int = Field(default=2, ge=1, le=16)
    """Updates of the weights by one listing."""
    grpo_lr: float = Field(default=1e-5, gt=0, le=1)
    """Highest step size of training by rewards."""
    beta: float = Field(default=0.04, ge=0)
    """Weight of the penalty on moving away from what the supervised steps made."""
    grpo_on_cpu: bool = False
    """Train by rewards also where there is no GPU, which takes hours."""


class Settings(Section):
    """Settings of the sequence model of histories."""

    space: str | None = None
    """Space of content before this stage; by default the first one of texts, else the first one that embeds items. Not
    `behaviour`, which has learnt from the interactions that the model is judged by."""
    dim: int = Field(default=64, ge=8, le=1024)
    """Width of the model, a multiple of `heads`."""
    layers: int = Field(default=1, ge=1, le=12)
    """Layers of the transformer."""
    heads: int = Field(default=1, ge=1, le=16)
    """Attention heads of a layer."""
    length: int = Field(default=50, ge=2, le=1024)
    """Latest items of a history that are read."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout of states and attention."""
    id_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of id vectors that are left out at random, so that the model learns to do without, as for new items."""
    negatives: int = Field(default=512, ge=0)
    """Drawn items that the next one is told from, anew in each batch; 0: all items."""
    epochs: int = Field(default=200, ge=1, le=10_000)
    """Most passes over the histories; fewer where held-out NDCG@10 no longer grows."""
    patience: int = Field(default=5, ge=1)
    """Judgements without a gain, one every two epochs from the 30th on, after which training ends."""
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
    decoder: Literal["transformer", "llm"] = "transformer"
    """Model that decodes semantic IDs: the sequence model's own head, or a language model beside it."""
    generator: str = "starter"
    """Language model that `decoder: llm` teaches: starter, or hf:NAME_OR_PATH."""
    llm: LanguageSettings = LanguageSettings()
    """Settings of that language model."""

    def training(self, device: str = "auto") -> dict[str, Any]:
        """Settings of `coldstart.semantic_ids.train_sequence.Training`."""
        names = ("dim", "layers", "heads", "length", "dropout", "id_dropout", "negatives", "epochs", "patience",
                 "learning_rate", "decay", "seed")  # fmt: skip
        own = self.model_dump(mode="json")
        return {**{name: own[name] for name in names}, "device": device}


def check_generator(name: str, generator: str) -> None:
    """Check by its name that a generator can be taught.

    Raises:
        ColdstartError: it cannot: an endpoint, a fixed file of another program, or no language model.
    """
    prefix, _, rest = generator.partition(":")
    is_known = (prefix == "starter" and not rest) or (prefix == "hf" and rest)
    if is_known and not generator.lower().endswith(".gguf"):
        return
    raise ColdstartError(
        f"{name}.generator={generator[:80]!r}: a language model that is taught semantic IDs is starter or "
        "hf:NAME_OR_PATH with safetensors; an endpoint or a GGUF file cannot be trained here"
    )


def with_recall(
    pipeline: Pipeline, *, space: str | None = None, model: str | None = None, generator: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Add `finetune.recall` to a pipeline where it lacks one, and semantic IDs: its raw settings, and overrides.

    `model` is the setting `decoder`; a `generator` alone asks for `llm`.

    New semantic IDs are of the same content, since those of behaviour have learnt from what the model is judged by.
    """
    names = [spec.name for spec in pipeline.of_kind(RECALL)]
    raw, overrides = dict(pipeline.raw), list[str]()
    if not pipeline.of_kind(IDS):
        wanted = space or (pipeline.stage(names[-1]).settings.space if names else None)
        coded = content_space(pipeline, names[-1] if names else OWN_RECALL, wanted)
        raw, overrides = with_sids(pipeline, space=None if pipeline.of_kind(FIT) else coded)
    decoder = model or (None if generator is None else "llm")
    if decoder not in (None, "transformer", "llm"):
        raise ColdstartError(f"model {str(decoder)[:80]!r}: use transformer or llm")
    if generator is not None and decoder != "llm":
        raise ColdstartError(f"generator {generator!r} is for model llm: leave it out")
    wishes = {"space": space, "decoder": decoder, "generator": generator}
    given = {name: value for name, value in wishes.items() if value is not None}
    if not names:
        raw = with_stage(raw, OWN_RECALL, RECALL, given)
    else:
        overrides = [*overrides, *(f"{names[-1]}.{name}={value}" for name, value in given.items())]
    return raw, overrides

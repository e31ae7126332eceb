"""Settings of `finetune.rank`, and their way into a pipeline. Imports no torch and no LightGBM."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from coldstart.core.impressions import is_signal
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import with_stage

RANK = "finetune.rank"
"""Stage kind: the fit of a ranker."""
OWN_RANK = "rank"
"""Name of such a stage that is added to a pipeline."""
FEWEST_SHOWINGS = 2_000
"""Showings with outcomes below which no ranker is fitted on them."""
AGAINST = frozenset({"hide", "hate", "dislike", "report"})
"""Outcomes that speak against an item, which are no event of a ranker unless they are named."""
FEWEST_OF_A_CLASS = 20
"""Showings with an event, and without it, below which the event is no label."""


class Settings(Section):
    """Settings of the ranker."""

    events: dict[str, float] | None = None
    """Outcome of a showing -> its weight in the score, the sum of weight x log p. By default all outcomes of the log
    that are 0 or 1, but for `hide`, `hate`, `dislike` and `report`, each with weight 1."""
    model: Literal["auto", "trees", "attention", "both", "long", "trees_and_long"] = "auto"
    """Boosted trees, target attention, the mean of their logits (`both`), attention over whole histories (`long`), the
    mean of its logits and the trees', or what had the smallest log loss on the latest part of the fit window; `auto`
    tries the last two only where some history is longer than 200 actions."""
    similar: bool | None = None
    """Likeness of a candidate to the history by vectors of who met what (histogram of SimTier). By default only where
    some history is longer than 200 actions: with short ones it cost order within users' lists."""
    surface: str | None = None
    """Read only showings of this surface."""
    rounds: int = Field(default=400, ge=1, le=10_000)
    """Most trees of an event; fewer where log loss on later rows no longer falls."""
    leaves: int = Field(default=31, ge=2, le=1_024)
    """Most leaves of a tree."""
    min_in_leaf: int = Field(default=60, ge=1)
    """Fewest rows of a leaf."""
    tree_rate: float = Field(default=0.05, gt=0, le=1)
    """Step size of the trees."""
    dim: int = Field(default=32, ge=8, le=512)
    """Width of target attention, a multiple of 4."""
    length: int = Field(default=100, ge=1, le=200)
    """Latest actions of a history that target attention reads."""
    found: bool = True
    """Read, in target attention, the latest 50 actions and the 50 before them that are most like the candidate, where
    some history is longer than 200 actions."""
    epochs: int = Field(default=3, ge=1, le=100)
    """Most passes over the rows in the fit of target attention."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Step size of AdamW."""
    decay: float = Field(default=1e-2, ge=0, le=1)
    """Weight decay of AdamW."""
    long_length: int = Field(default=10_000, ge=1, le=100_000)
    """Latest actions of a history that `long` reads."""
    long_merged: int = Field(default=4, ge=1, le=64)
    """Actions that `long` reads as one."""
    long_backend: Literal["auto", "sdpa", "flex", "linear"] = "auto"
    """Attention between the latest actions of `long`: PyTorch's own, flex attention (`auto` takes it on CUDA), or
    linear attention."""
    long_epochs: int = Field(default=10, ge=1, le=100)
    """Most passes over the rows in the fit of `long`."""
    long_rate: float = Field(default=3e-3, gt=0, le=1)
    """Largest step size of AdamW in the fit of `long`, which rises and falls."""
    prior: float = Field(default=20.0, gt=0)
    """Showings with the mean rate that are added to a rate, so that few showings say little."""
    min_showings: int = Field(default=FEWEST_SHOWINGS, ge=100)
    """Showings with outcomes below which nothing is fitted on them."""
    seed: int = 0
    """Random seed of the fit."""

    @field_validator("events")
    @classmethod
    def _check_events(cls, events: dict[str, float] | None) -> dict[str, float] | None:
        if events is not None:
            if not events:
                raise ValueError("name one event at least")
            for name, weight in events.items():
                if not is_signal(name):
                    raise ValueError(f"{name!r} cannot be an outcome: small letters, digits and _")
                if not 0 < weight <= 1000:
                    raise ValueError(f"{name}: {weight} is no weight; give a number above 0, at most 1000")
        return events

    @field_validator("dim")
    @classmethod
    def _check_dim(cls, dim: int) -> int:
        if dim % 4:
            raise ValueError(f"{dim} is no multiple of 4")
        return dim


def with_rank(
    pipeline: Pipeline, *, events: dict[str, float] | None = None, model: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Add `finetune.rank` to a pipeline where it lacks one: its raw settings, and overrides."""
    names = [spec.name for spec in pipeline.of_kind(RANK)]
    given: dict[str, Any] = {}
    if events is not None:
        given["events"] = events
    if model is not None:
        given["model"] = model
    if not names:
        return with_stage(dict(pipeline.raw), OWN_RANK, RANK, given), []
    overrides = [] if model is None else [f"{names[-1]}.model={model}"]
    if events is not None:
        overrides.append(
            f"{names[-1]}.events={{{', '.join(f'{name}: {weight:g}' for name, weight in events.items())}}}"
        )
    return dict(pipeline.raw), overrides

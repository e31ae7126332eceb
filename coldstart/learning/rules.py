"""The rules that a pipeline's `describe.check` holds descriptions to."""

from __future__ import annotations

from typing import Any

from coldstart.checks import Rules
from coldstart.learning.seeing import Seeing, seeing_of
from coldstart.perception import word_policy
from coldstart.perception.safety import scores
from coldstart.pipeline import Pipeline

KIND = "describe.check"


def rules_of(settings: Any, seeing: Seeing) -> Rules:
    """Those of the settings of such a stage.

    Raises:
        ColdstartError: the policy has faults.
    """
    policy = None if settings.policy is None else word_policy.load(settings.policy)
    return Rules(
        languages=settings.languages,
        min_seen=0.0,  # only what reaches its own threshold is told to be seen
        max_copy=settings.max_copy,
        max_unsupported=settings.max_unsupported,
        brands=seeing.brands,
        categories=seeing.categories,
        policy=None if policy is None else lambda text: scores(policy.judge({"text": text})),
        max_unsafe=settings.max_unsafe,
    )


def last_rules(pipeline: Pipeline, seeing: Seeing | None = None) -> Rules:
    """Those of the pipeline's last such stage, or as that is without settings.

    Args:
        seeing: what the checks know of the catalogue; by default what the stage before them fitted.

    Raises:
        NotFitted: `describe.grounds` has fitted nothing, and no `seeing` is given.
        ColdstartError: as `rules_of`.
    """
    specs = pipeline.of_kind(KIND)
    if not specs:
        seeing = seeing or Seeing()
        return Rules(min_seen=0.0, brands=seeing.brands, categories=seeing.categories)
    return rules_of(specs[-1].settings, seeing or seeing_of(specs[-1].name, pipeline))

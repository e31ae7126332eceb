"""Settings of `align.sids`, and their way into a pipeline. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import with_stage
from coldstart.core.stage import SPACES
from coldstart.errors import ColdstartError

FIT, IDS = "align.sids", "sids"
"""Stage kinds: the fit of codebooks, and the stage that gives items their IDs."""
OWN = "codebooks"
"""Name of a fit stage that is added to a pipeline."""
FEWEST_ITEMS = 64
"""Items with a vector below which no codebooks are fitted."""


class Settings(Section):
    """Settings of codebooks of semantic IDs."""

    space: str | None = None
    """Space before this stage whose vectors are coded; by default `behaviour` where that is fitted, else the first
    space of texts, else the first space. `coldstart finetune sids` writes down which one it took."""
    method: Literal["rqkmeans", "opq", "fsq", "rqvae"] = "rqkmeans"
    """`rqkmeans`: residual k-means; `opq`: optimized product quantization; `fsq`: finite scalar quantization of
    principal components; `rqvae`: residual codebooks of a trained autoencoder."""
    levels: tuple[Annotated[int, Field(ge=2, le=65_536)], ...] | None = Field(default=None, min_length=1, max_length=8)
    """Codes of each level; by default 256, 256, 256, and of `fsq` as many as so many items need. Codebooks of small
    catalogues are smaller: no code has fewer than 8 items on average."""
    collisions: Literal["reassign", "suffix", "keep"] = "reassign"
    """Items of the same nearest codes: `reassign` gives them other last codes, at least cost; `suffix` adds a code that
    counts them; `keep` lets them share an ID."""
    crowding: float | None = Field(default=1.2, ge=1)
    """Most items of a code of `rqkmeans`, in shares of an even spread; null: no limit."""
    warm_start: bool = True
    """Begin a new fit of `rqkmeans` with the last codebooks of the same space and sizes, so that codes keep their
    meaning."""
    seed: int = 0
    """Random seed of the fit."""


def choose_space(pipeline: Pipeline, stage: str | None = None) -> str:
    """Choose the space to code: a behaviour space that is fitted, else the first one of texts, else the first one.

    Args:
        stage: only spaces before this stage count.

    Raises:
        ColdstartError: the pipeline has no space.
    """
    before = pipeline.stages if stage is None else pipeline.earlier(stage)
    spaces = [spec for spec in before if spec.kind in SPACES]
    for spec in spaces:
        if spec.kind == "behaviour" and _is_fitted(pipeline, spec.name):
            return spec.name
    embedded = [spec for spec in spaces if spec.kind == "embed"]
    texts = [spec.name for spec in embedded if spec.settings.input == "text"]
    if found := texts or [spec.name for spec in embedded]:
        return found[0]
    raise ColdstartError(f"{pipeline.source} has no space to code: put a stage of kind embed before semantic IDs")


def _is_fitted(pipeline: Pipeline, space: str) -> bool:
    fits = [spec.name for spec in pipeline.earlier(space) if spec.kind == "align.behaviour"]
    wanted = pipeline.stage(space).settings.fit or (fits[-1] if fits else None)
    return wanted is not None and pipeline.fitted(wanted) is not None


def with_sids(
    pipeline: Pipeline,
    *,
    space: str | None = None,
    method: str | None = None,
    levels: Sequence[int] | None = None,
    collisions: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Add `align.sids` and `sids` to a pipeline where it lacks them: its raw settings, and overrides of them.

    The space is written down, so that a later fit of behaviour does not move all IDs at the next run.
    """
    raw = dict(pipeline.raw)
    given: dict[str, Any] = {"space": space, "method": method, "collisions": collisions}
    given = {name: value for name, value in given.items() if value is not None}
    if levels is not None:
        given["levels"] = list(levels)
    names = [spec.name for spec in pipeline.of_kind(FIT)]
    overrides: list[str] = []
    if not names:
        raw = with_stage(raw, OWN, FIT, {"space": choose_space(pipeline), **given})
    else:
        overrides = [f"{names[-1]}.{name}={_as_yaml(value)}" for name, value in given.items()]
        if space is None and pipeline.stage(names[-1]).settings.space is None:
            overrides.append(f"{names[-1]}.space={choose_space(pipeline, names[-1])}")
    if not pipeline.of_kind(IDS):
        raw = with_stage(raw, IDS, IDS, {})
    return raw, overrides


def _as_yaml(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)

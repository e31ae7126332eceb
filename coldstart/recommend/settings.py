"""Settings of `align.behaviour`: their part in its key, and their way into a pipeline. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import as_mapping, with_stage
from coldstart.recommend.inputs import FIT, SPACE

if TYPE_CHECKING:
    from coldstart.recommend.model.selection import SelectionSettings

OWN = "liking"
"""Name of a fit stage added after a group `align` that stands before a requested space."""


class Settings(Section):
    """Settings of a behaviour fit: inputs, candidate mappers, evaluation; see `SelectionSettings`."""

    spaces: tuple[str, ...] | None = None
    """Embed stages before this one whose vectors are the items' content; by default all of them."""
    until: datetime | None = None
    """End of the training window: interactions from then on are not read. UTC where no zone is given."""
    candidates: dict[str, dict[str, Any]] | None = None
    """Label -> settings of a mapper: `{knn: {}, wide: {mapper: ridge, kernel: 2000}}`. A list of values stands for one
    candidate each. By default kernel, knn, contrastive and dropoutnet with the losses of ALDI."""
    blend: bool = True
    """Also try a weighted sum of the candidates."""
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Weight of each space and of `labels`, or of the labels of one field, such as `labels.category`,
    `labels.tag` and `labels.attributes.year`; by default every space and field has one, selected on the held-out
    items."""
    power: float | None = Field(default=None, ge=0, le=0.5)
    """Strength of whitening of all spaces, 0 for none; by default selected for each on the held-out items."""
    labels: bool = True
    """Use category, tags and attributes of the record, too."""
    count_attributes: bool = False
    """Also learn from attributes that count interactions, such as a number of ratings, which a new item lacks."""
    teacher: Literal["als", "bpr", "pure_svd"] = "als"
    """Collaborative filtering whose vectors mappers are fitted to."""
    dim: int = Field(default=64, ge=2)
    """Dimensions of the teacher's vectors. The behaviour space has those of the selected mapper, and one more."""
    warm_min: int = Field(default=5, ge=1)
    """Users from which on an item is warm: its own interactions then correct its vector."""
    min_weight: float | None = None
    """Least weight of an interaction that counts as a like; by default 0.7 of the scale where the weights are ratings
    (3.5 of 5), else any weight above 0."""
    valid_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the items that each fold holds out as cold."""
    folds: int = Field(default=2, ge=1)
    """Number of folds, each with other held-out items."""
    near_duplicates: float | None = Field(default=0.98, gt=0, le=1)
    """Hold out items together from this mean cosine over their spaces on; null holds out each item alone."""
    max_delta: float = Field(default=0.3, ge=0)
    """Largest correction of a warm item's vector by its own interactions, as a share of the vector's length."""
    calibrate: bool = True
    """Calibrate the scores of cold items to the mean and spread of warm ones."""
    min_items: int = Field(default=20, ge=4)
    """Least number of warm items: with fewer the stage waits."""
    min_users: int = Field(default=20, ge=2)
    """Least number of users with a like: with fewer the stage waits."""
    seed: int = 0
    """Random seed of folds and fits."""
    budget_s: float = Field(default=600.0, gt=0)
    """Most processor seconds of a fit, as estimated from the numbers of items, users and likes, so that the same data
    give the same fit however busy the machine is: fewer weights and mappers are tried where they do not fit in."""

    @property
    def until_s(self) -> int | None:
        """End of the training window in seconds since 1970, or None."""
        if self.until is None:
            return None
        until = self.until if self.until.tzinfo else self.until.replace(tzinfo=UTC)
        return int(until.timestamp())

    def selection(self) -> SelectionSettings:
        """Extract the settings of model selection."""
        from coldstart.recommend.model.selection import SelectionSettings

        given = {one.name: getattr(self, one.name) for one in fields(SelectionSettings)}
        if given["candidates"] is None:
            del given["candidates"]
        return SelectionSettings(**given)

    def counted(self) -> dict[str, Any]:
        """List the settings that enter the key of a fit, besides its spaces."""
        left_out = {"spaces", "until", "min_items", "min_users"}
        if self.budget_s == Settings.model_fields["budget_s"].default:
            left_out.add("budget_s")  # fits of earlier versions, which had none, keep their key
        if not self.count_attributes:
            left_out.add("count_attributes")
        return {**self.model_dump(mode="json", exclude=left_out), "until_s": self.until_s}


def with_behaviour(pipeline: Pipeline, spaces: Sequence[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Add `align.behaviour` and its space to a pipeline where it lacks them: its raw settings, and overrides of them.

    Args:
        spaces: the embed stages to fit on; by default the stage's own, for a new one all before it.
    """
    raw = dict(pipeline.raw)
    given = {} if spaces is None else {"spaces": list(spaces)}
    names = [spec.name for spec in pipeline.of_kind(FIT)]
    if not names:
        raw = _with_fit(raw, pipeline, given)
        overrides = []
    else:
        overrides = [f"{name}.spaces=[{', '.join(spaces)}]" for name in names if spaces is not None]
    if not pipeline.of_kind(SPACE):
        raw = with_stage(raw, SPACE, SPACE, {})
    return raw, overrides


def _with_fit(raw: dict[str, Any], pipeline: Pipeline, given: dict[str, Any]) -> dict[str, Any]:
    """Add the fit to the group `align`, or as a stage of its own where that group stands before a requested space."""
    align = (as_mapping(raw.get("stages")) or {}).get("align")
    if align is None:
        return with_stage(raw, "align", "align", {"text_image": False, "behaviour": given})
    names = [spec.name for spec in pipeline.stages]
    parts = [place for place, name in enumerate(names) if name.startswith("align.")]
    late = [space for space in given.get("spaces", ()) if space in names[max(parts, default=0) :]]
    if late:
        return with_stage(raw, OWN, FIT, given)
    return with_stage(raw, "align", "align", {"behaviour": given})

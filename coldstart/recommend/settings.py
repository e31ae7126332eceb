"""Settings of `align.behaviour`, and which of them make another fit. Importing it imports no torch.

A pipeline with `align.behaviour` and its space: settings changed where it has them, and else these added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.settings import mapping, with_stage
from coldstart.recommend.inputs import FIT, SPACE

if TYPE_CHECKING:
    from coldstart.recommend.model.selection import SelectionSettings


class Settings(Section):
    """What is learnt from, what is tried, and how it is judged; see `coldstart.recommend.model.selection.SelectionSettings`."""

    spaces: tuple[str, ...] | None = None
    """Embed stages before this one that say what an item is; by default all of them."""
    until: datetime | None = None
    """End of the training window: interactions from then on are not read. In UTC where no zone is given."""
    candidates: dict[str, dict[str, Any]] | None = None
    """Label -> settings of a mapper: `{knn: {}, wide: {mapper: ridge, kernel: 2000}}`. A list of values stands for one
    candidate each. By default a few that are quick and good."""
    blend: bool = True
    """Whether a weighted sum of candidates may win too."""
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """How much each space counts, `labels` among them; by default found on the held-out items."""
    power: float | None = Field(default=None, ge=0, le=0.5)
    """How far spaces are whitened, 0 not at all; by default found on the held-out items."""
    labels: bool = True
    """Whether category, tags and attributes of the record count as a space of their own."""
    teacher: Literal["als", "bpr", "pure_svd"] = "als"
    """What turns interactions into vectors, for mappers that learn from such."""
    dim: int = Field(default=64, ge=2)
    """Numbers of the teacher's vectors. The space itself has as many as the mapper that wins, and one more."""
    warm_min: int = Field(default=5, ge=1)
    """Users that an item needs to be warm: then its own interactions correct its vector."""
    min_weight: float | None = None
    """An interaction of at least this weight speaks for its item; by default any weight above 0."""
    valid_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the items that each fold holds out as if nobody had met them."""
    folds: int = Field(default=2, ge=1)
    """How often that is done, each time with other items."""
    near_duplicates: float | None = Field(default=0.98, gt=0, le=1)
    """Items whose content has at least this cosine over all spaces are held out together; null compares none."""
    max_delta: float = Field(default=0.3, ge=0)
    """How far, as a share of its length, a warm item's vector may go from what its content says."""
    calibrate: bool = True
    """Bring the scores of cold items to the mean and spread of the warm ones'."""
    min_items: int = Field(default=20, ge=4)
    """Fewer warm items are too few to choose by: the stage waits until there are more."""
    min_users: int = Field(default=20, ge=2)
    """So are fewer users who liked an item."""
    seed: int = 0

    @property
    def until_s(self) -> int | None:
        """`until` in seconds since 1970."""
        if self.until is None:
            return None
        until = self.until if self.until.tzinfo else self.until.replace(tzinfo=UTC)
        return int(until.timestamp())

    def choice(self) -> SelectionSettings:
        """What of it is the choice among mappers."""
        from coldstart.recommend.model.selection import SelectionSettings

        given = {one.name: getattr(self, one.name) for one in fields(SelectionSettings)}
        if given["candidates"] is None:
            del given["candidates"]
        return SelectionSettings(**given)

    def counted(self) -> dict[str, Any]:
        """The settings that make another fit, besides the spaces it learns from."""
        return {
            **self.model_dump(mode="json", exclude={"spaces", "until", "min_items", "min_users"}),
            "until_s": self.until_s,
        }


OWN = "liking"
"""Name of the fit where the pipeline's `align` stands too early for it."""


def with_behaviour(pipeline: Pipeline, spaces: Sequence[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Settings as plain data, and overrides of them, by which content is brought to behaviour.

    Args:
        spaces: the embed stages to learn from; by default the stage's own, for a new one all that stand before it.
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
    """With the fit as a part of the group `align`; where that stands before one of the wanted spaces, on its own."""
    align = (mapping(raw.get("stages")) or {}).get("align")
    if align is None:
        return with_stage(raw, "align", "align", {"text_image": False, "behaviour": given})
    names = [spec.name for spec in pipeline.stages]
    parts = [place for place, name in enumerate(names) if name.startswith("align.")]
    late = [space for space in given.get("spaces", ()) if space in names[max(parts, default=0) :]]
    if late:
        return with_stage(raw, OWN, FIT, given)
    return with_stage(raw, "align", "align", {"behaviour": given})

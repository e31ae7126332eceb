"""Build a stage again in another process, on this machine or another, from plain settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coldstart.core import pipeline as pipelines
from coldstart.core.pipeline import Pipeline
from coldstart.core.stage import CatalogStage, MapStage, Reject
from coldstart.store import Store
from coldstart.store.fits import with_fits
from coldstart.store.freshness import PipelineState, build


@dataclass(frozen=True)
class Recipe:
    """One stage of a pipeline over a workspace; picklable.

    Attributes:
        uri: workspace, which the other process must reach under the same name.
        settings: settings of the whole pipeline, as in `Pipeline.raw`.
        stage: name of the stage.
    """

    uri: str
    settings: Mapping[str, Any]
    stage: str

    @classmethod
    def of(cls, workspace: Store, pipeline: Pipeline, stage: str) -> Recipe:
        """Make the recipe of one stage of `pipeline`."""
        settings, roots = dict(pipeline.raw), pipeline.media.limits()["roots"]
        if roots is not None:  # those that this user gave before as well, which another machine does not know
            settings["media"] = {**(settings.get("media") or {}), "roots": list(roots)}
        return cls(workspace.uri if workspace.folder is None else str(workspace.folder), settings, stage)

    def build(self, **engine: Any) -> MapStage | CatalogStage:
        """Build the stage, its weights not yet loaded.

        Args:
            engine: settings of the engine that differ here, such as `device`.
        """
        pipeline = self.pipeline(**engine)
        return build(pipeline.stage(self.stage), pipeline)

    def pipeline(self, **engine: Any) -> Pipeline:
        """Build the whole pipeline over the workspace."""
        settings = {**self.settings, "engine": {**(self.settings.get("engine") or {}), **engine}}
        return with_fits(pipelines.load(settings), self.store())

    def pipeline_state(self, view: Store, blocked: Mapping[str, Mapping[str, Reject]] | None = None) -> PipelineState:
        """Compute the state of the pipeline's items in one view of the workspace, given the items that gates block."""
        return PipelineState(view, self.pipeline(), blocked=blocked)

    def store(self) -> Store:
        """Open the workspace."""
        return Store(self.uri)

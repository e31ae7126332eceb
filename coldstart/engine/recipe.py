"""How another process, on this machine or another, builds the stage that is being run: plain settings, no model."""

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
        uri: of the workspace, which the other process must reach under the same name.
        settings: of the whole pipeline, as `Pipeline.raw` keeps them.
        stage: the name of the stage.
    """

    uri: str
    settings: Mapping[str, Any]
    stage: str

    @classmethod
    def of(cls, workspace: Store, pipeline: Pipeline, stage: str) -> Recipe:
        """The recipe of one stage of `pipeline`."""
        return cls(workspace.uri if workspace.folder is None else str(workspace.folder), dict(pipeline.raw), stage)

    def build(self, **engine: Any) -> MapStage | CatalogStage:
        """The stage, its weights not yet loaded.

        Args:
            engine: settings of the engine that are another's here, such as `device`.
        """
        pipeline = self.pipeline(**engine)
        return build(pipeline.stage(self.stage), pipeline)

    def pipeline(self, **engine: Any) -> Pipeline:
        """The whole pipeline, over the workspace."""
        settings = {**self.settings, "engine": {**(self.settings.get("engine") or {}), **engine}}
        return with_fits(pipelines.load(settings), self.store())

    def pipeline_state(self, view: Store, blocked: Mapping[str, Mapping[str, Reject]] | None = None) -> PipelineState:
        """Where the pipeline's items are, as one view of the workspace has it, given what gates close."""
        return PipelineState(view, self.pipeline(), blocked=blocked)

    def store(self) -> Store:
        """The workspace."""
        return Store(self.uri)

"""The stage `understand.shots`: find the shots of an item's first video, and one frame for each distinct one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from coldstart.core.keys import version
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.media.limits import Limits
from coldstart.media.video_loaders import MAX_FPS, LoadShotFrames, ShotFrames
from coldstart.store import Store
from coldstart.understand.shot_detectors import SceneDetect, TransNet
from coldstart.understand.shot_loader import FindShots, shot_row
from coldstart.understand.shots import ShotDetector


class Settings(Section):
    """Settings of shot detection."""

    detector: Literal["scenedetect", "transnetv2"] = "scenedetect"
    """Detector of cuts: PySceneDetect, or the network TransNet V2, which needs the extra `transnet` and, on two
    CPU cores, about two seconds for a second of video."""
    max_s: float = Field(default=600.0, gt=0)
    """Seconds of each video that are read; what lies beyond has no shots. `watched_s` of a row states how far."""
    max_frames: int = Field(default=32, ge=1, le=1000)
    """Frames that represent a video, at most; the longest shots come first."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> ShotsStage:
    return ShotsStage(name, settings, pipeline)


class ShotsStage(MapStageDefaults):
    """Map stage; see `coldstart.core.stage.MapStage`. Its cost is the number of frames; without a video: filtered.

    In a row, `shots` are in order of time, without gaps. `group` is the place in `frame_times_s`, which rises and has
    one frame for all shots that look alike; it is null for shots that found no room among `max_frames`.
    """

    kind = "understand.shots"
    item_fields = ("media.video",)
    batch_cost = 9000.0
    isolated = True
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("row_key", pa.string()),
            (
                "shots",
                pa.list_(
                    pa.struct(
                        [
                            ("start_s", pa.float64()),
                            ("end_s", pa.float64()),
                            ("frame_s", pa.float64()),
                            ("group", pa.int32()),
                        ]
                    )
                ),
            ),
            ("frame_times_s", pa.list_(pa.float64())),
            ("watched_s", pa.float64()),
        ]
    )

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self.settings = settings
        self._device = pipeline.engine.device
        self._limits = Limits(**pipeline.media.limits())
        self.deadline_s = self._limits.deadline_along(settings.max_s)
        self.on_device = settings.detector == "transnetv2"

    @cached_property
    def detector(self) -> ShotDetector:
        """Build the detector of cuts; its weights are not loaded yet."""
        return TransNet(self._device) if self.settings.detector == "transnetv2" else SceneDetect()

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "max_s": self.settings.max_s,
            "max_frames": self.settings.max_frames,
            "max_fps": MAX_FPS,
            "av": version("av"),
            "detector": dict(self.detector.identity()),
        }

    def preparer(self) -> Prepare:
        load = LoadShotFrames(self._limits, self.settings.max_s)
        if isinstance(self.detector, SceneDetect):  # cheap beside decoding, and its row is small beside the frames
            return FindShots(load, self.detector, self.settings.max_frames)
        return load

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        return [
            shot_row(self.detector, self.settings.max_frames, watched) if isinstance(watched, ShotFrames) else watched
            for watched in batch
        ]

    def notes(self, workspace: Store) -> list[str]:
        if not workspace.has(self.table):
            return []
        cut = workspace.read(self.table, ["item_id"], where=f"watched_s >= {self.settings.max_s}")
        if not len(cut):
            return []
        return [f"{len(cut)} videos were watched for their first {self.settings.max_s:g} s alone (max_s)"]

"""The stage `understand.fingerprint`: compute fingerprints of each item's video or pictures.

A frame has a few hundred bytes. Cheap beside all encoders: copies are found before any model sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import Field

from coldstart.core.item_fields import PICTURES
from coldstart.core.keys import version
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.media.limits import Limits
from coldstart.understand.fingerprint_loader import LoadFingerprints
from coldstart.understand.local_features import opencv_version


class Settings(Section):
    """Settings of fingerprints."""

    fps: float = Field(default=4.0, gt=0, le=30)
    """Fingerprinted frames a second; fewer miss copies that run faster or start elsewhere."""
    max_s: float = Field(default=180.0, gt=0)
    """Seconds of a video that are read; what comes later is not compared."""
    pictures: int = Field(default=4, ge=1)
    """Pictures that are fingerprinted of an item without a video, at most."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> FingerprintStage:
    return FingerprintStage(name, settings, Limits(**pipeline.media.limits()))


class FingerprintStage(MapStageDefaults):
    """Map stage; see `coldstart.core.stage.MapStage`. A picture of one colour has a row, with a quality near 0."""

    kind = "understand.fingerprint"
    version = 2  # 2: what a border encloses is a view of its own
    item_fields = PICTURES
    batch_cost = 5000.0
    isolated = True
    on_device = False
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("row_key", pa.string()),
            ("media", pa.string()),
            ("times_s", pa.list_(pa.float64())),
            ("hashes", pa.list_(pa.binary())),
            ("quality", pa.list_(pa.float32())),
            ("screen", pa.binary()),
            ("boxes", pa.list_(pa.binary())),  # null where no picture has a border, and in rows of version 1
            ("screen_boxes", pa.binary()),
            ("details", pa.list_(pa.binary())),  # local features; null without OpenCV, and in rows of version 1
            ("details_s", pa.list_(pa.float64())),
        ]
    )

    def __init__(self, name: str, settings: Settings, limits: Limits) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self._settings = settings
        self._limits = limits
        self.deadline_s = limits.deadline_along(settings.max_s)

    def fingerprint(self) -> Mapping[str, Any]:
        libraries = {package: version(package) for package in ("av", "numpy", "pillow")}
        limits = {"max_pixels": self._limits.max_pixels, "min_side": self._limits.min_side}
        libraries["opencv"] = opencv_version() or ""
        return {**self._settings.model_dump(), **limits, "max_duration_s": self._limits.max_duration_s, **libraries}

    def preparer(self) -> Prepare:
        return LoadFingerprints(self._limits, self._settings.fps, self._settings.max_s, self._settings.pictures)

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        return list(batch)

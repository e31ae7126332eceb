"""The stage `understand.quality`: measure an item's first video or its pictures, and gate items by thresholds.

The measures are stored and the thresholds applied to them, so that another threshold opens or closes the gate without
reading media again. Measures need no training. All are taken of pictures at most `LONGEST` pixels long, so that one
threshold serves all sizes; lost by that is fine blur in large pictures. None of them knows what is shown: night is
dark, fog has little contrast, and a plain wall is not sharp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator, Field

from coldstart.core.item_fields import PICTURES
from coldstart.core.keys import version
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.media.container import check_sound_track
from coldstart.media.limits import Limits
from coldstart.media.loaders import FRAMES, HEARD_S, LONGEST, LoadQualitySample
from coldstart.store import Store
from coldstart.understand.quality_measures import MeasureQuality

_MEASURES = (
    *(("width", pa.int32()), ("height", pa.int32())),
    *(("sharpness", pa.float64()), ("brightness", pa.float64()), ("contrast", pa.float64())),
    *(("black_share", pa.float64()), ("frozen_share", pa.float64())),
    *(("has_audio", pa.bool_()), ("loudness_db", pa.float64())),
)


class Settings(Section):
    """Settings of quality measures, and thresholds beyond which an item is closed; None closes nothing."""

    pictures: int = Field(default=4, ge=1)
    """Pictures of an item that are measured, at most."""
    min_side: int | None = Field(default=None, ge=1)
    """Least pixels of the shorter side of the video, or of the largest picture."""
    min_sharpness: float | None = Field(default=None, ge=0)
    """Least variance of the Laplacian at 256 pixels; `benchmarks/shots.py` shows what blur does to it."""
    min_brightness: float | None = Field(default=None, ge=0, le=1)
    """Least mean brightness, from 0, black, to 1, white."""
    max_brightness: float | None = Field(default=None, ge=0, le=1)
    """Largest mean brightness: closes washed-out pictures."""
    min_contrast: float | None = Field(default=None, ge=0, le=0.5)
    """Least standard deviation of brightness; 0 is a plain colour."""
    max_black_share: float | None = Field(default=0.99, ge=0, le=1)
    """Largest share of black frames; by default only a video that is black from end to end is closed."""
    max_frozen_share: float | None = Field(default=None, ge=0, le=1)
    """Largest share of frames that equal the one before; 0.99 closes a video that never moves, as a photo with a voice
    over it."""
    need_audio: bool = False
    """Close videos without sound."""
    sound_track: Annotated[str | int | None, AfterValidator(check_sound_track)] = None
    """Sound track that is heard of a file with several: the code of its language by ISO 639-2, such as `deu`, or its
    number from 1 on. A file without it is heard as by default: the track that is marked as default, as players do."""
    min_loudness_db: float | None = Field(default=None, le=0)
    """Least level of the first 20 seconds of a video's sound, in decibels under full scale; -120 is digital silence."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> QualityStage:
    return QualityStage(name, settings, pipeline)


class QualityStage(MapStageDefaults):
    """Map stage and gate; see `coldstart.core.stage.MapStage` and `Gate`. Its cost is the number of pictures.

    A measure is null where it has no meaning: sharpness of a black video, `frozen_share` and sound of pictures.
    """

    kind = "understand.quality"
    item_fields = PICTURES
    batch_cost = 256.0
    isolated = True
    on_device = False
    schema = pa.schema([("item_id", pa.string()), ("row_key", pa.string()), *_MEASURES])

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self.settings = settings
        self._limits = Limits(**pipeline.media.limits())
        self.deadline_s = self._limits.deadline_s

    def fingerprint(self) -> Mapping[str, Any]:
        versions = {name: version(name) for name in ("av", "pillow", "opencv-python-headless")}
        looked = {"frames": FRAMES, "longest": LONGEST, "heard_s": HEARD_S}
        track = self.settings.sound_track
        heard = {} if track is None else {"sound_track": track}
        return {"pictures": self.settings.pictures, **looked, **versions, **heard}

    def preparer(self) -> Prepare:
        return MeasureQuality(LoadQualitySample(self._limits, self.settings.pictures, self.settings.sound_track))

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        return list(batch)

    def blocked(self, workspace: Store) -> dict[str, Reject]:
        """List items whose measures miss a threshold, each with the first one missed, in the order of `Settings`."""
        if not workspace.has(self.table):
            return {}
        rows = workspace.read(self.table, ["item_id", *(name for name, _ in _MEASURES)]).to_pylist()
        found = {row["item_id"]: self._verdict(row) for row in rows}
        return {item: verdict for item, verdict in found.items() if verdict is not None}

    def _verdict(self, row: Row) -> Reject | None:
        asked = self.settings
        side = min(row["width"], row["height"])
        checks: list[tuple[str, str, float | None, float | None, Callable[[float, float], bool]]] = [
            ("low_resolution", "shorter side", side, asked.min_side, _under),
            ("too_blurry", "sharpness", row["sharpness"], asked.min_sharpness, _under),
            ("too_dark", "brightness", row["brightness"], asked.min_brightness, _under),
            ("too_bright", "brightness", row["brightness"], asked.max_brightness, _over),
            ("low_contrast", "contrast", row["contrast"], asked.min_contrast, _under),
            ("black", "share of black frames", row["black_share"], asked.max_black_share, _over),
            ("frozen", "share of frames equal to the one before", row["frozen_share"], asked.max_frozen_share, _over),
            ("no_audio", "sound", row["has_audio"], 1 if asked.need_audio else None, _under),
            ("silent", "loudness in dB", row["loudness_db"], asked.min_loudness_db, _under),
        ]
        for reason, measure, value, limit, misses in checks:
            if value is None or limit is None or not misses(value, limit):
                continue
            if reason == "no_audio":
                return Reject(reason, "the video has no sound, the pipeline asks for some", state="filtered")
            bound = "at least" if misses is _under else "at most"
            detail = f"{measure} {value:.4g}, the pipeline asks for {bound} {limit:g}"
            return Reject(reason, detail, state="filtered")
        return None


def _under(value: float, limit: float) -> bool:
    return value < limit


def _over(value: float, limit: float) -> bool:
    return value > limit

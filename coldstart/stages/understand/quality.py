"""understand.quality: measures of an item's first video or its pictures, and a gate over them.

The measures are stored; the thresholds only judge them. So an item that was turned away comes back with another
threshold, and its media are not looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import pyarrow as pa
from pydantic import Field

from coldstart.media.limits import Limits
from coldstart.media.look import FRAMES, HEARD_S, LONGEST, Glimpse, LoadGlimpse
from coldstart.perception.quality import frozen_share, look, loudness_db
from coldstart.pipeline import Pipeline, Section
from coldstart.stage import Prepare, Reject, Row
from coldstart.workspace import Store

_MEASURES = (
    *(("width", pa.int32()), ("height", pa.int32())),
    *(("sharpness", pa.float64()), ("brightness", pa.float64()), ("contrast", pa.float64())),
    *(("black_share", pa.float64()), ("frozen_share", pa.float64())),
    *(("has_audio", pa.bool_()), ("loudness_db", pa.float64())),
)


class Settings(Section):
    """What is looked at, and from where on an item goes no further. None lets everything pass."""

    pictures: int = Field(default=4, ge=1)
    """At most so many pictures of an item are looked at."""
    min_side: int | None = Field(default=None, ge=1)
    """Pixels of the shorter side of the video, or of the largest picture."""
    min_sharpness: float | None = Field(default=None, ge=0)
    """Variance of the Laplacian at 256 pixels; `benchmarks/shots.py` shows what blur does to it."""
    min_brightness: float | None = Field(default=None, ge=0, le=1)
    """Mean brightness from 0, black, to 1, white."""
    max_brightness: float | None = Field(default=None, ge=0, le=1)
    """The same from above: washed-out pictures."""
    min_contrast: float | None = Field(default=None, ge=0, le=0.5)
    """Standard deviation of brightness; 0 is a plain colour."""
    max_black_share: float | None = Field(default=0.99, ge=0, le=1)
    """Share of black frames; by default only a video that is black from end to end is turned away."""
    max_frozen_share: float | None = Field(default=None, ge=0, le=1)
    """Share of frames that equal the one before; 0.99 turns away a video that never moves, such as a photo with a voice
    over it."""
    need_audio: bool = False
    """Turn away videos without sound."""
    min_loudness_db: float | None = Field(default=None, le=0)
    """Level of the first 20 seconds of a video's sound, in decibels under full scale; -120 is digital silence."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> QualityStage:
    return QualityStage(name, settings, pipeline)


class QualityStage:
    """Map stage and gate; see `coldstart.stage.MapStage` and `Gate`. Its cost is the number of pictures.

    A measure is null where it has no meaning: sharpness of a black video, `frozen_share` and sound of pictures.
    """

    kind = "understand.quality"
    version = 1
    reads: Mapping[str, str] = {}
    key_column = "row_key"
    batch_cost = 256.0
    isolated = True
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
        return {"pictures": self.settings.pictures, **looked, **versions}

    def preparer(self) -> Prepare:
        return LoadGlimpse(self._limits, self.settings.pictures)

    def compute(self, batch: Sequence[Glimpse]) -> list[Row | Reject]:
        return [
            {
                "width": glimpse.width,
                "height": glimpse.height,
                **asdict(look(glimpse.images)),
                "frozen_share": frozen_share(glimpse.times_s, glimpse.images) if glimpse.times_s else None,
                "has_audio": glimpse.has_audio,
                "loudness_db": loudness_db(glimpse.samples) if glimpse.samples is not None else None,
            }
            for glimpse in batch
        ]

    def closed(self, workspace: Store) -> dict[str, Reject]:
        """Items whose measures miss a threshold, each with the first that it misses, in the order of `Settings`."""
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

    def notes(self, workspace: Store) -> list[str]:
        return []


def _under(value: float, limit: float) -> bool:
    return value < limit


def _over(value: float, limit: float) -> bool:
    return value > limit

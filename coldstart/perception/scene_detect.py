"""Cuts by PySceneDetect's AdaptiveDetector, fed with our own frames, five a second.

It compares the change of hue, saturation and brightness from one frame to the next with the changes around it. Between
frames a fifth of a second apart a short fade is as plain as a cut, and most motion is even; at full rate the same
detector misses nearly every fade. The frame of the cut is then found among those between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import numpy as np

from coldstart.perception.shots import Frames, Shot, Times, shots_between

_TICKS = 1_000_000  # PySceneDetect counts time in whole ticks: microseconds
_NOMINAL_FPS = 25.0  # it asks for a rate; with ticks, and lengths in seconds, no result depends on it
_ROUNDING_S = 1e-3


@dataclass(frozen=True)
class SceneDetect:
    """See `coldstart.perception.shots.ShotDetector`.

    Attributes:
        ratio: how many times larger than the mean of its neighbours a change must be.
        change: mean change of hue, saturation and brightness, of 255, below which nothing is a cut.
        window: neighbours on each side; cuts within so many looks of either end of the video are not seen.
        every_s: seconds between two looks.
        shortest_s: cuts that follow one sooner are passed over.
    """

    ratio: float = 2.2
    change: float = 15.0
    window: int = 3
    every_s: float = 0.2
    shortest_s: float = 0.3

    def identity(self) -> Mapping[str, Any]:
        versions = {name: version(name) for name in ("scenedetect-headless", "opencv-python-headless")}
        return {"method": "scenedetect", **asdict(self), **versions}

    def detect(self, times_s: Times, frames: Frames) -> list[Shot]:
        # Here, because it takes half a second.
        from scenedetect import FrameTimecode
        from scenedetect.common import Timecode
        from scenedetect.detectors import AdaptiveDetector

        detector = AdaptiveDetector(
            adaptive_threshold=self.ratio,
            min_content_val=self.change,
            window_width=self.window,
            min_scene_len=self.shortest_s,
        )
        looks = self._looks(times_s)
        found: set[int] = set()
        by_tick: dict[int, int] = {}
        for number, place in enumerate(looks):
            tick = round(float(times_s[place]) * _TICKS)
            by_tick[tick] = number
            code = FrameTimecode(Timecode(tick, Fraction(1, _TICKS)), fps=_NOMINAL_FPS)
            cuts = detector.process_frame(code, np.ascontiguousarray(frames[place, :, :, ::-1]))
            found.update(by_tick[round(cut.seconds * _TICKS)] for cut in cuts)
        spans = [(looks[number - 1], looks[number]) for number in sorted(found) if number > 0]
        return shots_between(times_s, [_largest_step(frames, *span) for span in spans])

    def _looks(self, times_s: Times) -> list[int]:
        """Indices of the frames that are looked at: the first, then each that comes `every_s` after the last."""
        looks: list[int] = []
        due_s = -np.inf
        for place, time_s in enumerate(times_s):
            if time_s >= due_s:
                looks.append(place)
                due_s = time_s + self.every_s - _ROUNDING_S
        return looks


def _largest_step(frames: Frames, before: int, after: int) -> int:
    """The frame in `before + 1` to `after` that differs most from the one before it."""
    steps = np.abs(np.diff(frames[before : after + 1].astype(np.int16), axis=0)).sum(axis=(1, 2, 3), dtype=np.int64)
    return before + 1 + int(steps.argmax())

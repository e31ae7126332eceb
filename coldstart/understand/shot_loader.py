"""Find the shots of one item's video in a worker process: imports no Arrow and no store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from coldstart.core.stage import Row
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.resize import Pixels
from coldstart.media.video_loaders import CollectShotFrames, LoadShotFrames, ShotFrames
from coldstart.understand.shots import ShotDetector, end_of, summarise


@dataclass(frozen=True)
class FindShots:
    """Load frames of an item's first video and find its shots; the cost is the number of frames."""

    load: LoadShotFrames
    detector: ShotDetector
    max_frames: int

    def __call__(self, row: Row) -> tuple[Row, float]:
        watched, cost = self.load(row)
        return shot_row(self.detector, self.max_frames, watched), cost

    def collector(self, row: Row) -> CollectShots | None:
        """Return a collector of the frames of the item's first video; see `coldstart.media.one_pass`."""
        frames = self.load.collector(row)
        return None if frames is None else CollectShots(self, frames)


class CollectShots:
    """Collector that finds shots after the last frame; see `coldstart.media.one_pass.Collector`."""

    def __init__(self, find: FindShots, frames: CollectShotFrames) -> None:
        self.limits: Limits = frames.limits
        self.max_s = frames.max_s
        self._find, self._frames = find, frames

    def begin(self, duration_s: float) -> None:
        self._frames.begin(duration_s)

    def add(self, time_s: float, until_s: float, read: Callable[[ImageTransform], Pixels]) -> None:
        self._frames.add(time_s, until_s, read)

    def result(self, path: Path) -> tuple[Row, float]:
        watched, cost = self._frames.result(path)
        return shot_row(self._find.detector, self._find.max_frames, watched), cost


def shot_row(detector: ShotDetector, max_frames: int, watched: ShotFrames) -> Row:
    """Detect and summarise shots: the columns of a row of `understand.shots`."""
    shots = detector.detect(watched.times_s, watched.frames)
    summary = summarise(watched.times_s, watched.frames, shots, max_frames)
    return {
        "shots": [asdict(shot) for shot in summary.shots],
        "frame_times_s": summary.frame_times_s,
        "watched_s": end_of(watched.times_s),
    }

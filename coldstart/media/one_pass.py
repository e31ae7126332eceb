"""Decode a video once for several stages: each collects the frames that it takes, as it would alone.

A preparer takes part by its method `collector`. What cannot be had in one pass (a frame past a wrong end of the video,
a file that breaks off) is left to the preparer alone, so that rows are the same either way. Workers import this module:
it needs neither torch nor Arrow nor the store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from coldstart.core.stage import Prepare, Row
from coldstart.media.container import open_video
from coldstart.media.guard import media_of_role, open_medium
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.resize import Pixels
from coldstart.media.video import SAME_S, frame_lasts_s
from coldstart.media.video_loaders import FrameRate, walk_open

Read = Callable[[ImageTransform], Pixels]
"""Reader of one decoded frame: uint8 [H, W, 3], as shown and through the transform."""


class Collector(Protocol):
    """Collector of the frames of one video for one stage.

    Attributes:
        limits: of the media.
        max_s: frames that start later are not taken; infinite for a collector that needs frames to the end and for
            which no more of a long video is decoded than for the others: alone it seeks.
    """

    limits: Limits
    max_s: float

    def begin(self, duration_s: float) -> None:
        """Prepare for a video of this length in seconds, as its header states it."""

    def add(self, time_s: float, until_s: float, read: Read) -> None:
        """Take a frame, or pass over it: `time_s` is its start, `until_s` that of the next one, or its own end."""

    def result(self, path: Path) -> tuple[Any, float] | None:
        """Return data and cost as the preparer does, after the last frame; None where the preparer must do it alone."""


@dataclass(frozen=True)
class SharedData:
    """Data of the stage that a pass was made for, and, by the names of other stages, their data and costs."""

    data: Any
    others: Mapping[str, tuple[Any, float]]


@dataclass(frozen=True)
class OnePass:
    """Prepare an item for one stage, and on the way for others; `first` and `others` are their preparers."""

    first: Prepare
    others: Mapping[str, Prepare] = field(default_factory=dict)

    def __call__(self, row: Row) -> tuple[SharedData, float]:
        try:
            found = self._together(row)
        except Exception:  # whatever is wrong, the preparers say it each for itself
            found = {}
        own = found.pop("", None)
        data, cost = own or self.first(row)
        return SharedData(data, found), cost

    def _together(self, row: Row) -> dict[str, tuple[Any, float]]:
        """Decode the first video of an item once; results by name, that of `first` under ""."""
        wanted = {"": self.first, **self.others}
        made = {name: collector_of(prepare, row) for name, prepare in wanted.items()}
        collectors = {name: collector for name, collector in made.items() if collector is not None}
        videos = media_of_role(row, "video")
        if not videos or len(collectors) < 2:
            return {}
        limits = next(iter(collectors.values())).limits
        found = {}
        with open_medium(videos[0], limits) as path:
            decode_together(path, limits, list(collectors.values()))
            for name, collector in collectors.items():
                result = collector.result(path)
                if result is not None:
                    found[name] = result
        return found


def collector_of(prepare: Prepare, row: Row) -> Collector | None:
    """Return the collector of a preparer for an item; None where it takes no part in a pass."""
    make: Callable[[Row], Collector | None] | None = getattr(prepare, "collector", None)
    return make(row) if make is not None else None


def decode_together(path: Path, limits: Limits, collectors: Sequence[Collector], threads: int = 1) -> None:
    """Decode a video from its start and hand each frame to every collector.

    Raises:
        Reject: as `coldstart.media.video_loaders.walk_decoded`.
    """
    with open_video(path, limits, threads) as video:
        for collector in collectors:
            collector.begin(video.duration_s)
        ends_s = [collector.max_s for collector in collectors if math.isfinite(collector.max_s)]
        end_s = max(ends_s, default=math.inf)
        before: tuple[float, Read] | None = None
        last = None
        for time_s, frame, read in walk_open(video, FrameRate(None), math.inf):
            if before is not None:
                _hand_over(collectors, before, time_s)
            before, last = (time_s, read), frame
            if time_s > end_s:
                return
        if before is not None:
            _hand_over(collectors, before, before[0] + frame_lasts_s(video, last) + SAME_S)


def _hand_over(collectors: Sequence[Collector], frame: tuple[float, Read], until_s: float) -> None:
    time_s, read = frame
    for collector in collectors:
        if time_s <= collector.max_s:
            collector.add(time_s, until_s, read)

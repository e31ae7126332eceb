"""All of a video at 48 x 27 pixels, for whatever looks at it from beginning to end. Workers import this module."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.medium import of_role, open_medium
from coldstart.media.walk import walk_frames
from coldstart.stage import Reject, Row

MAX_FPS = 30.0
"""Of faster videos only so many frames a second are kept: twice as many tell nothing more about shots."""
_SMALL = ImageTransform((27, 48), "squash", "bilinear")


@dataclass(frozen=True)
class Watched:
    """`times_s`: float64 [T], seconds, rising; `frames`: uint8 [T, 27, 48, 3], RGB; T is at least 1."""

    times_s: NDArray[np.float64]
    frames: NDArray[np.uint8]


@dataclass(frozen=True)
class WatchVideo:
    """Decodes the first video of an item up to `max_s` seconds; the cost is the number of frames, 4 kB each."""

    limits: Limits
    max_s: float

    def __call__(self, row: Row) -> tuple[Watched, float]:
        videos = of_role(row, "video")
        if not videos:
            raise Reject("no_video", "no medium of role video", state="filtered")
        with open_medium(videos[0], self.limits) as path:
            walk = walk_frames(path, self.limits, _SMALL, fps=MAX_FPS, max_s=self.max_s)
            times_s, frames = zip(*walk, strict=True)
        return Watched(np.array(times_s), np.stack(frames)), float(len(times_s))

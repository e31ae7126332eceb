"""What a model sees of an item, decoded in a worker: its pictures, or frames of its video.

Workers import this module: it needs neither torch nor Arrow nor the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.medium import open_medium, seen
from coldstart.media.video import frames_at, sample_frames
from coldstart.stage import Row


@dataclass(frozen=True)
class Pictures:
    """What the model sees of one item: uint8 [H, W, 3] arrays, and for a video the second of each."""

    images: list[NDArray[np.uint8]]
    times_s: list[float] | None


def spread(times_s: Sequence[float], count: int) -> list[float]:
    """At most `count` of the times, spread evenly over their places, the first and last among them."""
    if len(times_s) <= count:
        return list(times_s)
    return [times_s[round(place)] for place in np.linspace(0, len(times_s) - 1, count)]


@dataclass(frozen=True)
class LoadPictures:
    """Decodes frames of the first video of an item, or its pictures; the cost is their number.

    `shots` takes the frames that stand for the shots in `row["shots"]`, spread evenly over them where there are more
    than `frames`; a video whose shots are not known is sampled as by `uniform`.
    """

    transform: ImageTransform
    limits: Limits
    frames: int
    frame_policy: Literal["uniform", "keyframe", "shots"]
    pictures: int

    def __call__(self, row: Row) -> tuple[Pictures, float]:
        media = seen(row, self.pictures)
        if media[0]["role"] == "video":
            pictures = self._frames(media[0], (row.get("shots") or {}).get("frame_times_s"))
        else:
            pictures = Pictures([self._image(entry) for entry in media], None)
        return pictures, float(len(pictures.images))

    def _frames(self, entry: Mapping[str, Any], shots_s: Sequence[float] | None) -> Pictures:
        with open_medium(entry, self.limits) as path:
            if self.frame_policy == "shots" and shots_s:
                found = frames_at(path, self.limits, self.transform, spread(shots_s, self.frames))
            else:
                policy = "uniform" if self.frame_policy == "shots" else self.frame_policy
                found = sample_frames(path, self.limits, self.transform, count=self.frames, policy=policy)
            return Pictures(found.images, found.times_s)

    def _image(self, entry: Mapping[str, Any]) -> NDArray[np.uint8]:
        with open_medium(entry, self.limits) as path:
            return load_image(path, self.limits, self.transform)

"""What a model sees of an item, decoded in a worker: its pictures, or frames of its video.

Workers import this module: it needs neither torch nor Arrow nor the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.medium import of_role, open_medium
from coldstart.media.video import sample_frames
from coldstart.stage import Reject, Row


@dataclass(frozen=True)
class Pictures:
    """What the model sees of one item: uint8 [H, W, 3] arrays, and for a video the second of each."""

    images: list[NDArray[np.uint8]]
    times_s: list[float] | None


@dataclass(frozen=True)
class LoadPictures:
    """Decodes frames of the first video of an item, or its pictures; the cost is their number."""

    transform: ImageTransform
    limits: Limits
    frames: int
    frame_policy: Literal["uniform", "keyframe"]
    pictures: int

    def __call__(self, row: Row) -> tuple[Pictures, float]:
        videos, images = of_role(row, "video"), of_role(row, "image")[: self.pictures]
        if videos:
            pictures = self._frames(videos[0])
        elif images:
            pictures = Pictures([self._image(entry) for entry in images], None)
        else:
            raise Reject("no_media", "no image or video", state="filtered")
        return pictures, float(len(pictures.images))

    def _frames(self, entry: Mapping[str, Any]) -> Pictures:
        with open_medium(entry, self.limits) as path:
            found = sample_frames(path, self.limits, self.transform, count=self.frames, policy=self.frame_policy)
            return Pictures(found.images, found.times_s)

    def _image(self, entry: Mapping[str, Any]) -> NDArray[np.uint8]:
        with open_medium(entry, self.limits) as path:
            return load_image(path, self.limits, self.transform)

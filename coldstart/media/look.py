"""A few small pictures of an item, and the start of its sound, to judge their quality. Workers import this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.media.audio import load_audio
from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.medium import open_medium, seen
from coldstart.media.video import sample_frames
from coldstart.stage import Reject, Row

FRAMES = 16
LONGEST = 256
HEARD_S = 20.0
_TRANSFORM = ImageTransform((LONGEST, LONGEST), "longest")


@dataclass(frozen=True)
class Glimpse:
    """Some pictures of one item.

    Attributes:
        width, height: pixels as shown of the video, or of the largest of the pictures.
        images: uint8 [H, W, 3] each, at most `LONGEST` pixels long.
        times_s: when each begins, for a video.
        has_audio: whether the video has sound; None for pictures.
        samples: float32 [N], the first `HEARD_S` seconds of the video's sound, where it can be decoded.
    """

    width: int
    height: int
    images: list[NDArray[np.uint8]]
    times_s: list[float] | None
    has_audio: bool | None
    samples: NDArray[np.float32] | None


@dataclass(frozen=True)
class LoadGlimpse:
    """Decodes frames of the first video of an item, or its pictures; the cost is their number."""

    limits: Limits
    pictures: int

    def __call__(self, row: Row) -> tuple[Glimpse, float]:
        media = seen(row, self.pictures)
        glimpse = self._video(media[0]) if media[0]["role"] == "video" else self._pictures(media)
        return glimpse, float(len(glimpse.images))

    def _video(self, entry: Mapping[str, Any]) -> Glimpse:
        samples = None
        with open_medium(entry, self.limits) as path:
            frames = sample_frames(path, self.limits, _TRANSFORM, FRAMES)
            if entry["has_audio"]:
                try:
                    samples = load_audio(path, self.limits, max_s=HEARD_S).samples
                except Reject:  # its pictures can be judged all the same; understand.speech will say what is wrong
                    samples = None
        return Glimpse(entry["width"], entry["height"], frames.images, frames.times_s, entry["has_audio"], samples)

    def _pictures(self, entries: Sequence[Mapping[str, Any]]) -> Glimpse:
        images = []
        for entry in entries:
            with open_medium(entry, self.limits) as path:
                images.append(load_image(path, self.limits, _TRANSFORM))
        largest = max(entries, key=lambda entry: int(entry["width"]) * int(entry["height"]))
        return Glimpse(largest["width"], largest["height"], images, None, None, None)

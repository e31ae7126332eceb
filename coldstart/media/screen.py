"""The frames of an item in which text is looked for, decoded in a worker: those that differ from the one before.

Workers import this module: it needs neither torch nor Arrow nor the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from coldstart.media.image import ImageTransform, Pixels, load_image
from coldstart.media.limits import Limits
from coldstart.media.medium import open_medium, seen
from coldstart.media.still import change, outline
from coldstart.media.video import probe_video, sample_frames
from coldstart.media.walk import walk_frames
from coldstart.stage import Row

SPARSE_S = 5.0  # frames further apart than this are key frames: nothing of a few seconds is caught either way


@dataclass(frozen=True)
class Screen:
    """What is read of one item.

    Attributes:
        images: uint8 [H, W, 3] each: the pictures, or the frames that differ from the one before.
        times_s: of a video, when each sampled frame starts; None for pictures.
        shown: for each of these times, which of the images is on the screen.
        end_s: until when the last of them is shown.
        step_s: from one sampled frame to the next, about.
    """

    images: list[Pixels]
    times_s: list[float] | None = None
    shown: list[int] = field(default_factory=list)
    end_s: float | None = None
    step_s: float | None = None


@dataclass(frozen=True)
class LoadScreen:
    """Decodes the first video of an item, or its pictures; the cost is the number of images.

    Attributes:
        side: longer side of an image in pixels; none is enlarged.
        fps: frames a second that are sampled.
        max_frames: at most so many; a longer video is sampled at a lower rate, all along its length.
        still: a frame is left out where no block of it has changed by this much (`coldstart.media.still`) since the
            last that was kept.
        pictures: at most so many pictures.
    """

    limits: Limits
    side: int
    fps: float
    max_frames: int
    still: float
    pictures: int

    def __call__(self, row: Row) -> tuple[Screen, float]:
        media = seen(row, self.pictures)
        if media[0]["role"] == "video":
            with open_medium(media[0], self.limits) as path:
                screen = self.frames(path)
        else:
            screen = Screen([self._image(entry) for entry in media])
        return screen, float(len(screen.images))

    @property
    def _transform(self) -> ImageTransform:
        return ImageTransform((self.side, self.side), "longest")

    def _image(self, entry: Mapping[str, Any]) -> Pixels:
        with open_medium(entry, self.limits) as path:
            return load_image(path, self.limits, self._transform)

    def frames(self, path: Path) -> Screen:
        """What is read of a video file."""
        duration_s = probe_video(path, self.limits).duration_s
        step_s = max(1 / self.fps, duration_s / self.max_frames)
        images: list[Pixels] = []
        times_s: list[float] = []
        shown: list[int] = []
        last = None
        for time_s, image in self._sampled(path, step_s):
            if len(times_s) == self.max_frames:  # the header was wrong about the length
                break
            now = outline(image)
            if last is None or change(last, now) >= self.still:
                images.append(image)
                last = now
            times_s.append(time_s)
            shown.append(len(images) - 1)
        end_s = min(times_s[-1] + step_s, max(duration_s, times_s[-1]))
        return Screen(images, times_s, shown, end_s, step_s)

    def _sampled(self, path: Path, step_s: float) -> Iterable[tuple[float, Pixels]]:
        if step_s <= 1 / self.fps:
            return walk_frames(path, self.limits, self._transform, fps=self.fps)
        policy: Literal["keyframe", "uniform"] = "keyframe" if step_s > SPARSE_S else "uniform"
        found = sample_frames(path, self.limits, self._transform, self.max_frames, policy)
        return dict(zip(found.times_s, found.images, strict=True)).items()  # a frame that lasts is sampled once

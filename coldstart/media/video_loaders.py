"""Load frames along a whole video in a worker process: those with new text on screen, or small ones for shot detection.

`walk_frames` decodes a video once from its first frame to its last, or frames at a steady rate; frames that are not
needed are never converted, and decoded only where others refer to them. Times are as in `coldstart.media.video`.
`change` compares two frames by blocks. Workers import this module: it needs no model, no OpenCV, neither torch nor
Arrow nor the store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from PIL import Image

from coldstart.core.stage import Reject, Row
from coldstart.media.container import Video, open_video
from coldstart.media.guard import media_of_role, open_medium, visual_media
from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.resize import Pixels
from coldstart.media.video import SAME_S, frame_pixels, probe_video, sample_frames

SPARSE_S = 5.0  # frames further apart than this are key frames: nothing of a few seconds is caught either way


@dataclass(frozen=True)
class ScreenFrames:
    """Images of one item in which text is looked for.

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
class LoadScreenFrames:
    """Load the pictures of an item, or frames of its first video that differ; the cost is the number of images.

    Attributes:
        side: longer side of an image in pixels; none is enlarged.
        fps: frames a second that are sampled.
        max_frames: at most so many; a longer video is sampled at a lower rate, all along its length.
        still: a frame is left out where no block of it has changed by this much (see `change`) since the
            last one that was loaded.
        pictures: at most so many pictures.
    """

    limits: Limits
    side: int
    fps: float
    max_frames: int
    still: float
    pictures: int

    def __call__(self, row: Row) -> tuple[ScreenFrames, float]:
        media = visual_media(row, self.pictures)
        if media[0]["role"] == "video":
            with open_medium(media[0], self.limits) as path:
                screen = self.frames(path)
        else:
            screen = ScreenFrames([self._image(entry) for entry in media])
        return screen, float(len(screen.images))

    @property
    def _transform(self) -> ImageTransform:
        return ImageTransform((self.side, self.side), "longest")

    def _image(self, entry: Mapping[str, Any]) -> Pixels:
        with open_medium(entry, self.limits) as path:
            return load_image(path, self.limits, self._transform)

    def frames(self, path: Path) -> ScreenFrames:
        """Sample a video file and drop frames without a change."""
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
        return ScreenFrames(images, times_s, shown, end_s, step_s)

    def _sampled(self, path: Path, step_s: float) -> Iterable[tuple[float, Pixels]]:
        if step_s <= 1 / self.fps:
            return walk_frames(path, self.limits, self._transform, fps=self.fps)
        policy: Literal["keyframe", "uniform"] = "keyframe" if step_s > SPARSE_S else "uniform"
        found = sample_frames(path, self.limits, self._transform, self.max_frames, policy)
        return dict(zip(found.times_s, found.images, strict=True)).items()  # a frame that lasts is sampled once


Outline = npt.NDArray[np.int16]
"""int16 [H / 4, W / 4]: mean brightness of blocks of 4 x 4 pixels, 0 to 255."""


_BLOCK = 4  # one stroke of the smallest text that can be read changes a block of this many pixels a side


def outline(image: Pixels) -> Outline:
    """Compute the small grey picture of a frame by which frames are compared; `image` is uint8 [H, W, 3]."""
    grey = Image.fromarray(image).convert("L")
    return np.asarray(grey.reduce(_BLOCK), np.int16)


def change(before: Outline, now: Outline) -> float:
    """Return the largest change of any block between two outlines, 0 to 255; 255 for frames of different sizes."""
    if before.shape != now.shape:
        return 255.0
    return float(np.abs(now - before).max())


def walk_frames(
    path: Path,
    limits: Limits,
    transform: ImageTransform,
    *,
    fps: float | None = None,
    max_s: float = math.inf,
    threads: int = 1,
) -> Iterator[tuple[float, Pixels]]:
    """Decode a video from its start and yield (time in seconds, uint8 [H, W, 3]) in order of time.

    Args, and what is raised: as `walk_decoded`.
    """
    for time_s, read in walk_decoded(path, limits, fps=fps, max_s=max_s, threads=threads):
        yield time_s, read(transform)


def walk_decoded(
    path: Path, limits: Limits, *, fps: float | None = None, max_s: float = math.inf, threads: int = 1
) -> Iterator[tuple[float, Callable[[ImageTransform], Pixels]]]:
    """Decode a video from its start and yield (time in seconds, reader of the frame) in order of time.

    A reader is called before the next frame is asked for, once for each transform.

    Args:
        fps: the first frame at or after each of the times 0, 1/fps, 2/fps, …; None for every frame. A video of a lower
            rate gives each of its frames once.
        max_s: frames that start later are not read.
        threads: codec threads; 1 because many videos are decoded side by side.

    Raises:
        Reject: as `coldstart.media.video.probe_video`; a video whose end is missing is `corrupt_video`, after its
            last frame was given.
    """
    with open_video(path, limits, threads) as video:
        for time_s, _, read in walk_open(video, FrameRate(fps), max_s):
            yield time_s, read


class FrameRate:
    """Choice of frames at a steady rate: the first at or after each of the times 0, 1/fps, 2/fps, …; None for all."""

    def __init__(self, fps: float | None) -> None:
        self.fps = fps
        self.due_s = 0.0

    def takes(self, time_s: float) -> bool:
        """Tell whether a frame is taken; called once for each, in order of time."""
        if self.fps is None:
            return True
        if time_s + SAME_S < self.due_s:
            return False
        self.due_s = (math.floor((time_s + SAME_S) * self.fps) + 1) / self.fps
        return True


def walk_open(
    video: Video, rate: FrameRate, max_s: float
) -> Iterator[tuple[float, Any, Callable[[ImageTransform], Pixels]]]:
    """Decode an open video from its start and yield (time in seconds, PyAV's frame, its reader), as `walk_decoded`."""
    last_s = None
    for frame in video.decoded():
        time_s = video.seconds(frame)
        if time_s > max_s:
            return
        if last_s is not None and time_s <= last_s:
            continue  # damaged clocks run backwards
        last_s = time_s
        if not rate.takes(time_s):
            continue
        if rate.fps is not None:
            video.needed_s = rate.due_s - SAME_S
        yield time_s, frame, partial(frame_pixels, frame, video.pixel_aspect)
    if last_s is None:
        raise Reject("corrupt_video", "not one frame can be decoded")
    if last_s < video.duration_s / 2:  # the header may be wrong about the rest, or the file was cut
        video.real_duration()


MAX_FPS = 30.0
"""Of faster videos only so many frames a second are kept: twice as many tell nothing more about shots."""


_SMALL = ImageTransform((27, 48), "squash", "bilinear")


@dataclass(frozen=True)
class ShotFrames:
    """Frames for a shot detector: `times_s` float64 [T], rising; `frames` uint8 [T, 27, 48, 3], RGB; T at least 1."""

    times_s: NDArray[np.float64]
    frames: NDArray[np.uint8]


@dataclass(frozen=True)
class LoadShotFrames:
    """Load frames of an item's first video for a shot detector; the cost is the number of frames, 4 kB each."""

    limits: Limits
    max_s: float

    def __call__(self, row: Row) -> tuple[ShotFrames, float]:
        videos = media_of_role(row, "video")
        if not videos:
            raise Reject("no_video", "no medium of role video", state="filtered")
        with open_medium(videos[0], self.limits) as path:
            frames = CollectShotFrames(self.limits, self.max_s)
            for time_s, read in walk_decoded(path, self.limits, fps=MAX_FPS, max_s=self.max_s):
                frames.add(time_s, time_s, read)
            return frames.result(path)

    def collector(self, row: Row) -> CollectShotFrames | None:
        """Return a collector of the frames of the item's first video; see `coldstart.media.one_pass`."""
        return CollectShotFrames(self.limits, self.max_s) if media_of_role(row, "video") else None


class CollectShotFrames:
    """Collector of frames for a shot detector; see `coldstart.media.one_pass.Collector`."""

    def __init__(self, limits: Limits, max_s: float) -> None:
        self.limits, self.max_s = limits, max_s
        self._rate = FrameRate(MAX_FPS)
        self._times_s: list[float] = []
        self._frames: list[Pixels] = []

    def begin(self, duration_s: float) -> None:
        """Take any length."""

    def add(self, time_s: float, until_s: float, read: Callable[[ImageTransform], Pixels]) -> None:
        if self._rate.takes(time_s):
            self._times_s.append(time_s)
            self._frames.append(read(_SMALL))

    def result(self, path: Path) -> tuple[ShotFrames, float]:
        return ShotFrames(np.array(self._times_s), np.stack(self._frames)), float(len(self._times_s))

"""All frames of a video from its first to its last, or some of them at a steady rate, in one pass of the decoder.

Times are as in `coldstart.media.video`. Frames that are not asked for are never converted, and decoded only where
others are made of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from coldstart.media.container import open_video
from coldstart.media.frame import frame_pixels
from coldstart.media.image import ImageTransform, Pixels
from coldstart.media.limits import Limits
from coldstart.stage import Reject

_SAME_S = 1e-3  # containers round times to milliseconds


def walk_frames(
    path: Path,
    limits: Limits,
    transform: ImageTransform,
    *,
    fps: float | None = None,
    max_s: float = math.inf,
    threads: int = 1,
) -> Iterator[tuple[float, Pixels]]:
    """(time in seconds, uint8 [H, W, 3]) in order of time.

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
        due_s, last_s = 0.0, None
        for frame in video.decoded():
            time_s = video.seconds(frame)
            if time_s > max_s:
                return
            if last_s is not None and time_s <= last_s:
                continue  # damaged clocks run backwards
            last_s = time_s
            if fps is not None:
                if time_s + _SAME_S < due_s:
                    continue
                due_s = (math.floor((time_s + _SAME_S) * fps) + 1) / fps
                video.needed_s = due_s - _SAME_S
            yield time_s, frame_pixels(frame, video.pixel_aspect, transform)
        if last_s is None:
            raise Reject("corrupt_video", "not one frame can be decoded")
        if last_s < video.duration_s / 2:  # the header may be wrong about the rest, or the file was cut
            video.real_duration()

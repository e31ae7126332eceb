"""Load the fingerprints of one item's media in a worker process. Needs neither torch nor Arrow nor the store."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coldstart.core.stage import Row
from coldstart.media.guard import media_of_role, open_medium, visual_media
from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.resize import Pixels
from coldstart.media.video import SAME_S
from coldstart.media.video_loaders import FrameRate, walk_decoded
from coldstart.understand.candidates import CANDIDATE_RULES, candidate_frames
from coldstart.understand.content_box import READ_SIDE, border_widths, find_box
from coldstart.understand.fingerprint import SIDE, Fingerprints, compute_fingerprints
from coldstart.understand.local_features import LONGEST, compute_local_features, opencv_version

SQUEEZED = ImageTransform((READ_SIDE, READ_SIDE), "squash", "bilinear")
"""Way in which pictures and frames are read, at twice the side that is hashed, so that edges of borders are sharp."""

DETAILED = ImageTransform((LONGEST, LONGEST), "longest", "bilinear")
"""Way in which pictures and frames are read for local features."""

FRAME_STEP_S = 2.0
"""Seconds between the frames of a video whose local features are kept, from its start."""

FRAMES = 8
"""Frames of a video whose local features are kept, at most."""

_AT_ONCE = 64  # frames that are held at the side they are read at


@dataclass(frozen=True)
class LoadFingerprints:
    """Compute fingerprints of an item's first video, or of its pictures; the cost is their number."""

    limits: Limits
    fps: float
    max_s: float
    pictures: int

    def __call__(self, row: Row) -> tuple[Row, float]:
        media = visual_media(row, self.pictures)
        if media[0]["role"] == "video":
            frames = CollectFingerprints(self.limits, self.fps, self.max_s)
            with open_medium(media[0], self.limits) as path:
                for time_s, read in walk_decoded(path, self.limits, fps=self.fps, max_s=self.max_s):
                    frames.add(time_s, time_s, read)
                return frames.result(path)
        pictures, features = [], []
        for entry in media:
            with open_medium(entry, self.limits) as path:
                pictures.append(load_image(path, self.limits, SQUEEZED))
                if opencv_version():
                    features.append(compute_local_features(load_image(path, self.limits, DETAILED)).to_bytes())
        row = _row("image", None, Fingerprints.joined([hash_picture(one) for one in pictures]))
        return {**row, "details": features or None, "details_s": None}, float(len(pictures))

    def collector(self, row: Row) -> CollectFingerprints | None:
        """Return a collector of the frames of the item's first video; see `coldstart.media.one_pass`."""
        return CollectFingerprints(self.limits, self.fps, self.max_s) if media_of_role(row, "video") else None


class CollectFingerprints:
    """Collector of the fingerprints of one video; see `coldstart.media.one_pass.Collector`.

    Its border is that of all frames together, so they are kept until the last, at 27 kB each.
    """

    def __init__(self, limits: Limits, fps: float, max_s: float) -> None:
        self.limits, self.max_s = limits, max_s
        self._rate = FrameRate(fps)
        self._details_due_s = 0.0 if opencv_version() else math.inf
        self._times_s: list[float] = []
        self._details: list[tuple[float, bytes]] = []
        self._read: list[Pixels] = []  # the last ones, at the side they are read at
        self._small: list[NDArray[np.uint8]] = []
        self._widths: list[NDArray[np.float64]] = []

    def begin(self, duration_s: float) -> None:
        """Take any length."""

    def add(self, time_s: float, until_s: float, read: Callable[[ImageTransform], Pixels]) -> None:
        if not self._rate.takes(time_s):
            return
        if time_s + SAME_S >= self._details_due_s and len(self._details) < FRAMES:
            self._details.append((time_s, compute_local_features(read(DETAILED)).to_bytes()))
            self._details_due_s += FRAME_STEP_S
        self._times_s.append(time_s)
        self._read.append(read(SQUEEZED))
        if len(self._read) == _AT_ONCE:
            self._shrink()

    def _shrink(self) -> None:
        if self._read:
            pixels = np.stack(self._read)
            self._small.append(_halved(pixels))
            self._widths.append(border_widths(pixels))
            self._read = []

    def result(self, path: Path) -> tuple[Row, float]:
        self._shrink()
        box = find_box(np.concatenate(self._widths))
        row = _row("video", self._times_s, Fingerprints.joined([compute_fingerprints(one, box) for one in self._small]))
        row["details"] = [features for _, features in self._details] or None
        row["details_s"] = [time_s for time_s, _ in self._details] or None
        return row, float(len(self._times_s))


def hash_picture(pixels: Pixels) -> Fingerprints:
    """Compute the fingerprint of a picture that was read by `SQUEEZED`."""
    return compute_fingerprints(_halved(pixels[None]), find_box(border_widths(pixels[None])))


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink pictures [N, READ_SIDE, READ_SIDE, 3] to [N, SIDE, SIDE, 3], bilinearly, as they were read."""
    halved = [Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for picture in pixels]
    return np.stack([np.asarray(picture) for picture in halved])


def _row(media: str, times_s: list[float] | None, whole: Fingerprints) -> Row:
    times = None if times_s is None else np.array(times_s)
    rule = CANDIDATE_RULES[media]
    screen = candidate_frames(whole, times, rule).astype("<u8")
    return {
        "media": media,
        "times_s": times_s,
        "hashes": whole.to_bytes(),
        "boxes": whole.boxes_to_bytes() if whole.boxed.any() else None,
        "quality": whole.quality.tolist(),
        "screen": screen[:, : rule.plain].tobytes(),
        "screen_boxes": screen[:, rule.plain :].tobytes() if whole.boxed.any() else None,
    }

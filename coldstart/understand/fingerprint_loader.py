"""Load the fingerprints of one item's media in a worker process. Needs neither torch nor Arrow nor the store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coldstart.core.stage import Row
from coldstart.media.guard import open_medium, visual_media
from coldstart.media.image import ImageTransform, Pixels, load_image
from coldstart.media.limits import Limits
from coldstart.media.video import SAME_S
from coldstart.media.video_loaders import walk_decoded
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
            with open_medium(media[0], self.limits) as path:
                details: list[tuple[float, bytes]] = []
                times_s, found = _hashed(self._frames(path, details))
            row = _row("video", times_s, found)
            row["details"] = [features for _, features in details] if details else None
            row["details_s"] = [time_s for time_s, _ in details] if details else None
            return row, float(len(times_s))
        pictures, features = [], []
        for entry in media:
            with open_medium(entry, self.limits) as path:
                pictures.append(load_image(path, self.limits, SQUEEZED))
                if opencv_version():
                    features.append(compute_local_features(load_image(path, self.limits, DETAILED)).to_bytes())
        row = _row("image", None, Fingerprints.joined([hash_picture(one) for one in pictures]))
        return {**row, "details": features or None, "details_s": None}, float(len(pictures))

    def _frames(self, path: Path, details: list[tuple[float, bytes]]) -> Iterator[tuple[float, Pixels]]:
        """Read the frames of a video, and add local features of some to `details` on the way."""
        due_s = 0.0 if opencv_version() else math.inf
        for time_s, read in walk_decoded(path, self.limits, fps=self.fps, max_s=self.max_s):
            if time_s + SAME_S >= due_s and len(details) < FRAMES:
                details.append((time_s, compute_local_features(read(DETAILED)).to_bytes()))
                due_s += FRAME_STEP_S
            yield time_s, read(SQUEEZED)


def hash_picture(pixels: Pixels) -> Fingerprints:
    """Compute the fingerprint of a picture that was read by `SQUEEZED`."""
    return compute_fingerprints(_halved(pixels[None]), find_box(border_widths(pixels[None])))


def _hashed(frames: Iterable[tuple[float, Pixels]]) -> tuple[list[float], Fingerprints]:
    """Hash a video; its border is that of all frames together, so they are kept until the last, at 27 kB each."""
    times_s: list[float] = []
    small, widths = [], []
    for part in _parts(iter(frames)):
        times_s += [time_s for time_s, _ in part]
        pixels = np.stack([pixels for _, pixels in part])
        small.append(_halved(pixels))
        widths.append(border_widths(pixels))
    box = find_box(np.concatenate(widths))
    return times_s, Fingerprints.joined([compute_fingerprints(part, box) for part in small])


def _parts(frames: Iterator[tuple[float, Pixels]]) -> Iterator[list[tuple[float, Pixels]]]:
    while part := list(islice(frames, _AT_ONCE)):
        yield part


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

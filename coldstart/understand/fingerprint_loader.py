"""Load the fingerprints of one item's media in a worker process. Needs neither torch nor Arrow nor the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from coldstart.core.stage import Row
from coldstart.media.guard import open_medium, visual_media
from coldstart.media.image import ImageTransform, Pixels, load_image
from coldstart.media.limits import Limits
from coldstart.media.video_loaders import walk_frames
from coldstart.understand.fingerprint import SIDE, Fingerprints, compute_fingerprints
from coldstart.understand.near_duplicates import CANDIDATE_RULES, candidate_frames

_SQUEEZED = ImageTransform((SIDE, SIDE), "squash", "bilinear")
_AT_ONCE = 64  # frames that are hashed together: more would hold a long video in memory


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
                walk = walk_frames(path, self.limits, _SQUEEZED, fps=self.fps, max_s=self.max_s)
                times_s, found = _hashed(walk)
            return _row("video", times_s, found), float(len(times_s))
        pixels = []
        for entry in media:
            with open_medium(entry, self.limits) as path:
                pixels.append(load_image(path, self.limits, _SQUEEZED))
        return _row("image", None, [compute_fingerprints(np.stack(pixels))]), float(len(pixels))


def _hashed(frames: Iterable[tuple[float, Pixels]]) -> tuple[list[float], list[Fingerprints]]:
    times_s: list[float] = []
    waiting: list[Pixels] = []
    found: list[Fingerprints] = []
    for time_s, pixels in frames:
        times_s.append(time_s)
        waiting.append(pixels)
        if len(waiting) == _AT_ONCE:
            found.append(compute_fingerprints(np.stack(waiting)))
            waiting = []
    if waiting:
        found.append(compute_fingerprints(np.stack(waiting)))
    return times_s, found


def _row(media: str, times_s: list[float] | None, found: Sequence[Fingerprints]) -> Row:
    whole = Fingerprints.joined(found)
    times = None if times_s is None else np.array(times_s)
    return {
        "media": media,
        "times_s": times_s,
        "hashes": whole.to_bytes(),
        "quality": whole.quality.tolist(),
        "screen": candidate_frames(whole, times, CANDIDATE_RULES[media]).astype("<u8").tobytes(),
    }

"""Frames that are not needed may be skipped; those that are needed stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coldstart import sample
from coldstart.media.container import Video
from coldstart.media.image import ImageTransform
from coldstart.media.limits import Limits
from coldstart.media.video import frames_at
from coldstart.media.video_loaders import walk_frames

SMALL = ImageTransform((27, 48), "squash", "bilinear")
CLIP = sample.path() / "videos" / "clip-17.mp4"
TIMES_S = [0.0, 0.3, 1.7, 1.75, 4.0, 6.1]


def read(path: Path) -> tuple[list[float], np.ndarray]:
    found = frames_at(path, Limits(), SMALL, TIMES_S)
    walked = list(walk_frames(path, Limits(), SMALL, fps=2.0))
    times_s = found.times_s + [time_s for time_s, _ in walked]
    return times_s, np.stack([*found.images, *[pixels for _, pixels in walked]])


def test_frames_that_are_asked_for_do_not_depend_on_those_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    spared = []
    kept = Video._spared
    monkeypatch.setattr(Video, "_spared", lambda self, packet: spared.append(kept(self, packet)) or spared[-1])
    times_s, pixels = read(CLIP)
    assert any(spared)
    monkeypatch.setattr(Video, "_spared", lambda self, packet: False)
    every_s, every = read(CLIP)
    assert times_s == every_s
    np.testing.assert_array_equal(pixels, every)

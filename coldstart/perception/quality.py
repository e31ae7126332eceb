"""How good a picture or the pictures of a video are, by measures that need no training.

All are taken of pictures that are at most `LONGEST` pixels long, so that one threshold serves all sizes; what is lost
by that is fine blur in large pictures. None of them knows what is shown: night is dark, fog has little contrast, and a
plain wall is not sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

LONGEST = 256
_BLACK = 0.1  # of 1: coded black is up to 0.06, and noise lies on it
_BLACK_PART = 0.99  # of the pixels: a logo in a corner, or a word, is not black
_FROZEN = 0.3  # of 255; see `frozen_share`
_SILENCE_DB = -120.0


@dataclass(frozen=True)
class Look:
    """Measures of some pictures, each the mean over them but for `sharpness`, which is the median.

    Attributes:
        sharpness: variance of the Laplacian of the brightness in 0 to 255, over the pictures that are not black; None
            where all are.
        brightness: 0 (black) to 1 (white).
        contrast: standard deviation of the brightness in 0 to 1, at most 0.5.
        black_share: share of the pictures that are black.
    """

    sharpness: float | None
    brightness: float
    contrast: float
    black_share: float


def look(pictures: Sequence[Pixels]) -> Look:
    """Measure pictures, each uint8 [H, W, 3], RGB, at least one."""
    lights = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    black = [bool((light < _BLACK * 255).mean() >= _BLACK_PART) for light in lights]
    sharp = [sharpness(light) for light, dark in zip(lights, black, strict=True) if not dark]
    return Look(
        sharpness=float(np.median(sharp)) if sharp else None,
        brightness=float(np.mean([light.mean() for light in lights])) / 255,
        contrast=float(np.mean([light.std() for light in lights])) / 255,
        black_share=float(np.mean(black)),
    )


def sharpness(light: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of brightness, uint8 [H, W].

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000, who compare it with others.
    """
    return float(cv2.Laplacian(light, cv2.CV_64F).var())


def frozen_share(times_s: Sequence[float], pictures: Sequence[Pixels]) -> float | None:
    """Share of consecutive pictures that are equal but for traces of coding.

    A slide show stands still most of the time but not always, so only a share of one is a frozen video. Measured with
    16 pictures: a coded still photo has 1.0 (H.264, also with some noise) or 0.93 (MPEG-4, VP8: a step at a key
    frame), a talk over slides 0.93, a quiet classroom 0.8, and 64 of 70 real clips nothing.

    Args:
        times_s: when each picture begins; one that is given twice, because it is on screen at two times, counts once.
        pictures: uint8 [H, W, 3] in order of time, all of one size.

    Returns:
        None where there are fewer than two different times, which is no evidence either way.
    """
    kept = [place for place, time_s in enumerate(times_s) if place == 0 or time_s > times_s[place - 1]]
    if len(kept) < 2:
        return None
    steps = [
        float(np.abs(pictures[after].astype(np.int16) - pictures[before]).mean()) for before, after in pairwise(kept)
    ]
    return float(np.mean([step <= _FROZEN for step in steps]))


def loudness_db(samples: NDArray[np.float32]) -> float:
    """Level of sound, float32 [N] in -1 to 1, as decibels under full scale (root mean square); at least -120."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(_SILENCE_DB, 10 * float(np.log10(power))) if power > 0 else _SILENCE_DB

"""Measure the quality of an item's pictures and sound, in a worker process: imports no Arrow and no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from coldstart.core.stage import Row
from coldstart.media.guard import media_of_role
from coldstart.media.image import ImageTransform, at_one_size
from coldstart.media.limits import Limits
from coldstart.media.loaders import FRAMES, QUALITY_TRANSFORM, LoadQualitySample, QualitySample
from coldstart.media.video import SAME_S, middles

Pixels = NDArray[np.uint8]


_BLACK = 0.1  # of 1: coded black is up to 0.06, and noise lies on it

_BLACK_PART = 0.99  # of the pixels: a logo in a corner, or a word, is not black

_FROZEN = 0.3  # of 255; see `frozen_share`

_SILENCE_DB = -120.0


@dataclass(frozen=True)
class QualityMeasures:
    """Measures of an item's pictures: the mean over them, but the median for `sharpness`.

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


def measure_quality(pictures: Sequence[Pixels]) -> QualityMeasures:
    """Measure pictures, each uint8 [H, W, 3], RGB, at least one."""
    lights = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    black = [bool((light < _BLACK * 255).mean() >= _BLACK_PART) for light in lights]
    sharp = [sharpness(light) for light, dark in zip(lights, black, strict=True) if not dark]
    return QualityMeasures(
        sharpness=float(np.median(sharp)) if sharp else None,
        brightness=float(np.mean([light.mean() for light in lights])) / 255,
        contrast=float(np.mean([light.std() for light in lights])) / 255,
        black_share=float(np.mean(black)),
    )


def sharpness(light: NDArray[np.uint8]) -> float:
    """Compute the variance of the Laplacian of brightness, uint8 [H, W].

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000, who compare it with others.
    """
    return float(cv2.Laplacian(light, cv2.CV_64F).var())


def frozen_share(times_s: Sequence[float], pictures: Sequence[Pixels]) -> float | None:
    """Compute the share of consecutive pictures that are equal but for traces of coding.

    A slide show stands still most of the time but not always, so only a share of one is a frozen video. Measured with
    16 pictures: a coded still photo has 1.0 (H.264, also with some noise) or 0.93 (MPEG-4, VP8: a step at a key
    frame), a talk over slides 0.93, a quiet classroom 0.8, and 64 of 70 real clips nothing.

    Args:
        times_s: when each picture begins; one that is given twice, because it is on screen at two times, counts once.
        pictures: uint8 [H, W, 3] in order of time; those of another size than the first are brought to it.

    Returns:
        None where there are fewer than two different times, which is no evidence either way.
    """
    kept = [place for place, time_s in enumerate(times_s) if place == 0 or time_s > times_s[place - 1]]
    if len(kept) < 2:
        return None
    frames = at_one_size([pictures[place] for place in kept])
    steps = [float(np.abs(after.astype(np.int16) - before).mean()) for before, after in pairwise(frames)]
    return float(np.mean([step <= _FROZEN for step in steps]))


def loudness_db(samples: NDArray[np.float32]) -> float:
    """Compute the level of sound, float32 [N], in decibels of full scale (root mean square), at least -120."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(_SILENCE_DB, 10 * float(np.log10(power))) if power > 0 else _SILENCE_DB


@dataclass(frozen=True)
class MeasureQuality:
    """Measure an item's first video or its pictures, as `load` decodes them; the cost is their number."""

    load: LoadQualitySample

    def __call__(self, row: Row) -> tuple[Row, float]:
        sample, cost = self.load(row)
        return quality_row(sample), cost

    def collector(self, row: Row) -> CollectQuality | None:
        """Return a collector of the frames of the item's first video; see `coldstart.media.one_pass`."""
        return CollectQuality(self.load, row) if media_of_role(row, "video") else None


class CollectQuality:
    """Collector of the frames on screen at even times; see `coldstart.media.one_pass.Collector`."""

    def __init__(self, load: LoadQualitySample, row: Row) -> None:
        self.limits: Limits = load.limits
        self.max_s = float("inf")
        self._load = load
        self._entry = media_of_role(row, "video")[0]
        self._wanted_s: list[float] = []
        self._times_s: list[float] = []
        self._images: list[Pixels] = []

    def begin(self, duration_s: float) -> None:
        self._wanted_s = middles(duration_s, FRAMES)

    def add(self, time_s: float, until_s: float, read: Callable[[ImageTransform], Pixels]) -> None:
        image = None
        while len(self._images) < FRAMES and self._wanted_s[len(self._images)] + SAME_S < until_s:
            image = read(QUALITY_TRANSFORM) if image is None else image
            self._times_s.append(time_s)
            self._images.append(image)

    def result(self, path: Path) -> tuple[Row, float] | None:
        if len(self._images) < FRAMES:
            return None  # it ends before its header says so
        sample = self._load.video_sample(self._entry, path, self._images, self._times_s)
        return quality_row(sample), float(FRAMES)


def quality_row(sample: QualitySample) -> Row:
    """Measure a sample: the columns of a row of `understand.quality`."""
    return {
        "width": sample.width,
        "height": sample.height,
        **asdict(measure_quality(sample.images)),
        "frozen_share": frozen_share(sample.times_s, sample.images) if sample.times_s else None,
        "has_audio": sample.has_audio,
        "loudness_db": loudness_db(sample.samples) if sample.samples is not None else None,
    }

"""Compute local features of a picture: corners with their descriptors, by which a part of it is known again.

A hash of the whole picture is lost where the picture is turned, set into another or cut by much; corners stay. They are
ORB's (Rublee and others, "ORB: an efficient alternative to SIFT or SURF", 2011; OpenCV's `cv2.ORB`) on the picture at
one size, spread over its parts and over fine and coarse scales, so that a picture shown small has its share. A small
copy of the picture is kept beside them, since corners alone take one print on two shirts for one picture. Needs OpenCV,
which the extra `video` brings. Knows nothing of items, videos or tables.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.keys import version

LONGEST = 256
"""Pixels of the longer side at which corners are searched for."""

FEATURES = 128
"""Corners that are kept of a picture, at most."""

DETAIL_THUMB = 32
"""Height and width of the small picture."""

OCTAVE = 1.2
"""Factor of size between neighbouring scales, of which there are `OCTAVES`."""

OCTAVES = 8

_SEARCHED = 1000  # corners that are chosen from
_GRID = 5  # parts of height and of width that corners are spread over
_COARSE = 3  # scales from this on are filled by themselves: a picture shown at 60 % has lost the finer ones
_POINT = 128.0  # stored units a pixel
_RECORD = np.dtype([("x", "<u2"), ("y", "<u2"), ("octave", "u1"), ("angle", "u1"), ("bits", "u1", (32,))])
_HEAD = np.dtype([("width", "<u2"), ("height", "<u2"), ("thumb", "u1", (DETAIL_THUMB, DETAIL_THUMB, 3))])
MOST_BYTES = _HEAD.itemsize + FEATURES * _RECORD.itemsize
"""Length of a picture's features as bytes, at most."""


@dataclass(frozen=True)
class LocalFeatures:
    """Corners of one picture, M of them, the strongest of each part and scale first.

    Attributes:
        size: width and height in pixels of the picture in which `points` lie; the longer one is `LONGEST`.
        points: float32 [M, 2], x and y in pixels.
        octaves: int8 [M], 0 the finest; angles: uint8 [M], 256 a full turn.
        bits: uint8 [M, 32], the descriptors.
        thumb: uint8 [DETAIL_THUMB, DETAIL_THUMB, 3], RGB, the picture squeezed to a square.
    """

    size: tuple[int, int]
    points: NDArray[np.float32]
    octaves: NDArray[np.int8]
    angles: NDArray[np.uint8]
    bits: NDArray[np.uint8]
    thumb: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        """Encode as bytes: size, small picture, then a record of 38 bytes a corner."""
        head, rows = np.zeros((), _HEAD), np.zeros(len(self.points), _RECORD)
        head["width"], head["height"], head["thumb"] = *self.size, self.thumb
        rows["x"], rows["y"] = np.rint(np.clip(self.points, 0, LONGEST) * _POINT).astype(np.uint16).T
        rows["octave"], rows["angle"], rows["bits"] = self.octaves, self.angles, self.bits
        return head.tobytes() + rows.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> LocalFeatures:
        """Decode what `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no features, or more than `FEATURES` of them.
        """
        if len(data) < _HEAD.itemsize or len(data) > MOST_BYTES or (len(data) - _HEAD.itemsize) % _RECORD.itemsize:
            raise ValueError(f"{len(data)} bytes are no local features: run the stage of fingerprints again")
        head = np.frombuffer(data, _HEAD, 1)[0]
        rows = np.frombuffer(data, _RECORD, offset=_HEAD.itemsize)
        width, height = int(head["width"]), int(head["height"])
        if not 1 <= min(width, height) <= max(width, height) <= LONGEST or (rows["octave"] >= OCTAVES).any():
            raise ValueError("local features with sizes out of bounds: run the stage of fingerprints again")
        points = np.stack([rows["x"], rows["y"]], axis=1).astype(np.float32) / _POINT
        octaves = rows["octave"].astype(np.int8)
        return cls((width, height), points, octaves, rows["angle"].copy(), rows["bits"].copy(), head["thumb"].copy())


def opencv_version() -> str | None:
    """Look up the version of OpenCV; None without it: then there are no local features."""
    for package in ("opencv-python-headless", "opencv-python", "opencv-contrib-python"):
        with suppress(PackageNotFoundError):
            return version(package)
    return None


def compute_local_features(pixels: NDArray[np.uint8]) -> LocalFeatures:
    """Find the corners of a picture, uint8 [H, W, 3], RGB; it is scaled so that its longer side is `LONGEST`."""
    import cv2

    height, width = pixels.shape[:2]
    scale = LONGEST / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    thumb = cv2.resize(pixels, (DETAIL_THUMB, DETAIL_THUMB), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(pixels, size, interpolation=how), cv2.COLOR_RGB2GRAY)
    orb = _orb()
    found = orb.detect(grey, None)
    if found:
        found, bits = orb.compute(grey, [found[place] for place in _spread(found, size)])
    if not found:
        found, bits = (), np.zeros((0, 32), np.uint8)
    points = np.array([corner.pt for corner in found], np.float32).reshape(-1, 2)
    angles = np.rint(np.array([corner.angle for corner in found]) * 256 / 360).astype(np.int64).astype(np.uint8)
    octaves = np.array([corner.octave for corner in found], np.int8)
    return LocalFeatures(size, points, octaves, angles, np.asarray(bits, np.uint8), np.asarray(thumb, np.uint8))


@cache
def _orb() -> Any:
    import cv2

    create = getattr(cv2, "ORB_create")  # noqa: B009  (its stubs lack it)
    return create(
        nfeatures=_SEARCHED, scaleFactor=OCTAVE, nlevels=OCTAVES, edgeThreshold=12, patchSize=31, fastThreshold=8
    )


def _spread(corners: Any, size: tuple[int, int]) -> list[int]:
    """Choose corners so that each part of the picture gives its strongest, fine and coarse, before any its second."""
    strength = np.array([corner.response for corner in corners])
    parts = np.array([corner.pt for corner in corners]) * _GRID // np.array(size)
    coarse = np.array([corner.octave >= _COARSE for corner in corners])
    group = ((parts[:, 1] * _GRID + parts[:, 0]) * 2 + coarse).astype(np.int64)
    order = np.lexsort((-strength, group))
    starts = np.r_[0, np.flatnonzero(np.diff(group[order])) + 1]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return [int(place) for place in np.lexsort((-strength, rank))[:FEATURES]]

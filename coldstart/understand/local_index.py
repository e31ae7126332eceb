"""Index pictures by their local features, so that those which may show a part of a new one are found among many.

Bits of each descriptor are cut into bands of 16; two corners meet if a band of theirs is equal. A meeting names a place
for the one picture within the other (scale, angle and shift); pictures are candidates by how many corners of the new
one agree on a place. Bands that many corners share (straight edges, white ground) tell nothing and are left out. What
stays is a table lookup a band and corner, in segments of a fixed number of pictures, so that what counts as shared by
many does not depend on the size of the catalogue. Takes about 4.8 kB of memory a picture. Knows neither items nor
tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coldstart.understand.local_features import DETAIL_THUMB, FEATURES, OCTAVE, LocalFeatures

_FIRST = 64  # pictures of the smallest segment
_JOINED = 8  # segments that are joined to one
SEGMENT = _FIRST * _JOINED**2
"""Pictures of a full segment."""

_BANDS = 6
_KEYS = 1 << 16
_SHARED = 48  # corners of a segment that may have a band in common
_TURN = 18  # of 256 a full turn: 25 degrees
_SCALES = 6  # octaves by which sizes may differ: three times
_CELL = 64.0  # pixels: places this near agree
_FEWEST = 3  # corners that agree on a place
_NO_THUMB = np.zeros((DETAIL_THUMB, DETAIL_THUMB, 3), np.uint8)
_Picture = tuple[int, LocalFeatures]


@dataclass(frozen=True)
class _Segment:
    """Corners of some pictures, sorted by each band.

    Attributes:
        starts: int32 [bands, keys + 1], where the corners of a key begin in `order`; order: int32 [bands, corners].
        owners: int32 [corners], the picture; angles, octaves: as the features have them.
        middle: float32 [corners, 2], from the corner to the middle of its picture, in pixels.
    """

    starts: NDArray[np.int32]
    order: NDArray[np.int32]
    owners: NDArray[np.int32]
    angles: NDArray[np.uint8]
    octaves: NDArray[np.int8]
    middle: NDArray[np.float16]


class LocalIndex:
    """Index of the pictures so far, by the number that each was added under."""

    def __init__(self) -> None:
        self._waiting: list[_Picture] = []
        self._parts: list[tuple[int, list[_Picture], _Segment]] = []  # the larger ones first

    def add(self, number: int, features: LocalFeatures) -> None:
        """Add a picture under a number, which several pictures (those of one item) may share."""
        if not len(features.points):
            return
        self._waiting.append((number, replace(features, thumb=_NO_THUMB)))
        if len(self._waiting) == _FIRST:
            self._parts.append((_FIRST, self._waiting, _segment(self._waiting)))
            self._waiting = []
            self._merge()

    def find(self, features: LocalFeatures, most: int) -> dict[int, int]:
        """Find pictures that may show a part of this one, or it a part of them: number -> corners that agree."""
        votes: dict[int, int] = {}
        if len(features.points):
            segments = [segment for _, _, segment in self._parts]
            for segment in [*segments, *([_segment(self._waiting)] if self._waiting else [])]:
                for number, count in zip(*_candidates(segment, features, most), strict=True):
                    votes[number] = max(count, votes.get(number, 0))
        return dict(sorted(votes.items(), key=lambda one: (-one[1], one[0]))[:most])

    def _merge(self) -> None:
        """Join as many parts of one size as make the next one; those of a full segment are not joined again."""
        while len(self._parts) >= _JOINED and self._parts[-_JOINED][0] == self._parts[-1][0] < SEGMENT:
            pictures = [picture for _, part, _ in self._parts[-_JOINED:] for picture in part]
            del self._parts[-_JOINED:]
            size = len(pictures)
            self._parts.append((size, pictures if size < SEGMENT else [], _segment(pictures)))


def _keys(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Cut descriptors into bands: int64 [bands, M]."""
    words = np.ascontiguousarray(bits[:, : 2 * _BANDS]).view("<u2")
    return np.asarray(words.T, np.int64)


def _segment(pictures: Sequence[_Picture]) -> _Segment:
    keys = _keys(np.concatenate([features.bits for _, features in pictures]))
    counts = np.stack([np.bincount(band, minlength=_KEYS) for band in keys])
    middle = [np.array(features.size, np.float32) / 2 - features.points for _, features in pictures]
    return _Segment(
        starts=np.concatenate([np.zeros((_BANDS, 1)), np.cumsum(counts, axis=1)], axis=1).astype(np.int32),
        order=np.argsort(keys, axis=1, kind="stable").astype(np.int32),
        owners=np.repeat([number for number, _ in pictures], [len(one.points) for _, one in pictures]).astype(np.int32),
        angles=np.concatenate([features.angles for _, features in pictures]),
        octaves=np.concatenate([features.octaves for _, features in pictures]),
        middle=np.concatenate(middle).astype(np.float16),
    )


def _candidates(segment: _Segment, asked: LocalFeatures, most: int) -> tuple[list[int], list[int]]:
    """Find the pictures of a segment on whose place most corners agree, and how many do."""
    corner, met = _meetings(segment, asked)
    turn = (asked.angles[corner] - segment.angles[met]).view(np.int8).astype(np.float64)
    scale = asked.octaves[corner].astype(np.int64) - segment.octaves[met]
    fits = (np.abs(turn) <= _TURN) & (np.abs(scale) <= _SCALES)
    corner, met, turn, scale = corner[fits], met[fits], turn[fits], scale[fits]
    owners, number = np.unique(segment.owners[met], return_inverse=True)
    often = (np.bincount(number, minlength=len(owners)) >= _FEWEST)[number]
    corner, met, turn, scale, number = corner[often], met[often], turn[often], scale[often], number[often]
    if not len(corner):
        return [], []
    factor, angle = OCTAVE**scale, turn * (2 * np.pi / 256)
    along, across = factor * np.cos(angle), factor * np.sin(angle)
    x, y = segment.middle[met].astype(np.float64).T
    shown = asked.points[corner] + np.stack([along * x - across * y, across * x + along * y], axis=1)
    cells = np.clip(shown / _CELL + 16, 0, 62)
    low = np.floor(cells).astype(np.int64)
    beside = np.where(cells - low < 0.5, -1, 1)  # a place near the edge of a cell also counts in the next one
    keys = []
    for larger in (0, 1):
        for right in (0, 1):
            for down in (0, 1):
                place = np.clip(low + beside * (right, down), 0, 63)
                keys.append(
                    (((number * 16 + scale + 7 + larger) * 64 + place[:, 0]) * 64 + place[:, 1]) * FEATURES + corner
                )
    places, counts = np.unique(np.unique(np.concatenate(keys)) // FEATURES, return_counts=True)
    agreed = np.zeros(len(owners), np.int64)
    np.maximum.at(agreed, places // (16 * 64 * 64), counts)
    best = np.argsort(-agreed, kind="stable")[:most]
    best = best[agreed[best] >= _FEWEST]
    return owners[best].tolist(), agreed[best].tolist()


def _meetings(segment: _Segment, asked: LocalFeatures) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the pairs of a corner asked for and a corner of the segment that have a band in common: both int64 [K]."""
    corners, mets = [], []
    for band, keys in enumerate(_keys(asked.bits)):
        starts = segment.starts[band, keys]
        counts = segment.starts[band, keys + 1] - starts
        counts[counts > _SHARED] = 0
        ends = np.cumsum(counts)
        corners.append(np.repeat(np.arange(len(keys)), counts))
        mets.append(segment.order[band, np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)])
    return np.concatenate(corners), np.concatenate(mets).astype(np.int64)

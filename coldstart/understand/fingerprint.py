"""Compute fingerprints of pictures: 256 bits a view, 8 x 8 colours, and a measure of how much there is to compare.

The bits are the signs of low frequencies of the brightness, as in PDQ (`pdq/cpp/hashing/pdqhashing.cpp` in Facebook's
repository ThreatExchange): rows and columns 1 to 16 of the cosine transform of a picture squeezed to a square. PDQ
compares them with their median; their sign costs nothing in recall and makes the hash of a mirrored picture the same
bits with every other column inverted. PDQ fails on a picture that is cut by 10 % or carries a bar of words, so several
views of each picture are hashed, and what a border encloses. Brightness alone takes a red shirt for the blue one, hence
the colours. Knows nothing of videos or items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.understand.content_box import Box

SIDE = 96
"""Height and width in pixels that pictures are squeezed to before they are hashed."""

CROPS = (0.0, 0.05, 0.1)
"""Share of height and width that a view leaves out, half of it at each side."""

BARS = ((0.0, 0.0), (0.0, 0.18), (0.18, 0.0))
"""Shares of what the crop leaves that a view leaves out at the top and at the bottom."""

VIEWS = [(crop, bar) for bar in BARS for crop in CROPS]
"""(crop, bar) of each hashed view, in the order of the words."""

BOXES = (VIEWS.index((0.0, BARS[0])), VIEWS.index((0.0, BARS[1])))
"""Places in `VIEWS` of the views that are hashed of what a border encloses as well. Their words follow the others;
without a border they are the same as those of the picture."""

_CROPPED = [(0, 0), *(pair for place in range(1, len(CROPS)) for pair in ((0, place), (place, 0)))]
PAIRS = tuple((len(CROPS) * bar + one, len(CROPS) * bar + other) for bar in range(len(BARS)) for one, other in _CROPPED)
"""Places in `VIEWS` that are compared with one another: of two pictures either may be the one that lost its edges."""

BOX_PAIRS = tuple(pair for box, view in enumerate(BOXES, len(VIEWS)) for pair in ((view, box), (box, view), (box, box)))
"""Places of words that are compared where one of two pictures has a border: either may be the one that got it."""

MIN_QUALITY = 10.0
"""Pictures with less in them than this are like no other: their bits are noise."""

THUMB = 8
"""Height and width of the small colour picture."""

_FREQUENCIES = 16
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_WHOLE: Box = ((0.0, 1.0), (0.0, 1.0))
_GRID = 48  # quality is judged on this many cells a side
_STEP = 2.55  # of 255 levels: what PDQ's quality counts a difference of neighbours in
_PER_POINT = 90.0 * (_GRID * (_GRID - 1)) / (64 * 63)  # steps that make one point; PDQ's own 90 are for 64 cells a side

Words = NDArray[np.uint64]
"""uint64 [..., 4]: the 256 bits of one view; word 0 has the frequencies 1 to 8 of both axes."""


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of N pictures, in their order.

    Attributes:
        words: uint64 [N, V + B, 4], the views of `VIEWS` and of `BOXES`.
        thumbs: uint8 [N, 8, 8, 3], RGB.
        quality: float32 [N], 0 (one colour) to 100.
        box_thumbs: uint8 [N, 8, 8, 3], what a border encloses; without one, the picture.
    """

    words: Words
    thumbs: NDArray[np.uint8]
    quality: NDArray[np.float32]
    box_thumbs: NDArray[np.uint8]

    @property
    def boxed(self) -> NDArray[np.bool_]:
        """Tell which pictures have a border, bool [N]."""
        found: NDArray[np.bool_] = (self.words[:, len(VIEWS) :] != self.words[:, BOXES]).any(axis=(1, 2))
        return found

    def to_bytes(self) -> list[bytes]:
        """Encode each picture as bytes: the words, little-endian, then the small picture."""
        pairs = zip(self.words[:, : len(VIEWS)].astype("<u8"), self.thumbs, strict=True)
        return [words.tobytes() + thumb.tobytes() for words, thumb in pairs]

    def boxes_to_bytes(self) -> list[bytes]:
        """Encode what each border encloses in the same way; no bytes without a border."""
        parts = zip(self.words[:, len(VIEWS) :].astype("<u8"), self.box_thumbs, self.boxed, strict=True)
        return [words.tobytes() + thumb.tobytes() if boxed else b"" for words, thumb, boxed in parts]

    @classmethod
    def joined(cls, parts: Sequence[Fingerprints]) -> Fingerprints:
        """Concatenate at least one set of fingerprints."""
        return cls(
            np.concatenate([part.words for part in parts]),
            np.concatenate([part.thumbs for part in parts]),
            np.concatenate([part.quality for part in parts]),
            np.concatenate([part.box_thumbs for part in parts]),
        )

    @classmethod
    def from_bytes(
        cls, texts: Sequence[bytes], quality: Sequence[float], boxes: Sequence[bytes] | None = None
    ) -> Fingerprints:
        """Decode what `to_bytes` and `boxes_to_bytes` wrote; rows of the first version have no boxes."""
        raw = np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), BYTES)
        words = np.ascontiguousarray(raw[:, :_WORD_BYTES]).view("<u8").reshape(len(texts), len(VIEWS), 4)
        thumbs = raw[:, _WORD_BYTES:].reshape(len(texts), THUMB, THUMB, 3)
        words, box_thumbs = _without_border(words.astype(np.uint64)), thumbs.copy()
        for place, box in enumerate(boxes or ()):
            if box:
                words[place, len(VIEWS) :] = np.frombuffer(box, "<u8", 4 * len(BOXES)).reshape(-1, 4)
                box_thumbs[place] = np.frombuffer(box, np.uint8, offset=32 * len(BOXES)).reshape(THUMB, THUMB, 3)
        return cls(words, thumbs, np.asarray(quality, np.float32), box_thumbs)


_WORD_BYTES = len(VIEWS) * 32
BYTES = _WORD_BYTES + THUMB * THUMB * 3
"""Length of one picture's fingerprint."""


def compute_fingerprints(pictures: NDArray[np.uint8], box: Box | None = None) -> Fingerprints:
    """Hash pictures that were squeezed to `SIDE` x `SIDE`: uint8 [N, SIDE, SIDE, 3], RGB.

    Args:
        box: what their border encloses (`coldstart.understand.content_box`). Where there is too little in it, as in a
            black frame between black bars, it is left out.
    """
    brightness = pictures.astype(np.float32) @ _LUMA
    words = _without_border(np.stack([_hashed(brightness, *bases) for bases in _BASES], axis=1))
    thumbs = _shrunk(pictures, _WHOLE)
    cell = SIDE // _GRID
    quality = _quality(brightness.reshape(-1, _GRID, cell, _GRID, cell).mean(axis=(2, 4)))
    box_thumbs = thumbs.copy()
    if box is not None:
        rows, columns = (span_shares(*span, SIDE, _GRID) for span in box)
        filled = _quality(rows @ brightness @ columns.T) >= MIN_QUALITY
        for place, view in enumerate(BOXES, len(VIEWS)):
            spans = [_within(span, part) for span, part in zip(box, view_spans(*VIEWS[view]), strict=True)]
            words[filled, place] = _hashed(brightness[filled], *(_basis(*span) for span in spans))
        box_thumbs[filled] = _shrunk(pictures[filled], box)
    return Fingerprints(words, thumbs, quality, box_thumbs)


def span_shares(start: float, end: float, pixels: int, cells: int) -> NDArray[np.float32]:
    """Compute the share of each pixel of a side in each cell of a span of it (shares of the side): float32 [cells,
    pixels]; rows sum to 1."""
    edges = pixels * np.linspace(start, end, cells + 1)
    places = np.arange(pixels)
    inside = np.clip(np.minimum(places + 1, edges[1:, None]) - np.maximum(places, edges[:-1, None]), 0, 1)
    shares: NDArray[np.float32] = (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def _hashed(brightness: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Words:
    return _packed(rows @ brightness @ columns.T > 0)


def _without_border(words: Words) -> Words:
    """Add the views of `BOXES` to words uint64 [N, V, 4], the same as those of the picture."""
    found: Words = np.concatenate([words, words[:, BOXES]], axis=1)
    return found


def _within(span: tuple[float, float], part: tuple[float, float]) -> tuple[float, float]:
    """Compute a part of a span, in shares of the side that the span is given in."""
    length = span[1] - span[0]
    return span[0] + length * part[0], span[0] + length * part[1]


def _shrunk(pictures: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Shrink a box of pictures [N, SIDE, SIDE, 3] to colours: uint8 [N, 8, 8, 3]."""
    rows, columns = (span_shares(*span, SIDE, THUMB) for span in box)
    means = rows @ pictures.transpose(0, 3, 1, 2).astype(np.float32) @ columns.T
    found: NDArray[np.uint8] = np.rint(means.transpose(0, 2, 3, 1)).astype(np.uint8)
    return found


def mirrored(words: Words) -> Words:
    """Compute the hashes of the same pictures with left and right swapped."""
    turned: Words = words ^ _MIRROR
    return turned


def _basis(start: float, end: float) -> NDArray[np.float32]:
    """Compute cosines over a span of a side (shares of it), float32 [16, SIDE]: a view's transform without a crop."""
    start, end = SIDE * start, SIDE * end
    pixels = np.arange(SIDE)
    inside = np.clip(np.minimum(pixels + 1, end) - np.maximum(pixels, start), 0, 1)  # share of each pixel
    waves = np.cos(np.pi * np.arange(1, _FREQUENCIES + 1)[:, None] * (pixels + 0.5 - start) / (end - start))
    waves *= inside
    waves -= inside * waves.sum(axis=1, keepdims=True) / inside.sum()  # an even brightness must not show
    basis: NDArray[np.float32] = waves.astype(np.float32)
    return basis


def view_spans(crop: float, bar: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (top, bottom) and (left, right) of a view, as shares of the picture's height and width."""
    rest = 1 - crop
    return (crop / 2 + rest * bar[0], 1 - crop / 2 - rest * bar[1]), (crop / 2, 1 - crop / 2)


_BASES = [tuple(_basis(*span) for span in view_spans(*view)) for view in VIEWS]


def _packed(bits: NDArray[np.bool_]) -> Words:
    """Pack bool [N, 16, 16] into uint64 [N, 4], a word for each quarter of the frequencies, the low ones first."""
    half = _FREQUENCIES // 2
    quarters = bits.reshape(-1, 2, half, 2, half).swapaxes(2, 3).reshape(-1, 4, half * half)
    return np.packbits(quarters, axis=2).view("<u8")[..., 0].astype(np.uint64)


_MIRROR = _packed(np.broadcast_to(np.arange(_FREQUENCIES) % 2 == 0, (1, _FREQUENCIES, _FREQUENCIES)))[0]


def _quality(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Measure how much of pictures is more than one colour, as PDQ does: by differences of neighbouring cells.

    Args:
        cells: mean brightness of each, float32 [N, _GRID, _GRID].
    """
    steps = sum(np.trunc(np.abs(np.diff(cells, axis=axis)) / _STEP).sum(axis=(1, 2)) for axis in (1, 2))
    return np.minimum(100.0, np.asarray(steps) / _PER_POINT).astype(np.float32)

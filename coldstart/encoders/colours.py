"""`colours`: the colours of what a picture shows, as a soft histogram in CIELAB; no weights, no torch.

A network trained to name things leaves colour out of its last layers. Pixels near the colour of the border count as
background and are left out, so that a product on white is not "white". Distances between the square roots of
histograms are Hellinger distances, under which few examples of a colour suffice (LOG.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from coldstart.encoders import Modality, Passport, Pixels, Vectors
from coldstart.errors import ColdstartError
from coldstart.media.image import ImageTransform

SIDE = 64
"""Pixels of a side of the squashed picture."""
BINS = 6
"""Bins of lightness, and of each axis of colour."""
BACKGROUND = 6.0
"""Distance in CIELAB up to which a pixel has the colour of the border."""
LEAST_SHARE = 0.02
"""Share of the pixels that must be left for the others to count as background."""
_LOW = np.array([0.0, -50.0, -50.0], np.float32)  # of lightness, green to red, blue to yellow; colours beyond are cut
_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
_STRIDES = np.array([BINS * BINS, BINS, 1])


class Colours:
    """Encoder of the colours of pictures; see the module."""

    name = "colours"
    modalities: frozenset[Modality] = frozenset({"image"})
    image_transform = ImageTransform(size=(SIDE, SIDE), resize="squash", interpolation="bilinear")
    max_tokens = None

    def passport(self, modality: Modality) -> Passport:
        bins = f"{BINS}x{BINS}x{BINS}"
        made = f"root of a soft {bins} CIELAB histogram, centre first, without the colour of the border, {SIDE} pixels"
        return Passport(self.name, "none", made, BINS**3)

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        return np.array([_histogram(image) for image in images], np.float32).reshape(len(images), BINS**3)

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        raise TypeError(f"{self.name} takes no video")

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        raise TypeError(f"{self.name} takes no text")

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        raise TypeError(f"{self.name} takes no text")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        raise TypeError(f"{self.name} takes no text")


def build(rest: str, *, device: str, dtype: str, allow_random_weights: bool) -> Colours:
    """Build the encoder; device and number format change nothing.

    Raises:
        ColdstartError: something follows the name.
    """
    if rest:
        raise ColdstartError(f"encoder 'colours:{rest}' is unknown: write colours")
    return Colours()


def _histogram(image: Pixels) -> NDArray[np.float32]:
    """Compute the unit vector float32 [BINS ** 3] of one picture uint8 [H, W, 3]."""
    import cv2

    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    mask = _foreground(np.asarray(lab, np.float32))
    shown, weights = lab[mask], _central(mask.shape)[mask]
    places = np.clip((shown - _LOW) / 100, 0, 1) * (BINS - 1)
    low = np.minimum(places.astype(np.int64), BINS - 2)
    rest = places - low
    shares = np.where(_CORNERS[:, None] == 1, rest, 1 - rest).prod(axis=2)  # of each pixel to the eight bins around it
    bins = (low + _CORNERS[:, None]) @ _STRIDES
    counts = np.bincount(bins.ravel(), (shares * weights).ravel(), BINS**3)
    root = np.sqrt(counts)
    vector: NDArray[np.float32] = (root / np.linalg.norm(root)).astype(np.float32)
    return vector


def _central(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Compute weights of pixels that fall from the centre, float32 [H, W]: a shirt counts more than the face above."""
    rows, columns = (np.linspace(-0.5, 0.5, side, dtype=np.float32) for side in shape)
    return np.exp(-((rows[:, None] / 0.35) ** 2) - (columns / 0.3) ** 2)


def _foreground(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the pixels that have not the colour of the border, bool [H, W]; all where hardly any is left."""
    import cv2

    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    found: NDArray[np.bool_] = np.linalg.norm(lab - np.median(border, axis=0), axis=2) > BACKGROUND
    inner = cv2.erode(found.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # edges mix both colours
    for mask in (inner, found):
        if mask.mean() > LEAST_SHARE:
            return np.asarray(mask, np.bool_)
    return np.ones_like(found)

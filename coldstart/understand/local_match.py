"""Place one picture within another by their local features, and tell whether both show the same there.

Descriptors that are near name pairs of corners; the shift, turn and scale that most pairs agree on (RANSAC) is the
place. Another shot of the same shelf, or the same model in another shirt, agrees in many corners, too: so a large share
of the corners that both should have must be found in both, and the small pictures, laid over one another, must be alike
in colour and in detail. Knows neither items nor tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.understand.local_features import DETAIL_THUMB, OCTAVE, OCTAVES, LocalFeatures
from coldstart.understand.placement import Placement


@dataclass(frozen=True)
class PlaceRule:
    """Thresholds by which one picture is a changed copy of another.

    Attributes:
        pairs: corners that agree on the place, at least; share: of those that both pictures should have.
        colour: levels of 255 that nine tenths of the small picture may be apart, after one gain; `turned_colour` of
            pictures turned by a degree and more, `resized_colour` of those shown smaller than a factor of 1.25: their
            small pictures have lost detail.
        tint: levels that the mean colour around any part may be apart: more, and it is the product in another colour.
        detail: correlation of what is finer than a twelfth of the small picture; `resized_detail` as above.
            From `clear_detail` on colours may be half as far apart again: that is the edges of a picture of strong
            contrast, which never lie quite over one another.
        seen: share of one of the two pictures that the other must show.
        turn: degrees, at most; scale: factor of size, at most.
    """

    pairs: int = 6
    share: float = 0.14
    colour: float = 9.0
    turned_colour: float = 11.5
    resized_colour: float = 18.0
    tint: float = 7.0
    detail: float = 0.975
    resized_detail: float = 0.955
    clear_detail: float = 0.988
    seen: float = 0.6
    turn: float = 20.0
    scale: float = 3.0

    def allows(self, likeness: Likeness, scale: float, angle: float) -> bool:
        """Tell whether two pictures are alike for the factor of size and the degrees between them."""
        resized = max(scale, 1 / scale) > _RESIZED
        colour = self.resized_colour if resized else self.turned_colour if abs(angle) >= 1 else self.colour
        colour *= 1.5 if likeness.detail >= self.clear_detail else 1.0
        detail = self.resized_detail if resized else self.detail
        return likeness.colour <= colour and likeness.tint <= self.tint and likeness.detail >= detail


@dataclass(frozen=True)
class Likeness:
    """Measures of two small pictures laid over one another; `PlaceRule` says of what."""

    colour: float
    tint: float
    detail: float


_RESIZED = 1.25
_NEAR = 70  # bits of 256 that may differ between descriptors of one corner
_CLEARER = 0.85  # of the second best: more, and it may be either
_MISS = 3.0  # pixels
_TRIES = 500
_GAIN = 1.25  # of brightness, at most
_SMOOTH = 0.6  # pixels of the small picture
_FINE = 2.5
_FEWEST_PIXELS = 30
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_PLAIN = 6.0  # levels of 255
_Map = NDArray[np.float64]


def place_picture(one: LocalFeatures, other: LocalFeatures, rule: PlaceRule) -> Placement | None:
    """Place the first picture within the second; None where they do not show the same."""
    found = measure_pair(one, other, rule)
    if found is None:
        return None
    placement, likeness, scale = found
    return placement if rule.allows(likeness, scale, placement.angle) else None


def measure_pair(one: LocalFeatures, other: LocalFeatures, rule: PlaceRule) -> tuple[Placement, Likeness, float] | None:
    """Measure the place and the likeness of two pictures, and the factor of size; None where corners agree on none."""
    import cv2

    pairs = _pairs(one, other)
    if len(pairs) < rule.pairs:
        return None
    first, second = one.points[pairs[:, 0]], other.points[pairs[:, 1]]
    cv2.setRNGSeed(0)
    matrix, agree = cv2.estimateAffinePartial2D(
        first, second, method=cv2.RANSAC, ransacReprojThreshold=_MISS, maxIters=_TRIES, confidence=0.99
    )
    if matrix is None:
        return None
    pairs = pairs[agree[:, 0] > 0]
    there: _Map = np.vstack([matrix, [0, 0, 1]]).astype(np.float64)
    scale = float(np.hypot(there[0, 0], there[1, 0]))
    angle = float(np.degrees(np.arctan2(there[1, 0], there[0, 0])))
    if abs(angle) > rule.turn or not 1 / rule.scale <= scale <= rule.scale:
        return None
    agreed = min(len(np.unique(pairs[:, 0])), len(np.unique(pairs[:, 1])))
    back: _Map = np.asarray(np.linalg.inv(there), np.float64)
    share = agreed / max(1, min(_expected(one, other, there, scale), _expected(other, one, back, 1 / scale)))
    if agreed < rule.pairs or share < rule.share:
        return None
    placement = _placement(one, other, there, scale, angle, share)
    if max(placement.seen, placement.filled) < rule.seen:
        return None
    forth, reverse = _likeness(one, other, there, scale), _likeness(other, one, back, 1 / scale)
    best = min((like for like in (forth, reverse) if like is not None), key=lambda like: like.colour, default=None)
    return None if best is None else (placement, best, scale)


def _pairs(one: LocalFeatures, other: LocalFeatures) -> NDArray[np.int64]:
    """Pair each corner with the nearest of the other picture, if it is clearly nearer than the next: int64 [K, 2]."""
    import cv2

    if len(one.points) < 2 or len(other.points) < 2:
        return np.zeros((0, 2), np.int64)
    found = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(one.bits, other.bits, k=2)
    pairs = [
        (best.queryIdx, best.trainIdx)
        for best, second in found
        if best.distance < _NEAR and best.distance < _CLEARER * second.distance
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _expected(one: LocalFeatures, other: LocalFeatures, there: _Map, scale: float) -> int:
    """Count the corners of a picture that the other one should have as well: within it, at a scale it was searched."""
    points = _moved(there, one.points)
    inside = ((points >= 0) & (points <= other.size)).all(axis=1)
    octaves = one.octaves + np.log(scale) / np.log(OCTAVE)
    return int((inside & (octaves > -0.6) & (octaves < OCTAVES - 0.4)).sum())


def _moved(matrix: _Map, points: NDArray[Any]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = points @ matrix[:2, :2].T + matrix[:2, 2]
    return moved


def _corners(picture: LocalFeatures) -> NDArray[np.float64]:
    width, height = picture.size
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)


def _placement(
    one: LocalFeatures, other: LocalFeatures, there: _Map, scale: float, angle: float, share: float
) -> Placement:
    import cv2

    around = _moved(there, _corners(one))
    common, _ = cv2.intersectConvexConvex(around.astype(np.float32), _corners(other).astype(np.float32))
    area, whole = one.size[0] * one.size[1] * scale**2, other.size[0] * other.size[1]
    (left, top), (right, bottom) = around.min(axis=0) / other.size, around.max(axis=0) / other.size
    rest = cv2.fillConvexPoly(
        np.ones((DETAIL_THUMB, DETAIL_THUMB), np.uint8),
        np.rint(_grown(around / other.size) * DETAIL_THUMB - 0.5).astype(np.int32),
        0,
    )
    outside = other.thumb[rest > 0].astype(np.float32)
    return Placement(
        angle=round(angle, 1),
        left=round(float(left), 3), top=round(float(top), 3),
        right=round(float(right), 3), bottom=round(float(bottom), 3),
        seen=round(min(1.0, common / area), 3), filled=round(min(1.0, common / whole), 3),
        plain=len(outside) == 0 or float(outside.std(axis=0).max()) <= _PLAIN,
        score=round(min(1.0, share), 3),
    )  # fmt: skip


def _grown(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move corners, in shares of a side, away from their middle by a pixel of the small picture."""
    middle = corners.mean(axis=0)
    grown: NDArray[np.float64] = corners + np.sign(corners - middle) * 1.0 / DETAIL_THUMB
    return grown


def _likeness(one: LocalFeatures, other: LocalFeatures, there: _Map, scale: float) -> Likeness | None:
    """Compare the small pictures where the first lies within the second; None where that is too little of it."""
    import cv2

    half: _Map = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # from the middle of a pixel to its corner
    onto = _to_thumb(other) @ half @ there @ np.linalg.inv(half) @ np.linalg.inv(_to_thumb(one))
    blur = float(np.hypot(_SMOOTH, 0.5 * max(0.0, 1 / scale - 1)))  # what shrinks loses detail
    laid = cv2.warpAffine(cv2.GaussianBlur(one.thumb, (0, 0), blur), onto[:2], (DETAIL_THUMB, DETAIL_THUMB)).astype(
        np.float32
    )
    under = cv2.GaussianBlur(other.thumb, (0, 0), _SMOOTH).astype(np.float32)
    covered = (
        cv2.warpAffine(np.full((DETAIL_THUMB, DETAIL_THUMB), 255, np.uint8), onto[:2], (DETAIL_THUMB, DETAIL_THUMB))
        >= 250
    )
    inner = cv2.erode(covered.astype(np.uint8), np.ones((3, 3), np.uint8))
    inside = inner > 0
    if inside.sum() < _FEWEST_PIXELS:
        return None
    gain = float(np.clip(under[inside].mean() / max(1.0, float(laid[inside].mean())), 1 / _GAIN, _GAIN))
    laid, under = (np.clip(laid * gain, 0, 255), under) if gain > 1 else (laid, np.clip(under / gain, 0, 255))
    apart = np.abs(laid - under).max(axis=2)[inside]
    fine = [_detail(picture @ _LUMA, inner) for picture in (laid, under)]
    energy = float(np.sqrt((fine[0] ** 2).sum() * (fine[1] ** 2).sum()))
    means = np.abs(_means(laid, inner) - _means(under, inner)).max(axis=2)[inside]
    return Likeness(
        colour=float(np.quantile(apart, 0.9)),
        tint=float(np.quantile(means, 0.99)),
        detail=float((fine[0] * fine[1]).sum()) / max(energy, 1e-6),
    )


def _to_thumb(picture: LocalFeatures) -> _Map:
    """Return the map from points of a picture, at the corners of its pixels, to pixels of the small one."""
    width, height = picture.size
    return np.array([[DETAIL_THUMB / width, 0, -0.5], [0, DETAIL_THUMB / height, -0.5], [0, 0, 1]])


def _detail(light: NDArray[np.float32], inside: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Subtract the mean of what lies around each pixel inside: float32 [K]."""
    fine: NDArray[np.float32] = (light - _means(light[..., None], inside)[..., 0])[inside > 0]
    return fine


def _means(picture: NDArray[np.float32], inside: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the mean around each pixel, of pixels inside alone: float32 [DETAIL_THUMB, DETAIL_THUMB, channels]."""
    import cv2

    weight = inside.astype(np.float32)[..., None]
    sums = cv2.GaussianBlur(np.concatenate([picture * weight, weight], axis=2), (0, 0), _FINE)
    means: NDArray[np.float32] = sums[..., :-1] / np.maximum(sums[..., -1:], 1e-3)
    return means

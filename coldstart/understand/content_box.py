"""Find the box that a plain border encloses: letterboxes, pillarboxes, edges of any one colour.

A border is what stays the colour of the outermost rows (or columns) until the first that differs. Its edge is where the
difference reaches half of what it is a little further in: noise of the encoder blurs an edge, but leaves its middle.
The ground of a product photo is a border too. Knows neither videos nor items.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Box = tuple[tuple[float, float], tuple[float, float]]
"""(top, bottom) and (left, right), as shares of the picture's height and width."""

READ_SIDE = 192
"""Height and width in pixels that pictures are squeezed to before a box is looked for."""

_LEVELS = 28  # of 255 that a border's noise reaches: of 16, 28 and 40, 28 found most poorly encoded copies
_STRAY = 0.02  # share of a row that may differ more, as a hair or noise does
_OUTER = 2  # rows whose median is the border's colour
_SOFT = 3  # rows to either side of an edge over which it may be blurred
_LEAST = 0.02  # less than this of both sides is no border
_SMALLEST = 0.25  # a box is at least this share of each side
_FEW_FRAMES = 0.1  # share of frames whose border may be narrower, as of a title that runs over it
_SIDES = ((1, False), (1, True), (2, False), (2, True))  # axis, and from its end: top, bottom, left, right


def border_widths(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measure the borders of pictures, uint8 [N, S, S, 3]: float64 [N, 4], shares at top, bottom, left and right.

    A picture of one colour is all border: 1 at each side.
    """
    found = np.zeros((len(pictures), len(_SIDES)))
    for place, (axis, from_end) in enumerate(_SIDES):
        turned = pictures if axis == 1 else pictures.transpose(0, 2, 1, 3)
        found[:, place] = _widths(turned[:, ::-1] if from_end else turned)
    return found


def find_box(widths: NDArray[np.float64]) -> Box | None:
    """Find the box of one picture, or of all frames of a video, from `border_widths` [N, 4]; None without a border.

    Frames of one colour say nothing of it, and dark ones seem to have wider borders: the narrow ones decide.
    """
    shown = widths[(widths < 1).all(axis=1)]
    if not len(shown):
        return None
    top, bottom, left, right = np.quantile(shown, _FEW_FRAMES, axis=0, method="lower").tolist()
    if max(top + bottom, left + right) < _LEAST or max(top + bottom, left + right) > 1 - _SMALLEST:
        return None
    return (top, 1 - bottom), (left, 1 - right)


def _widths(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measure borders at the top: float64 [N], shares of the height."""
    side = pictures.shape[1]
    colours = np.median(pictures[:, :_OUTER].reshape(len(pictures), -1, 3), axis=1).astype(np.int16)
    found = np.zeros(len(pictures))
    near = np.flatnonzero(~_differs(_distance(pictures[:, : _OUTER + 1], colours)).any(axis=1))  # few have a border
    for place in near.tolist():
        distance = _distance(pictures[place], colours[place])
        differs = _differs(distance)
        found[place] = _edge(distance.mean(axis=1), int(differs.argmax())) / side if differs.any() else 1.0
    return found


def _distance(pictures: NDArray[np.uint8], colours: NDArray[np.int16]) -> NDArray[np.int16]:
    found: NDArray[np.int16] = np.abs(pictures.astype(np.int16) - colours[..., None, None, :]).max(axis=-1)
    return found


def _differs(distance: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Tell which rows differ from the border."""
    found: NDArray[np.bool_] = (distance > _LEVELS).mean(axis=-1) > _STRAY
    return found


def _edge(rows: NDArray[np.float64], first: int) -> float:
    """Compute where the mean difference of rows rises, in fractions of a row; `first` is the first that differs."""
    start, end = max(0, first - _SOFT), first + _SOFT
    if end >= len(rows):
        return float(first)
    ground = rows[: max(1, start)].mean()
    rise = rows[end] - ground
    if rise <= 0:
        return float(first)
    inside = np.clip((rows[start:end] - ground) / rise, 0, 1).sum()
    return float(np.clip(end - inside, max(0, first - _OUTER), first + _OUTER))

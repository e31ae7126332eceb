"""From one decoded video frame to pixels as a viewer sees them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from coldstart.media.image import ImageTransform, Pixels

_SCALERS = {
    "bicubic": Interpolation.BICUBIC,
    "bilinear": Interpolation.BILINEAR,
    "nearest": Interpolation.POINT,
}
# Scaling in libswscale is several times faster than in Pillow. With these flags its pixels differ from an exact
# conversion at full size and Pillow's bicubic by 0.3 of 255 levels on average; without them by 1.7.
_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP


class _Scaler(threading.local):
    """What scales the frames of one thread: tables of weights that are made for one size serve all frames of a video,
    where `frame.reformat` would make them anew for each, at 0.2 to 0.3 ms."""

    def __init__(self) -> None:
        self.reformat = VideoReformatter().reformat


_SCALER = _Scaler()

_Matrix = tuple[int, int, int, int]
"""(a, b, c, d) of x' = ax + cy, y' = bx + dy, y downwards: what the container asks players to do with a frame."""


def shown_size(frame: Any, pixel_aspect: float) -> tuple[int, int]:
    """(width, height) of a frame with its pixels made square and turned upright."""
    width = max(1, round(frame.width * pixel_aspect))
    return (frame.height, width) if _is_sideways(_display_matrix(frame)) else (width, frame.height)


def frame_pixels(frame: Any, pixel_aspect: float, transform: ImageTransform) -> Pixels:
    """A decoded frame, scaled on its way to RGB, turned upright, through the transform: uint8 [H, W, 3]."""
    shown = shown_size(frame, pixel_aspect)
    size = transform.resized(*shown)
    if size[0] > shown[0] or size[1] > shown[1]:  # enlarging is left to the transform, which bounds extreme strips
        size = shown
    matrix = _display_matrix(frame)
    width, height = size[::-1] if _is_sideways(matrix) else size
    mode = "rgba" if any(component.is_alpha for component in frame.format.components) else "rgb24"
    scaler = _SCALERS[transform.interpolation] | _EXACT
    scaled = _SCALER.reformat(frame, width, height, mode, interpolation=scaler, threads=1)
    pixels: Pixels = scaled.to_ndarray()  # type: ignore[assignment]  # of these formats it is uint8
    return transform.apply(Image.fromarray(_upright(pixels, matrix)))


def _display_matrix(frame: Any) -> _Matrix:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()
            return a, b, c, d
    return 1, 0, 0, 1


def _is_sideways(matrix: _Matrix) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _upright(pixels: Pixels, matrix: _Matrix) -> Pixels:
    """Turn and mirror [H, W, C] as the matrix says, to the nearest quarter turn."""
    a, b, c, d = matrix
    x, y = a, d
    if _is_sideways(matrix):
        pixels, x, y = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1])

"""Whether anything to read has changed between two frames.

Workers import this module: it needs neither a model nor OpenCV.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from coldstart.media.image import Pixels

Outline = npt.NDArray[np.int16]
"""int16 [H / 4, W / 4]: mean brightness of blocks of 4 x 4 pixels, 0 to 255."""

_BLOCK = 4  # one stroke of the smallest text that can be read changes a block of this many pixels a side


def outline(image: Pixels) -> Outline:
    """What of a frame is compared; `image` is uint8 [H, W, 3]."""
    grey = Image.fromarray(image).convert("L")
    return np.asarray(grey.reduce(_BLOCK), np.int16)


def change(before: Outline, now: Outline) -> float:
    """The largest change of any block, 0 to 255; 255 for frames of different sizes."""
    if before.shape != now.shape:
        return 255.0
    return float(np.abs(now - before).max())

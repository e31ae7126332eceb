"""A reader for tests: it reads the brightness of a picture, and says so in the middle of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coldstart.perception.screen_text import Pixels, TextBox

_STEP = 32
_QUAD = np.array([[0.25, 0.4], [0.75, 0.4], [0.75, 0.6], [0.25, 0.6]], np.float32)


class FakeReader:
    """`shade N`, N from 0 (black) to 7 (white); a black picture holds no text. `images` counts what was read."""

    def __init__(self) -> None:
        self.images = 0

    def read(self, images: Sequence[Pixels]) -> list[list[TextBox]]:
        self.images += len(images)
        return [self._boxes(int(image.mean()) // _STEP) for image in images]

    def identity(self) -> dict[str, str]:
        return {"reader": "fake"}

    @staticmethod
    def _boxes(shade: int) -> list[TextBox]:
        return [TextBox(f"shade {shade}", 0.95, _QUAD)] if shade else []

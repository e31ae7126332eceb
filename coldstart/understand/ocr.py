"""Filter the texts that a reader found in one picture, and join them to lines.

Knows nothing of models, files or time; a reader is anything with the methods of `Reader`. `FakeReader` reads the
brightness of a picture, for tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


Quad = npt.NDArray[np.float32]
"""float32 [4, 2], (x, y) in shares of the picture's width and height: the corners of a text as its reader sees it, from
the start of the line above it, clockwise."""


Box = tuple[float, float, float, float]
"""Left, top, right, bottom in shares of the picture's width and height."""


MAX_HEIGHT = 0.5
"""Share of a picture's height from which on a text is no writing but a shape taken for a letter."""


_MIN_READING = 0.5  # a reading less sure than this says nothing


_JOIN_GAP = 1.0  # words this many line heights apart are one line


_JOIN_OVERLAP = 0.5  # if they share this much of the lower one's height


_JOIN_HEIGHTS = 1.8  # and one is at most this many times as high as the other


@dataclass(frozen=True, eq=False)
class TextBox:
    """One text found in one picture; `confidence` is between 0 and 1.

    `script` names the script of a text that the reader cannot write, such as `Arabic`; such a text is empty.
    """

    text: str
    confidence: float
    quad: Quad
    script: str = ""


class Reader(Protocol):
    """Text recogniser of pictures."""

    def read(self, images: Sequence[Pixels]) -> list[list[TextBox]]:
        """Read the texts of each picture, uint8 [H, W, 3] RGB of any size, in no particular order."""

    def identity(self) -> Mapping[str, str]:
        """Return the models and library versions that change readings; loads no weights."""


@dataclass(frozen=True)
class TextRules:
    """Thresholds for texts that count.

    Attributes:
        min_height: texts lower than this share of the picture's height are dropped.
        min_letters: lines of fewer letters and digits are dropped: a lone sign is seldom one.
        min_confidence: lines whose readings are less sure than this on average are dropped.
        single_confidence: a line that stands in one sampled frame alone must be as sure as this.
    """

    min_height: float = 0.02
    min_letters: int = 2
    min_confidence: float = 0.8
    single_confidence: float = 0.9


@dataclass(frozen=True, eq=False)
class WordGroup:
    """Texts of one line, with their upright box in units of the picture's height."""

    text: str
    confidence: float
    box: Box
    height: float


def join_words(boxes: Sequence[TextBox], aspect: float, rules: TextRules) -> list[WordGroup]:
    """Filter texts, and join those of one line in the direction in which they run."""
    groups: dict[int, list[tuple[WordGroup, Box]]] = {}
    for box in boxes:
        quad, height = measure_quad(box.quad, aspect)
        if height < rules.min_height or height > MAX_HEIGHT or box.confidence < _MIN_READING:
            continue
        along = quad[1] - quad[0] + quad[2] - quad[3]
        turns = round(math.atan2(along[1], along[0]) / (math.pi / 2)) % 4
        word = WordGroup(box.text, box.confidence, _around(quad), height)
        groups.setdefault(turns, []).append((word, _around(_turn(quad, turns))))
    lines = [line for group in groups.values() for line in _joined(group)]
    return [line for line in lines if sum(map(str.isalnum, line.text)) >= rules.min_letters]


def measure_quad(quad: Quad, aspect: float) -> tuple[Quad, float]:
    """Convert a quad to units of the picture's height, and compute how high its text is in these units."""
    quad = quad * np.array([aspect, 1], np.float32)
    return quad, float(np.linalg.norm(quad[0] - quad[3]) + np.linalg.norm(quad[1] - quad[2])) / 2


def _joined(group: list[tuple[WordGroup, Box]]) -> list[WordGroup]:
    """Join words, their boxes turned so that they run to the right, to lines."""
    lines: list[list[tuple[WordGroup, Box]]] = []
    for word, box in sorted(group, key=lambda entry: entry[1][0]):
        home = next((line for line in lines if _goes_on(*line[-1], word, box)), None)
        if home is None:
            lines.append([(word, box)])
        else:
            home.append((word, box))
    return [_one_word([word for word, _ in line]) for line in lines]


def _goes_on(before: WordGroup, place: Box, word: WordGroup, box: Box) -> bool:
    low, high = sorted((before.height, word.height))
    shared = min(place[3], box[3]) - max(place[1], box[1])
    return (
        high <= _JOIN_HEIGHTS * low
        and shared >= _JOIN_OVERLAP * min(place[3] - place[1], box[3] - box[1])
        and -low / 2 <= box[0] - place[2] <= _JOIN_GAP * high
    )


def _one_word(words: Sequence[WordGroup]) -> WordGroup:
    lengths = [len(word.text) for word in words]
    sides = np.array([word.box for word in words])
    return WordGroup(
        " ".join(word.text for word in words),
        float(np.average([word.confidence for word in words], weights=lengths)),
        _box(*sides[:, :2].min(axis=0), *sides[:, 2:].max(axis=0)),
        max(word.height for word in words),
    )


def similarity(one: str, other: str) -> float:
    """Compute 1 minus the edit distance (Levenshtein) over the longer length, letter case and spaces ignored."""
    one, other = letters(one), letters(other)
    costs = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        corner, costs[0] = costs[0], i
        for j, its in enumerate(other, 1):
            corner, costs[j] = costs[j], min(costs[j] + 1, costs[j - 1] + 1, corner + (letter != its))
    return 1 - costs[-1] / max(len(one), len(other), 1)


def letters(text: str) -> str:
    return "".join(text.casefold().split())


def _turn(quad: Quad, turns: int) -> Quad:
    """Turn back a quad whose text runs `turns` quarter turns clockwise from rightwards."""
    for _ in range(turns):
        quad = np.stack([quad[:, 1], -quad[:, 0]], axis=1)
    return quad


def _around(quad: Quad) -> Box:
    return _box(*quad.min(axis=0), *quad.max(axis=0))


def _box(left: float, top: float, right: float, bottom: float) -> Box:
    return float(left), float(top), float(right), float(bottom)


_STEP = 32


_QUAD = np.array([[0.25, 0.4], [0.75, 0.4], [0.75, 0.6], [0.25, 0.6]], np.float32)


class FakeReader:
    """Reader for tests: `shade N`, N from 0 (black) to 7 (white); none in a black picture. `images` counts pictures."""

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

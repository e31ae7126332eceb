"""`fake` and `fake:DIM`: vectors made by arithmetic, for tests of everything around an encoder.

Equal input gives an equal vector, and like input a like one: texts by the three-letter pieces of their
words, pictures by a coarse grid of their colours. Text and pictures share a passport but know nothing of
each other. Needs no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from coldstart.encoders import Modality, Passport, Pixels, Vectors
from coldstart.errors import ColdstartError
from coldstart.media.image import ImageTransform

GRID = 4  # cells a side


class Fake:
    """Encoder for tests; see the module. `calls` counts the batches of each method, `items` their rows."""

    modalities: frozenset[Modality] = frozenset({"text", "image"})
    image_transform = ImageTransform(size=(32, 32), resize="squash", interpolation="bilinear")
    max_tokens = 64

    def __init__(self, dim: int) -> None:
        self.name = f"fake:{dim}"
        self.dim = dim
        self.calls: Counter[str] = Counter()
        self.items: Counter[str] = Counter()

    def passport(self, modality: Modality) -> Passport:
        return Passport(self.name, "none", f"trigrams of {self.max_tokens} words; {GRID}x{GRID} colours", self.dim)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(_words(text)) for text in texts]

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._count("documents", [self._text(text) for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._count("queries", [self._text(text) for text in texts])

    def encode_images(self, images: Sequence[Pixels]) -> Vectors:
        return self._count("images", [self._image(image) for image in images])

    def encode_videos(self, videos: Sequence[Pixels]) -> Vectors:
        raise TypeError(f"{self.name} takes no video")

    def _text(self, text: str) -> Any:
        words = [f" {word} " for word in _words(text)[: self.max_tokens]] or [f" {text} "]
        pieces = [word[i : i + 3] for word in words for i in range(max(1, len(word) - 2))]
        return np.sum([_direction(piece, self.dim) for piece in pieces], axis=0)

    def _image(self, image: Pixels) -> Any:
        rows = np.array_split(image.astype(np.float32) / 127.5 - 1, GRID)
        cells = [cell.mean(axis=(0, 1)) for row in rows for cell in np.array_split(row, GRID, axis=1)]
        values = np.append(np.concatenate(cells), 0.1)  # the constant keeps an even grey away from zero length
        return np.sum([v * _direction(f"cell {i}", self.dim) for i, v in enumerate(values)], axis=0)

    def _count(self, method: str, rows: list[Any]) -> Vectors:
        self.calls[method] += 1
        self.items[method] += len(rows)
        vectors = np.array(rows, dtype=np.float32).reshape(len(rows), self.dim)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@lru_cache(maxsize=65536)
def _direction(word: str, dim: int) -> Vectors:
    """Compute the fixed random direction of a word, float32 `[dim]`."""
    seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(dim, dtype=np.float32)


def build(rest: str, *, device: str, dtype: str, allow_random_weights: bool) -> Fake:
    """Build the encoder; `rest` is the number of dimensions, 32 where empty. Device and dtype have no effect."""
    if rest and not (rest.isdecimal() and int(rest) > 0):
        raise ColdstartError(f"encoder 'fake:{rest}': {rest!r} is no number of dimensions; write fake:64")
    return Fake(int(rest or 32))

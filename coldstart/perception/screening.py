"""Which of very many items may show the same as a new one: a quick look at 64 bits of every frame, then at all 256.

Exact search, no index to build or to go stale; the numbers lie in memory, in blocks that fit into a core's cache. It
only has to leave nothing out: `coldstart.perception.matching` decides. Knows nothing of items, which it counts.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart import cores
from coldstart.perception.fingerprint import BARS, CROPS, MIN_QUALITY, PAIRS, VIEWS, Fingerprints, Words, mirrored

SCREEN_S = 0.5
"""Seconds between the frames of a video that are looked at."""

ASKED = 8
"""Frames of a new video that are looked for; all frames of the others are looked at."""

_BLOCK = 1 << 15
_SAME_BITS = 10  # a frame this close to the last one adds nothing


@dataclass(frozen=True)
class Look:
    """What makes a candidate: one pair of frames that is this close.

    Attributes:
        views: which views are kept of each frame; `pairs`: which of them, by their place there, are compared.
        low_bits: of the 64 bits of the lowest frequencies, so many may differ; `max_bits`: of all 256.
    """

    views: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    low_bits: int
    max_bits: int


_WHOLE, _CROPPED = VIEWS.index((CROPS[0], BARS[1])), VIEWS.index((CROPS[-1], BARS[1]))
VIDEO = Look((_WHOLE, _CROPPED), ((0, 0), (0, 1), (1, 0)), low_bits=16, max_bits=64)
"""Some frame of many will do, so few views suffice: those without a bar at the bottom."""


PICTURE = Look(tuple(range(len(VIEWS))), PAIRS, low_bits=16, max_bits=64)
"""All that could match: a picture has no second frame to be found by."""

LOOKS = {"video": VIDEO, "image": PICTURE}


def screened(prints: Fingerprints, times_s: NDArray[np.float64] | None, look: Look) -> Words:
    """The frames of an item to look at, uint64 [M, views of the look, 4]: none of one colour, and of a video one each
    `SCREEN_S` unless nothing moved."""
    kept: list[int] = []
    for place in np.nonzero(prints.quality >= MIN_QUALITY)[0].tolist():
        if kept and times_s is not None:
            moved = np.bitwise_count(prints.words[place, 0] ^ prints.words[kept[-1], 0]).sum()
            if times_s[place] < times_s[kept[-1]] + SCREEN_S - 1e-3 or moved <= _SAME_BITS:
                continue
        kept.append(place)
    return prints.words[kept][:, look.views]


class Screen:
    """Frames of all items so far; items are numbered in the order in which they were added."""

    def __init__(self, look: Look, threads: int | None = None) -> None:
        self._look = look
        self._threads = min(threads or cores.threads(), 8)
        self._words: Words = np.zeros((len(look.views), _BLOCK, 4), np.uint64)
        self._low: Words = np.zeros((len(look.views), _BLOCK), np.uint64)
        self._owners = np.zeros(_BLOCK, np.int64)
        self._frames = 0
        self.items = 0

    def add(self, words: Words) -> int:
        """Take in what `screened` gave for one item; returns its number."""
        end = self._frames + len(words)
        if end > len(self._owners):
            self._grow(end)
        kept = words.swapaxes(0, 1)
        self._words[:, self._frames : end] = kept
        self._low[:, self._frames : end] = kept[..., 0]
        self._owners[self._frames : end] = self.items
        self._frames = end
        self.items += 1
        return self.items - 1

    def _grow(self, frames: int) -> None:
        size = max(frames, 2 * len(self._owners))
        for name in ("_words", "_low"):
            old = getattr(self, name)
            new = np.zeros((old.shape[0], size, *old.shape[2:]), np.uint64)
            new[:, : self._frames] = old[:, : self._frames]
            setattr(self, name, new)
        self._owners = np.concatenate([self._owners, np.zeros(size - len(self._owners), np.int64)])

    def find(self, words: Words) -> list[int]:
        """Numbers of the items that may show the same as one with such frames, mirrored or not, rising."""
        few = np.unique(np.linspace(0, len(words) - 1, ASKED).round().astype(np.int64)) if len(words) else slice(0)
        asked = words[few]
        both = np.concatenate([asked, mirrored(asked)])
        starts = range(0, self._frames, _BLOCK)
        if self._threads == 1 or len(starts) < 4:
            found = [self._search(both, start) for start in starts]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                found = list(pool.map(lambda start: self._search(both, start), starts))
        return np.unique(np.concatenate(found)).tolist() if found else []

    def _search(self, asked: Words, start: int) -> NDArray[np.int64]:
        end = min(start + _BLOCK, self._frames)
        apart, bits = np.empty(end - start, np.uint64), np.empty(end - start, np.uint8)
        hit = np.zeros(end - start, bool)
        for left, right in self._look.pairs:
            low = self._low[right, start:end]
            for frame in asked[:, left]:
                np.bitwise_xor(low, frame[0], out=apart)
                np.bitwise_count(apart, out=bits)
                near = np.flatnonzero(bits <= self._look.low_bits)
                if len(near):
                    rest = self._words[right, start + near] ^ frame
                    hit[near[np.bitwise_count(rest).sum(axis=1, dtype=np.int64) <= self._look.max_bits]] = True
        return np.unique(self._owners[start:end][hit])

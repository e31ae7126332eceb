"""Screen the frames of all items so far for those that one item may match.

Candidates are found exactly, in memory. Frames of videos may differ in so many bits that all of them are compared: 64
bits first, then all 256. Pictures may differ in a few, so a large number of them is kept sorted by parts of 16 bits:
two hashes that differ in at most K bits have at least one of K + 1 parts in common (Norouzi, Punjani and Fleet, Fast
Search in Hamming Space with Multi-Index Hashing, CVPR 2012). Both ways find the same. Knows neither tables nor
policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.core import device
from coldstart.understand.fingerprint import (
    BARS,
    BOX_PAIRS,
    BOXES,
    CROPS,
    MIN_QUALITY,
    PAIRS,
    VIEWS,
    Fingerprints,
    Words,
    mirrored,
)

FRAME_STEP_S = 0.5
"""Seconds between the indexed frames of a video."""

QUERY_FRAMES = 8
"""Frames of a new video that are searched for, among all indexed frames of the others."""

SORTED_FROM = 1 << 16
"""Frames from which on they are sorted by parts: of fewer, comparing all is as fast."""

_BLOCK = 1 << 15

_SAME_BITS = 10  # a frame this close to the last one adds nothing

_PART_BITS, _PARTS = 16, 16
_BY_SPREAD = (*range(15, 3, -1), 3, 2, 1, 0)  # parts of a hash, those of high frequencies, which differ most, first


@dataclass(frozen=True)
class CandidateRule:
    """Thresholds of a candidate: one pair of frames that is this close.

    Attributes:
        views: which words of each frame are stored; `pairs`: which of them, by their place there, are compared.
        boxes: places of the views that the last ones show of what a border encloses; without a border they are equal.
        low_bits: of the 64 bits of the lowest frequencies, so many may differ; `max_bits`: of all 256.
    """

    views: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    boxes: tuple[int, ...]
    low_bits: int
    max_bits: int

    @property
    def plain(self) -> int:
        """Count the views of whole pictures, which come first."""
        return len(self.views) - len(self.boxes)


_WHOLE, _CROPPED = VIEWS.index((CROPS[0], BARS[1])), VIEWS.index((CROPS[-1], BARS[1]))
_BOX = len(VIEWS) + BOXES.index(_WHOLE)

VIDEO = CandidateRule(
    views=(_WHOLE, _CROPPED, _BOX),
    pairs=((0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (2, 2)),
    boxes=(0,),
    low_bits=16,
    max_bits=64,
)
"""Any frame of many may match, so few views suffice: those without a bar at the bottom."""

PICTURE = CandidateRule(tuple(range(len(VIEWS) + len(BOXES))), PAIRS + BOX_PAIRS, BOXES, low_bits=16, max_bits=64)
"""All views that could match: a picture has no second frame to be found by."""

CANDIDATE_RULES = {"video": VIDEO, "image": PICTURE}


def candidate_frames(prints: Fingerprints, times_s: NDArray[np.float64] | None, rule: CandidateRule) -> Words:
    """Choose the frames of an item to index, uint64 [M, views of the rule, 4]: none of one colour, of a video one each
    `FRAME_STEP_S` unless nothing moved."""
    kept: list[int] = []
    for place in np.nonzero(prints.quality >= MIN_QUALITY)[0].tolist():
        if kept and times_s is not None:
            moved = np.bitwise_count(prints.words[place, 0] ^ prints.words[kept[-1], 0]).sum()
            if times_s[place] < times_s[kept[-1]] + FRAME_STEP_S - 1e-3 or moved <= _SAME_BITS:
                continue
        kept.append(place)
    return prints.words[kept][:, rule.views]


def stored_frames(screen: bytes, boxes: bytes | None, rule: CandidateRule) -> Words:
    """Decode the candidate frames of a row: views of whole pictures, and of boxes where one has a border."""
    words = np.frombuffer(screen, "<u8").reshape(-1, rule.plain, 4)
    inside = np.frombuffer(boxes, "<u8").reshape(-1, len(rule.boxes), 4) if boxes else words[:, rule.boxes]
    return np.concatenate([words, inside], axis=1).astype(np.uint64)


class CandidateIndex:
    """Index of the frames of all items so far; items are numbered in the order in which they were added."""

    def __init__(self, rule: CandidateRule, threads: int | None = None, sorted_from: int = SORTED_FROM) -> None:
        self._rule = rule
        self._threads = min(threads or device.thread_count(), 8)
        self._whole = _Pool(rule.plain, rule, sorted_from)
        self._boxed = _Pool(len(rule.boxes), rule, sorted_from)  # of few items, so that the others cost nothing
        self.items = 0

    def add(self, words: Words) -> int:
        """Add the candidate frames of one item; returns its number."""
        plain = self._rule.plain
        self._whole.add(words[:, :plain], self.items)
        bordered = self._bordered(words)
        if bordered.any():
            self._boxed.add(words[bordered, plain:], self.items)
        self.items += 1
        return self.items - 1

    def find(self, words: Words) -> list[int]:
        """Find items that may match one with these frames, mirrored or not: their numbers, rising."""
        places = np.linspace(0, len(words) - 1, QUERY_FRAMES) if len(words) else np.empty(0)
        query = words[np.unique(places.round().astype(np.int64))]
        both = np.concatenate([query, mirrored(query)])
        asked = self._asked(both)
        plain = self._rule.plain
        whole = {view: frames for view, frames in asked.items() if view < plain}
        boxes = {view - plain: frames for view, frames in asked.items() if view >= plain}
        found = [pool.find(frames, self._threads) for pool, frames in ((self._whole, whole), (self._boxed, boxes))]
        numbers: list[int] = np.unique(np.concatenate(found)).tolist()
        return numbers

    def _asked(self, query: Words) -> dict[int, Words]:
        """Gather the words that are compared with each stored view: view -> uint64 [K, 4]."""
        bordered = self._bordered(query)
        asked: dict[int, list[Words]] = {}
        for left, right in self._rule.pairs:
            frames = query[bordered] if left >= self._rule.plain else query
            asked.setdefault(right, []).append(frames[:, left])
        return {view: np.concatenate(parts) for view, parts in asked.items()}

    def _bordered(self, words: Words) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (words[:, self._rule.plain :] != words[:, self._rule.boxes]).any(axis=(1, 2))
        return found


class _Pool:
    """Frames of some views and the numbers of their items."""

    def __init__(self, views: int, rule: CandidateRule, sorted_from: int) -> None:
        self._rule = rule
        self._sorted_from = sorted_from if rule.max_bits < _PARTS else None
        self._words: Words = np.zeros((views, _BLOCK, 4), np.uint64)
        self._low: Words = np.zeros((views, _BLOCK), np.uint64)
        self._owners = np.zeros(_BLOCK, np.int64)
        self._frames = 0
        self._sorted: _Sorted | None = None

    def add(self, words: Words, owner: int) -> None:
        end = self._frames + len(words)
        if end > len(self._owners):
            self._grow(end)
        kept = words.swapaxes(0, 1)
        self._words[:, self._frames : end] = kept
        self._low[:, self._frames : end] = kept[..., 0]
        self._owners[self._frames : end] = owner
        self._frames = end

    def _grow(self, frames: int) -> None:
        size = max(frames, 2 * len(self._owners))
        for name in ("_words", "_low"):
            old = getattr(self, name)
            new = np.zeros((old.shape[0], size, *old.shape[2:]), np.uint64)
            new[:, : self._frames] = old[:, : self._frames]
            setattr(self, name, new)
        self._owners = np.concatenate([self._owners, np.zeros(size - len(self._owners), np.int64)])

    def find(self, asked: Mapping[int, Words], threads: int) -> NDArray[np.int64]:
        """Find the items of frames that are close to what is asked of their view."""
        self._sort()
        first = self._sorted.frames if self._sorted else 0
        starts = range(first, self._frames, _BLOCK)
        if threads == 1 or len(starts) < 4:
            found = [self._compared(asked, start) for start in starts]
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(lambda start: self._compared(asked, start), starts))
        if self._sorted:
            found += [self._looked_up(self._sorted, view, frames) for view, frames in asked.items()]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _sort(self) -> None:
        """Sort anew where many frames came since: an eighth more, so that the work for one stays the same."""
        if self._sorted_from is None or self._frames < max(self._sorted_from, 1):
            return
        known = self._sorted.frames if self._sorted else 0
        if self._frames - known >= max(self._sorted_from, known // 8):
            self._sorted = _Sorted(self._words[:, : self._frames], self._rule.max_bits)

    def _compared(self, asked: Mapping[int, Words], start: int) -> NDArray[np.int64]:
        end = min(start + _BLOCK, self._frames)
        apart, bits = np.empty(end - start, np.uint64), np.empty(end - start, np.uint8)
        hit = np.zeros(end - start, bool)
        for view, frames in asked.items():
            low = self._low[view, start:end]
            for frame in frames:
                np.bitwise_xor(low, frame[0], out=apart)
                np.bitwise_count(apart, out=bits)
                near = np.flatnonzero(bits <= self._rule.low_bits)
                if len(near):
                    rest = self._words[view, start + near] ^ frame
                    hit[near[np.bitwise_count(rest).sum(axis=1, dtype=np.int64) <= self._rule.max_bits]] = True
        return np.unique(self._owners[start:end][hit])

    def _looked_up(self, known: _Sorted, view: int, frames: Words) -> NDArray[np.int64]:
        places, which = known.find(view, frames)
        apart = np.bitwise_count(self._words[view, places] ^ frames[which])
        near = apart[:, 0] <= self._rule.low_bits
        near &= apart.sum(axis=1, dtype=np.int64) <= self._rule.max_bits
        return np.unique(self._owners[places[near]])


class _Sorted:
    """Places of frames by the values of parts of their hashes: at most 16 x 4 bytes a frame and view."""

    def __init__(self, words: Words, max_bits: int) -> None:
        self.frames = words.shape[1]
        self._parts = list(_BY_SPREAD[: max_bits + 1])
        shape = (len(words), len(self._parts))
        self._order = np.empty((*shape, self.frames), np.int32)
        self._starts = np.zeros((*shape, (1 << _PART_BITS) + 1), np.int32)
        for view, own in enumerate(words):
            parts = _parts_of(own)
            for place, part in enumerate(self._parts):
                values = np.ascontiguousarray(parts[:, part])
                self._order[view, place] = np.argsort(values, kind="stable")  # of 16 bits by radix, in linear time
                self._starts[view, place, 1:] = np.cumsum(np.bincount(values, minlength=1 << _PART_BITS))

    def find(self, view: int, frames: Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find frames with a part in common: their places, and which of the `frames` each has it in common with."""
        values = _parts_of(frames)[:, self._parts].astype(np.int64)
        part = np.arange(len(self._parts))
        starts = self._starts[view, part, values].ravel().astype(np.int64)
        lengths = self._starts[view, part, values + 1].ravel() - starts
        which = np.repeat(np.arange(len(lengths)), lengths)
        offsets = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = self._order[view, which % len(part), starts[which] + offsets]
        return places.astype(np.int64), which // len(part)


def _parts_of(words: Words) -> NDArray[np.uint16]:
    """View hashes uint64 [K, 4] as 16 parts each, [K, 16], those of the lowest frequencies first."""
    parts: NDArray[np.uint16] = np.ascontiguousarray(words, "<u8").view("<u2")
    return parts

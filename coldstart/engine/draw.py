"""Some items of each kind, small and large alike, drawn at random and put in an order that may be broken off anywhere.

Of each kind as many as its share asks for, but a few at least; within a kind the items are sorted by how much there is
to decode, cut into as many parts as are drawn, and one is drawn of each part. The kinds are then mixed evenly, each in
random order, so that whatever a probe has time for is spread over all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

from coldstart.stage import Row

LEAST = 8
"""Items drawn of each kind, however rare it is."""
_POOL = 4000
"""Items of a kind among which the drawn ones are spread by size; beyond, they are a random part of the kind."""
T = TypeVar("T")


@dataclass(frozen=True)
class Drawn(Generic[T]):
    """What was drawn, in the order to probe it, and how many there are of each kind."""

    entries: Sequence[T]
    counts: Mapping[str, int]


class Pool(Generic[T]):
    """Takes all entries one by one and keeps few of them in memory: of each kind a random part.

    That part is drawn by Algorithm R of Vitter (1985), each entry with the same chance.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._kept: dict[str, list[tuple[float, T]]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, size: float, entry: T) -> None:
        """Take one.

        Args:
            size: what its cost may grow with, in a unit of the kind's own.
        """
        kept = self._kept.setdefault(kind, [])
        self.counts[kind] += 1
        if len(kept) < _POOL:
            kept.append((size, entry))
        elif (place := self._random.randrange(self.counts[kind])) < _POOL:
            kept[place] = (size, entry)

    def draw(self, most: int) -> Drawn[T]:
        """About `most` of them."""
        total = sum(self.counts.values())
        placed: list[tuple[float, T]] = []
        for kind, kept in sorted(self._kept.items()):
            wanted = min(len(kept), max(LEAST, round(most * self.counts[kind] / total)))
            chosen = _spread(kept, wanted, self._random)
            placed += [((place + 0.5) / wanted, entry) for place, entry in enumerate(chosen)]
        placed.sort(key=lambda one: one[0])
        return Drawn([entry for _, entry in placed], dict(self.counts))


def _spread(kept: Iterable[tuple[float, T]], wanted: int, random: Random) -> list[T]:
    ordered = sorted(kept, key=lambda one: one[0])
    edges = [round(part * len(ordered) / wanted) for part in range(wanted + 1)]
    chosen = [ordered[random.randrange(low, high)][1] for low, high in pairwise(edges)]
    random.shuffle(chosen)
    return chosen


def kind_and_size(row: Row) -> tuple[str, float]:
    """The kind of an item, and what it takes to decode: seconds of its media, else their bytes, else letters."""
    media: Sequence[Mapping[str, Any]] = row.get("media") or ()
    if media:
        lengths = sum(one.get("duration_s") or 0.0 for one in media)
        return str(row.get("kind")), lengths or float(sum(one.get("size_bytes") or _size(one["uri"]) for one in media))
    return str(row.get("kind")), float(len(row.get("title") or "") + len(row.get("description") or ""))


def _size(uri: str) -> int:
    """Bytes of a local file; 0 for what is elsewhere or gone."""
    try:
        return Path(uri.removeprefix("file://")).stat().st_size
    except OSError:
        return 0

"""The originals so far, and whether a newcomer is a copy of one of them. Knows nothing of tables or policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from coldstart.perception.fingerprint import Words
from coldstart.perception.matching import Match, Rule, Sequence, Stretch, alike
from coldstart.perception.screening import LOOKS, Look, Screen


@dataclass(frozen=True)
class Rules:
    """When an item is a copy: see `coldstart.perception.matching.Rule`; `min_share` is the score that it takes.

    One picture is less evidence than many frames in order, so `picture_bits` is less than a video's `max_bits`.
    """

    min_share: float = 0.6
    max_bits: int = 20
    picture_bits: int = 12
    max_colour: float = 24.0

    def rule(self, media: str) -> Rule:
        """Which frames of videos, or which pictures, are alike."""
        return Rule(max_bits=self.max_bits if media == "video" else self.picture_bits, max_colour=self.max_colour)

    def look(self, media: str) -> Look:
        """What makes a candidate; of pictures none but those that `rule` may find alike."""
        if media == "video":
            return LOOKS[media]
        return replace(LOOKS[media], low_bits=self.picture_bits, max_bits=self.picture_bits)


@dataclass(frozen=True)
class Verdict:
    """A copy: its original, and how they match."""

    original: str
    match: Match


@dataclass(frozen=True)
class Arrival:
    """One item as it is judged.

    Attributes:
        media: `video` or `image`; those two are never compared.
        screen: what `coldstart.perception.screening.screened` gave for it.
        digests: of its media; equal ones are the same item, also where there is nothing to see in them.
    """

    item: str
    media: str
    screen: Words
    digests: frozenset[str]


class Seen:
    """The originals so far.

    Args:
        arrived: item -> its place in the order of arrival.
        recall: fingerprints of some items, in their order; asked for candidates alone.
    """

    def __init__(self, rules: Rules, arrived: Mapping[str, int], recall: Callable[[list[str]], list[Sequence]]) -> None:
        self._rules = rules
        self._arrived = arrived
        self._recall = recall
        self._screens = {media: Screen(rules.look(media)) for media in LOOKS}
        self._items: dict[str, list[str]] = {media: [] for media in LOOKS}
        self._exact: dict[tuple[str, frozenset[str]], str] = {}

    def add(self, arrival: Arrival) -> None:
        """Take an original in."""
        self._screens[arrival.media].add(arrival.screen)
        self._items[arrival.media].append(arrival.item)
        earlier = self._exact.setdefault((arrival.media, arrival.digests), arrival.item)
        if self._arrived[arrival.item] < self._arrived[earlier]:
            self._exact[arrival.media, arrival.digests] = arrival.item

    def judge(self, arrival: Arrival) -> Verdict | None:
        """The earliest original that an item is a copy of; None where it is none."""
        known = self._items[arrival.media]
        candidates = sorted(
            (known[place] for place in self._screens[arrival.media].find(arrival.screen)), key=self._place
        )
        same = self._exact.get((arrival.media, arrival.digests)) if arrival.digests else None
        if same is not None:
            candidates = [item for item in candidates if self._place(item) < self._place(same)]
        if not candidates and same is None:
            return None
        own, *others = self._recall([arrival.item, *candidates])
        for item, other in zip(candidates, others, strict=True):
            match = alike(own, other, self._rules.rule(arrival.media))
            if match.score >= self._rules.min_share:
                return Verdict(item, match)
        return None if same is None else Verdict(same, _identical(own))

    def _place(self, item: str) -> int:
        return self._arrived[item]


def _identical(sequence: Sequence) -> Match:
    if sequence.times_s is None:
        return Match(1.0, False, 1.0, ())
    end_s = float(sequence.times_s[-1])
    return Match(1.0, False, 1.0, (Stretch(0.0, end_s, 0.0, end_s),))

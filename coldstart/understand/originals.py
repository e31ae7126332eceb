"""Find the original of each new item: by what its pictures show, and by what is stated of both items.

Pictures alone decide who may be a copy (`coldstart.understand.near_duplicates`); stated facts can rule one out
(`coldstart.understand.item_facts`). Knows neither tables nor policies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coldstart.understand.candidates import CANDIDATE_RULES, CandidateIndex
from coldstart.understand.fingerprint import Words
from coldstart.understand.item_facts import Facts, find_difference
from coldstart.understand.near_duplicates import (
    DuplicateRules,
    Match,
    Sequence,
    Stretch,
    match_items,
)
from coldstart.understand.placement import Placement


@dataclass(frozen=True)
class Copy:
    """Verdict on a copy: its original, their match, and the place of the one in the other where details told it."""

    original: str
    match: Match
    placement: Placement | None = None


@dataclass(frozen=True)
class Verdict:
    """Verdict on an item: a copy or not, and whether facts ruled out an item that may look alike."""

    copy: Copy | None
    by_facts: bool


@dataclass(frozen=True)
class Arrival:
    """One item in the order of arrival.

    Attributes:
        media: `video` or `image`; those two are never compared.
        screen: its frames by `candidate_frames`.
        facts: with equal digests of their media two items look alike, also if all their pictures are plain.
    """

    item: str
    media: str
    screen: Words
    facts: Facts

    @property
    def still(self) -> bool:
        """Tell whether a video shows one picture all along, or none."""
        return self.media == "video" and len(self.screen) < 2


def differing_fact(one: Arrival, other: Arrival) -> str | None:
    """Name the fact in which two items that look alike differ; None where they agree."""
    plain = not len(one.screen) and not len(other.screen)
    return find_difference(one.facts, other.facts, still=one.still or other.still, plain=plain)


class Originals:
    """Index of the originals so far.

    Args:
        arrived: item -> its place in the order of arrival.
        load: loads fingerprints of some items, in their order; called for candidates alone.
    """

    def __init__(
        self, rules: DuplicateRules, arrived: Mapping[str, int], load: Callable[[list[str]], list[Sequence]]
    ) -> None:
        self._rules = rules
        self._arrived = arrived
        self._load = load
        self._indexes = {media: CandidateIndex(rules.candidate_rule(media)) for media in CANDIDATE_RULES}
        self._items: dict[str, list[Arrival]] = {media: [] for media in CANDIDATE_RULES}
        self._exact: dict[tuple[str, frozenset[str]], list[Arrival]] = {}
        self._titled: dict[frozenset[str], list[Arrival]] = {}

    def add(self, arrival: Arrival) -> None:
        """Add an original."""
        self._indexes[arrival.media].add(arrival.screen)
        self._items[arrival.media].append(arrival)
        self._exact.setdefault((arrival.media, arrival.facts.digests), []).append(arrival)
        self._titled.setdefault(arrival.facts.title, []).append(arrival)

    def find_original(self, arrival: Arrival) -> Verdict:
        """Find the earliest original of which an item is a copy."""
        known = self._items[arrival.media]
        alike = {known[place].item: known[place] for place in self._indexes[arrival.media].find(arrival.screen)}
        same = self._exact.get((arrival.media, arrival.facts.digests), []) if arrival.facts.digests else []
        exact = {other.item for other in same}
        alike |= {other.item: other for other in same}
        found = sorted(self._possible(arrival, alike), key=self._place)
        first = next((place for place, item in enumerate(found) if item in exact), len(found))
        by_facts = len(found) < len(alike)
        if not found:
            return Verdict(None, by_facts)
        own, *others = self._load([arrival.item, *found[:first]])
        for item, other in zip(found, others, strict=False):
            match = match_items(own, other, self._rules.rule(arrival.media))
            if match.score >= self._rules.min_share:
                return Verdict(Copy(item, match), by_facts)
        return Verdict(Copy(found[first], _identical(own)) if first < len(found) else None, by_facts)

    def _possible(self, arrival: Arrival, alike: Mapping[str, Arrival]) -> list[str]:
        """List those that no fact rules out."""
        others = list(alike.values())
        if arrival.facts.common:  # thousands may share a placeholder
            others = [one for one in self._titled.get(arrival.facts.title, ()) if one.item in alike]
        return [other.item for other in others if differing_fact(arrival, other) is None]

    def _place(self, item: str) -> int:
        return self._arrived[item]


def _identical(sequence: Sequence) -> Match:
    if sequence.times_s is None:
        return Match(1.0, False, 1.0, ())
    end_s = float(sequence.times_s[-1])
    return Match(1.0, False, 1.0, (Stretch(0.0, end_s, 0.0, end_s),))

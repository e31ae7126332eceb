"""Look for originals a second time, by local features: copies that are turned, cut by much, or set into another one.

Only items for which the first look, by hashes of whole pictures, found nothing are looked for. Of a video a few frames
at fixed seconds stand for it, so a copy is found if it begins where its original does. Knows neither tables nor
policies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from coldstart.understand.local_features import LocalFeatures
from coldstart.understand.local_index import LocalIndex
from coldstart.understand.local_match import PlaceRule, place_picture
from coldstart.understand.near_duplicates import Match, Stretch
from coldstart.understand.originals import Arrival, Copy, Verdict, differing_fact
from coldstart.understand.placement import Placement

FOUND_BY: Final = "details"
"""Value of `found_by` in the row of a copy that this look found."""

_INDEXED = (1, 3)  # frames of a video that are searched, by their place: each costs as much as a picture
_SAME_S = 0.3
_CANDIDATES = 12
MOST_PICTURES = 32
"""Pictures of an item that are compared, the first: each with each of a candidate."""
MOST_ORIGINALS = 250_000
"""Items whose pictures are indexed, by their arrival: with two pictures each they take some 2.4 GB of memory."""
_FEWEST_CORNERS = 12  # pictures with fewer are no evidence


@dataclass(frozen=True)
class Pictures:
    """Local features of an item's pictures, or of frames of its video at `times_s`."""

    times_s: tuple[float, ...] | None
    features: tuple[LocalFeatures, ...]

    @property
    def searched(self) -> list[LocalFeatures]:
        """Return those that are indexed, and searched for."""
        if self.times_s is None or not self.features:
            return list(self.features)
        return [self.features[place] for place in sorted({min(place, len(self.features) - 1) for place in _INDEXED})]


@dataclass(frozen=True)
class Placed:
    """Result of a second look at two items.

    Attributes:
        score: share of the pictures of the item with fewer that the other shows as well.
        placement: of the original's picture within the copy's, of the pair that agrees best.
        times_s: of a video, the first and the last second at which both show the same.
    """

    score: float
    placement: Placement
    times_s: tuple[float, float] | None


def place_item(original: Pictures, copy: Pictures, rule: PlaceRule) -> Placed | None:
    """Place the pictures of an original within those of a copy; None where not one is there."""
    found: dict[int, Placement] = {}
    for place, picture in enumerate(copy.features):
        for other, features in enumerate(original.features):
            if copy.times_s and original.times_s and abs(copy.times_s[place] - original.times_s[other]) > _SAME_S:
                continue
            if (placement := place_picture(features, picture, rule)) is not None:
                found[place] = placement
                break
        if place in _INDEXED and copy.times_s and not found:
            break  # the frames that made it a candidate are not alike
    if not found:
        return None
    of = max(1, min(_telling(original), _telling(copy)))
    best = max(found.values(), key=lambda placement: placement.score)
    times_s = (copy.times_s[min(found)], copy.times_s[max(found)]) if copy.times_s else None
    return Placed(min(1.0, len(found) / of), best, times_s)


def _telling(pictures: Pictures) -> int:
    return sum(len(one.points) >= _FEWEST_CORNERS for one in pictures.features)


class SecondLook:
    """Index of the originals' pictures.

    Args:
        min_share: score of a copy, at least.
        arrived: item -> its place in the order of arrival.
        load: loads the local features of some items, in their order; called for candidates alone.
    """

    def __init__(
        self, min_share: float, arrived: Mapping[str, int], load: Callable[[list[str]], list[Pictures]]
    ) -> None:
        self._min_share = min_share
        self._arrived = arrived
        self._load = load
        self._rule = PlaceRule()
        self._indexes: dict[str, LocalIndex] = {}
        self._items: list[Arrival] = []
        self.left_out = 0
        """Originals that were not added, since `MOST_ORIGINALS` are there."""

    def first(self, originals: Collection[str]) -> frozenset[str]:
        """Choose the originals that are indexed: those that arrived first."""
        chosen = sorted(originals, key=self._arrived.__getitem__)[:MOST_ORIGINALS]
        self.left_out += len(originals) - len(chosen)
        return frozenset(chosen)

    def add(self, arrival: Arrival, pictures: Pictures) -> None:
        """Add an original, unless there are `MOST_ORIGINALS`."""
        if len(self._items) >= MOST_ORIGINALS:
            self.left_out += 1
            return
        index = self._indexes.setdefault(arrival.media, LocalIndex())
        for features in pictures.searched:
            index.add(len(self._items), features)
        self._items.append(arrival)

    def find_original(self, arrival: Arrival, pictures: Pictures) -> Verdict:
        """Find the original that an item shows in another place, or that shows it, and that no fact rules out.

        Of several that which has most in common with it: takes of one scene are near one another.
        """
        others = self._candidates(arrival, pictures)
        by_facts, best = False, None
        for other, known in zip(others, self._load([other.item for other in others]) if others else (), strict=True):
            placed = place_item(known, pictures, self._rule)
            if placed is None or placed.score < self._min_share:
                continue
            if differing_fact(arrival, other) is not None:
                by_facts = True
            elif best is None or _agreement(placed) > _agreement(best[1]):
                best = other.item, placed
        copy = None if best is None else Copy(best[0], _match(best[1]), best[1].placement)
        return Verdict(copy, by_facts)

    def _candidates(self, arrival: Arrival, pictures: Pictures) -> list[Arrival]:
        index = self._indexes.get(arrival.media)
        if arrival.facts.common or index is None:  # thousands may share a placeholder
            return []
        votes: dict[int, int] = {}
        for features in pictures.searched:
            for place, count in index.find(features, _CANDIDATES).items():
                votes[place] = max(count, votes.get(place, 0))
        best = sorted(votes, key=lambda place: (-votes[place], place))[:_CANDIDATES]
        return sorted((self._items[place] for place in best), key=lambda one: self._arrived[one.item])


def _agreement(placed: Placed) -> tuple[float, float]:
    return placed.score, placed.placement.score


def _match(placed: Placed) -> Match:
    stretches = () if placed.times_s is None else (Stretch(*placed.times_s, *placed.times_s),)
    return Match(placed.score, False, 1.0, stretches, FOUND_BY)

"""Look for originals a second time, by local features: copies that are turned, cut by much, or set into another picture.

Only items in which the first look, by hashes of whole pictures, found nothing are looked for. Of a video a few frames at
fixed seconds stand for it, so a copy is found if it begins where its original does. Knows neither tables nor policies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coldstart.understand.local_features import LocalFeatures
from coldstart.understand.local_index import LocalIndex
from coldstart.understand.local_match import Placement, PlaceRule, place_picture

FRAME_STEP_S = 2.0
"""Seconds between the frames of a video whose local features are kept, from its start."""

FRAMES = 8
"""Frames of a video whose local features are kept, at most."""

_INDEXED = (1, 3)  # frames of a video that are searched, by their place: each costs as much as a picture
_SAME_S = 0.3
_CANDIDATES = 12
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
    """

    score: float
    placement: Placement


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
    return Placed(min(1.0, len(found) / of), max(found.values(), key=lambda placement: placement.score))


def _telling(pictures: Pictures) -> int:
    return sum(len(one.points) >= _FEWEST_CORNERS for one in pictures.features)


class SecondLook:
    """Index of the originals' pictures of one kind of media.

    Args:
        load: loads the local features of some items, in their order; called for candidates alone.
    """

    def __init__(self, min_share: float, load: Callable[[list[str]], list[Pictures]], rule: PlaceRule | None = None):
        self._min_share = min_share
        self._load = load
        self._rule = rule or PlaceRule()
        self._index = LocalIndex()
        self._items: list[str] = []

    def add(self, item: str, pictures: Pictures) -> None:
        """Add an original."""
        for features in pictures.searched:
            self._index.add(len(self._items), features)
        self._items.append(item)

    def candidates(self, pictures: Pictures) -> list[str]:
        """Find items that may show the same, the likeliest first."""
        votes: dict[int, int] = {}
        for features in pictures.searched:
            for place, count in self._index.find(features, _CANDIDATES).items():
                votes[place] = max(count, votes.get(place, 0))
        order = sorted(votes, key=lambda place: (-votes[place], place))[:_CANDIDATES]
        return [self._items[place] for place in order]

    def find(self, pictures: Pictures, possible: Sequence[str]) -> tuple[str, Placed] | None:
        """Find the first of some items that shows the same pictures in another place."""
        for item, other in zip(possible, self._load(list(possible)) if possible else (), strict=True):
            placed = place_item(other, pictures, self._rule)
            if placed is not None and placed.score >= self._min_share:
                return item, placed
        return None


def plain_placement(placement: Placement) -> str:
    """Describe in words how a copy shows its original."""
    return ", ".join(_words(placement)) or "with small changes"


def _words(placement: Placement) -> list[str]:
    words = []
    if abs(placement.angle) >= 1:
        words.append(f"turned by {abs(placement.angle):.0f} degrees")
    width, height = placement.right - placement.left, placement.bottom - placement.top
    margins = (placement.left, placement.top, 1 - placement.right, 1 - placement.bottom)
    left, top, right, bottom = (margin > 0.04 for margin in margins)
    if placement.seen >= 0.93 and placement.filled < 0.94:
        words.append(_surrounding(placement, left, top, right, bottom, max(width, height)))
    elif placement.filled >= 0.93 and placement.seen < 0.93:
        words.append(f"cut to {100 * placement.seen:.0f} % of the picture")
    elif placement.seen < 0.93:
        words.append(f"{100 * placement.seen:.0f} % of it is shown")
    return words


def _surrounding(placement: Placement, left: bool, top: bool, right: bool, bottom: bool, size: float) -> str:
    if placement.plain:
        if left and right and top and bottom:
            return "with a border"
        if left and right:
            return "with bars left and right"
        if top and bottom:
            return "with bars above and below"
    if not (left or right) and top != bottom:
        return f"with a bar {'above' if top else 'below'}"
    if not (top or bottom) and left != right:
        return f"with a bar {'on the left' if left else 'on the right'}"
    across, down = (placement.left + placement.right) / 2, (placement.top + placement.bottom) / 2
    row = "upper" if down < 0.42 else "lower" if down > 0.58 else ""
    column = "left" if across < 0.42 else "right" if across > 0.58 else ""
    where = f"in the {' '.join(part for part in (row, column) if part)} part" if row or column else "in the middle"
    return f"shown inside, {where}, at {100 * size:.0f} % size"

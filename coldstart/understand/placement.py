"""Hold the place of an original within its copy, and say it in words. Knows neither pictures nor tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Placement:
    """Place of a first picture within a second one.

    Attributes:
        angle: degrees that the first is turned by, clockwise as one sees it.
        left, top, right, bottom: the box around it, in shares of the second's width and height, not cut at its edges.
        seen: share of the first that the second shows; filled: share of the second that shows the first.
        plain: the rest of the second is of one colour.
        score: share of the corners that both should have which both have.
    """

    angle: float
    left: float
    top: float
    right: float
    bottom: float
    seen: float
    filled: float
    plain: bool
    score: float


def describe_changes(row: Mapping[str, Any]) -> str:
    """Describe in words how a copy differs from its original, from its row; empty where nothing is known of it."""
    words = ["mirrored"] if row.get("mirrored") else []
    if row.get("found_by") == "border":
        words.append("with another border")
    placement = _placement(row.get("placement") or {})
    if placement is not None:
        words += _words(placement) or ["changed a little"]
    return ", ".join(words)


def _placement(stored: Mapping[str, Any]) -> Placement | None:
    names = [field.name for field in fields(Placement)]
    known = {name: stored[name] for name in names if stored.get(name) is not None}
    return Placement(**known) if len(known) == len(names) else None


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

"""What the benchmarks share: ratios with their spread, the table, and the cache folder."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".bench"
"""Made inputs; may be deleted at any time."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        claim: what is compared with what.
        setting: sizes and formats.
        figure: the ratio (or measure) as text; `spread`: its smallest and largest over the rounds.
        goal: what it should reach, or "".
    """

    claim: str
    setting: str
    figure: str
    spread: str
    goal: str = ""


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[str, str]:
    """Median of the ratios round by round, and their range: rounds share the noise of a shared machine."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| claim | setting | figure | range | goal |", "|---|---|---|---|---|"]
    lines += [f"| {row.claim} | {row.setting} | {row.figure} | {row.spread} | {row.goal} |" for row in rows]
    return "\n".join(lines)

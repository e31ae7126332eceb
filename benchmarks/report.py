"""What the benchmarks share: lines of the table, ratios with their spread, the cache folder."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

CACHE = Path(__file__).resolve().parent.parent / ".bench"
"""Made inputs; may be deleted at any time."""
ENOUGH = 5
"""Rounds from which a bootstrap says something."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        claim: what is compared with what.
        setting: sizes and formats.
        figure: the ratio (or measure) as text; `spread`: its smallest and largest over the rounds.
        goal: what it should reach, or "". `at least 3`, `at most 0.15`, `≥ 3` and `≤ 0.15` are compared with it.
        against: what the ratio stands against, where it belongs into the plot: a physical `limit`, or a `peer`.
        rounds: the ratios round by round, where they are known.
    """

    claim: str
    setting: str
    figure: str
    spread: str
    goal: str = ""
    against: Literal["", "limit", "peer"] = ""
    rounds: tuple[float, ...] = ()


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[str, str]:
    """Median of the ratios round by round, and their range: rounds share the noise of a shared machine.

    From `ENOUGH` rounds on the range is followed by the 95 % interval of the median.
    """
    return _told(_ratios(ours, theirs))


def against(
    kind: Literal["limit", "peer"],
    claim: str,
    setting: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    goal: str = "",
) -> Row:
    """A line that holds `ours` to a limit or to a peer, round by round, and has its place in the plot."""
    found = _ratios(ours, theirs)
    return Row(claim, setting, *_told(found), goal, kind, tuple(found))


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _told(ratios: Sequence[float]) -> tuple[str, str]:
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    if len(ratios) >= ENOUGH:
        low, high = interval(ratios)
        spread += f"; median {low:.2f} to {high:.2f} (95 %)"
    return f"{statistics.median(ratios):.2f}", spread


def interval(values: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """95 % interval of the median by the percentile bootstrap over the rounds, the same for the same values.

    It knows nothing but these rounds: of few, it is little narrower than their range, and what all rounds share (the
    machine, the day) is not in it.
    """
    random = np.random.default_rng(0)
    drawn = random.choice(np.asarray(values, np.float64), size=(draws, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


_GOAL = re.compile(r"(?P<side>at least|at most|≥|≤) ?(?P<bound>\d+(?:\.\d+)?)(?P<rest>[ ,;(].*)?$")


def met(row: Row) -> bool | None:
    """Whether the figure reaches the goal; None where there is no goal or where it is not such a comparison."""
    goal, figure = _GOAL.match(row.goal), re.match(r"-?\d[\d,]*(?:\.\d+)?", row.figure)
    if goal is None or figure is None:
        return None
    value, bound = float(figure[0].replace(",", "")), float(goal["bound"])
    return value >= bound if goal["side"] in ("at least", "≥") else value <= bound


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| claim | setting | figure | interval | goal | met |", "|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines)


def cells(row: Row) -> list[str]:
    """The columns of one line, as `table` heads them."""
    verdict = {True: "yes", False: "**no**", None: ""}[met(row)]
    return [row.claim, row.setting, row.figure, row.spread, row.goal, verdict]

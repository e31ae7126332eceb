"""What the benchmarks share: lines of the table, ratios with their spread, the cache folder."""

from __future__ import annotations

import math
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
        goal: what it should reach, or "". Compared are `at least 3`, `≥ 3`, `at most 0.15`, `≤ 0.15`, `below 100` and
            `0.7 to 1.3`, with a unit or words behind the number; other text is shown and not compared.
        against: what the ratio stands against: a physical `limit`, or a `peer`.
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
    """Hold `ours` to a limit or to a peer, round by round."""
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


_NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
_SIDE = re.compile(rf"(?P<side>at least|at most|below|≥|≤) ?(?P<bound>{_NUMBER})(?! ?[+*/])(?:[ %,;(].*)?$")
_RANGE = re.compile(rf"(?P<low>{_NUMBER}) to (?P<high>{_NUMBER})$")


def bounds(row: Row) -> tuple[float, float] | None:
    """Read the least and the largest figure that reach the goal; None where the goal is no such comparison."""
    if found := _RANGE.match(row.goal):
        return _value(found["low"]), _value(found["high"])
    if not (found := _SIDE.match(row.goal)):
        return None
    bound = _value(found["bound"])
    return (bound, math.inf) if found["side"] in ("at least", "≥") else (-math.inf, bound)


def met(row: Row) -> bool | None:
    """Tell whether the figure reaches the goal; None where one of them is no number."""
    goal, figure = bounds(row), value_of(row)
    return None if goal is None or figure is None else goal[0] <= figure <= goal[1]


def reached(row: Row) -> float | None:
    """Compute how much of the goal is reached: 1 at the goal, 0.5 at half the rate or at twice the time.

    A figure of 0 under an upper bound reaches infinitely much; None where `met` is None, and of a goal of 0 or below.
    """
    goal, figure = bounds(row), value_of(row)
    if goal is None or figure is None or goal[0] == 0 or goal[1] <= 0:
        return None
    from_below = math.inf if goal[0] < 0 else figure / goal[0]
    from_above = math.inf if figure <= 0 or goal[1] == math.inf else goal[1] / figure
    return min(from_below, from_above)


def value_of(row: Row) -> float | None:
    """Read the number that the figure begins with; None where it begins with none."""
    found = re.match(rf"[+]?({_NUMBER})", row.figure)
    return _value(found[1]) if found else None


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| claim | setting | figure | interval | goal | met |", "|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines)


def cells(row: Row) -> list[str]:
    """The columns of one line, as `table` heads them."""
    verdict = {True: "yes", False: "**no**", None: ""}[met(row)]
    return [row.claim, row.setting, row.figure, row.spread, row.goal, verdict]

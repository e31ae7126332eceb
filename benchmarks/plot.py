"""The picture on the page: shares of physical limits, and ratios to peers, each with its interval and its goal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.report import ENOUGH, Row, interval

_GOAL = re.compile(r"(?:at least|≥) ?(\d+(?:\.\d+)?)")
PANELS: dict[Literal["limit", "peer"], str] = {
    "limit": "share of the machine's limit",
    "peer": "times as fast as the peer",
}


@dataclass(frozen=True)
class Bar:
    """One line of a panel: the median, from `low` to `high`, and the goal if it has one."""

    label: str
    middle: float
    low: float
    high: float
    goal: float | None
    short: bool


def bars(rows: Sequence[tuple[Row, bool]], kind: Literal["limit", "peer"]) -> list[Bar]:
    """Of the rows (with whether they are of a short form) that are held to `kind` and have rounds."""
    found = []
    for row, short in rows:
        if row.against != kind or not row.rounds:
            continue
        low, high = interval(row.rounds) if len(row.rounds) >= ENOUGH else (min(row.rounds), max(row.rounds))
        goal = _GOAL.match(row.goal)
        label = row.claim.replace("`", "")
        found.append(Bar(label, float(row.figure), low, high, float(goal[1]) if goal else None, short))
    return found


def draw(rows: Sequence[tuple[Row, bool]], path: Path) -> bool:
    """Write the picture (PNG); False where there is nothing to show."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {kind: made for kind in PANELS if (made := bars(rows, kind))}
    if not panels:
        return False
    heights = [len(made) + 1.5 for made in panels.values()]
    figure, axes = plt.subplots(
        *(len(panels), 1), figsize=(9, 0.34 * sum(heights) + 0.6), height_ratios=heights, squeeze=False
    )
    for (kind, made), axis in zip(panels.items(), axes[:, 0], strict=True):
        _panel(axis, made, PANELS[kind])
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)
    return True


def _panel(axis: Any, made: Sequence[Bar], title: str) -> None:
    for place, bar in enumerate(reversed(made)):
        reached = bar.goal is None or bar.middle >= bar.goal
        colour = "#2b6a99" if reached else "#c0392b"
        axis.plot([bar.low, bar.high], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt", alpha=0.55)
        axis.plot(bar.middle, place, "o", color=colour, markersize=6, markerfacecolor="white" if bar.short else colour)
        if bar.goal is not None:
            axis.plot(bar.goal, place, "|", color="black", markersize=13, markeredgewidth=1.6)
        axis.annotate(
            f"{bar.middle:.2f}",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colour,
        )
    ends = [edge for bar in made for edge in (bar.low, bar.high, bar.goal or bar.low)]
    axis.set_xscale("log")
    low, high = min(*ends, 1.0) * 0.8, max(*ends, 1.0) * 1.25
    axis.set_xlim(low, high)
    wide, narrow = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300), (0.1, 0.2, 0.3, 0.5, 0.7, 1, 2, 3, 5, 10)
    ticks = [tick for tick in (wide if high > 50 * low else narrow) if low <= tick <= high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.axvline(1, color="0.6", linewidth=1, zorder=0)
    axis.set_yticks(range(len(made)), [bar.label for bar in reversed(made)], fontsize=8)
    axis.set_ylim(-0.7, len(made) - 0.3)
    axis.set_title(f"{title} (| goal, red: missed, hollow: short form)", fontsize=9, loc="left")
    axis.grid(axis="x", color="0.92")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)

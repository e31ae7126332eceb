"""The picture on the page: how much of each goal is reached, on one axis where 1 is the goal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.goals import Goal

MET, MISSED = "#2b6a99", "#c0392b"
LOW, HIGH = 0.2, 8.0
"""Ends of the axis; what lies outside is drawn at the end, with its figure beside it."""
WIDTH = 74
"""Characters of a label."""


@dataclass(frozen=True)
class Bar:
    """One line of the picture.

    Attributes:
        reached: share of the goal, see `report.reached`. `text`: the figure and the goal.
        faint: of older code. `hollow`: of a short form.
    """

    label: str
    reached: float
    text: str
    met: bool
    faint: bool
    hollow: bool


def bars(found: Sequence[Goal]) -> list[Bar]:
    """Make a bar of each goal that is no 0, the best reached first."""
    made = []
    for goal in found:
        if goal.reached is None:
            continue
        label = _shortened(f"{goal.name}: {goal.row.claim.replace('`', '')}")
        text = f"{goal.row.figure}   ({goal.row.goal.split(' (')[0]})"
        made.append(Bar(label, goal.reached, text, goal.met, goal.stale, goal.record.form == "short"))
    return sorted(made, key=lambda bar: -bar.reached)


def _shortened(text: str) -> str:
    """Leave out the middle of a text that is too long: it begins with the benchmark and ends with the measure."""
    if len(text) <= WIDTH:
        return text
    first, last = text[: WIDTH // 2], text[-WIDTH // 2 :]
    return f"{first.rpartition(' ')[0] or first} … {last.partition(' ')[2] or last}"


def draw(made: Sequence[Bar], path: Path) -> bool:
    """Write the picture (PNG); False where there is nothing to show."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    if not made:
        return False
    figure, axis = plt.subplots(figsize=(12, 0.29 * len(made) + 1.5))
    for place, bar in enumerate(reversed(made)):
        colour, end = (MET if bar.met else MISSED), min(max(bar.reached, LOW), HIGH)
        tone = _paler(colour, 0.6 if bar.faint else 0.0)
        axis.plot([1, end], [place, place], color=_paler(tone, 0.35), linewidth=4, solid_capstyle="butt")
        axis.plot(end, place, "o", color=tone, markersize=7, markerfacecolor="white" if bar.hollow else tone)
        axis.annotate(
            bar.text,
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=colour,
        )
    axis.set_xscale("log")
    axis.set_xlim(LOW * 0.93, HIGH * 1.07)
    ticks = (0.2, 0.5, 1, 2, 4, 8)
    axis.set_xticks(ticks, ["≤ 0.2", "0.5", "goal", "2 x", "4 x", "≥ 8 x"], fontsize=9)
    axis.minorticks_off()
    axis.axvline(1, color="black", linewidth=1.4, zorder=0)
    axis.set_yticks(range(len(made)), [bar.label for bar in reversed(made)], fontsize=9)
    for tick, bar in zip(axis.get_yticklabels(), reversed(made), strict=True):
        tick.set_color("black" if bar.met else MISSED)
    axis.set_ylim(-0.7, len(made) - 0.3)
    missed = sum(not bar.met for bar in made)
    axis.set_title(
        f"{len(made) - missed} of {len(made)} goals above 0 met; right of the line is better",
        fontsize=12,
        loc="left",
        pad=26,
    )
    marks = [
        Line2D([], [], marker="o", linestyle="", color=MET, label="met"),
        Line2D([], [], marker="o", linestyle="", color=MISSED, label="missed"),
        Line2D([], [], marker="o", linestyle="", color="0.4", markerfacecolor="white", label="short form"),
        Line2D([], [], marker="o", linestyle="", color="0.8", label="older code"),
    ]
    axis.legend(*(), handles=marks, ncols=4, loc="lower left", bbox_to_anchor=(-0.01, 1.0), frameon=False, fontsize=9)
    axis.grid(axis="x", color="0.92")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80, format="png", bbox_inches="tight")
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)
    return True


def _paler(colour: str, share: float) -> str:
    """Mix a colour (#rrggbb) with so much white."""
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)

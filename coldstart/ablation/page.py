"""Render an ablation as one HTML page: what every step finds, what it adds, and its cost.

The page reads the plain record of `coldstart.ablation.report.LadderReport.to_dict`, has no scripts, fetches nothing,
and escapes every text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from coldstart.describe.page import verdict_of
from coldstart.pages.charts import interval, number, percent, signed
from coldstart.pages.page import environment

SERIES = {"gain": "by content alone", "aligned_gain": "aligned"}
_LEFT, _RIGHT, _TOP, _WIDTH, _HEIGHT = 62.0, 150.0, 16.0, 820.0, 300.0
_LEAST_S = 0.1
"""Least seconds of the logarithmic axis; less is drawn as this."""


def ablation_html(known: Mapping[str, Any]) -> str:
    """Render the report as an HTML document.

    Args:
        known: from `LadderReport.to_dict`.
    """
    templates = environment()
    templates.filters |= {
        "corrected": format_p,
        "interval": interval,
        "number": number,
        "percent": percent,
        "took": format_duration,
        "signed": signed,
        "verdict": verdict_of,
    }
    steps = {one["name"]: one for one in known["steps"]}
    reasons = {one["name"]: one["reason"] for one in known["missing"]}
    return templates.get_template("ablation.html").render(
        known=known,
        rows=[
            {"name": name, "step": steps.get(name), "reason": reasons.get(name)}
            for name in known["order"]
            if name in steps or name in reasons
        ],
        series=SERIES,
        chart=gains_chart(known["steps"]),
        unplaced=[one["name"] for one in known["steps"] if one["gain"] and one["seconds"] is None],
    )


def format_p(gain: Mapping[str, Any] | None) -> str:
    """Format the corrected p-value of a gain; empty without a gain."""
    if gain is None:
        return ""
    return "< 0.01" if gain["holm"] < 0.01 else f"{gain['holm']:.2f}"


def format_duration(value: float | None) -> str:
    """Format seconds in a readable unit; a question mark where unknown."""
    if value is None:
        return "?"
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} s" if value >= 10 or value == 0 else f"{value:.2g} s"


def gains_chart(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Lay out gains of steps against their seconds on a logarithmic scale, in px; None where there is none to draw.

    Returns:
        `width`, `height`, `bottom`, `left`, `right`, `zero` (the line of no gain), `x_ticks` and `y_ticks` (place and
        text), `points` (name, `x`, and for each series `y`, `high`, `low` and a text).
    """
    drawn = [one for one in steps if one["gain"] and one["seconds"] is not None]
    if not drawn:
        return None
    spans = [max(one["seconds"], _LEAST_S) for one in drawn]
    first, last = math.floor(math.log10(min(spans))), math.ceil(math.log10(max(spans)))
    last = max(last, first + 1)
    bounds = [one[name][edge] for one in drawn for name in SERIES for edge in ("low", "high")]
    low, high = min(0.0, *bounds), max(0.0, *bounds)
    low, high = low - 0.06 * (high - low or 1), high + 0.06 * (high - low or 1)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - 34

    def x(value: float) -> float:
        share = (math.log10(max(value, _LEAST_S)) - first) / (last - first)
        return float(round(_LEFT + (right - _LEFT) * share, 2))

    def y(value: float) -> float:
        return float(round(bottom - (bottom - _TOP) * (value - low) / (high - low), 2))

    points = []
    for one in drawn:
        own = {
            name: {
                "y": y(one[name]["value"]),
                "low": y(one[name]["low"]),
                "high": y(one[name]["high"]),
                "text": f"{one['name']}, {title}: {signed(one[name]['value'])} "
                f"({interval(one[name], is_change=True)}) for {format_duration(one['seconds'])}",
            }
            for name, title in SERIES.items()
        }
        points.append({"name": one["name"], "x": x(one["seconds"]), "series": own})
    step = _round_step((high - low) / 5)
    ticks = [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": right,
        "bottom": bottom,
        "zero": y(0.0),
        "x_ticks": [{"x": x(10.0**power), "text": format_duration(10.0**power)} for power in range(first, last + 1)],
        "y_ticks": [{"y": y(value), "text": signed(value)} for value in ticks],
        "points": _apart(points),
    }


def _round_step(value: float) -> float:
    """Round up to the next of 1, 2, 5, 10, … times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def _apart(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add `label_y` to points, so that no label overlaps another."""
    found: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda one: one["series"]["gain"]["y"]):
        place = point["series"]["gain"]["y"] + 4
        near = [one["label_y"] for one in found if abs(one["x"] - point["x"]) < 120]
        while any(abs(place - other) < 15 for other in near):
            place += 15
        found.append({**point, "label_y": place})
    return found

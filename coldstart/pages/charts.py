"""Charts as coordinates to draw: intervals on one scale, shares as bars; and numbers as text. Knows no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LEFT, _RIGHT, _WIDTH = 150.0, 24.0, 760.0
_ROW, _GROUP_GAP, _TOP = 34.0, 30.0, 26.0
_LABEL_GAP, _LETTER = 14.0, 7.4  # letters of 13 px, the widest words
_BAR_HEIGHT = 130.0

Named = Sequence[tuple[str, Sequence[tuple[str, Mapping[str, Any]]]]]
"""Group -> row -> series (`before`, `after`) -> an interval, with `chance` where that is known."""


def dots(groups: Named) -> dict[str, Any]:
    """Lay out intervals of values from 0 to 1 as points with whiskers, the series of a row one above the other.

    Returns:
        `width`, `height`, `ticks`, `heads` (names of groups), `labels` (of rows) and where they end (`label_x`),
        `marks` (series and places in px) and `chances` (places).
    """
    longest = max((len(row) for _, rows in groups for row, _ in rows), default=0)
    left = max(_LEFT, _LETTER * longest + _LABEL_GAP)

    def x(share: float) -> float:
        return round(left + (_WIDTH - left - _RIGHT) * min(max(share, 0.0), 1.0), 2)

    heads, labels, marks, chances = [], [], [], []
    y = _TOP
    for name, rows in groups:
        heads.append({"text": name, "y": y})
        y += _GROUP_GAP - 8
        for row, series in rows:
            labels.append({"text": row, "y": y})
            shown = [(key, series[key]) for key in ("before", "after") if series.get(key)]
            for place, (key, found) in enumerate(shown):
                dy = 0.0 if len(shown) == 1 else (-5.5, 5.5)[place]
                marks.append(
                    {
                        "series": key,
                        "y": y + dy,
                        "x": x(found["value"]),
                        "low": x(found["low"]),
                        "high": x(found["high"]),
                        "text": f"{row} {key}: {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})",
                    }
                )
                if key == "after" and found.get("chance") is not None:
                    chances.append({"x": x(found["chance"]), "y": y, "text": f"chance: {found['chance']:.4f}"})
            y += _ROW
        y += _GROUP_GAP - 14
    ticks = [{"x": x(share / 4), "text": f"{share / 4:g}"} for share in range(5)]
    return {
        "width": _WIDTH,
        "height": y,
        "bottom": y - 20,
        "ticks": ticks,
        "heads": heads,
        "labels": labels,
        "label_x": left - _LABEL_GAP,
        "marks": marks,
        "chances": chances,
    }


def bars(after: Sequence[Mapping[str, int]], before: Sequence[Mapping[str, int]] | None) -> list[dict[str, Any]]:
    """Lay out buckets of ranks as bars, to one scale: the label of each, and its height in px and share by series.

    Args:
        after, before: buckets `first`, `last` and `queries`, alike in both.
    """
    series = {"after": after} if before is None else {"before": before, "after": after}
    totals = {name: sum(bucket["queries"] for bucket in buckets) for name, buckets in series.items()}
    tallest = max(bucket["queries"] / totals[name] for name, buckets in series.items() for bucket in buckets)
    shown = []
    for place, bucket in enumerate(after):
        first, last = bucket["first"], bucket["last"]
        found = []
        for name, buckets in series.items():
            share = buckets[place]["queries"] / totals[name]
            height = round(_BAR_HEIGHT * share / tallest, 1)
            found.append({"series": name, "height": height, "share": share, "queries": buckets[place]["queries"]})
        shown.append({"label": f"{first:,}" if first == last else f"{first:,}–{last:,}", "bars": found})
    return shown


def number(value: float | None, *, is_rank: bool = False) -> str:
    """Format a number: three decimals, one from ten on, none for whole numbers above one and ranks; empty for None."""
    if value is None:
        return ""
    if is_rank:
        text = f"{value:,.10g}"
    elif value == round(value) and abs(value) > 1:
        text = f"{value:,.0f}"
    else:
        text = f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"
    return text.replace("-", "−")


def signed(value: float | None, *, is_rank: bool = False) -> str:
    """Format a difference with its sign."""
    if value is None:
        return ""
    text = number(abs(value), is_rank=is_rank)
    return text if not value else f"{'+' if value > 0 else '−'}{text}"


def percent(share: float) -> str:
    """Format a share in whole per cent; a share above 0 is never `0 %`, one below 1 never `100 %`."""
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def interval(found: Mapping[str, Any] | None, *, is_rank: bool = False, is_change: bool = False) -> str:
    """Format an interval as `low to high`, of differences with their signs; empty where there is none."""
    show = signed if is_change else number
    return "" if found is None else f"{show(found['low'], is_rank=is_rank)} to {show(found['high'], is_rank=is_rank)}"


STRIP_WIDTH = 320.0
_STRIP_EDGE = 8.0


def strip(value: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    """Lay out one interval from 0 to 1 above that of its baseline, small enough for a line of text.

    Returns:
        `width`, `height`, `ends` (places of 0, a half and 1) and `marks` (series and places in px).
    """

    def x(share: float) -> float:
        return round(_STRIP_EDGE + (STRIP_WIDTH - 2 * _STRIP_EDGE) * min(max(share, 0.0), 1.0), 2)

    shown = [("after", value, 9.0)] + ([] if baseline is None else [("baseline", baseline, 21.0)])
    marks = [
        {"series": series, "y": y, **{name: x(found[key]) for name, key in _MARK.items()}} for series, found, y in shown
    ]
    return {"width": STRIP_WIDTH, "height": 44, "ends": [x(share) for share in (0.0, 0.5, 1.0)], "marks": marks}


_MARK = {"x": "value", "low": "low", "high": "high"}

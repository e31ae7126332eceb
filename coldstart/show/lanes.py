"""A timeline as lanes of blocks, in percent of its length; knows nothing of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_ROWS = 4
"""Rows of one lane; what overlaps more than that is counted, and stands in the table."""

_PX_PER_S = 24.0  # at which a phrase of a few seconds has room for its first words
_MIN_PX = 560.0
_TICK_PX = 72.0
_OVERVIEW_FROM_S = 60.0  # longer timelines are wider than a screen
_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_NAMES = {"shot": "shots", "speech": "speech", "screen": "text on screen"}


def clock(seconds: float | None) -> str:
    """`m:ss.s`, from an hour on `h:mm:ss.s`; empty where there is no time."""
    if seconds is None:
        return ""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def span(entry: Mapping[str, Any]) -> str:
    """From when to when an entry with `start_s` and `end_s` lasts; empty where it has no time, as text of a picture."""
    if entry["start_s"] is None:
        return ""
    return f"{clock(entry['start_s'])}–{clock(entry['end_s'])}"


def draw(
    timeline: Sequence[Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]], duration_s: float | None
) -> dict[str, Any] | None:
    """Lanes to scale; None where nothing has a time.

    Args:
        timeline: entries with `start_s`, `end_s`, `source` and `text`; `dropped`: speech that was not believed.
        duration_s: length of the medium; entries that end later make it longer.

    Returns:
        `lanes` (name, rows of blocks, how many more there are), `ticks` and the ticks of an `overview` (None for a
        short timeline); `width_px`, the least at which words have room. Places and widths are percentages.
    """
    timed: list[Mapping[str, Any]] = [entry for entry in timeline if entry["start_s"] is not None]
    unsaid: list[Mapping[str, Any]] = [
        {**entry, "source": "dropped"} for entry in dropped if entry["start_s"] is not None
    ]
    ends = [entry["end_s"] for entry in (*timed, *unsaid) if entry["end_s"] is not None]
    length_s = max([duration_s or 0.0, *ends], default=0.0)
    if not (timed or unsaid) or length_s <= 0:
        return None
    lanes = []
    for source, name in _NAMES.items():
        own = [entry for entry in timed if entry["source"] == source]
        entries = own + unsaid if source == "speech" else own
        if entries:
            rows, more = _pack(entries)
            lanes.append({"name": name, "rows": [[_block(one, length_s) for one in row] for row in rows], "more": more})
    width_px = max(_MIN_PX, _PX_PER_S * length_s)
    is_long = length_s > _OVERVIEW_FROM_S
    return {
        "lanes": lanes,
        "ticks": _ticks(length_s, width_px),
        "overview": _ticks(length_s, _MIN_PX) if is_long else None,
        "width_px": round(width_px),
        "length": clock(length_s),
    }


def _pack(entries: Sequence[Mapping[str, Any]]) -> tuple[list[list[Mapping[str, Any]]], int]:
    """Entries in rows in which none overlaps another, each in the first row with room."""
    rows: list[list[Mapping[str, Any]]] = []
    more = 0
    for entry in sorted(entries, key=lambda one: (one["start_s"], _end(one))):
        row = next((row for row in rows if _end(row[-1]) <= entry["start_s"] + 1e-6), None)
        if row is not None:
            row.append(entry)
        elif len(rows) < MOST_ROWS:
            rows.append([entry])
        else:
            more += 1
    return rows, more


def _block(entry: Mapping[str, Any], length_s: float) -> dict[str, Any]:
    start_s = min(max(entry["start_s"], 0.0), length_s)
    words = f"{entry['text']} ({entry['reason']})" if entry["source"] == "dropped" else entry["text"]
    return {
        "source": entry["source"],
        "text": words,
        "when": span(entry),
        "left": round(100 * start_s / length_s, 4),
        "width": round(100 * max(_end(entry) - start_s, 0.0) / length_s, 4),
    }


def _end(entry: Mapping[str, Any]) -> float:
    return float(entry["start_s"] if entry["end_s"] is None else entry["end_s"])


def _ticks(length_s: float, width_px: float) -> list[dict[str, Any]]:
    """Marks at round times, far enough apart for their labels; none so near the end that its label would not fit."""
    least_s = _TICK_PX * length_s / width_px
    step_s = next((step for step in _STEPS_S if step >= least_s), _STEPS_S[-1])
    count = int((length_s - least_s / 2) / step_s) + 1
    return [
        {"left": round(100 * index * step_s / length_s, 4), "label": _short(index * step_s)} for index in range(count)
    ]


def _short(seconds: float) -> str:
    return clock(seconds).removesuffix(".0")

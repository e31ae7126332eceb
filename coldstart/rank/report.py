"""Write an evaluation of rankers as tables: rows for the terminal, Markdown, one HTML page with reliability curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.pages.page import environment
from coldstart.rank.evaluate import RESAMPLES

COLUMNS = ("method", "AUC", "GAUC", "log loss", "ECE", "ECE uncalibrated")
_METRICS = ("auc", "gauc", "log_loss", "ece")
_SIZE, _EDGE = 260.0, 34.0


def rows_of(known: Mapping[str, Any], event: str) -> list[list[str]]:
    """List the rows of one event, a method each, the chosen one marked."""
    found = []
    for name, own in known["events"][event]["methods"].items():
        cells = [_cell(own[metric]) for metric in _METRICS]
        title = known["titles"][name] + (" (chosen)" if name == known["chosen"] else "")
        found.append([title, *cells, f"{own['ece_before']:.4f}"])
    return found


def _cell(one: Mapping[str, Any] | None) -> str:
    return "" if one is None else f"{one['value']:.4f} ({one['low']:.4f}–{one['high']:.4f})"


def heading(known: Mapping[str, Any], event: str) -> str:
    """Write the title of an event with its numbers, and whether they are too few to judge by."""
    own = known["events"][event]
    few = "" if own["users"] >= FEWEST_COMPARED else f"; too few to judge: {FEWEST_COMPARED} users are needed"
    return f"{event}: {own['rows']:,} showings, {own['rate']:.1%} with it, {own['users']:,} users with both{few}"


def lines_of(known: Mapping[str, Any]) -> list[str]:
    """Say what was judged, how methods compare by GAUC, and what was checked, a line each."""
    split, counts = known["split"], known["counts"]
    at = datetime.fromtimestamp(split["cut"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    found = [
        f"fitted on {split['fitted']:,} showings before {at}, judged on {split['judged']:,} from then on: "
        f"{counts['users']:,} users, {counts['items']:,} items; {counts['cold']:,} showings of new items; "
        f"{counts['features']} features"
    ]
    for event, own in known["events"].items():
        for name, one in own["compared"].items():
            if one is not None:
                first, _, second = name.partition(" less ")
                words = f"{known['titles'][first]} less {known['titles'][second]}"
                found.append(f"{event}, GAUC of {words}: {one['value']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})")
        for name, measured in own["slices"].items():
            best = measured.get(known["chosen"])
            if best is not None:
                of = f"{measured['rows']:,} showings, AUC {best['auc']:.4f}, ECE {best['ece']:.4f}"
                found.append(f"{event}, {name} items: {of}")
    found += known["notes"]
    found.append(
        f"in brackets: 95 % intervals, by {RESAMPLES} resamples of users, of GAUC by its spread between users; GAUC: "
        "mean AUC of users with both labels, by their rows; ECE: 15 equal bins, after calibration where one held on "
        "later fitted showings; chance alone makes it larger, never smaller than 0, so its interval lies too high: go "
        "by the upper end"
    )
    found.append(f"no leak found: {'; '.join(known['checked'])}")
    return found


def markdown(known: Mapping[str, Any]) -> str:
    """Write an evaluation as Markdown, with the reliability of the chosen method."""
    found = ["# Ranking", "", *(f"- {line}" for line in lines_of(known))]
    for event in known["events"]:
        found += ["", f"## {heading(known, event)}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
        found += [_line(row) for row in rows_of(known, event)]
        found += ["", "| predicted | observed | showings |", "|---|---|---|"]
        found += [_line(row) for row in _reliable(known, event)]
    return "\n".join(found) + "\n"


def _reliable(known: Mapping[str, Any], event: str) -> list[list[str]]:
    own = known["events"][event]["methods"][known["chosen"]]["reliability"]
    return [[f"{one['predicted']:.3f}", f"{one['observed']:.3f}", f"{one['rows']:,}"] for one in own]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def curve(known: Mapping[str, Any], event: str) -> dict[str, Any]:
    """Lay out the reliability curve of the chosen method: points and their sizes in px, the axis, to its own scale."""
    own = known["events"][event]["methods"][known["chosen"]]["reliability"]
    top = max(max(one["predicted"], one["observed"]) for one in own) * 1.05
    step = next((one for one in (0.01, 0.02, 0.05, 0.1, 0.2) if top / one <= 5), 0.25)
    total = sum(one["rows"] for one in own)

    def x(value: float) -> float:
        return float(round(_EDGE + value / top * (_SIZE - _EDGE - 10), 1))

    def y(value: float) -> float:
        return float(round(_SIZE - _EDGE - value / top * (_SIZE - _EDGE - 10), 1))

    ticks = [place * step for place in range(int(top / step) + 1)]
    return {
        "size": _SIZE,
        "edge": _EDGE,
        "ticks": [{"x": x(value), "y": y(value), "text": f"{value:.2f}"} for value in ticks],
        "end": {"x": x(top), "y": y(top)},
        "points": [
            {"x": x(one["predicted"]), "y": y(one["observed"]), "r": round(2 + 8 * (one["rows"] / total) ** 0.5, 1),
             "text": f"predicted {one['predicted']:.3f}, observed {one['observed']:.3f}, {one['rows']:,} showings"}
            for one in own
        ],
    }  # fmt: skip


def rank_html(known: Mapping[str, Any]) -> str:
    """Render an evaluation as an HTML document without scripts."""
    tables = [
        {
            "title": heading(known, event),
            "columns": COLUMNS,
            "rows": rows_of(known, event),
            "curve": curve(known, event),
            "method": known["titles"][known["chosen"]],
        }
        for event in known["events"]
    ]
    page: str = (
        environment()
        .get_template("rank.html")
        .render(
            title="Ranking",
            question="How well are showings ranked, and do probabilities hold?",
            tables=tables,
            lines=lines_of(known),
        )
    )
    return page

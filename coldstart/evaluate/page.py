"""Render an evaluation of all capabilities as one HTML page: a sentence a capability, then each question in detail.

The page reads the plain record of `coldstart.evaluate.workspace.EvaluationReport.to_dict`, has no scripts, fetches
nothing, and escapes every text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coldstart.evaluate.rows import JUDGED, VERDICTS, percent
from coldstart.media.limits import Limits
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.pages.charts import number, signed, strip
from coldstart.pages.page import environment

TONES: Mapping[str, str] = {"better": "better", "worse": "worse", "failed": "worse"}
"""Verdict -> class of its badge; all others are grey."""


def evaluation_page(known: Mapping[str, Any], path: Path, links: Mapping[str, str] | None = None) -> None:
    """Write the report as one HTML file; its folder is created where missing.

    Args:
        known: as `EvaluationReport.to_dict` gives it.
        links: capability -> its detail page, as `detail_pages` gives them.

    Raises:
        OSError: the file cannot be written.
    """
    page = evaluation_html(known, links)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def detail_pages(details: Mapping[str, Any], folder: Path, limits: Limits) -> dict[str, str]:
    """Write the page of each capability that has one: capability -> its path; the folder is created where missing.

    Args:
        details: as `EvaluationReport.details` has them.
        limits: of media, as for ingest.

    Raises:
        OSError: a file cannot be written.
    """
    from coldstart.align.page import alignment_page
    from coldstart.describe.page import descriptions_page
    from coldstart.recommend.evaluate.page import recommend_html

    folder.mkdir(parents=True, exist_ok=True)
    pages: dict[str, tuple[str, Callable[[Any, Path], object]]] = {
        "align": ("alignment.html", lambda found, path: alignment_page(found, path, limits=limits)),
        "describe": ("descriptions.html", lambda found, path: descriptions_page(found, path, limits=limits)),
        "recommend": ("recommend.html", lambda found, path: path.write_text(recommend_html(found), encoding="utf-8")),
    }
    written = {}
    for name, (file, write) in pages.items():
        if name in details:
            write(details[name], folder / file)
            written[name] = str(folder / file)
    return written


def evaluation_html(known: Mapping[str, Any], links: Mapping[str, str] | None = None) -> str:
    """Render the report as an HTML document; arguments are as for `evaluation_page`."""
    rows = [_shown(row) for row in known["rows"]]
    sections = [
        _section(one, [row for row in rows if row["capability"] == one["name"]]) for one in known["capabilities"]
    ]
    sections = [section for section in sections if section["rows"]]
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    return (
        environment()
        .get_template("evaluation.html")
        .render(
            known=known,
            sections=[section for section in sections if section["measured"]],
            unmeasured=[section for section in sections if not section["measured"]],
            counts={VERDICTS[verdict]: count for verdict, count in counts.items() if count},
            fewest=FEWEST_COMPARED,
            links=links or {},
        )
    )


def _section(capability: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    heads = [row for place, row in enumerate(rows) if row["headline"] or not place]
    measured = any(row["chart"] for row in rows)
    return {**capability, "rows": rows, "heads": heads, "measured": measured}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Add what the page draws of a row: its badge, its chart and its numbers as text."""
    value, baseline, difference = row["value"], row["baseline"], row["difference"]
    show = _percent if row["is_share"] else number
    found = {
        **row,
        "badge": VERDICTS[row["verdict"]],
        "tone": TONES.get(row["verdict"], "grey"),
        "is_judged": row["verdict"] in JUDGED,
        "chart": None if value is None else strip(value, baseline and baseline["interval"]),
        "figures": [],
    }
    if value is not None:
        found["figures"].append(("here", show(value["value"]), _span(value, show)))
    if baseline is not None:
        interval = baseline["interval"]
        is_exact = interval["low"] == interval["high"]
        found["figures"].append((baseline["name"], show(interval["value"]), "" if is_exact else _span(interval, show)))
    if difference is not None:
        points = _points if row["is_share"] else signed
        found["figures"].append(("difference", points(difference["value"]), _span(difference, points)))
    return found


def _percent(share: float) -> str:
    return f"{percent(share)} %"


def _points(change: float) -> str:
    sign = "+" if change > 0 else "−" if change < 0 else ""
    return f"{sign}{100 * abs(change):.1f}"


def _span(found: Mapping[str, Any], show: Any) -> str:
    return f"{show(found['low'])} to {show(found['high'])}"

"""Write an evaluation of recall as tables: rows for the terminal, Markdown, one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.pages.page import environment

_METRICS = ("recall@10", "ndcg@10", "recall@20")
_ALL = ("recall@10", "ndcg@10", "recall@5", "ndcg@5", "recall@20")


def columns_of(known: Mapping[str, Any], metrics: Sequence[str] = _METRICS) -> list[str]:
    """List the columns of a table: method, measures, share of new items in any list, seconds."""
    emitted = ["new in lists"] if known["counts"]["new_items"] else []
    return ["method", *metrics, *emitted, "seconds"]


def rows_of(known: Mapping[str, Any], name: str, metrics: Sequence[str] = _METRICS) -> list[list[str]]:
    """List the rows of one set of targets, a method each; none where it has no target."""
    found = []
    for method in known["methods"].values():
        measures = method["sets"].get(name)
        if measures is None:
            continue
        cells = [
            f"{one['value']:.4f} ({one['low']:.4f}–{one['high']:.4f})"
            for one in (measures[metric] for metric in metrics)
        ]
        if known["counts"]["new_items"]:
            cells.append("" if method["emitted"] is None else f"{method['emitted']:.0%}")
        found.append([method["title"], *cells, f"{method['seconds']:,.0f}"])
    return found


def heading(known: Mapping[str, Any], name: str) -> str:
    """Write the title of a set with its number of targets, and whether they are too few to judge by."""
    measured = [method["sets"][name] for method in known["methods"].values() if method["sets"].get(name)]
    count, items = (measured[0]["n"], measured[0]["items"]) if measured else (0, 0)
    few = "" if items >= FEWEST_COMPARED else f"; too few to judge: {FEWEST_COMPARED} different items are needed"
    title = str(known["sets"][name])
    return f"{title[0].upper()}{title[1:]}: {count:,}, of {items:,} items{few}"


def lines_of(known: Mapping[str, Any]) -> list[str]:
    """Say what was judged, how `both` compares, what was left out and what was checked, a line each."""
    split, counts = known["split"], known["counts"]
    found = [
        f"split {split['kind']}, digest {split['digest']}: {counts['users']:,} users, a next item each; "
        f"{counts['items']:,} items, {counts['new_items']:,} of them without a training row; "
        f"{counts['train_rows']:,} training rows; fits of trained methods: {split['seeds']}"
    ]
    if known["compared"]:
        for metric, one in known["compared"].items():
            than = known["methods"][one["than"]]["title"]
            found.append(
                f"both less the best other row by {metric} ({than}): {one['value']:+.4f} "
                f"({one['low']:+.4f} to {one['high']:+.4f})"
            )
    found += [f"left out: {known['methods'].get(name, {}).get('title', name)}: {why}"
              for name, why in known["left_out"].items()]  # fmt: skip
    found += known["notes"]
    found.append(
        "in brackets: 95 % intervals by bootstrap over users or over their targets, the wider; new in lists: share of "
        "new items in the first 50 of anyone"
    )
    found.append(f"no leak found: {'; '.join(known['checked'])}")
    return found


def markdown(known: Mapping[str, Any]) -> str:
    """Write an evaluation as Markdown."""
    found = ["# Recall", "", *(f"- {line}" for line in lines_of(known))]
    columns = columns_of(known, _ALL)
    for name in known["sets"]:
        rows = rows_of(known, name, _ALL)
        if rows:
            found += ["", f"## {heading(known, name)}", "", _line(columns), _line(["---"] * len(columns))]
            found += [_line(row) for row in rows]
    return "\n".join(found) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def recall_html(known: Mapping[str, Any]) -> str:
    """Render an evaluation as an HTML document without scripts."""
    tables = [
        {"title": heading(known, name), "columns": columns_of(known), "rows": rows}
        for name in known["sets"]
        if (rows := rows_of(known, name))
    ]
    page: str = (
        environment()
        .get_template("tables.html")
        .render(
            title="Recall",
            question="Which method finds what users like next?",
            tables=tables,
            lines=lines_of(known),
        )
    )
    return page

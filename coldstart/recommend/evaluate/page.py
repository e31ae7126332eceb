"""Render an evaluation of recommendations as an HTML page and as Markdown tables.

Both read the plain record of `coldstart.recommend.evaluate.report.RecommendReport.to_dict`. The page has no scripts,
fetches nothing, and escapes every text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.pages.charts import interval, number, percent, signed
from coldstart.pages.page import environment

SERVED = "as recommend lists"
"""Role of rows that are lists as `recommend` gives them."""
SETS = {"cold": "New items", "warm": "Training items", "all": "Both together"}
LISTS = {
    "coverage": ("coverage", "share of the candidates that are in some list"),
    "gini": ("Gini", "0: all candidates are shown equally often; near 1: few have all slots"),
    "diversity": ("diversity", "mean of 1 − cosine of content over the pairs of a list"),
    "novelty": ("novelty", "mean of −log2 of the share of training users who met an item"),
}
_LEFT, _WIDTH, _ROW, _TOP = 265.0, 820.0, 26.0, 14.0
_RIGHT = 40.0
_SIDE, _PAD, _POINT = 400.0, 46.0, 15.0
_SIGNIFICANT = 0.05


def recommend_html(known: Mapping[str, Any]) -> str:
    """Render the report as an HTML document.

    Args:
        known: from `RecommendReport.to_dict`.
    """
    templates = environment()
    templates.filters |= {"interval": interval, "number": number, "percent": percent, "signed": signed}
    methods, (recall, ndcg) = known["methods"], known["headline"]
    numbers = {name: place for place, name in enumerate(methods, 1)}
    last = list(known["counts"]["sets"])[-1]
    return templates.get_template("recommend.html").render(
        known=known,
        sets=SETS,
        lists=LISTS,
        numbers=numbers,
        recall=recall,
        ndcg=ndcg,
        reference=methods[known["reference"]]["title"] if known["reference"] else None,
        tables=[_table(known, name) for name in known["counts"]["sets"]],
        fewest=FEWEST_COMPARED,
        trades=[
            {"axis": axis, "set": last, "chart": scatter(_points(known, last, axis, ndcg, numbers))}
            for axis in ("coverage", "diversity")
        ],
        exposure=_exposure(known),
        served=served_table(known),
        served_title=served_title(known),
        audience=whiskers(
            [(own["title"], own["role"], own["audience"]) for own in methods.values() if own["audience"]]
        ),
        strata=_strata(known),
    )


def verdict(found: Mapping[str, Any] | None) -> str:
    """Return `better` or `worse` for a significant difference after Holm's correction, else an empty text."""
    if found is None or found["p_holm"] is None or found["p_holm"] >= _SIGNIFICANT:
        return ""
    return "better" if found["value"] > 0 else "worse"


def whiskers(rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Lay out values with intervals, a row each, on a scale from 0 to the greatest bound.

    Args:
        rows: label, role, and an interval of values that are at least 0.

    Returns:
        `width`, `height`, `bottom`, `ticks`, and `marks` with their labels and places in px.
    """
    most, ticks = _scale(max((found["high"] for _, _, found in rows), default=1.0))

    def x(value: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * min(max(value, 0.0), most) / most, 1)

    marks = [
        {
            "label": label,
            "role": role.replace(" ", "-"),
            "y": _TOP + _ROW * (place + 0.5),
            "x": x(found["value"]),
            "low": x(found["low"]),
            "high": x(found["high"]),
            "text": f"{label}: {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})",
        }
        for place, (label, role, found) in enumerate(rows)
    ]
    bottom = _TOP + _ROW * len(rows)
    return {
        "width": _WIDTH,
        "height": bottom + 20,
        "bottom": bottom,
        "ticks": [{"x": x(tick), "text": f"{tick:g}"} for tick in ticks],
        "marks": marks,
    }


def scatter(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lay out points with `number`, `role`, `text`, `across` and `up` (both 0 or more) in a square, in px."""
    ends = {key: _scale(max((point[key] for point in points), default=1.0)) for key in ("across", "up")}

    def place(value: float, key: str) -> float:
        share = min(max(value, 0.0) / ends[key][0], 1.0) * (_SIDE - _PAD - 16)
        return round(_PAD + share if key == "across" else _SIDE - _PAD - share, 1)

    placed: list[dict[str, Any]] = []
    for point in points:
        x, y = place(point["across"], "across"), place(point["up"], "up")
        while any(math.hypot(one["x"] - x, one["y"] - y) < _POINT for one in placed):
            x = round(x - _POINT, 1)  # beside the one that it would cover; its title has the values
        placed.append({**point, "x": x, "y": y})
    return {
        "side": _SIDE,
        "pad": _PAD,
        "bottom": _SIDE - _PAD,
        "ticks": {key: [{"at": place(tick, key), "text": f"{tick:g}"} for tick in ends[key][1]] for key in ends},
        "points": placed,
    }


def _scale(most: float) -> tuple[float, list[float]]:
    """Compute the end of an axis that holds a value, and its ticks from 0."""
    step = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if most <= 6 * step), most / 5)
    count = max(1, -int(-most // step))
    return step * count, [round(step * place, 10) for place in range(count + 1)]


def _table(known: Mapping[str, Any], name: str) -> dict[str, Any]:
    recall = known["headline"][0]
    measures = [f"{measure}@{k}" for k in known["ks"] for measure in ("recall", "ndcg")]
    measures += [f"{measure}@{recall.partition('@')[2]}" for measure in ("mrr", "hit")]
    rows = []
    for own in known["methods"].values():
        cells = own["sets"][name]
        difference = cells[recall].get("difference")
        rows.append(
            {
                "title": own["title"],
                "role": own["role"],
                "seeds": own["seeds"],
                "cells": [(measure in known["headline"], cells[measure]) for measure in measures],
                "difference": difference,
                "verdict": verdict(difference),
                "gap": cells[recall].get("gap"),
                "rest": own["rest"][name].get(recall),
                "found": own["found"][name],
                "lists": own["lists"][name],
                "fit_s": own["fit_s"],
            }
        )
    shown = [(own["title"], own["role"], own["sets"][name][recall]) for own in known["methods"].values()]
    return {
        "name": name,
        "title": SETS[name],
        "of": known["counts"]["sets"][name],
        "measures": measures,
        "most_liked": known["most_liked"][name],
        "popularity": known["popularity"][name],
        "rows": rows,
        "chart": whiskers(shown),
    }


def _points(
    known: Mapping[str, Any], name: str, axis: str, measure: str, numbers: Mapping[str, int]
) -> list[dict[str, Any]]:
    found = []
    for method, own in known["methods"].items():
        up, across = own["sets"][name][measure]["value"], own["lists"][name][axis]
        if across is not None:
            text = f"{own['title']}: {measure} {up:.3f}, {axis} {across:.3f}"
            role = own["role"].replace(" ", "-")
            found.append({"number": numbers[method], "role": role, "text": text, "across": across, "up": up})
    return found


def _exposure(known: Mapping[str, Any]) -> dict[str, Any] | None:
    """Collect the share of slots of new items in lists of all candidates, beside their share of relevant pairs."""
    if known["cold_share"] is None:
        return None
    rows = [
        {"title": own["title"], "share": own["lists"]["all"]["cold"]}
        for own in known["methods"].values()
        if own["lists"]["all"]["cold"] is not None
    ]
    return {"share": known["cold_share"], "rows": rows}


def _strata(known: Mapping[str, Any]) -> dict[str, Any]:
    first = next(iter(known["methods"].values()))["strata"]
    return {
        "set": SETS[first["set"]],
        "measure": first["measure"],
        "users": first["users"],
        "items": first["items"],
        "rows": [
            {
                "title": own["title"],
                "cells": [one["value"] for one in (*own["strata"]["users"], *own["strata"]["items"])],
            }
            for own in known["methods"].values()
        ],
    }


def markdown(known: Mapping[str, Any]) -> str:
    """Format Markdown tables, one for each candidate set, with a line for each method.

    Args:
        known: from `RecommendReport.to_dict`.
    """
    split, counts = known["split"], known["counts"]
    lines = [
        f"Split `{split['kind']}`, part `{split['part']}`, digest `{split['digest']}`: {counts['users']:,} users, "
        f"full ranking, items that a user has met are left out. Recall@k is hits / min(k, relevant).",
    ]
    for name, of in counts["sets"].items():
        few = f"; too few to call one better: {FEWEST_COMPARED} are needed" if of["relevant"] < FEWEST_COMPARED else ""
        title = f"{SETS[name]}: {of['candidates']:,} candidates, {of['relevant']:,} relevant pairs{few}"
        lines += ["", f"### {title}", "", *_markdown_table(known, name), "", *_markdown_popularity(known, name)]
    headers, rows = served_table(known)
    if rows:
        table = [headers, ["---"] * 2 + ["---:"] * (len(headers) - 2), *rows]
        lines += ["", f"### {served_title(known)}", ""]
        lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table]
    lines += ["", _footnote(known)]
    warnings = (known["count_attributes"] or {"lines": ()})["lines"]
    lines += [part for warning in warnings for part in ("", f"Warning: {_cell(warning)}.")]
    lines += [part for note in known["notes"] for part in ("", f"Note: {_cell(note)}.")]
    if known["left_out"]:
        reasons = "; ".join(f"{_cell(name)}: {_cell(reason)}" for name, reason in known["left_out"].items())
        lines += ["", f"Left out: {reasons}."]
    return "\n".join(lines) + "\n"


def _markdown_table(known: Mapping[str, Any], name: str) -> list[str]:
    measures = [f"{measure}@{k}" for k in known["ks"] for measure in ("recall", "ndcg")]
    k = known["headline"][0].partition("@")[2]
    measures += [f"mrr@{k}", f"hit@{k}"]
    reference = known["methods"][known["reference"]]["title"] if known["reference"] else None
    headers = ["method", *measures]
    if reference:
        headers += [f"{known['headline'][0]} less {reference}", "share of the way to the ceiling"]
    headers += [f"{known['headline'][0]} {_without_most_liked(known, name)}"]
    headers += [f"coverage@{known['shown']}", "Gini", "diversity", "novelty"]
    headers += ["new items shown"] if name == "all" else []
    headers += ["audience recall"] if name == "cold" else []
    rows = [headers, ["---"] + ["---:"] * (len(headers) - 1)]
    for own in known["methods"].values():
        cells, lists = own["sets"][name], own["lists"][name]
        row = [own["title"]]
        for measure in measures:
            cell = cells[measure]
            is_headline = measure in known["headline"]
            row.append(f"{_number(cell['value'])} ({_interval(cell)})" if is_headline else _number(cell["value"]))
        if reference:
            head = cells[known["headline"][0]]
            row += [_difference(head.get("difference")), _share(head.get("gap"))]
        row += [_rest(own, name, known["headline"][0])]
        row += [_number(lists[key]) for key in ("coverage", "gini", "diversity", "novelty")]
        row += [_share(lists["cold"])] if name == "all" else []
        row += [_number((own["audience"] or {}).get("value"))] if name == "cold" else []
        rows.append(row)
    return ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]


def _without_most_liked(known: Mapping[str, Any], name: str) -> str:
    count = len(known["most_liked"][name]["items"])
    return f"without the {count} most liked" if count > 1 else "without the most liked"


def _rest(own: Mapping[str, Any], name: str, measure: str) -> str:
    """Format a value without the most liked items; empty where nothing else is relevant."""
    found = own["rest"][name].get(measure)
    return "" if found is None else f"{_number(found['value'])} ({_interval(found)})"


def popularity_rows(known: Mapping[str, Any], name: str, methods: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Build headers and rows of the share of the likes that lists hold, by how many like an item; a row a group."""
    headers = ["likes of an item", "items", "likes", *(known["methods"][method]["title"] for method in methods)]
    rows = []
    for place, group in enumerate(known["popularity"][name]):
        bounds = f"{group['least']:,} to {group['most']:,}" if group["least"] < group["most"] else f"{group['most']:,}"
        shares = [known["methods"][method]["found"][name][place] for method in methods]
        cells = [f"{_number(one['value'])} ({_interval(one)})" for one in shares]
        rows.append([bounds, f"{group['items']:,}", f"{group['relevant']:,}", *cells])
    return headers, rows


def popularity_title(known: Mapping[str, Any], name: str) -> str:
    """Name the table of `popularity_rows`, or say that there are too few items for it."""
    k = known["headline"][0].partition("@")[2]
    title = f"Share of the likes found in the first {k} places, by how many like the item"
    few = f"too few to judge: {2 * FEWEST_COMPARED} liked items are needed"
    return title if known["popularity"][name] else f"{title}: {few}"


def served_table(known: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Build headers and rows of the lists that `recommend` gives, a row a list and set; no rows without such lists."""
    recall, ndcg = known["headline"]
    headers = ["list", "of", recall, "vs served", ndcg, "vs served", "new items shown"]
    rows = []
    for name in known["counts"]["sets"]:
        for own in known["methods"].values():
            if own["role"] != SERVED:
                continue
            cells, share = own["sets"][name], own["lists"][name]["cold"] if name == "all" else None
            row = [own["title"], SETS[name].lower()]
            for measure in (recall, ndcg):
                cell = cells[measure]
                row += [f"{_number(cell['value'])} ({_interval(cell)})", _difference(cell.get("served"))]
            rows.append([*row, _share(share)])
    return headers, rows


def served_title(known: Mapping[str, Any]) -> str:
    """Name the table of `served_table`, with the share that new items should have."""
    title = f"As `recommend` lists, first {known['headline'][0].partition('@')[2]} places"
    share = known["cold_share"]
    return title if share is None else f"{title}; new items have {_share(share)} of the later likes"


def compared_methods(known: Mapping[str, Any], name: str) -> list[str]:
    """Choose the methods of a short table: the reference, and the best of the others that have seen no answers."""
    recall = known["headline"][0]
    others = [
        method for method, own in known["methods"].items() if own["role"] != "ceiling" and method != known["reference"]
    ]
    best = max(others, key=lambda method: known["methods"][method]["sets"][name][recall]["value"], default=None)
    return [method for method in (known["reference"], best) if method is not None]


def _markdown_popularity(known: Mapping[str, Any], name: str) -> list[str]:
    lines = [popularity_title(known, name) + ("." if not known["popularity"][name] else ":")]
    if not known["popularity"][name]:
        return lines
    headers, rows = popularity_rows(known, name, list(known["methods"]))
    table = [headers, ["---"] + ["---:"] * (len(headers) - 1), *rows]
    return [*lines, "", *("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table)]


def _footnote(known: Mapping[str, Any]) -> str:
    seeds = max(own["seeds"] for own in known["methods"].values())
    parts = ["In brackets: 95 % intervals by bootstrap over users or over items, whichever is wider"]
    if known["reference"]:
        parts.append("* marks differences with p < 0.05 after Holm's correction")
    if seeds > 1:
        parts.append(f"seeded methods are means of {seeds} seeds")
    if known["cold_share"] is not None:
        parts.append(f"{_share(known['cold_share'])} of the relevant pairs are of new items")
    parts.append(
        f"audience recall: of a new item's first users, the share among the {known['audience_k']} it was offered to"
    )
    return "; ".join(parts) + "."


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    p_value = found.get("p_holm")
    mark = "*" if p_value is not None and p_value < _SIGNIFICANT else ""
    return f"{found['value']:+.3f}{mark} ({found['low']:+.3f} to {found['high']:+.3f})".replace("-", "−")


def _interval(found: Mapping[str, Any]) -> str:
    return f"{_number(found['low'])} to {_number(found['high'])}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".replace("-", "−")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %".replace("-", "−")


def _cell(text: Any) -> str:
    """Escape names and reasons for a cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def terminal_table(known: Mapping[str, Any], name: str) -> tuple[list[str], Sequence[list[str]]]:
    """Build headers and rows of the short table of a terminal."""
    first, second = known["headline"]
    headers = ["method", first, second, "less reference", _without_most_liked(known, name), "coverage"]
    headers += ["new items shown"] if name == "all" else []
    headers += ["audience"] if name == "cold" else []
    rows = []
    for own in known["methods"].values():
        cells, lists = own["sets"][name], own["lists"][name]
        row = [own["title"], *(f"{_number(cells[key]['value'])} ({_interval(cells[key])})" for key in (first, second))]
        row += [_difference(cells[first].get("difference")), _rest(own, name, first)]
        row += [_number(lists["coverage"])]
        row += [_share(lists["cold"])] if name == "all" else []
        row += [_number((own["audience"] or {}).get("value"))] if name == "cold" else []
        rows.append(row)
    return headers, rows

"""The table of an evaluation as Markdown: what goes into a README or beside a paper's. Reads the plain record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SETS = {"cold": "New items", "warm": "Training items", "all": "Both together"}


def markdown(known: Mapping[str, Any]) -> str:
    """One table a candidate set: a line a contender.

    Args:
        known: as `RecommendReport.to_dict` gives it.
    """
    split, counts = known["split"], known["counts"]
    lines = [
        f"Split `{split['kind']}`, part `{split['part']}`, digest `{split['digest']}`: {counts['users']:,} users, "
        f"full ranking, what a user has met is left out. Recall@k is hits / min(k, relevant).",
    ]
    for name, of in counts["sets"].items():
        title = f"{SETS[name]}: {of['candidates']:,} candidates, {of['relevant']:,} relevant pairs"
        lines += ["", f"### {title}", "", *_table(known, name)]
    lines += ["", _footnote(known)]
    lines += [part for note in known["notes"] for part in ("", f"To know: {_cell(note)}.")]
    if known["left_out"]:
        told = "; ".join(f"{_cell(name)}: {_cell(reason)}" for name, reason in known["left_out"].items())
        lines += ["", f"Left out: {told}."]
    return "\n".join(lines) + "\n"


def _table(known: Mapping[str, Any], name: str) -> list[str]:
    measures = [f"{measure}@{k}" for k in known["ks"] for measure in ("recall", "ndcg")]
    k = known["headline"][0].partition("@")[2]
    measures += [f"mrr@{k}", f"hit@{k}"]
    reference = known["methods"][known["reference"]]["title"] if known["reference"] else None
    headers = ["method", *measures]
    if reference:
        headers += [f"{known['headline'][0]} less {reference}", "share of the way to the ceiling"]
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
        row += [_number(lists[key]) for key in ("coverage", "gini", "diversity", "novelty")]
        row += [_share(lists["cold"])] if name == "all" else []
        row += [_number((own["audience"] or {}).get("value"))] if name == "cold" else []
        rows.append(row)
    return ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]


def _footnote(known: Mapping[str, Any]) -> str:
    seeds = max(own["seeds"] for own in known["methods"].values())
    parts = ["In brackets: 95 % intervals by bootstrap over users or over items, whichever is wider"]
    if known["reference"]:
        parts.append("* marks differences with p < 0.05 after Holm's correction")
    if seeds > 1:
        parts.append(f"methods that draw lots are means of {seeds} seeds")
    if known["cold_share"] is not None:
        parts.append(f"{_share(known['cold_share'])} of the relevant pairs are of new items")
    parts.append(
        f"audience recall: of a new item's first users, the share among the {known['audience_k']} it was offered to"
    )
    return "; ".join(parts) + "."


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    mark = "*" if found["p_holm"] is not None and found["p_holm"] < 0.05 else ""
    return f"{found['value']:+.3f}{mark} ({found['low']:+.3f} to {found['high']:+.3f})".replace("-", "−")


def _interval(found: Mapping[str, Any]) -> str:
    return f"{_number(found['low'])} to {_number(found['high'])}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".replace("-", "−")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %".replace("-", "−")


def _cell(text: Any) -> str:
    """Names and reasons may hold what would end a cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def rows_of(known: Mapping[str, Any], name: str) -> tuple[list[str], Sequence[list[str]]]:
    """Headers and rows of the short table that a terminal shows."""
    first, second = known["headline"]
    headers = ["method", first, second, "less reference", "coverage", "diversity"]
    headers += ["new items shown"] if name == "all" else []
    headers += ["audience"] if name == "cold" else []
    rows = []
    for own in known["methods"].values():
        cells, lists = own["sets"][name], own["lists"][name]
        row = [own["title"], *(f"{_number(cells[key]['value'])} ({_interval(cells[key])})" for key in (first, second))]
        row += [_difference(cells[first].get("difference")), _number(lists["coverage"]), _number(lists["diversity"])]
        row += [_share(lists["cold"])] if name == "all" else []
        row += [_number((own["audience"] or {}).get("value"))] if name == "cold" else []
        rows.append(row)
    return headers, rows

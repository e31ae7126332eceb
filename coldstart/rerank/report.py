"""Write certificates of rerankers as a table, as Markdown and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coldstart.pages.page import environment

COLUMNS = ("kind", "NDCG@10", "less the base", "auto", "tau", "items shown", "new", "late", "ms", "tokens")


def rows_of(known: Mapping[str, Any]) -> list[list[str]]:
    """Write a row a certificate, the base first."""
    found: list[list[str]] = []
    for kind, one in known["certificates"].items():
        if not found and one["ndcg_base"]:
            shown = one["exposed"]["base"]
            found.append(["base", _interval(one["ndcg_base"]), "", "", "", f"{shown['items']:,}",
                          f"{shown['new_share']:.1%}", "", "", ""])  # fmt: skip
        if not one["ndcg"]:
            continue
        shown, ms, tau = one["exposed"]["reranked"], one["ms"], one["order"]["tau"]
        found.append(
            [
                kind,
                _interval(one["ndcg"]),
                _interval(one["difference"], sign=True),
                "on" if one["why_not"] is None else "off",
                "" if tau is None else f"{tau:.2f}",
                f"{shown['items']:,}",
                f"{shown['new_share']:.1%}",
                f"{one['late']:.0%}",
                f"{ms['p50']:,.0f}",
                f"{one['tokens']:,.0f}",
            ]
        )
    return found


def lines_of(known: Mapping[str, Any]) -> list[str]:
    """Say what was judged, what each kind's certificate allows, and what was left out, a line each."""
    found = [f"lists of {known['base']['name']}: first {known['base']['items']} items of {known['base']['requests']:,} "
             f"requests; settings were chosen on {known['base']['valid']:,} other ones"]  # fmt: skip
    for kind, one in known["certificates"].items():
        own = ", ".join(f"{name} {value}" for name, value in one["settings"].items())
        why = one["why_not"] or f"the lower end is above 0: auto may serve it for {one['days']} days"
        found.append(f"{kind}{f' ({own})' if own else ''}: {why}")
        if one["order"]["inner"] is not None:
            inner = one["order"]["inner"]
            found.append(f"{kind}: its answers for three random orders of the same items agree by tau {inner:.2f}")
        if one["parse_failures"] or one["faults"]:
            faults = ", ".join(f"{name} {count}" for name, count in one["faults"].items()) or "none"
            found.append(f"{kind}: {one['parse_failures']} answers were no order; base orders instead: {faults}")
    found += [f"left out: {kind}: {why}" for kind, why in known["left_out"].items()]
    found += known["notes"]
    found.append(
        "in brackets: 95 % intervals, paired by user, by bootstrap over users or their targets, the wider; tau: order "
        "with the items given in three other orders; new: share of slots in the first ten; late: requests over the "
        "deadline, at which the base order is served"
    )
    return found


def markdown(known: Mapping[str, Any]) -> str:
    """Write certificates as Markdown."""
    found = ["# Reranking", "", *(f"- {line}" for line in lines_of(known)), "", _line(COLUMNS)]
    found += [_line(["---"] * len(COLUMNS)), *map(_line, rows_of(known))]
    return "\n".join(found) + "\n"


def rerank_html(known: Mapping[str, Any]) -> str:
    """Render certificates as an HTML document without scripts."""
    tables = [{"title": "First ten of a list, before and after", "columns": COLUMNS, "rows": rows_of(known)}]
    page: str = (
        environment()
        .get_template("tables.html")
        .render(
            title="Reranking",
            question="Does reranking a list find what users like?",
            tables=tables,
            lines=lines_of(known),
        )
    )
    return page


def _interval(one: Mapping[str, float], sign: bool = False) -> str:
    form = "+.4f" if sign else ".4f"
    return f"{one['value']:{form}} ({one['low']:{form}} to {one['high']:{form}})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

"""The ladder as a Markdown table, drawn from its plain record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def markdown(known: Mapping[str, Any]) -> str:
    """The table of `LadderReport.to_dict`, one line a step; those not judged stand in it with their reason."""
    by_name = {one["name"]: one for one in known["steps"]}
    reasons = {one["name"]: one["reason"] for one in known["missing"]}
    k = known["k"]
    lines = [
        f"| step | recall@{k} | gain | p (Holm) | aligned recall@{k} | aligned gain | p (Holm) | seconds "
        "| per 1,000 items | gain per 1,000 s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in known["order"]:
        if name in reasons:
            lines.append(f"| {_plain(name)} | not judged: {_plain(reasons[name])} |" + " |" * 8)
            continue
        one = by_name[name]
        cells = [
            _plain(name),
            _value(one["recall"]),
            _signed(one["gain"]),
            _p(one["gain"]),
            _value(one["aligned"]),
            _signed(one["aligned_gain"]),
            _p(one["aligned_gain"]),
            seconds(one["seconds"]),
            seconds(one["per_thousand_s"]),
            "" if one["gain_per_thousand_s"] is None else f"{one['gain_per_thousand_s']:.3g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def seconds(value: float | None) -> str:
    """Seconds with the digits that they are worth; a question mark where they are not known."""
    if value is None:
        return "?"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _value(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _signed(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


def _p(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else ("< 0.01" if found["holm"] < 0.01 else f"{found['holm']:.2f}")


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

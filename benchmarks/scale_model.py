"""A model of the workspace's cost in items, and what it says of a billion; used by `benchmarks/scale.py`.

    python -m benchmarks.scale_model

prints the tables of `docs/scale.md` from the constants that `python -m benchmarks scale --full` left under `.bench/`.
Bytes and seconds are lines in the number of items: a fixed part and a part an item. Work that is not such a line is
given its own formula here, and said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUANTITIES = {
    "bytes of items": ("bytes", "items"),
    "bytes of one space": ("bytes", "space"),
    "bytes of the ledger": ("bytes", "ledger"),
    "bytes of the catalog": ("bytes", "catalog"),
    "bytes of its indexes": ("bytes", "catalog_indexes"),
    "finding stale rows": ("stale_s",),
    "memory to find stale rows": ("standing_bytes",),
    "a commit of 1,000 rows": ("commit_s",),
    "indexing all": ("index_s",),
    "indexing when nothing is new": ("index_idle_s",),
    "writing 1 % of new items": ("add_s",),
    "indexing 1 % of new items": ("index_new_s",),
    "peak memory": ("peak_bytes",),
}
"""Name -> where it stands in the figures of one size; those whose last word ends in `_s` are seconds, others bytes."""


@dataclass(frozen=True)
class Line:
    """`fixed + per_item * items`."""

    fixed: float
    per_item: float

    def at(self, items: float) -> float:
        return self.fixed + self.per_item * items


def line(first: tuple[float, float], second: tuple[float, float]) -> Line:
    """The line through two points `(items, value)`; a fixed part is never below zero."""
    per_item = (second[1] - first[1]) / (second[0] - first[0])
    fixed = second[1] - per_item * second[0]
    return Line(fixed, per_item) if fixed >= 0 and per_item >= 0 else Line(0.0, second[1] / second[0])


def value(figures: Mapping[str, Any], path: Sequence[str]) -> float:
    for name in path:
        figures = figures[name]
    return float(figures)  # type: ignore[arg-type]


def lines(small: Mapping[str, Any], large: Mapping[str, Any]) -> dict[str, Line]:
    """A line a quantity through the figures of two sizes."""
    return {
        name: line((small["size"], value(small, path)), (large["size"], value(large, path)))
        for name, path in QUANTITIES.items()
    }


def check(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Fit on the two smaller sizes, predict the largest."""
    small, middle, large = measured
    found = []
    for name, fitted in lines(small, middle).items():
        path = QUANTITIES[name]
        predicted, true = fitted.at(large["size"]), value(large, path)
        unit = "s" if path[-1].endswith("_s") else "bytes"
        found.append({"name": name, "unit": unit, "predicted": predicted, "measured": true, "ratio": true / predicted})
    return found

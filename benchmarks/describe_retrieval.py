"""Whether written descriptions help new products to be found: the real title asks for what `product` wrote of them.

    python -m benchmarks.describe_retrieval [--short]

Needs the real data (`COLDSTART_DATA`, default `../shared/data`) and the starter models; texts are encoded by MiniLM.
The workspace and its held-out products are those of `benchmarks.describe_fashion`, which is run first where it is
missing; given are photo and brand. Products of one title are right, among the held-out ones, and among all that the
workspace holds, the others with all of their own texts. Indexed are the brand (`given`), the written text after its
checks (`sentences`), what the record states as a sentence (`truth`), each alone and with the brand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import coldstart
from benchmarks.describe_fashion import DATA, VIEWS, prepared
from benchmarks.report import Row

__all__ = ["DATA", "lines_of", "rows", "run"]

GALLERIES = {"held-out": "the held-out products", "all": "all products"}


def run(short: bool) -> dict[str, Any]:
    """Recall of the real title, by what is indexed."""
    uri, _ = prepared(short)
    found = {}
    for gallery in GALLERIES:
        report = coldstart.open(uri).evaluate_describe(given=VIEWS["photo and brand"], gallery=gallery).to_dict()
        found[gallery] = {"items": report["counts"]["items"], **report["gain"]}
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    return [
        line
        for gallery, title in GALLERIES.items()
        for line in lines_of(f"{result[gallery]['items']} titles among {title}, given photo and brand", result[gallery])
    ]


def lines_of(setting: str, found: Mapping[str, Any]) -> list[Row]:
    asked = found["text_to_item"]
    lines = [
        Row(
            f"text to item, R@{k}, indexed: {name}", setting, _value(of[f"recall_at_{k}"]), _range(of[f"recall_at_{k}"])
        )
        for name, of in asked["contenders"].items()
        for k in (1, 10)
    ]
    lines += [
        Row(
            f"text to item, R@{k}, {one['before']} to {one['after']}",
            setting,
            f"{one[f'recall_at_{k}']['value']:+.3f}",
            _range(one[f"recall_at_{k}"]),
        )
        for one in asked["differences"]
        if one["before"] == "given"
        for k in (1, 10)
    ]
    return lines


def _value(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f}"


def _range(found: Mapping[str, float]) -> str:
    return f"{found['low']:.3f} to {found['high']:.3f}"


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))

"""Items with what was written of them, made by hand."""

from __future__ import annotations

from collections.abc import Mapping

from coldstart.core.attributes import Attribute
from coldstart.core.description import Description, sentence
from coldstart.core.stage import Reject
from coldstart.describe.checks import Checked, Cut, Ground, Sources
from coldstart.describe.evaluate.truth import EvaluatedItem

COLOUR = Attribute(values=("Red", "Navy Blue", "Blue"), visual=True, aliases={"Red": ("crimson",)})
TYPE = Attribute(values=("Casual Shoes", "Backpack"), visual=True)
SCHEMA = {"colour": COLOUR, "type": TYPE}
OUTPUT = ("attributes", "summary")


def evaluated_item(
    item: str = "a",
    said: Mapping[str, str] | None = None,
    *,
    truth: Mapping[str, str] | None = None,
    title: str = "",
    hidden: Mapping[str, str] | None = None,
    seen: Mapping[str, Mapping[str, float]] | None = None,
    summary: str | None = None,
    kept: Mapping[str, str] | None = None,
    raw: str | None = "",
    reject: Reject | None = None,
    group: int = 0,
) -> EvaluatedItem:
    """`said` written, `kept` left by the checks (all of it by default), the rest cut for `not_grounded`."""
    stated = dict(said or {})
    left = stated if kept is None else dict(kept)
    told = Description(sentence(stated) if summary is None else summary, stated)
    checked = Checked(
        Description(told.summary if left == stated else sentence(left), left),
        tuple(Ground(name, value, "title", f"found {value}") for name, value in left.items()),
        tuple(
            Cut(name, value, "not_grounded", "no source has it") for name, value in stated.items() if name not in left
        ),
        "written" if left == stated else "cut" if left else "fallback",
        "en",
    )
    return EvaluatedItem(
        item,
        SCHEMA,
        truth or {},
        hidden or {},
        Sources({"title": title} if title else {}, {}, seen or {}),
        told.dumps(OUTPUT) if raw == "" else raw,
        reject or checked,
        group,
        OUTPUT,
    )

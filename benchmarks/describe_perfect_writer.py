"""What the checks of descriptions do to a writer that knows the truth, and to one wrong value among true ones.

    python -m benchmarks.describe_perfect_writer [--short]

Needs what `benchmarks.describe_fashion` needs, and its workspace, which is made where it is missing. Of each product
that no fit has seen a text says brand, buyer, colour, type and use as the record states them, in one of six plain
wordings that are not those of the package, while the checks see photo and brand alone. Cut is a true value that the
served summary does not state any more. Then one value is replaced by another of the same attribute, drawn by its
frequency; it survives where the summary states it. Both by `describe.check.min_claimed`, since a value of which the
models say .4 cannot stay where it is true and go where it is false.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import coldstart
from benchmarks.describe_fashion import prepared
from benchmarks.report import Row
from coldstart.core.attributes import Attribute, Attributes, recorded_values
from coldstart.core.pipeline import Pipeline
from coldstart.core.stage import Reject
from coldstart.describe.attribute_values import PREDICTED, predicted_row
from coldstart.describe.checks import Rules, Sources, check_description
from coldstart.describe.checks.grounding import listed_values
from coldstart.describe.checks.words import tokens
from coldstart.describe.english import article, noun, plural
from coldstart.describe.evaluate.held_out import find_held_out
from coldstart.describe.evaluate.workspace import load_item_evidence
from coldstart.describe.finetune.dataset import item_rows
from coldstart.describe.sentences import is_fact, spoken
from coldstart.describe.writing import sources_of
from coldstart.metrics.ranking import bootstrap
from coldstart.store import Store
from coldstart.store.fits import with_fits
from coldstart.store.freshness import PipelineState

VIEW = ("creator", "picture")
NAMES = ("audience", "colour", "type", "use")
THRESHOLDS = (1.0, 0.7, 0.5, 0.3, 0.1, 0.05)
DEFAULT = Rules.min_claimed
GOALS = {"cut": "at most 0.05", "survive": "at most 0.05"}
_BUYERS = {
    "Men": ("men", "gentlemen", "men's"),
    "Women": ("women", "ladies", "women's"),
    "Boys": ("boys", "boys", "boys'"),
    "Girls": ("girls", "girls", "girls'"),
    "Unisex": ("men and women", "women and men", "men and women's"),
}


@dataclass(frozen=True)
class Viewed:
    """One item as the checks see it, and its record.

    Attributes:
        truth: attribute of `NAMES` -> value.
    """

    item_id: str
    brand: str
    truth: Mapping[str, str]
    sources: Sources
    attributes: Mapping[str, Attribute]
    group: int = 0


@dataclass(frozen=True)
class Stated:
    """One value of a text, and whether the served summary states it.

    Attributes:
        planted: True for a value that is not the item's.
    """

    name: str
    group: int
    planted: bool
    stays: bool


def prose(values: Mapping[str, str], brand: str, wording: int) -> str:
    """Say brand and values in one of six wordings."""
    one = noun(values["type"])
    single, many = one.text, one.text if one.plural or not one.counted else plural(one.text)
    colour, use = spoken(values["colour"], "colour"), spoken(values["use"], "use")
    buyer, other, owner = _BUYERS[values["audience"]]
    begin = f"{colour} {single}" if one.plural or not one.counted else f"{article(colour)} {colour} {single}"
    return (
        f"These {colour} {many} by {brand} are made for {buyer}. They suit {use} wear.",
        f"{begin[0].upper()}{begin[1:]} from {brand}, made with {other} in mind. It is meant for {use} use.",
        f"{brand} offers {buyer} the {single} in {colour}. The piece is right for {use} days.",
        f"In {colour}, this {single} is one for the {other}. {brand} made it for {use} outings.",
        f"{owner.capitalize()} {many} in {colour} by {brand}. Their look is {use}, and they go with what you have.",
        f"Looking for {use} {many}? {brand} has them in {colour} for {buyer}.",
    )[wording]


def measure(items: Sequence[Viewed], rules: Rules, seed: int = 0) -> list[Stated]:
    """Check a true text of each item, and one with another value of one attribute; each attribute in turn."""
    draw = random.Random(seed)
    counts = {name: Counter(one.truth[name] for one in items) for name in NAMES}
    found = []
    for place, one in enumerate(items):
        wording, name = place % 6, NAMES[place // 6 % len(NAMES)]
        others = {value: count for value, count in counts[name].items() if value != one.truth[name]}
        summary = _served(one, one.truth, wording, rules)
        found += [Stated(own, one.group, False, states(summary, own, one.truth[own], one)) for own in NAMES]
        if others:
            (planted,) = draw.choices(list(others), list(others.values()))
            summary = _served(one, {**one.truth, name: planted}, wording, rules)
            found.append(Stated(name, one.group, True, states(summary, name, planted, one)))
    return found


def _served(one: Viewed, values: Mapping[str, str], wording: int, rules: Rules) -> str:
    text = json.dumps({"summary": prose(values, one.brand, wording)})
    try:
        return check_description(text, "stop", one.attributes, one.sources, rules).description.summary
    except Reject:
        return ""


def states(summary: str, name: str, value: str, one: Viewed) -> bool:
    """Tell whether a summary names a listed value of an attribute; casual shoes are not stated to be casual."""
    found = listed_values(one.attributes).all.find(tokens(summary))
    return any((name, value) in values for _, _, values in found)


def viewed(store: Store, pipeline: Pipeline) -> tuple[list[Viewed], Rules]:
    """Read the held-out products whose record states all of `NAMES`, and the rules of the pipeline's checks."""
    held = find_held_out(store, pipeline)
    every = item_rows(store, pipeline, held.stage, PipelineState(store, pipeline))
    known: Attributes = held.known_attributes(every)
    rows = [every[item] for item in sorted(held.split) if held.split[item][0] == "test" and item in every]
    against = load_item_evidence(store, pipeline, rows, VIEW)
    found = []
    for row in rows:
        item = row["item_id"]
        truth = {n: v for n, v in recorded_values(row, known.of(row["category"])).items() if n in NAMES and is_fact(v)}
        if len(truth) == len(NAMES) and truth["audience"] in _BUYERS and row["creator"]:
            seen = {**row, PREDICTED: predicted_row(against.predicted.get(item, {}))}
            sources, stated = sources_of(seen, known, VIEW, against.seen.get(item))
            found.append(Viewed(item, row["creator"], truth, sources, stated, held.split[item][1]))
    return found, replace(against.rules, output=("summary",))


def shares(found: Sequence[Stated], name: str) -> dict[str, Any]:
    """Return the share of true values that are cut, and of planted ones that survive, with n and intervals."""
    result: dict[str, Any] = {}
    for key, planted in (("cut", False), ("survive", True)):
        own = [one for one in found if one.planted is planted and name in (one.name, "all")]
        values = np.array([one.stays is planted for one in own])
        interval = bootstrap(values, groups=[one.group for one in own])
        result[key] = [round(value, 4) for value in (interval.value, interval.low, interval.high)]
        result[f"n_{key}"] = len(own)
    return result


def run(short: bool) -> dict[str, Any]:
    """Shares by threshold and attribute."""
    uri, _ = prepared(short)
    store = Store(str(uri))
    pipeline = with_fits(coldstart.open(uri).pipeline(), store)
    items, rules = viewed(store, pipeline)
    curve = {f"{least:g}": measure(items, replace(rules, min_claimed=least)) for least in THRESHOLDS}
    sure = measure([known(one) for one in items], rules)
    return {
        "items": len(items),
        "sure": shares(sure, "all"),
        "curve": {least: {name: shares(found, name) for name in (*NAMES, "all")} for least, found in curve.items()},
    }


def known(one: Viewed) -> Viewed:
    """Return an item of which the models know the record for certain: what is cut then is cut for its wording."""
    likely = {name: {value: 1.0} for name, value in one.truth.items()}
    return replace(one, sources=replace(one.sources, seen={}, likely=likely))


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for least, by_name in result["curve"].items():
        is_default = float(least) == DEFAULT
        setting = f"min_claimed {least}" + " (the default)" * is_default
        for name, own in by_name.items():
            if name == "all" or is_default:
                lines += _rows(name, own, result["items"], setting, GOALS if name == "all" and is_default else {})
    return [*lines, *_rows("all", result["sure"], result["items"], "models that know the record", GOALS)]


def _rows(name: str, own: Mapping[str, Any], items: int, setting: str, goals: Mapping[str, str]) -> list[Row]:
    lines = []
    for key, words in (("cut", "true values cut"), ("survive", "wrong values that survive")):
        value, low, high = own[key]
        about = f"{own[f'n_{key}']} values of {items} unseen products, {setting}"
        goal = goals.get(key, "")
        lines.append(Row(f"checks, {name}: {words}", about, f"{value:.3f}", f"{low:.3f} to {high:.3f}", goal))
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))

"""Checks and a writer that knows the truth, on made items: true values stay in any wording, planted ones go."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.describe_perfect_writer import NAMES, Viewed, known, measure, prose, rows, shares
from coldstart.core.attributes import Attribute
from coldstart.describe.checks import Rules, Sources

VALUES = {
    "audience": ("Men", "Women", "Boys", "Girls", "Unisex"),
    "colour": ("Black", "Navy Blue", "Orange"),
    "type": ("Casual Shoes", "Tshirts", "Watches", "Dresses"),
    "use": ("Casual", "Sports"),
}
ATTRIBUTES = {name: Attribute(values=values) for name, values in VALUES.items()}
RULES = Rules(output=("summary",), brands=frozenset({"Acme", "Puma"}), categories=frozenset(VALUES["type"]))


def item(place: int, values: tuple[str, ...], probability: float) -> Viewed:
    """One product of photo and brand, whose true values the models give a probability, and another value the rest."""
    truth = dict(zip(VALUES, values, strict=True))
    likely = {}
    for name, value in truth.items():
        other = next(one for one in VALUES[name] if one != value)
        likely[name] = {value: probability, other: 1 - probability}
    sources = Sources({"creator": "Acme"}, {"creator": "Acme"}, {}, likely)
    return Viewed(str(place), "Acme", truth, sources, ATTRIBUTES)


ITEMS = list(itertools.product(*VALUES.values()))


@pytest.mark.parametrize(
    ("probability", "least", "cut", "survive"), [(0.9, 0.5, 0.0, 0.0), (0.4, 0.5, 1.0, 0.35), (0.4, 0.3, 0.0, 0.7)]
)
def test_true_values_stay_and_planted_ones_go(probability: float, least: float, cut: float, survive: float) -> None:
    """At .4 the other value has .6: true ones go, and planted ones that are that other value stay."""
    items = [item(place, values, probability) for place, values in enumerate(ITEMS)]
    found = measure(items, Rules(**{**vars(RULES), "min_claimed": least}))
    assert {one.name for one in found if one.planted} == set(NAMES)
    assert shares(found, "all")["cut"][0] == pytest.approx(cut, abs=0.02)
    assert shares(found, "all")["survive"][0] <= survive


def test_each_wording_says_each_value() -> None:
    truth = {"audience": "Women", "colour": "Orange", "type": "Dresses", "use": "Casual"}
    for wording in range(6):
        text = prose(truth, "Acme", wording)
        assert "Acme" in text and "orange" in text and "casual" in text and "dress" in text
        assert any(word in text.lower() for word in ("women", "ladies"))
        assert " a orange" not in text.lower()


def test_the_rows_of_the_page_name_threshold_and_count() -> None:
    few = ITEMS[::5]
    found = measure([item(place, values, 0.9) for place, values in enumerate(few)], RULES)
    by_name = {name: shares(found, name) for name in (*NAMES, "all")}
    sure = shares(measure([known(item(place, values, 0.1)) for place, values in enumerate(few)], RULES), "all")
    lines = rows({"items": len(few), "sure": sure, "curve": {"0.5": by_name, "0.3": by_name}})
    assert len(lines) == 2 * (len(NAMES) + 1) + 2 + 2
    assert [line.figure for line in lines[-2:]] == ["0.000", "0.000"]
    assert lines[0].setting == f"{len(few)} values of {len(few)} unseen products, min_claimed 0.5 (the default)"

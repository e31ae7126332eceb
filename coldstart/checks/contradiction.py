"""What words say against the record or beyond the item: another price, another brand, another category."""

from __future__ import annotations

from functools import lru_cache

from coldstart.checks.contract import Rules
from coldstart.checks.form import Fault
from coldstart.checks.grounding import Grounds
from coldstart.checks.measures import numbers, same_price
from coldstart.checks.words import Lexicon, Tokens, tokens

_CATALOGUES = 8  # of brands and categories that stay ready


def price(words: Tokens, grounds: Grounds) -> Fault | None:
    """A price that is not the record's."""
    if grounds.price is None:
        return None
    for number in numbers(words):
        if number.money and not same_price(number.value, grounds.price):
            stated = f"{number.value:g}" if number.unit == "" else number.word
            return "other_price", f"it says {stated}, and the record {grounds.price:g}"
    return None


def names(words: Tokens, grounds: Grounds, rules: Rules, values: Lexicon[tuple[str, str]]) -> Fault | None:
    """A brand or a category of the catalogue that nothing says of this item; a word that is a value as well is none."""
    as_values = {place for start, end, _ in values.find(words) for place in range(start, end)}
    for start, end, found in _known(rules.brands, rules.categories).find(words):
        if as_values.isdisjoint(range(start, end)) and not any(grounds.phrase(name) for _, name in found):
            kind, name = found[0]
            return f"other_{kind}", f"it names {name!r}, and no source of the item does"
    return None


def brands_in(words: Tokens, rules: Rules) -> list[str]:
    """The brands and categories of the catalogue that a text names, as the catalogue writes them."""
    return [found[0][1] for _, _, found in _known(rules.brands, rules.categories).find(words)]


@lru_cache(maxsize=_CATALOGUES)
def _known(brands: frozenset[str], categories: frozenset[str]) -> Lexicon[tuple[str, str]]:
    ordered = [*(("brand", name) for name in sorted(brands)), *(("category", name) for name in sorted(categories))]
    return Lexicon((name, (kind, name)) for kind, name in ordered if not _COMMON.issuperset(tokens(name)))


_COMMON = frozenset(
    tokens(
        "a all and any at be best big by fit for free from good home in is it life max mini more most new next now of "
        "off on one only or other others out own plus small the to up with"
    )
)
"""Words that are brands somewhere and say nothing."""

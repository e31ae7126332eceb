"""What words say against the record or beyond the item: another price, another brand, another category."""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import lru_cache

from coldstart.checks.contract import Rules
from coldstart.checks.form import Fault
from coldstart.checks.grounding import Found, Grounds
from coldstart.checks.measures import Number, same_price
from coldstart.checks.words import Lexicon, Tokens, tokens

_CATALOGUES = 8  # of brands and categories that stay ready


def price(stated: Iterable[Number], grounds: Grounds) -> Fault | None:
    """A price that is not the record's."""
    if grounds.price is None:
        return None
    for number in stated:
        if number.money and not same_price(number.value, grounds.price):
            return "other_price", f"it says {number.value:g}, and the record {grounds.price:g}"
    return None


def names(
    words: Tokens, grounds: Grounds, rules: Rules, meant: Container[int]
) -> tuple[dict[str, Found], Fault | None]:
    """The brands and categories of the catalogue that a text names, and where a source of the item does so too; or the
    first that none names.

    Args:
        meant: places of words that are values of attributes: there they are no names.
    """
    named: dict[str, Found] = {}
    for start, end, found in _known(rules.brands, rules.categories).find(words):
        kind, name = found[0]
        places = (grounds.brand(other) if what == "brand" else grounds.phrase(other) for what, other in found)
        place = next(filter(None, places), None)
        if place is not None:
            named[name] = place
        elif not any(at in meant for at in range(start, end)):
            return named, (f"other_{kind}", f"it names {name!r}, and no source of the item does")
    return named, None


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

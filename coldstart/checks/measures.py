"""Numbers in texts, with their units: `0.5 l` and `500 ml` are the same, `500 ml` and `500 g` are not; and prices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isclose

from coldstart.checks.words import tokens

UNITS = {
    "%": ("%", 1.0),
    **dict.fromkeys(("percent", "per cent"), ("%", 1.0)),
    **dict.fromkeys(("ml", "millilitre", "milliliter"), ("l", 0.001)),
    **dict.fromkeys(("cl", "centilitre"), ("l", 0.01)),
    **dict.fromkeys(("dl", "decilitre"), ("l", 0.1)),
    **dict.fromkeys(("l", "litre", "liter", "ltr"), ("l", 1.0)),
    **dict.fromkeys(("mg", "milligram"), ("g", 0.001)),
    **dict.fromkeys(("g", "gr", "gram", "gramme", "gm", "gms"), ("g", 1.0)),
    **dict.fromkeys(("kg", "kilo", "kilogram", "kgs"), ("g", 1000.0)),
    **dict.fromkeys(("oz", "ounce"), ("oz", 1.0)),
    **dict.fromkeys(("lb", "lbs"), ("oz", 16.0)),
    **dict.fromkeys(("mm", "millimetre", "millimeter"), ("m", 0.001)),
    **dict.fromkeys(("cm", "centimetre", "centimeter", "cms"), ("m", 0.01)),
    **dict.fromkeys(("m", "metre", "meter"), ("m", 1.0)),
    **dict.fromkeys(("km", "kilometre", "kilometer"), ("m", 1000.0)),
    **dict.fromkeys(("inch", "inche"), ("inch", 1.0)),
    **dict.fromkeys(("ft", "foot", "feet"), ("inch", 12.0)),
    **dict.fromkeys(("w", "watt"), ("w", 1.0)),
    **dict.fromkeys(("v", "volt"), ("v", 1.0)),
    "mah": ("mah", 1.0),
    **dict.fromkeys(("mb", "megabyte"), ("gb", 0.001)),
    **dict.fromkeys(("gb", "gigabyte"), ("gb", 1.0)),
    **dict.fromkeys(("tb", "terabyte"), ("gb", 1000.0)),
    **dict.fromkeys(("mp", "megapixel"), ("mp", 1.0)),
    **dict.fromkeys(("sec", "second"), ("s", 1.0)),
    **dict.fromkeys(("min", "minute"), ("s", 60.0)),
    **dict.fromkeys(("h", "hr", "hour"), ("s", 3600.0)),
    **dict.fromkeys(("kcal", "calory", "calorie"), ("kcal", 1.0)),
}
_MONEY = frozenset(
    tokens("$ € £ ¥ ₹ usd eur gbp inr sek nok dkk chf jpy rs rupee dollar euro krona kronor kr cent yen")
)
_PRICED = frozenset(("price", "priced", "cost", "costing"))
_NOTHING = {"for": ("for", "free"), "free": ("free", "of", "charge"), "cost": ("cost", "nothing")}
_SAME_PRICE = 0.005  # of the price: what rounding leaves


@dataclass(frozen=True)
class Number:
    """A number as a text states it.

    Attributes:
        place: which word it is; `word`: how it is written there.
        value: in `unit`, a base unit such as `l`; without a unit the number itself.
        money: whether it states a price.
    """

    place: int
    word: str
    value: float
    unit: str
    money: bool


def numbers(words: Sequence[str]) -> Iterator[Number]:
    """The numbers among the words of a text (see `words.tokens`)."""
    for place, word in enumerate(words):
        if not word[0].isdigit():
            if word in _NOTHING and tuple(words[place : place + len(_NOTHING[word])]) == _NOTHING[word]:
                yield Number(place, word, 0.0, "", True)
            continue
        try:
            value = float(word)
        except ValueError:  # a date or a version, such as 1.2.3: its own spelling is what must be found
            yield Number(place, word, float("nan"), "", False)
            continue
        after = words[place + 1] if place + 1 < len(words) else ""
        before = words[max(place - 3, 0) : place]
        marked = bool(before) and before[-1] in _MONEY and not (len(before) > 1 and before[-2][0].isdigit())
        money = after in _MONEY or marked or not _PRICED.isdisjoint(before)
        unit, factor = UNITS.get(after, ("", 1.0))
        yield Number(place, f"{word} {after}" if unit else word, value * factor, unit, money)


def agree(claimed: Number, stated: Number) -> bool:
    """Whether a claimed number is what a source states: one without a unit agrees with the same number of anything."""
    if claimed.unit:
        return claimed.unit == stated.unit and isclose(claimed.value, stated.value, rel_tol=1e-6)
    return claimed.word.split()[0] == stated.word.split()[0]


def same_price(stated: float, price: float) -> bool:
    """Whether a price in words is the price of the record, as rounding goes."""
    return abs(stated - price) <= price * _SAME_PRICE or stated in (round(price), int(price))

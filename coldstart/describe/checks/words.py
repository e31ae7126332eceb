"""Split texts into words that compare equal whatever case, accents and number, and find phrases and numbers in them.

A phrase is found as whole words, joined or apart (`t-shirt`, `T Shirt`, `tshirts`); the longest phrase wins, so that
`navy blue` is not `blue`. Plurals lose their ending by a few rules (after D. Harman, How effective is suffixing?, JASIS
42(1), 1991, the S stemmer), English ones that is; other inflections are other words.

Numbers in texts, with their units: `0.5 l` and `500 ml` are the same, `500 ml` and `500 g` are not; and prices.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isclose
from typing import Generic, TypeVar

_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts without spaces: by character


_TOKEN = re.compile(rf"\d+(?:[.,]\d+)*|[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+|[%$€£¥₹]")


_POSSESSIVE = re.compile(r"['’](?:s\b)?")


_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


_NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


_DIGITS_OF_WORD = {word: str(number) for number, word in enumerate(_NUMBER_WORDS, 2)}


_NEGATIONS = frozenset(("no", "not", "non", "never", "without", "isnt", "arent", "faux", "fake", "imitation"))


_SKIPPED_ARTICLES = frozenset(("a", "an", "any", "the", "added", "real", "of"))


Value = TypeVar("Value")


Tokens = tuple[str, ...]


_MAX_CACHED_LETTERS = 500  # characters: longer texts are rarely split twice


def tokens(text: str) -> Tokens:
    """Return the words of a text in order: folded, singular, numbers written one way; `%` and money signs are words."""
    return _tokens(text) if len(text) > _MAX_CACHED_LETTERS else _cached_tokens(text)


def _tokens(text: str) -> Tokens:
    folded = text.lower() if text.isascii() else _folded(text)
    return tuple(map(_stem, _TOKEN.findall(_POSSESSIVE.sub("", folded))))


_cached_tokens = lru_cache(maxsize=8192)(_tokens)


def _folded(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in parts if unicodedata.category(letter) != "Mn")


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    if word[0].isdigit():
        return _number(word)
    if word in _DIGITS_OF_WORD:
        return _DIGITS_OF_WORD[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zes")) else word[:-1]


def _number(word: str) -> str:
    if _THOUSANDS.fullmatch(word):
        word = word.replace(",", "")
    word = word.replace(",", ".")
    if word.count(".") == 1:
        word = word.rstrip("0").rstrip(".")
    return word.lstrip("0") or "0" if "." not in word else word


def is_negated(words: Sequence[str], start: int, end: int) -> bool:
    """Tell whether the words before or after a place negate it: `no sugar`, `faux leather`, `sugar free`."""
    before = start - 1
    while before > 0 and words[before] in _SKIPPED_ARTICLES:
        before -= 1
    return (before >= 0 and words[before] in _NEGATIONS) or (end < len(words) and words[end] == "free")


class Lexicon(Generic[Value]):
    """Lexicon of phrases, each with its values."""

    def __init__(self, phrases: Iterable[tuple[str, Value]]) -> None:
        self._of: dict[str, list[Value]] = {}
        for phrase, one in phrases:
            if joined := "".join(tokens(phrase)):
                found = self._of.setdefault(joined, [])
                if one not in found:
                    found.append(one)
        self._starts = {key[:end] for key in self._of for end in range(1, len(key) + 1)}

    def find(self, words: Sequence[str]) -> list[tuple[int, int, list[Value]]]:
        """Find phrases, none within another: first word, the word after the last, and values."""
        found = []
        place, count = 0, len(words)
        while place < count:
            joined, end, best = words[place], place + 1, 0
            while joined in self._starts:
                if joined in self._of:
                    best = end
                if end == count:
                    break
                joined, end = joined + words[end], end + 1
            if best:
                found.append((place, best, self._of["".join(words[place:best])]))
            place = best or place + 1
        return found


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


_FREE_PHRASES = {"for": ("for", "free"), "free": ("free", "of", "charge"), "cost": ("cost", "nothing")}


_PRICE_TOLERANCE = 0.005  # of the price, for rounding


@dataclass(frozen=True)
class Number:
    """Number in a text.

    Attributes:
        place: of its word; `word`: as written.
        value: in `unit`, a base unit such as `l`; without a unit the number itself.
        money: True for a price.
    """

    place: int
    word: str
    value: float
    unit: str
    money: bool


def numbers(words: Sequence[str]) -> Iterator[Number]:
    """Yield the numbers among the words of a text (see `tokens`)."""
    for place, word in enumerate(words):
        if not word[0].isdigit():
            if word in _FREE_PHRASES and tuple(words[place : place + len(_FREE_PHRASES[word])]) == _FREE_PHRASES[word]:
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


def numbers_match(claimed: Number, stated: Number) -> bool:
    """Tell whether a claimed number equals a stated one; without a unit it equals the same number of anything."""
    if claimed.unit:
        return claimed.unit == stated.unit and isclose(claimed.value, stated.value, rel_tol=1e-6)
    return claimed.word.split()[0] == stated.word.split()[0]


def prices_match(stated: float, price: float) -> bool:
    """Tell whether a stated price is the record's, up to rounding."""
    return abs(stated - price) <= price * _PRICE_TOLERANCE or stated in (round(price), int(price))

"""Texts as a word list meets them: written alike whatever their case, accents, tricks of spelling; and phrases in them.

Reads as equal: capitals and small letters; letters with and without accents; full-width and mathematical letters;
invisible characters between letters, and apostrophes, or none; letters that stand alone one by one ("p o r n",
"p.o.r.n") and the word; digits, `@`, `$` and `!` for the letters that they look like, in a word that has other letters
("c0ca1ne"), and the Cyrillic letters that look Latin, in a word that has Latin ones; a letter three or more times
("sexxx") and once or twice; a plural in -s or -es and its singular. It knows no grammar, no misspelling and no `*` in
the place of a letter.

Regular expressions whose time is linear in the text: those that could take longer are refused when they are read.

Python's engine tries one way to match after another, and a careless pattern has exponentially many. Here every pattern
is taken apart and its ways to match from one place are counted, at most: a product over what stands in a row, a sum
over alternatives and over the turns of a repetition. Where nothing repeats without end that number is a constant, and
the time is at most the text's length times that constant times the pattern's length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from re import _constants, _parser  # type: ignore[attr-defined]  # how Python itself reads them; no public door
from typing import Any

_TOKEN = re.compile(r"(?:[^\W_]|[@$]|(?<=[^\W_])!(?=[^\W_]))+")


_SPELLED = re.compile(r"(?<!\w)\w([ .*_-])\w(?:\1\w)+(?!\w)")


_REPEATED = re.compile(r"([^\W\d_])\1{2,}")


_LATIN = re.compile("[a-z]")


_TRICKS = re.compile("[0134578@$!асеорхуі]")


_LOOKS = str.maketrans("0134578@$!асеорхуі", "oieastbasiaceopxyi")


_UNSEEN = frozenset({"Mn", "Me", "Cf"})  # accents once they are taken off, marks around a letter, zero-width characters


_APOSTROPHES = frozenset("'’ʼ`´")


@dataclass(frozen=True)
class Token:
    """One word: where it stands in `Plain.text`, and all the ways to read it."""

    start: int
    end: int
    readings: frozenset[str]


@dataclass(frozen=True)
class Plain:
    """A text written plainly.

    Attributes:
        original: the text as it was given.
        text: lower case, without accents, with single spaces.
        places: for each character of `text`, where it stands in the original, in characters.
        tokens: its words in their order.
        index: reading of a word -> the numbers of the words that may be read so, in order.
    """

    original: str
    text: str
    places: tuple[int, ...]
    tokens: tuple[Token, ...]
    index: Mapping[str, list[int]]

    def quote(self, start: int, end: int) -> tuple[int, str]:
        """Where a piece of `text` begins in the original, and how it is written there."""
        first = self.places[start]
        return first, self.original[first : self.places[end - 1] + 1]


def read(text: str) -> Plain:
    """A text written plainly, in time linear in its length."""
    letters: list[str] = []
    places: list[int] = []
    for place, letter in enumerate(text):
        for plain in _plain(letter):
            if plain != " " or (letters and letters[-1] != " "):
                letters.append(plain)
                places.append(place)
    joined = "".join(letters)
    between = {place for match in _SPELLED.finditer(joined) for place in range(match.start() + 1, match.end(), 2)}
    if between:
        kept = [place for place in range(len(joined)) if place not in between]
        joined, places = "".join(letters[place] for place in kept), [places[place] for place in kept]
    tokens = tuple(
        Token(match.start(), match.end(), frozenset(_readings(match.group()))) for match in _TOKEN.finditer(joined)
    )
    index: dict[str, list[int]] = {}
    for number, token in enumerate(tokens):
        for reading in token.readings:
            index.setdefault(reading, []).append(number)
    return Plain(text, joined, tuple(places), tokens, index)


def words(phrase: str) -> list[tuple[str, ...]]:
    """How a phrase of a list may stand in a text, word by word: one with a hyphen also as one word.

    Raises:
        ValueError: it has neither letters nor digits.
    """
    found = []
    for form in dict.fromkeys((phrase.replace("-", " "), phrase.replace("-", ""))):
        plain = "".join(part for letter in form for part in _plain(letter))
        if tokens := tuple(match.group() for match in _TOKEN.finditer(plain)):
            found.append(tokens)
    if not found:
        raise ValueError(f"{phrase!r} has no letters or digits")
    return found


class Phrases:
    """Finds any of many phrases among a text's words."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for phrase in phrases:
            for form in words(phrase):
                self._by_first.setdefault(form[0], []).append((form, phrase))

    def find(self, plain: Plain) -> list[tuple[str, int, int]]:
        """Each phrase that stands there, and its first and last word by number, in order of place."""
        tokens = plain.tokens
        found = {
            (place, place + len(form) - 1, phrase)
            for reading in self._by_first.keys() & plain.index.keys()
            for place in plain.index[reading]
            for form, phrase in self._by_first[reading]
            if place + len(form) <= len(tokens)
            and all(word in tokens[place + step].readings for step, word in enumerate(form))
        }
        return [(phrase, first, last) for first, last, phrase in sorted(found)]


def _plain(letter: str) -> str:
    if letter.isascii():
        return " " if letter.isspace() else "" if letter in _APOSTROPHES else letter.lower()
    if letter.isspace():
        return " "
    if letter in _APOSTROPHES:
        return ""
    parts = unicodedata.normalize("NFKD", letter.casefold())
    return "".join(part.casefold() for part in parts if unicodedata.category(part) not in _UNSEEN)


def _readings(token: str) -> Iterator[str]:
    forms = {token.strip("@$") or token}
    if _TRICKS.search(token) and _LATIN.search(token):
        forms |= {token.translate(_LOOKS), token.replace("1", "l").replace("!", "l").translate(_LOOKS)}
    for form in forms:
        short = {form}
        if _REPEATED.search(form):
            short |= {_REPEATED.sub(r"\1", form), _REPEATED.sub(r"\1\1", form)}
        for one in short:
            yield one
            if one.endswith("s") and len(one) > 3:
                yield one[:-1]
            if one.endswith("es") and len(one) > 4:
                yield one[:-2]


MAX_WAYS = 2000


_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)


_ASSERTIONS = (_constants.ASSERT, _constants.ASSERT_NOT)


_SINGLE = (
    _constants.LITERAL,
    _constants.NOT_LITERAL,
    _constants.IN,
    _constants.ANY,
    _constants.AT,
    _constants.CATEGORY,
    _constants.FAILURE,
)


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, ready for use.

    Raises:
        ValueError: it is no regular expression, matches the empty text, or may take more than linear time.
    """
    try:
        ways = _ways(_parser.parse(pattern))
        ready = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"no regular expression: {error}") from error
    if ways > MAX_WAYS:
        raise ValueError(f"has more than {MAX_WAYS} ways to match from one place: shorten its repetitions")
    if ready.search(""):
        raise ValueError("matches the empty text, and so every text")
    return ready


def _ways(parsed: Any) -> int:
    """At most so many ways to match from one place, counted up to just over the limit."""
    found = 1
    for operation, given in parsed:
        found = min(found * _ways_of(operation, given), MAX_WAYS + 1)
    return found


def _ways_of(operation: Any, given: Any) -> int:
    if operation in _SINGLE:
        return 1
    if operation in _REPEATS:
        least, most, inner = given
        if most == _constants.MAXREPEAT:
            raise ValueError("repeats without end (*, + or {2,}): state the most, such as {0,20}")
        ways = _ways(inner)
        return sum(min(ways**turns, MAX_WAYS + 1) for turns in range(least, min(most, least + MAX_WAYS) + 1))
    if operation is _constants.BRANCH:
        return sum(_ways(branch) for branch in given[1])
    if operation is _constants.SUBPATTERN:
        return _ways(given[3])
    if operation is _constants.ATOMIC_GROUP:
        return _ways(given)
    if operation in _ASSERTIONS:
        return _ways(given[1])
    raise ValueError(f"refers to a group ({str(operation).lower()}): write out what it should match")

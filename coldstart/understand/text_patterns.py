"""Normalise texts, and find phrases and regular expressions in them.

A plain text reads as equal: capitals and small letters; letters with and without accents; full-width and mathematical
letters; invisible characters between letters, and apostrophes, or none; letters that are spelled out ("p o r n",
"p.o.r.n") and the word; digits, `@`, `$` and `!` for the letters that they resemble, in a word that has other letters
("c0ca1ne"), and the Cyrillic letters that look Latin, in a word that has Latin ones; a letter three or more times
("sexxx") and once or twice; a plural in -s or -es and its singular. It knows no grammar, no misspelling and no `*` in
the place of a letter. Regular expressions are matched by RE2, in time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import re2  # type: ignore[import-untyped]

_TOKEN = re.compile(r"(?:[^\W_]|[@$]|(?<=[^\W_])!(?=[^\W_]))+")


_SPELLED = re.compile(r"(?<!\w)\w([ .*_-])\w(?:\1\w)+(?!\w)")


_REPEATED = re.compile(r"([^\W\d_])\1{2,}")


_LATIN = re.compile("[a-z]")


_TRICKS = re.compile("[0134578@$!асеорхуі]")


_LOOKALIKES = str.maketrans("0134578@$!асеорхуі", "oieastbasiaceopxyi")


_INVISIBLE = frozenset({"Mn", "Me", "Cf"})  # accents split from letters, marks around a letter, zero-width characters


_APOSTROPHES = frozenset("'’ʼ`´")


@dataclass(frozen=True)
class Token:
    """Word of a plain text: its place in `PlainText.text`, and all its readings."""

    start: int
    end: int
    readings: frozenset[str]


@dataclass(frozen=True)
class PlainText:
    """Text normalised for matching.

    Attributes:
        original: the text as it was given.
        text: lower case, without accents, with single spaces.
        places: for each character of `text`, its place in the original, in characters.
        tokens: its words in their order.
        index: reading of a word -> the numbers of the words that may be read so, in order.
    """

    original: str
    text: str
    places: tuple[int, ...]
    tokens: tuple[Token, ...]
    index: Mapping[str, list[int]]

    def quote(self, start: int, end: int) -> tuple[int, str]:
        """Return where a piece of `text` begins in the original, and how it is written there."""
        first = self.places[start]
        return first, self.original[first : self.places[end - 1] + 1]


def plain_text(text: str) -> PlainText:
    """Normalise a text, in time linear in its length."""
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
    return PlainText(text, joined, tuple(places), tokens, index)


def phrase_forms(phrase: str) -> list[tuple[str, ...]]:
    """List the forms of a phrase, word by word: one with a hyphen also as one word.

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
    """Index of phrases that are found among a text's words."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for phrase in phrases:
            for form in phrase_forms(phrase):
                self._by_first.setdefault(form[0], []).append((form, phrase))

    def find(self, plain: PlainText) -> list[tuple[str, int, int]]:
        """Find each phrase that occurs, with the numbers of its first and last word, in order of place."""
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
    return "".join(part.casefold() for part in parts if unicodedata.category(part) not in _INVISIBLE)


def _readings(token: str) -> Iterator[str]:
    forms = {token.strip("@$") or token}
    if _TRICKS.search(token) and _LATIN.search(token):
        forms |= {token.translate(_LOOKALIKES), token.replace("1", "l").replace("!", "l").translate(_LOOKALIKES)}
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


_ONE = r"(\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\\[pP](?:\{\^?\w+\}|\w)|\\[dDsSwW]|\\\W|[^\\()\[\].^$|*+?{}])"
"""One character or class of a regular expression."""

_BEFORE = re.compile(rf"\(\?<([!=]){_ONE}\)")

_AFTER = re.compile(rf"\(\?([!=]){_ONE}\)$")

_NO_LETTERS = re.compile(r"\\(?:[pP](?:\{\^?\w+\}|\w)|x(?:\{\w+\}|\w\w)|.)|\(\?P?<\w+>|\(\?[a-zA-Z-]+[:)]|\[:\^?\w+:\]")
"""Parts of a pattern with letters that match none: escapes, names of groups and classes, flags."""

_STAND_IN = "Z"
"""For letters that an ASCII pattern does not name: RE2 takes it for a letter, and no text has it, as texts are in lower
case."""


class Pattern:
    """A regular expression over the text of a `PlainText`.

    RE2's `\\b`, `\\w` and `\\d` know ASCII alone. So letters of other scripts are replaced by one ASCII letter that no
    pattern names, and their digits by 0 to 9; a pattern that itself names letters of another script may not use `\\b`
    or `\\w`.

    Raises:
        ValueError: RE2 refuses the pattern, it matches the empty text, or it names what is never in such a text.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        if re.search(r"\(\?[a-zA-Z-]*i[a-zA-Z-]*[:)]", pattern):
            raise ValueError("has the flag i: leave it out, as texts are matched in lower case")
        letters = [letter for letter in _NO_LETTERS.sub("", pattern) if letter.isalnum()]
        for letter in letters:
            if (plain := _plain(letter)) != letter:
                raise ValueError(f"has {letter!r}: write {plain!r}, as texts are matched in lower case without accents")
        self._ascii = all(letter.isascii() for letter in letters)
        if not self._ascii and (found := re.search(r"\\[bBwW]", pattern)):
            raise ValueError(
                rf"has {found.group()}, which knows ASCII letters alone, beside others: write \pL for a letter, "
                r"(?<!\pL) before a word and (?!\pL) after it"
            )
        before, after = _BEFORE.match(pattern), _AFTER.search(pattern)
        body = pattern[before.end() if before else 0 : after.start() if after else len(pattern)]
        if _compiled(body).search(b""):
            raise ValueError("matches the empty text, and so every text")
        if (before or after) and _has_alternatives(body):
            raise ValueError("has alternatives beside (?<!X), (?<=X), (?!X) or (?=X): put them in (?:...)")
        left = _neighbour(before) if before else ""
        right = _neighbour(after) if after else ""
        if after and after[1] == "!":
            right = f"(?:{right}|$)"
        self._later = _compiled(f"{left}({body}){right}")
        self._first = _compiled(f"(?:^|{left})({body}){right}") if before and before[1] == "!" else self._later
        self._takes_left = bool(before)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Find all matches from the left that do not overlap: first character, and the one past the last.

        The time is linear in the text's length.
        """
        data = self._readable(text).encode("utf-8", "replace")
        regexp, place = self._first, 0
        end = last = 0  # of the match before, in bytes and in characters
        while match := regexp.search(data, place):
            start, stop = match.span(1)
            first = last + len(data[end:start].decode())
            end, last = stop, first + len(data[start:stop].decode())
            yield first, last
            if start == end == len(data):
                return
            regexp, place = self._later, end
            if self._takes_left and start < end:  # the character beside the next match may be the last one of this
                place = end - 1
                while data[place] & 0xC0 == 0x80:
                    place -= 1
            elif not self._takes_left and start == end:
                place = end + 1
                while place < len(data) and data[place] & 0xC0 == 0x80:
                    place += 1

    def _readable(self, text: str) -> str:
        return text if text.isascii() else "".join(map(self._as_read, text))

    def _as_read(self, letter: str) -> str:
        if letter.isascii():
            return letter
        if letter.isdecimal():
            return str(unicodedata.decimal(letter))
        return _STAND_IN if self._ascii and letter.isalnum() else letter


@cache
def compile_pattern(pattern: str) -> Pattern:
    """Compile a pattern once; see `Pattern`."""
    return Pattern(pattern)


_OPTIONS = re2.Options()
_OPTIONS.log_errors = False  # it would write to stderr

_ADVICE = {
    "invalid perl operator": "look ahead or behind at the pattern's ends alone, at one character or class",
    "invalid escape sequence": "references to groups and \\Z are unknown; write out what it should match",
    "invalid repetition size": "repeat at most 1000 times, or without end",
}


def _compiled(pattern: str) -> Any:
    try:
        return re2.compile(pattern.encode("utf-8", "replace"), _OPTIONS)
    except re2.error as error:
        fault = error.args[0].decode("utf-8", "replace").removesuffix(": " + pattern)
        advice = next((f" ({words})" for start, words in _ADVICE.items() if fault.startswith(start)), "")
        raise ValueError(f"no regular expression that RE2 takes: {fault}{advice}") from error


def _neighbour(beside: re.Match[str]) -> str:
    """Write the class of characters that may be beside a match."""
    sign, one = beside.groups()
    if sign == "=":
        return one
    if one.startswith("[^"):
        return "[" + one[2:]
    return "[^" + (one[1:] if one.startswith("[") else one + "]")


def _has_alternatives(pattern: str) -> bool:
    """Tell whether a `|` stands outside all groups and classes."""
    bare = re.sub(r"\[\^?\]?[^\]]*\]", "", re.sub(r"\\.", "x", pattern))
    while "(" in bare:
        bare = re.sub(r"\([^()]*\)", "", bare)
    return "|" in bare

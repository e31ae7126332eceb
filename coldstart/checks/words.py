"""Texts as words that compare equal whatever their case, accents and number, and the finding of phrases among them.

A phrase is found as whole words, joined or apart (`t-shirt`, `T Shirt`, `tshirts`); the longest phrase wins, so that
`navy blue` is not `blue`. Plurals lose their ending by a few rules (after D. Harman, How effective is suffixing?, JASIS
42(1), 1991, the S stemmer), English ones that is; other inflections are other words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts without spaces: by character
_TOKEN = re.compile(rf"\d+(?:[.,]\d+)*|[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+|[%$€£¥₹]")
_POSSESSIVE = re.compile(r"['’](?:s\b)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COUNTED = {word: str(number) for number, word in enumerate(_COUNTS, 2)}
_BEFORE = frozenset(("no", "not", "non", "never", "without", "isnt", "arent", "faux", "fake", "imitation"))
_BETWEEN = frozenset(("a", "an", "any", "the", "added", "real", "of"))

Of = TypeVar("Of")
Tokens = tuple[str, ...]


_LONG = 500  # characters: a text that is asked for more than once is shorter


def tokens(text: str) -> Tokens:
    """The words of a text in their order: folded, singular, numbers written one way; `%` and money signs are words."""
    return _tokens(text) if len(text) > _LONG else _short(text)


def _tokens(text: str) -> Tokens:
    folded = text.lower() if text.isascii() else _folded(text)
    return tuple(map(_stem, _TOKEN.findall(_POSSESSIVE.sub("", folded))))


_short = lru_cache(maxsize=8192)(_tokens)


def _folded(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in parts if unicodedata.category(letter) != "Mn")


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    if word[0].isdigit():
        return _number(word)
    if word in _COUNTED:
        return _COUNTED[word]
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


def negated(words: Sequence[str], start: int, end: int) -> bool:
    """Whether the words before or after a place deny what stands there: `no sugar`, `faux leather`, `sugar free`."""
    before = start - 1
    while before > 0 and words[before] in _BETWEEN:
        before -= 1
    return (before >= 0 and words[before] in _BEFORE) or (end < len(words) and words[end] == "free")


class Lexicon(Generic[Of]):
    """Phrases, each of which stands for something."""

    def __init__(self, phrases: Iterable[tuple[str, Of]]) -> None:
        self._of: dict[str, list[Of]] = {}
        for phrase, one in phrases:
            if joined := "".join(tokens(phrase)):
                found = self._of.setdefault(joined, [])
                if one not in found:
                    found.append(one)
        self._starts = {key[:end] for key in self._of for end in range(1, len(key) + 1)}

    def find(self, words: Sequence[str]) -> list[tuple[int, int, list[Of]]]:
        """Where phrases stand, and what each stands for: first word, the word after the last; none in another."""
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

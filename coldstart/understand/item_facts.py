"""Compare what is stated of two items that look alike: evidence against a copy, and what pictures alone cannot prove.

A picture is often not of the item: a shop's "no photo yet", a group photo of a series, the cover of a podcast. Two
items differ by titles, categories, prices and a few attributes as they are stated; what is missing on either
side says nothing. For videos that move, words are no evidence, since an upload of the same video has another title. A
picture that many titles share, one of a single colour, and a video that shows one picture all along prove nothing at
all: there only the same title makes a copy, and of such videos also the same length, or the same bytes. A wrong link
hides an item from searches, a missed one shows an item twice: in doubt there is no link.

It does not know that two words mean the same, nor what is heard in a video.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coldstart.core.item_fields import read_attributes
from coldstart.core.keys import digest

COMMON_TITLES = 3
"""Different titles that may share one picture; with more the picture is a placeholder."""
TRAITS = frozenset(
    {"brand", "color", "colour", "ean", "gtin", "isbn", "language", "model", "mpn", "size", "upc", "variant"}
)
"""Attributes of which two different values mean two different items."""
_SHARED_WORDS = 0.75  # of the shorter title: less, and "red coffee mug" is "blue coffee mug"
_PRICE_SHARE = 0.01  # of the higher price: less is rounding
_LENGTH_S, _LENGTH_SHARE = 0.25, 0.01  # by which lengths of one recording differ after another encoding
_WORD = re.compile(r"\d+|[^\W\d_]+")
_NO_SPACES = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True)
class Facts:
    """Facts as they are stated of an item, and of its pictures or video.

    Attributes:
        title, category: their words by `words_of`; empty where not stated.
        traits: attributes among `TRAITS`, by name.
        digests: of the media that are compared; equal ones are the same bytes.
        length_s: of the video; None for pictures.
        common: all of its pictures are shared by more than `COMMON_TITLES` titles.
    """

    title: frozenset[str]
    category: frozenset[str]
    price: float | None
    currency: str
    traits: Mapping[str, str]
    digests: frozenset[str]
    length_s: float | None
    common: bool = False

    def key(self) -> str:
        """Return a digest of what can tell the item from another."""
        words = sorted(self.title), sorted(self.category)
        return digest([*words, self.price, self.currency, sorted(self.traits.items()), self.common])


def read_facts(row: Mapping[str, Any]) -> Facts:
    """Read the facts of a row of `items`."""
    attributes = read_attributes(row.get("attributes"))
    stated = {name.casefold(): str(value).strip().casefold() for name, value in attributes.items()}
    media = row.get("media") or ()
    videos = [entry for entry in media if entry["role"] == "video"][:1]
    compared = videos or [entry for entry in media if entry["role"] == "image"]
    return Facts(
        words_of(row.get("title")),
        words_of(row.get("category")),
        row.get("price"),
        stated.get("currency", ""),
        {name: value for name, value in stated.items() if name in TRAITS and value},
        frozenset(entry["digest"] for entry in compared),
        videos[0].get("duration_s") if videos else None,
    )


def words_of(text: str | None) -> frozenset[str]:
    """Split a text into words without case, marks and a plural's s; in scripts without spaces, pairs of characters."""
    found: set[str] = set()
    for word in _WORD.findall(unicodedata.normalize("NFKC", text or "").casefold()):
        if _NO_SPACES.search(word):
            found.update({word[at : at + 2] for at in range(len(word) - 1)} or {word})
        else:
            found.add(word[:-1] if len(word) > 3 and word.endswith("s") else word)
    return frozenset(found)


def find_difference(one: Facts, other: Facts, *, still: bool, plain: bool) -> str | None:
    """Name the fact in which two items that look alike differ; None where they agree.

    Args:
        still: either shows one picture all along, as a video.
        plain: neither has a picture of more than one colour.
    """
    if one.currency == other.currency and _prices_differ(one.price, other.price):
        return "price"
    for name, value in one.traits.items():
        if other.traits.get(name, value) != value:
            return name
    if one.length_s is not None or other.length_s is not None:
        return _find_video_difference(one, other, still=still)
    if _differ(one.title, other.title):
        return "title"
    if _differ(one.category, other.category):
        return "category"
    if (one.common or other.common or plain) and not _same(one.title, other.title):
        return "a picture that proves nothing"
    return None


def _find_video_difference(one: Facts, other: Facts, *, still: bool) -> str | None:
    if not still or (one.digests and one.digests == other.digests):
        return None
    if not _same(one.title, other.title):
        return "one picture all along"
    lengths = one.length_s or 0.0, other.length_s or 0.0
    return None if abs(lengths[0] - lengths[1]) <= max(_LENGTH_S, _LENGTH_SHARE * max(lengths)) else "length"


def _prices_differ(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return False
    return abs(one - other) > _PRICE_SHARE * max(abs(one), abs(other))


def _same(one: frozenset[str], other: frozenset[str]) -> bool:
    return bool(one) and one == other


def _differ(one: frozenset[str], other: frozenset[str]) -> bool:
    """Tell whether two stated texts are of different things: by their numbers, or by too few words in common."""
    if not one or not other:
        return False
    numbers = [{word for word in words if word.isdigit()} for words in (one, other)]
    if all(numbers) and not (numbers[0] <= numbers[1] or numbers[1] <= numbers[0]):
        return True
    return len(one & other) < _SHARED_WORDS * min(len(one), len(other))

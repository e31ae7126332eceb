"""Count the values of the fields of a published catalogue: what agents read first, and what questions may name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from coldstart.core.item_fields import read_attributes
from coldstart.errors import ColdstartError
from coldstart.serve.readers import Reader

GROUPED = ("kind", "category", "creator", "language", "label", "tags")
"""Columns whose values repeat."""
MEASURED = ("price", "label_score", "created_at")
"""Columns that have an order."""
TEXTS = ("title", "description", "transcript", "screen_text", "summary")
_DATES = {"created_at:day": 10, "created_at:month": 7, "created_at:year": 4}
_PLAIN = re.compile(r"attributes\.\w+")
_ATTRIBUTE = re.compile(r"attributes\.(\w[\w .-]*)")
_MOST_VALUES = 5_000


@dataclass
class Vocabulary:
    """Values of a publication.

    Attributes:
        values: field -> value -> items; attributes as `attributes.NAME`.
        filled: field -> items that have a value.
        ranges: field -> least and greatest value.
        titles: item -> title; ids: all items.
    """

    items: int = 0
    values: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    filled: Counter[str] = field(default_factory=Counter)
    ranges: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    @cached_property
    def title_forms(self) -> dict[str, list[str]]:
        """Words of a title, in the singular -> items that have it."""
        forms: dict[str, list[str]] = {}
        for item_id, title in self.titles.items():
            forms.setdefault(normal(title), []).append(item_id)
        return forms

    @cached_property
    def value_forms(self) -> dict[str, list[tuple[str, str]]]:
        """Words of a value, in the singular -> fields that have it, and its spellings."""
        forms: dict[str, list[tuple[str, str]]] = {}
        for name, values in self.values.items():
            if name != "kind" and (not name.startswith("attributes.") or _PLAIN.fullmatch(name)):
                for value in values:
                    if form := normal(value):
                        forms.setdefault(form, []).append((name, value))
        return forms


def read_vocabulary(reader: Reader) -> Vocabulary:
    """Count the values of all fields in one pass over the catalogue."""
    found = Vocabulary()
    columns = [*GROUPED, *MEASURED, *TEXTS, "attributes"]
    for row in rows_of(reader, columns):
        found.items += 1
        found.ids.add(row["item_id"])
        for name in TEXTS:
            found.filled[name] += bool(row.get(name))
        if row.get("title"):
            found.titles[row["item_id"]] = str(row["title"])
        for name in MEASURED:
            value = row.get(name)
            if value is not None:
                found.filled[name] += 1
                least, greatest = found.ranges.get(name, (value, value))
                found.ranges[name] = (min(least, value), max(greatest, value))
        named = {name: row.get(name) for name in GROUPED}
        named |= {f"attributes.{name}": value for name, value in read_attributes(row.get("attributes")).items()}
        for name, value in named.items():
            each = [one for one in (value if isinstance(value, list) else [value]) if one not in (None, "")]
            found.filled[name] += bool(each)
            counter = found.values[name]
            for one in each:
                if not isinstance(one, Mapping | list) and (str(one) in counter or len(counter) < _MOST_VALUES):
                    counter[str(one)] += 1
    return found


def rows_of(reader: Reader, columns: list[str], where: str | None = None, kind: str | None = None) -> Iterator[Any]:
    """Read columns of all items that meet conditions, an item at a time; a column that is not there is left out.

    Raises:
        ColdstartError: `where` is no condition over the fields there are.
    """
    published = reader.published()
    present = [name for name in dict.fromkeys(columns) if name in published.schema.names]
    condition = published.condition(where=where, kind=kind, copies=True)
    for block in published.blocks(present, where=condition):
        yield from block.to_pylist()


def check_field(name: str, known: Vocabulary, allowed: tuple[str, ...], what: str) -> str:
    """Return the column that holds a field.

    Raises:
        ColdstartError: there is no such field, with those there are.
    """
    attributes = sorted(one for one in known.values if one.startswith("attributes."))
    if name in allowed:
        return name.partition(":")[0]
    if name in attributes and _ATTRIBUTE.fullmatch(name):
        return "attributes"
    raise ColdstartError(
        f"{what} {name[:60]!r}: no such field: write {', '.join([*allowed, *attributes][:60])}", kind="usage"
    )


def value_of(row: Mapping[str, Any], name: str) -> list[Any]:
    """Read the values that an item has for a field, a date cut to its day, month or year."""
    if name.startswith("attributes."):
        value = read_attributes(row.get("attributes")).get(name.partition(".")[2])
    elif name in _DATES:
        value = row.get("created_at")
        return [] if value is None else [iso(value)[: _DATES[name]]]  # type: ignore[index]
    else:
        value = row.get(name)
    return [one for one in (value if isinstance(value, list) else [value]) if one not in (None, "")]


def number_of(row: Mapping[str, Any], name: str) -> Any:
    """Read the number or time that an item has for a field; None where it has none."""
    value = value_of(row, name)
    if not value:
        return None
    if name.startswith("attributes."):
        try:
            return float(str(value[0]))
        except ValueError:
            return None
    return value[0]


def iso(value: Any) -> str | None:
    """Write a time in ISO 8601, UTC, to the second."""
    if not isinstance(value, datetime):
        return None if value is None else str(value)
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_number(text: str) -> float:
    """Read a number of a text: `1,250.5` and `1 250` are above a thousand, and `12,5` is twelve and a half.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"\d{1,3}(?:[, \u00a0\u202f]\d{3})+(?:\.\d+)?", text):
        return float(re.sub(r"[^\d.]", "", text))
    return float(text.replace(",", "."))


def plain_number(number: float) -> str:
    """Write a number with all its digits and without an exponent, such as `1234567.5`."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def normal(text: str) -> str:
    """Write a text as lower-case words in the singular, so that `Shoes` and `shoe` are one word."""
    return " ".join(map(_singular, _WORD.findall(text.casefold().replace("’", "'"))))


def _singular(word: str) -> str:
    word = word.removesuffix("'s").strip("'")
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")) or (word.endswith("oes") and word not in _OE):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def words_found(row: Mapping[str, Any], words: Sequence[str], columns: Sequence[str]) -> dict[str, str] | None:
    """Find the fields of an item that hold words, whole and in any number, with what stands around each.

    Returns:
        None where one of the words stands in no field.
    """
    wanted = {word: f" {normal(word)} " for word in words}
    found: dict[str, str] = {}
    missing = set(words)
    for column in columns:
        value = row.get(column)
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
        plain = f" {normal(text)} " if text else ""
        here = [word for word, form in wanted.items() if form in plain]
        if here and missing.intersection(here):
            missing.difference_update(here)
            found[column] = _around(text, here[0])
    return None if missing else found


def _around(text: str, word: str) -> str:
    """Cut the part of a text that holds a word."""
    place = max(0, text.casefold().find(word.casefold()[:-1] or word))
    start = max(0, text.rfind(" ", 0, max(0, place - 40)) + 1) if place > 40 else 0
    return text[start : start + 110]


_OE = frozenset({"shoes", "toes", "canoes"})
_WORD = re.compile(r"[\w'&]+")
GROUP_FIELDS = (*GROUPED, *_DATES)
WORD_FIELDS = {
    "all": ("title", "tags", "category", "creator", "label", "description", "transcript", "screen_text"),
    "title": ("title",),
    "speech": ("transcript",),
    "screen": ("screen_text",),
}
"""Name -> columns whose words can be asked for."""

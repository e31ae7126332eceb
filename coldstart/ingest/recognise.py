"""Recognise which column of a shop's table is which field of an item, by names and by values. Changes no value."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from coldstart.core.items import FIELD_NAMES
from coldstart.core.settings import suggestion
from coldstart.core.values import is_missing
from coldstart.errors import ColdstartError
from coldstart.ingest.column_values import (
    CHECKS,
    any_value,
    are_distinct,
    has_currency,
    is_long,
    is_place,
    is_title,
    is_unique,
    role_of,
    share,
)
from coldstart.ingest.recognition import CONTENT, OWN, SIMILAR, SURE, SYNONYM, Match, Recognition
from coldstart.ingest.synonyms import fields as known_fields
from coldstart.ingest.synonyms import known_names, normalise, ranks

_SAMPLES, _LONGEST_SAMPLE = 3, 60
_PEEKED = 200
_MEDIA = {"images": "image", "videos": "video", "audio": "audio"}
_OTHER_WORDS = frozenset(
    re.findall(
        r"\w+",
        "seo meta alt sale compare old was position tax vat status count quantity stock weight unit min max shipping "
        "rate rating visibility hidden id msrp cost width height size currency discount group variant gift type "
        "cent cents minor net netto",
    )
)
"""Words beside a known name that make it another thing, as in `seo title` or `shipping price`."""
_WITHOUT_TAX = frozenset(("excl", "exkl", "excluding", "exclusive", "ht", "hors", "zzgl", "bez", "senza", "sin", "sem"))
_WORDY = frozenset(("title", "description", "category", "creator"))
_PARTS = frozenset(("name", "value", "text", "label", "title", "amount", "src", "url", "href", "main", "default"))
_CONTAINERS = frozenset(("variants", "product", "item", "products", "items", "offers"))
_LANGUAGES = frozenset(
    re.findall(r"\w+", "en de fr es it pt nl sv da no nb pl cs tr ru ja zh eng deu ger english deutsch german french")
)
_CURRENCY_WORDS = {
    **dict.fromkeys(("eur", "euro", "€"), "EUR"),
    **dict.fromkeys(("usd", "$", "dollar"), "USD"),
    **dict.fromkeys(("gbp", "£"), "GBP"),
    **dict.fromkeys(("pln", "zł"), "PLN"),
    **dict.fromkeys(("czk", "kč"), "CZK"),
    **dict.fromkeys(("jpy", "円"), "JPY"),
    **dict.fromkeys(("руб", "рублей"), "RUB"),
    "tl": "TRY",
    **{code.lower(): code for code in ("CHF", "SEK", "NOK", "DKK", "TRY", "RUB", "CNY", "CAD", "AUD", "HUF", "INR")},
}
_ID_WORDS = frozenset(("id", "no", "nr", "number", "code", "num", "key", "index", "sku"))
_TRADE_NUMBERS = frozenset(("gtin", "ean", "upc", "barcode", "isbn", "mpn", "asin", "uuid", "guid", "reference", "ref"))
_PAIR = re.compile(
    r"(?P<what>option|attribute|variation|eigenschaft|feature)[ _]?(?P<number>\d{1,2})[ _]?"
    r"(?P<part>names?|type|value\(s\)|values?)"
    r"|(?P<what2>option|attribute|variation|feature|productoption|additionalinfo)[ _]?"
    r"(?P<part2>names?|title|values?|description)[ _]?(?P<number2>\d{1,2})",
    re.IGNORECASE,
)


def recognise(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], given: Mapping[str, Sequence[str]] | None = None
) -> Recognition:
    """Recognise the fields of a table by the names of its columns and the values of some rows.

    Args:
        columns: names, each once.
        rows: the first rows, by column.
        given: our field -> its columns, as the user states them; () for a field that no column is to be taken for.

    Raises:
        ColdstartError: `given` names no field or column, with the nearest that there is.
    """
    return _Recogniser(list(columns), rows, given or {}).recognise()


def recognise_given(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    given: Mapping[str, Sequence[str]],
    id_from: Sequence[str] = (),
) -> Recognition:
    """Take the fields as they are stated, and columns of our own names; all other columns are attributes."""
    return _Recogniser(list(columns), rows, given).stated(id_from)


def currency_in_name(column: str) -> str | None:
    """Find the currency that the name of a column states, as in `Preis (EUR)`."""
    words = re.findall(r"[^\W\d_]+|[€$£]", column.casefold())
    return next((_CURRENCY_WORDS[word] for word in words if word in _CURRENCY_WORDS), None)


def check_given(given: Mapping[str, Sequence[str]], columns: Sequence[str]) -> None:
    """Refuse fields and columns that do not exist; raises `ColdstartError` with the nearest name."""
    for name, chosen in given.items():
        if name not in FIELD_NAMES and not name.startswith("attributes."):
            raise ColdstartError(
                f"--map {name}={','.join(chosen)}: an item has no field {name!r}{suggestion(name, FIELD_NAMES)}: it "
                f"has {', '.join(sorted(FIELD_NAMES))}, and attributes.NAME"
            )
        for column in chosen:
            if column not in columns:
                raise ColdstartError(
                    f"--map {name}={column}: there is no column {column!r}{suggestion(column, columns)}: there is "
                    f"{', '.join(columns)}"
                )


class _Recogniser:
    def __init__(
        self, columns: list[str], rows: Sequence[Mapping[str, Any]], given: Mapping[str, Sequence[str]]
    ) -> None:
        check_given(given, columns)
        self._columns = columns
        self._given = given
        self._table, self._rows = rows, len(rows)
        self._values = {
            column: [value for row in rows if not is_missing(value := row.get(column)) and value not in ([], {})]
            for column in columns
        }
        nested = {column.rpartition(".")[0] for column in columns}
        self._free = dict.fromkeys(  # without `image` of rows that have none, where others have `image.src`
            column for column in columns if self._values[column] or column not in nested
        )
        self._roles: dict[str, str | None] = {}
        self._found: dict[str, Match] = {}
        self._names = {  # `@type` of JSON-LD tells the class of an object
            column: "" if "@" in column else normalise(_without_currency(column)) for column in columns
        }

    def stated(self, id_from: Sequence[str]) -> Recognition:
        self._take_stated()
        found = self._result(self._pairs())
        here = tuple(column for column in id_from if column in self._columns)
        return replace(found, id_from=here or found.id_from)

    def recognise(self) -> Recognition:
        self._take_stated()
        pairs = self._pairs()
        for exact in (True, False):  # a whole name before words in a longer one
            for name in known_fields():
                if name in _MEDIA:
                    self._media(name, exact)
                elif not self._stated(name):
                    (self._by_name if exact else self._by_words)(name)
        self._by_values()
        self._settle_id()
        return self._result(pairs)

    def _take_stated(self) -> None:
        for name, chosen in self._given.items():
            if chosen:
                self._take(name, chosen, OWN, "as it was given")
        for name in sorted(FIELD_NAMES):
            if name in self._free and not self._stated(name):
                rivals = self._named("price") if name == "price" else []
                doubt = f"{', '.join(rivals[1:])} may be it too: {_why(name, name)}" if rivals[1:] else ""
                self._take(name, [name], OWN, "our own name", rivals[1:], doubt)

    def _result(self, pairs: tuple[tuple[str, str], ...]) -> Recognition:
        price = self._found.get("price")
        order = {name: place for place, name in enumerate(("item_id", "title", "description", *known_fields()))}
        matches = sorted(self._found.values(), key=lambda match: order.get(match.field, len(order)))
        return Recognition(
            tuple(matches),
            tuple(self._free),
            () if "item_id" in self._found else self._id_columns(),
            None if price is None else currency_in_name(price.columns[0]),
            pairs,
        )

    def _stated(self, name: str) -> bool:
        """Tell whether a field is taken already; `image` and `images` are one."""
        same = {name, name.rstrip("s"), f"{name.rstrip('s')}s"}
        return not same.isdisjoint(self._found) or not same.isdisjoint(self._given)

    def _take(
        self,
        name: str,
        columns: Sequence[str],
        confidence: float,
        reason: str,
        rivals: Sequence[str] = (),
        doubt: str = "",
    ) -> None:
        for column in columns:
            self._free.pop(column, None)
        samples = dict.fromkeys(show_sample(value) for column in columns for value in self._values[column][:50])
        if confidence < SURE:
            doubt = doubt or reason
        self._found[name] = Match(
            name, tuple(columns), confidence, reason, tuple(samples)[:_SAMPLES], tuple(rivals), doubt
        )

    def _named(self, name: str) -> list[str]:
        """List the columns with a name of a field, the preferred one first."""
        known = ranks(name)
        return sorted((column for column in self._free if self._names[column] in known), key=self._rank(known))

    def _by_name(self, name: str) -> None:
        fits = CHECKS.get(name, any_value)
        named = self._named(name)
        filled = [column for column in named if fits(self._values[column], self._rows)]
        if not filled and name == "item_id":  # of some rows it is missing
            filled = [column for column in named if fits(self._values[column], self._rows // 2)]
        if filled:
            if name in _WORDY:  # `Type` before a `Product Category` that few rows have
                most = max(len(self._values[column]) for column in filled)
                filled.sort(key=lambda column: 2 * len(self._values[column]) < most)
            best, rivals = filled[0], filled[1:]
            if name == "tags":
                self._take(name, [best], SYNONYM, f"{best!r} is a name for {name}")
                return
            doubt = ""
            if close := [column for column in rivals if self._is_rival(name, column)]:
                doubt = f"{', '.join(close)} may be it too: {_why(name, best)}"
            self._take(name, [best], SYNONYM, f"{best!r} is a name for {name}", rivals, doubt)

    def _settle_id(self) -> None:
        """Take another column for the id, or doubt it, where it is the same for many items, as the code of a group."""
        match, title = self._found.get("item_id"), self._found.get("title")
        if match is None or title is None or match.confidence == OWN or not self._is_shared(match.columns[0], title):
            return
        column = match.columns[0]
        others = [one for one in match.rivals if one in self._free and not self._is_shared(one, title)]
        doubt = f"rows of different titles have the same {column!r}"
        if others:
            self._free[column] = None
            self._take("item_id", others[:1], SYNONYM, f"{others[0]!r} is a name for item_id", (), doubt)
        else:
            self._found["item_id"] = replace(match, doubt=f"{doubt}, and become one item: is another column the id?")

    def _is_shared(self, column: str, title: Match) -> bool:
        """Tell whether a fifth of the rows share an id with others, and most such rows have titles of their own."""
        titles: dict[str, list[str]] = {}
        for row in self._table:
            if not is_missing(row.get(column)):
                titles.setdefault(str(row[column]), []).append(str(row.get(title.columns[0]) or ""))
        shared = [found for found in titles.values() if len(found) > 1]
        joined = sum(len(found) - 1 for found in shared)
        return joined >= 0.2 * self._rows and sum(len({*found} - {""}) > 1 for found in shared) > 0.5 * len(shared)

    def _by_words(self, name: str) -> None:
        known = ranks(name)
        similar = [column for column in self._free if self._similar(column, known) and self._fits(name, column)]
        if similar:
            best = min(similar, key=lambda c: (not self._plain_part(c, known), _is_without_tax(c), len(c)))
            plain = self._plain_part(best, known)
            self._take(
                name,
                [best],
                SYNONYM if plain and len(similar) == 1 else SIMILAR,
                f"the name {best!r} holds a name for {name}",
                [column for column in similar if column != best],
            )
            return
        if name in FIELD_NAMES:
            close = [
                column
                for column in self._free
                if len(column) > 3
                and difflib.get_close_matches(self._names[column], [normalise(name)], cutoff=0.8)
                and abs(len(column) - len(name)) < 3
                and self._names[column] not in known_names()
            ]
            if len(close) == 1 and self._fits(name, close[0]):
                self._take(name, close, SIMILAR, f"the name {close[0]!r} is nearly {name!r}")

    def _is_rival(self, name: str, column: str) -> bool:
        """Tell whether it matters that another column was chosen: of ids, titles and prices, not of trade numbers."""
        return name in ("item_id", "title", "price") and self._names[column] not in _TRADE_NUMBERS

    def _rank(self, known: Mapping[str, int]) -> Callable[[str], int]:
        return lambda column: known[self._names[column]]

    def _fits(self, name: str, column: str) -> bool:
        return CHECKS.get(name, any_value)(self._values[column], self._rows)

    def _similar(self, column: str, known: Mapping[str, int]) -> bool:
        words = _words(column)
        if words[-1:] == ["id"] and len(words) > 2:  # `variants.image id`
            return False
        if len(words) < 2 or not _OTHER_WORDS.isdisjoint(words):
            return self._plain_part(column, known)
        ends = ("".join(words[:end]) for end in range(1, len(words)))
        starts = ("".join(words[start:]) for start in range(1, len(words)))
        return any(part in known and len(part) > 3 for part in (*ends, *starts))

    def _plain_part(self, column: str, known: Mapping[str, int]) -> bool:
        """Tell whether a name is a known one and a word that says nothing else, such as `price.amount`, `title_en`."""
        words = _words(column)
        if len(words) > 1 and words[0] in _CONTAINERS:
            words = [*words[1:], "main"]
        start, end = int(len(words) > 1 and words[0] in _LANGUAGES), len(words)  # `NL_Title_Long`
        while end > start + 1 and (words[end - 1] in _PARTS or words[end - 1] in _LANGUAGES):
            end -= 1
        return end - start < len(words) and "".join(words[start:end]) in known

    def _media(self, name: str, exact: bool) -> None:
        role = _MEDIA[name]
        first, further = ranks(name), ranks("further_images") if role == "image" else {}
        if self._stated(name) and role != "image":
            return
        main = sorted((c for c in self._free if self._is_media(c, first, role)), key=self._rank(first))
        numbered = [c for c in self._free if c not in main and self._is_numbered(c, {**first, **further})]
        more = [c for c in self._free if self._is_media(c, further, role) or self._is_nested_image(c, main, role)]
        similar = [
            column
            for column in self._free
            if column not in (*main, *numbered, *more)
            and (self._plain_part(column, {**first, **further}) or self._similar(column, first))
            and is_place(self._values[column])
        ]
        chosen = [*main[:1], *sorted(numbered, key=_number), *more]
        confidence, reason = SYNONYM, f"names for {name}"
        if exact and not chosen:
            return
        if not chosen and similar:
            plain = [column for column in similar if self._plain_part(column, {**first, **further})]
            chosen, confidence = plain or similar[:1], SYNONYM if plain else SIMILAR
            reason = f"the name {similar[0]!r} holds a name for {name}"
        if not chosen and not self._stated(name):
            chosen = [c for c in self._free if self._role(c) == role][:1]
            confidence, reason = CONTENT, f"its values are {role} files"
            inside = chosen and any(isinstance(value, bytes | Mapping) for value in self._values[chosen[0]][:1])
            if inside or (chosen and self._names[chosen[0]] in ranks("file")):
                confidence = SYNONYM
        if not chosen:
            return
        given = self._found.get(role) or self._found.get(name)
        if given is not None:  # further pictures beside a column `image` of our own name
            if given.reason != "our own name" or not (numbered or more):
                return
            chosen = [*given.columns, *sorted(numbered, key=_number), *more]
            self._found.pop(given.field)
        spelt = role if len(chosen) == 1 and name != "audio" else name
        self._take(spelt, chosen, confidence, reason if len(chosen) > 1 else f"{chosen[0]!r}: {reason}")

    def _is_media(self, column: str, known: Mapping[str, int], role: str) -> bool:
        values = self._values[column]
        if self._names[column] not in known or not is_place(values):
            return False
        return share(values, lambda value: role_of(value) not in (role, None)) < 0.8

    def _is_nested_image(self, column: str, main: Sequence[str], role: str) -> bool:
        """Tell whether a column holds further pictures, such as `images.src` beside `image.src`."""
        own = column not in main and role == "image" and "." in column
        return own and self._plain_part(column, ranks("images")) and self._role(column) == role

    def _role(self, column: str) -> str | None:
        """Find the role of media that nearly all values of a column have."""
        if column not in self._roles:
            roles = Counter(map(role_of, self._values[column][:_PEEKED]))
            role, count = roles.most_common(1)[0] if roles else (None, 0)
            self._roles[column] = role if count >= 0.8 * roles.total() else None
        return self._roles[column]

    def _is_numbered(self, column: str, known: Mapping[str, int]) -> bool:
        found = re.fullmatch(r"(.*?[^\d\s_.-])[\s_.-]*\d{1,2}(?:[\s_.-]*(?:url|link|src|path|file))?", column.strip())
        if found is None:
            return False
        words = [found[1], re.sub(r"[\s_.-]*\d+[\s_.-]*", " ", column)]
        return any(normalise(word) in known for word in words) and is_place(self._values[column])

    def _pairs(self) -> tuple[tuple[str, str], ...]:
        """Find columns that name an attribute and those with its values, and take them out."""
        names: dict[tuple[str, str], str] = {}
        values: dict[tuple[str, str], str] = {}
        for column in self._free:
            if found := _PAIR.fullmatch(column.strip()):
                what, number, part = (found[name] or found[f"{name}2"] for name in ("what", "number", "part"))
                key, part = (what.casefold(), number), part.casefold()
                if part.startswith(("value", "description")):
                    values.setdefault(key, column)
                elif part != "type" or key not in names:
                    names[key] = column
        pairs = tuple((names[key], values[key]) for key in names if key in values)
        for pair in pairs:
            for column in pair:
                self._free.pop(column)
        return pairs

    def _by_values(self) -> None:
        """Find fields that no name tells by the values of columns."""
        if not self._stated("description"):
            long = [c for c in self._free if is_long(self._values[c])]
            if long:
                self._take("description", long[:1], CONTENT, f"the values of {long[0]!r} are long texts")
        if not self._stated("title"):
            texts = [c for c in self._free if is_title(self._values[c])]
            if texts:
                self._take(
                    "title", texts[:1], CONTENT, f"the values of {texts[0]!r} are short texts, nearly all distinct"
                )
            elif "item_id" in self._found and (match := self._found.get("description")) and match.confidence < OWN:
                column = match.columns[0]  # `Descripción` of programs that have no other name of an item
                if is_title(self._values[column]) and not is_long(self._values[column]):
                    self._found.pop("description")
                    self._take("title", [column], CONTENT, f"{column!r} is short, and no other is a title")
        if not self._stated("price"):
            prices = [c for c in self._free if share(self._values[c], has_currency) >= 0.8]
            if prices:
                self._take("price", prices[:1], CONTENT, f"the values of {prices[0]!r} are numbers with a currency")
        if not self._stated("item_id"):
            unique = [column for column in self._free if is_unique(self._values[column], self._rows)]
            named = [column for column in unique if not _ID_WORDS.isdisjoint(_words(column))]
            if named or (unique and self._stated("title")):
                best = (named or unique)[0]
                self._take("item_id", [best], CONTENT, f"the values of {best!r} are short and each once")

    def _id_columns(self) -> tuple[str, ...]:
        """Choose what ids are made from: the link of an item, else its title or its pictures, else all of its row."""
        links = [
            c for c in self._columns if self._names[c] in ranks("link") and are_distinct(self._values[c], self._rows)
        ]
        if links:
            return (links[0],)
        for name in ("title", "image", "images", "video", "videos"):
            match = self._found.get(name)
            if match and are_distinct(self._values[match.columns[0]], self._rows):
                return match.columns[:1]
        return tuple(self._columns)


def show_sample(value: Any) -> str:
    """Format a value of a cell in one short line."""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return f"{len(value['bytes']):,} bytes {value.get('path') or ''}".strip()
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_SAMPLE else text[: _LONGEST_SAMPLE - 1] + "…"


def _is_without_tax(column: str) -> bool:
    return not _WITHOUT_TAX.isdisjoint(_words(column))


def _words(column: str) -> list[str]:
    if "@" in column:  # `offers.@type` of JSON-LD, too
        return []
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    return [normalise(word) for word in re.findall(r"[^\W_]+", spaced) if normalise(word)]


def _without_currency(column: str) -> str:
    return re.sub(r"[^\W\d_]+|[€$£]", lambda found: "" if found[0].casefold() in _CURRENCY_WORDS else found[0], column)


def _number(column: str) -> tuple[str, int]:
    found = re.search(r"\d+", column)
    return re.sub(r"\d+", "", column), int(found[0]) if found else 0


def _why(name: str, best: str) -> str:
    if name == "item_id":
        return f"{best!r} names the item, others become attributes"
    if name == "price":
        return f"{best!r} is the regular one, others become attributes"
    return f"{best!r} is the more usual name, others become attributes"

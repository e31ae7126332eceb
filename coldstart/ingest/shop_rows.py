"""Read rows as shops write them as rows of a manifest: prices, dates, HTML, nested categories, several rows an item.

A value that a field cannot have becomes an attribute and is counted: no row is lost by one column.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from coldstart.core.html_text import clean_html
from coldstart.core.items import SHORT_FORMS
from coldstart.core.prices import PriceFormat, parse_price, price_format_of
from coldstart.core.values import are_whole_floats, is_missing, is_missing_text
from coldstart.ingest.dates import ISO, date_format_of, parse_date
from coldstart.ingest.nested import NO_OPTION, flatten
from coldstart.ingest.recognise import show_sample
from coldstart.ingest.recognition import Recognition
from coldstart.ingest.shop_cells import (
    category_mark,
    category_paths,
    count_hosts,
    digest_of,
    distinct,
    first_value,
    id_text,
    is_plural,
    join_attributes,
    media_of,
    no_file,
    tags_of,
)
from coldstart.ingest.table import Row, Table

CATEGORY_PATH = "category_path"
"""Attribute with all levels of a nested category; the field `category` is the last one."""

_MEDIA_FIELDS = frozenset(("media", *SHORT_FORMS))
_NO_WORDS = frozenset(("price", "created_at", "item_id", "kind"))
_EMPTY: tuple[Any, ...] = ("", [], b"", {"bytes": None, "path": None}, {"bytes": b"", "path": None})
_KEPT_VALUES = 200_000


@dataclass
class Doubts:
    """Count what was doubtful in the values of columns, with the first example of each."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)

    def note(self, column: str, what: str, example: str) -> None:
        """Count one more."""
        self.counts[column, what] += 1
        self.examples.setdefault((column, what), example)

    def lines(self) -> list[str]:
        """Describe each in one line: column, count, an example."""
        return [
            f"{column}: {what}: {count:,} {'time' if count == 1 else 'times'}, such as {self.examples[column, what]}"
            for (column, what), count in self.counts.items()
        ]


@dataclass(frozen=True)
class Survey:
    """Facts of all rows of a table, which values of single rows are read by.

    Attributes:
        rows: how many, those that could not be read among them; `faults`: of those how many.
        ids: id -> how many rows have it; rows without one are not counted.
        repeated_keys: texts that ids are made from and that stand several times.
        filled: column -> rows that have a value.
        hosts: web host -> media that are there.
        price, date, category: spelling of the prices, dates and nested categories of a column.
        whole_ids: whether all ids are whole numbers with ".0", which is left out.
    """

    rows: int
    faults: int
    ids: Mapping[str, int]
    repeated_keys: frozenset[str]
    filled: Mapping[str, int]
    hosts: Mapping[str, int]
    price: PriceFormat
    date: str
    category: str
    whole_ids: bool

    @property
    def joined(self) -> int:
        """Rows that were joined into the item of another row."""
        return sum(self.ids.values()) - len(self.ids)

    @property
    def nameless(self) -> int:
        """Rows that could be read, but have no id."""
        return self.rows - self.faults - sum(self.ids.values())


class ShopRows:
    """Rows of a table whose columns were recognised, read twice: once for a survey, once for the rows of a manifest.

    Args:
        rows: reads the rows in order.
        labels: column -> names of the classes that its numbers stand for.
    """

    def __init__(
        self,
        rows: Callable[[], Iterator[Row]],
        recognition: Recognition,
        labels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._rows = rows
        self._recognition = recognition
        self._labels = labels or {}
        self._columns: dict[str, tuple[str, ...]] = {}  # column -> its fields, mostly one
        for match in recognition.matches:
            for column in match.columns:
                self._columns[column] = (*self._columns.get(column, ()), match.field)
        self._pairs = recognition.pairs
        self._paired = frozenset(column for pair in recognition.pairs for column in pair)
        self._pair_names: dict[str, str] = {}
        id_match = recognition.of("item_id")
        self._id_column = id_match.columns[0] if id_match else None
        self._currency = recognition.currency
        self.doubts = Doubts()

    def plain(self) -> Iterator[Row]:
        """Read the rows with their nested values as columns of their own, and names in place of class numbers."""
        for line, found in self._rows():
            yield line, found if isinstance(found, str) else plain_row(found, self._labels)

    # ---- survey

    def survey(self) -> Survey:
        """Read all rows once."""
        filled, hosts, ids = Counter[str](), Counter[str](), Counter[str]()
        values: dict[str, dict[Any, None]] = {"price": {}, "created_at": {}, "category": {}}
        kept = {column: values[name] for column, names in self._columns.items() for name in names if name in values}
        media = [column for column, names in self._columns.items() if not _MEDIA_FIELDS.isdisjoint(names)]
        first: list[Any] = []
        rows = faults = 0
        for _, row in self.plain():
            rows += 1
            if isinstance(row, str):
                faults += 1
                continue
            filled.update([column for column, value in row.items() if value is not None and value not in _EMPTY])
            for column, known in kept.items():
                value = row.get(column)
                if isinstance(value, str) and len(known) < _KEPT_VALUES:
                    known[value] = None
            for column in media:
                count_hosts(row.get(column), hosts)
            key = self._key(row)
            if key is not None:
                ids[key] += 1
                if len(first) < 1000:
                    first.append(key)
        repeated = frozenset[str]()
        whole = self._id_column is not None and are_whole_floats(first)
        if self._id_column is None:
            repeated = frozenset(key for key, count in ids.items() if count > 1)
            ids = self._made_ids(repeated)
        elif whole:
            ids = Counter({key.strip().removesuffix(".0"): count for key, count in ids.items()})
        return Survey(
            rows,
            faults,
            ids,
            repeated,
            filled,
            hosts,
            price_format_of(values["price"]),
            date_format_of(values["created_at"]) or ISO,
            category_mark(values["category"]),
            whole,
        )

    def _made_ids(self, repeated: frozenset[str]) -> Counter[str]:
        found = Counter[str]()
        for _, row in self.plain():
            if not isinstance(row, str):
                found[self._made_id(row, repeated)] += 1
        return found

    def _key(self, row: Mapping[str, Any]) -> str | None:
        """Return the text that tells an item: its id, or what an id is made from."""
        if self._id_column is None:
            return digest_of([row.get(column) for column in self._recognition.id_from])
        value = row.get(self._id_column)
        if isinstance(value, list):
            value = value[0] if value else None
        return None if is_missing(value) else id_text(value)

    def _made_id(self, row: Mapping[str, Any], repeated: frozenset[str]) -> str:
        key = self._key(row)
        assert key is not None
        return digest_of([key, row]) if key in repeated else key

    # ---- rows of a manifest

    def entries(
        self, survey: Survey, exists: Callable[[str], bool] | None = None
    ) -> Iterator[tuple[int, dict[str, Any] | str, int]]:
        """Read the items: line of the first row, fields or what is wrong, and how many rows were joined.

        Args:
            exists: tells whether a text is the name of a file, which is then not parted at its commas.
        """
        exists = exists or no_file
        waiting: dict[str, tuple[int, dict[str, Any], int]] = {}
        for line, row in self.plain():
            if isinstance(row, str):
                yield line, row, 1
                continue
            fields = self._fields(row, line, survey, exists)
            item_id = fields.get("item_id")
            count = survey.ids.get(item_id, 1) if isinstance(item_id, str) else 1
            if count < 2:
                yield line, fields, 1
                continue
            assert isinstance(item_id, str)
            if item_id not in waiting:
                waiting[item_id] = line, fields, 1
                continue
            start, joined, met = waiting[item_id]
            self._join(joined, fields, item_id, exists)
            if met + 1 < count:
                waiting[item_id] = start, joined, met + 1
            else:
                del waiting[item_id]
                yield start, joined, met + 1
        for start, joined, met in waiting.values():  # of a file that became shorter meanwhile
            yield start, joined, met

    def _fields(
        self, row: Mapping[str, Any], line: int, survey: Survey, exists: Callable[[str], bool]
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        columns = self._columns
        for column, value in row.items():
            if value is None or value in _EMPTY:
                continue
            if column not in columns:
                if column not in self._paired and not is_missing_text(value):
                    attributes[column] = _cleaned(value)
                continue
            for name in columns[column]:
                if name in _MEDIA_FIELDS:
                    fields.setdefault(name, []).append((columns_place(self._recognition, name, column), value))
                elif name.startswith("attributes."):
                    attributes.setdefault(name.removeprefix("attributes."), value)
                else:
                    self._set(name, column, value, fields, attributes, line, survey)
        for name in _MEDIA_FIELDS & fields.keys():
            given = [value for _, value in sorted(fields[name], key=lambda entry: entry[0])]
            plain = len(given) == 1 and isinstance(given[0], str) and not given[0].startswith("//")
            fields[name] = given[0] if plain else media_of(given, exists)
        if self._id_column is None:
            fields["item_id"] = self._made_id(row, survey.repeated_keys)
        elif survey.whole_ids and "item_id" in fields:
            fields["item_id"] = fields["item_id"].strip().removesuffix(".0")
        self._add_pairs(row, attributes)
        if self._currency and "price" in fields:
            attributes.setdefault("currency", self._currency)
        if attributes:
            fields["attributes"] = attributes
        return fields

    def _set(
        self,
        name: str,
        column: str,
        value: Any,
        fields: dict[str, Any],
        attributes: dict[str, Any],
        line: int,
        survey: Survey,
    ) -> None:
        if is_missing(value) if name in _NO_WORDS else is_missing_text(value):
            return
        if name in fields:  # two columns of one field: the first with a value
            attributes[column] = value
            return
        if isinstance(value, list) and name not in ("tags", "attributes"):
            value = first_value(value)
            if value is None:
                return
        if name == "item_id":
            fields[name] = id_text(value)
        elif name == "price":
            self._set_price(column, value, fields, attributes, line, survey)
        elif name == "created_at":
            try:
                fields[name] = parse_date(value, survey.date)
            except (ValueError, OverflowError):
                self._unfit(column, "no date, kept as an attribute", value, attributes, line)
        elif name == "category":
            path, others = category_paths(_cleaned(str(value)), survey.category)
            fields[name] = path[-1] if path else None
            if len(path) > 1 or others:
                whole = " > ".join(path)
                attributes[CATEGORY_PATH] = [whole, *others] if others else whole
        elif name == "tags":
            fields[name] = tags_of(value)
        elif name == "kind":
            if str(value).strip().lower() in ("video", "product"):
                fields[name] = value
            else:
                self._unfit(column, "neither video nor product, kept as an attribute", value, attributes, line)
        elif name == "attributes":
            self._set_attributes(column, value, attributes)
        else:
            text = _cleaned(value)
            fields[name] = " ".join(text.split()) if name != "description" and isinstance(text, str) else text

    def _set_price(
        self, column: str, value: Any, fields: dict[str, Any], attributes: dict[str, Any], line: int, survey: Survey
    ) -> None:
        try:
            price, currency = _price(value, survey.price) if isinstance(value, str) else parse_price(value)
            number = float(price)
            if not 0 <= number < float("inf"):
                raise ValueError("below zero, or infinite")
        except (ValueError, TypeError):
            self._unfit(column, "no price, kept as an attribute", value, attributes, line)
            return
        fields["price"] = number
        if currency is not None:
            attributes["currency"] = currency

    def _set_attributes(self, column: str, value: Any, attributes: dict[str, Any]) -> None:
        try:
            found = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, Mapping):
            attributes.update({name: one for name, one in found.items() if one not in (None, "")})
        else:
            attributes[column] = value

    def _unfit(self, column: str, what: str, value: Any, attributes: dict[str, Any], line: int) -> None:
        attributes[column] = value
        self.doubts.note(column, what, f"{show_sample(value)!r} (row {line})")

    def _add_pairs(self, row: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        for name_column, value_column in self._pairs:
            name = row.get(name_column)
            if name:  # of further rows of an item it is left out
                self._pair_names[name_column] = str(name).strip()
            value = row.get(value_column)
            title = self._pair_names.get(name_column, name_column)
            if value in (None, "") or value == NO_OPTION:
                continue
            parts = re.split(r"\s*[,|]\s*", value) if isinstance(value, str) and is_plural(value_column) else [value]
            attributes[title] = parts[0] if len(parts) == 1 else parts

    def _join(self, into: dict[str, Any], fields: dict[str, Any], item_id: str, exists: Callable[[str], bool]) -> None:
        """Add a further row of an item: media and tags in order, of other fields the first value, attributes all."""
        for name, value in fields.items():
            if name == "item_id" or value is None:
                continue
            if name not in into or into[name] is None:
                into[name] = value
            elif name in _MEDIA_FIELDS:
                both = [*media_of([into[name]], exists), *media_of([value], exists)]
                into[name] = distinct(both)
            elif name == "tags":
                into[name] = distinct([*into[name], *value])
            elif name == "attributes":
                join_attributes(into[name], value)
            elif into[name] != value:
                columns = self._recognition.of(name)
                self.doubts.note(
                    columns.columns[0] if columns else name,
                    "differs from the first row of its item, which counts",
                    f"{show_sample(value)!r} beside {show_sample(into[name])!r} of {item_id}",
                )


@lru_cache(maxsize=16_384)
def _price(text: str, form: PriceFormat) -> tuple[Any, str | None]:
    return parse_price(text, form)


def _cleaned(value: Any) -> Any:
    return clean_html(value) if isinstance(value, str) and ("<" in value or "&" in value) else value


def plain_row(row: dict[str, Any], labels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Give nested values columns of their own, and classes their names."""
    if labels:
        for column, names in labels.items():
            value = row.get(column)
            if isinstance(value, int) and 0 <= value < len(names):
                row = {**row, column: names[value]}
    return flatten(row)


def survey_doubts(survey: Survey, recognition: Recognition, table: Table) -> list[str]:
    """Describe what is doubtful in the values of all rows."""
    found = list(table.doubts)
    price = recognition.of("price")
    if price and survey.price.doubtful:
        found.append(
            f"{price.columns[0]}: {survey.price.doubtful:,} values may mean two things, such as "
            f"{survey.price.example!r}: taken for a mark between thousands"
        )
    if survey.nameless:
        match = recognition.of("item_id")
        found.append(
            f"{match.columns[0] if match else 'item_id'}: empty in {survey.nameless:,} "
            f"{'row' if survey.nameless == 1 else 'rows'}, rejected without an id"
        )
    if not recognition.of("item_id"):
        made = ", ".join(recognition.id_from[:3]) + (", …" if len(recognition.id_from) > 3 else "")
        found.append(f"no column holds an id: ids are made from {made}; an item whose {made} changes is a new one")
    return found


def columns_place(recognition: Recognition, name: str, column: str) -> int:
    """Find the place of a column among those of its field."""
    match = recognition.of(name)
    return match.columns.index(column) if match else 0

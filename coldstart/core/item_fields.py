"""Select the fields of an item that a stage reads, and digest them for the keys of its rows.

A field is a column of the items table or a part of one: `attributes.NAME` is one entry of `attributes`, `media.image`,
`media.video` and `media.audio` are the media of one role. Of a medium its role and the digest of its bytes count, and
neither its place nor what is read from its header: a file that was moved is the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coldstart.core.keys import digest

DEEPEST = 200
"""Objects and lists inside one another that are read: what shows and compares them goes one call a level."""
PICTURES = frozenset({"media.image", "media.video"})
"""Fields of a stage that looks at an item."""
MEDIA = PICTURES | {"media.audio"}


def columns_of(fields: Collection[str]) -> list[str]:
    """List the columns that hold fields, sorted."""
    return sorted({field.partition(".")[0] for field in fields})


def select_fields(row: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Select the id and some fields of an item's row; a column in part holds those parts alone."""
    found: dict[str, Any] = {"item_id": row["item_id"]}
    for column in columns_of(fields):
        if column not in row:
            continue
        parts = {part for own, _, part in (field.partition(".") for field in fields) if own == column}
        value = row[column]
        if "" not in parts and column == "media":
            value = [entry for entry in value or () if entry["role"] in parts]
        elif "" not in parts and column == "attributes":
            entries = read_attributes(value)
            value = json.dumps({name: entries[name] for name in entries if name in parts}, ensure_ascii=False)
        found[column] = value
    return found


def field_digests(rows: pa.Table, fields: Collection[str]) -> list[str]:
    """Compute the digest of some fields of each row; an absent field, an empty one and a missing column are equal."""
    names = sorted(fields)
    values = _Values(rows)
    columns = [values.of(name) for name in names]
    nothing = digest({})
    if not columns:
        return [nothing] * rows.num_rows
    given = (
        {name: value for name, value in zip(names, row, strict=True) if value is not None and value != []}
        for row in zip(*columns, strict=True)
    )
    return [digest(one) if one else nothing for one in given]


def read_attributes(text: str | None) -> dict[str, Any]:
    """Read the attributes of a stored row, none where it has no JSON object: the table may come from a stranger.

    `coldstart check` lists such rows.
    """
    found = read_object(text)
    return {} if found is None else found


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def load_json(text: str) -> Any:
    """Read stored JSON; half a character, which it can spell and no answer can hold, is read as `?`.

    Raises:
        ValueError: it is none; RecursionError: it is nested too deeply.
    """
    found = json.loads(text)
    if _HALF.search(text):
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    return found


def read_object(text: str | None) -> dict[str, Any] | None:
    """Read a stored JSON object, empty for null and ""; None where it is none, or nested deeper than `DEEPEST`."""
    with suppress(TypeError, ValueError, RecursionError):
        found = load_json(text or "{}")
        if isinstance(found, dict) and _is_shallow(found, text or ""):
            return found
    return None


def _is_shallow(found: Any, text: str) -> bool:
    level = [found] if text.count("{") + text.count("[") > DEEPEST else []
    for _ in range(DEEPEST):
        level = [part for one in level if isinstance(one, dict | list) for part in _parts(one)]
    return not level


def _parts(value: dict[str, Any] | list[Any]) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value


class _Values:
    """JSON values of the fields of some rows; attributes are parsed once."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._attributes: list[Mapping[str, Any]] | None = None

    def of(self, field: str) -> list[Any]:
        column, _, part = field.partition(".")
        if column not in self._rows.column_names:
            return [None] * self._rows.num_rows
        if column == "media":
            return [text for chunk in self._rows[column].chunks for text in _media(chunk, part)]
        if column == "attributes" and part:
            if self._attributes is None:
                self._attributes = [read_attributes(text) for text in self._rows[column].to_pylist()]
            return [entries.get(part) for entries in self._attributes]
        values: list[Any] = self._rows[column].to_pylist()
        if pa.types.is_timestamp(self._rows.schema.field(column).type):
            return [None if value is None else value.isoformat() for value in values]
        return values


def _media(lists: pa.ListArray, role: str) -> Iterator[str | None]:
    """Yield the digests of each item's media of a role, or `ROLE DIGEST` of all, as one text; None without any.

    Joined by column: a list of entries for each item takes ten times as long.
    """
    entries, parents = lists.flatten(), pc.list_parent_indices(lists)
    found = entries.field("digest")
    if role:
        own = pc.equal(entries.field("role"), role)
        found, parents = found.filter(own), parents.filter(own)
    else:
        found = pc.binary_join_element_wise(entries.field("role"), found, " ")
    counts = np.bincount(parents.to_numpy(), minlength=len(lists))
    joined = pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), found)
    for text in pc.binary_join(joined, " ").to_pylist():
        yield text or None

"""Lay what people decided over the records of items where these are ingested: corrected fields and decided claims.

A row of the table of items holds what was decided, and what stood there before, so that an undone decision restores it
though the manifest is gone. The key of such a row is that of the manifest's row and a digest of what was decided: the
same manifest read again finds it fresh, and rows without decisions keep the keys that they had before there were any.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic_core import to_jsonable_python

from coldstart.core.item_fields import read_attributes, read_object
from coldstart.core.keys import digest, item_key
from coldstart.core.language import item_language
from coldstart.core.stage import Reject, Row, Work
from coldstart.store.decisions import ATTRIBUTE, TEXT_FIELDS, Decision, check_value, read_decisions

if TYPE_CHECKING:
    from coldstart.store import Store

ITEMS = "items"
UNCORRECTED = pa.field("uncorrected", pa.string())
"""Column of the values that corrected fields had, a JSON object in text; null for most items."""
CLAIM_DECISIONS = pa.field("claim_decisions", pa.string())
"""Column of the claims that people decided on, a JSON object in text: `rejected` and `approved`, lists of name and
text; null for most items."""
_KIND = ("kind", "price")
_MARK = "+"
_CHUNK = 500


class Corrections:
    """Decisions that are laid over the records of items.

    Attributes:
        items: those of which there are any.
    """

    def __init__(self, decisions: Collection[Decision]) -> None:
        self._values: dict[str, dict[str, Any]] = {}
        self._claims: dict[str, dict[str, list[list[str]]]] = {}
        for one in decisions:
            if one.sets:
                self._values.setdefault(one.item_id, {})[one.sets] = one.value
            if one.claim is not None:
                own = self._claims.setdefault(one.item_id, {"approved": [], "rejected": []})
                own["approved" if one.action == "approve" else "rejected"].append([one.claim, one.value])
        for own in self._claims.values():
            for listed in own.values():
                listed.sort()
        self.items = frozenset(self._values) | frozenset(self._claims)

    def apply(self, work: Work) -> Work:
        """Lay what was decided of an item over its row; the verdict on one that is turned away stays."""
        if work.item_id not in self.items or isinstance(work.row, Reject):
            return work
        return Work(work.item_id, self._key(work.item_id, work.key), self._amended(work.item_id, work.row))

    def _key(self, item_id: str, base: str) -> str:
        if item_id not in self.items:
            return base
        decided = [self._values.get(item_id), self._claims.get(item_id)]
        return f"{base}{_MARK}{digest(decided)}"

    def _amended(self, item_id: str, row: Row) -> Row:
        record = dict(row["record"])
        before = _set(record, self._values.get(item_id, {}))
        claims = self._claims.get(item_id)
        if claims:
            record[CLAIM_DECISIONS.name] = claims
        return {
            **row,
            **_columns(record),
            "record": record,
            UNCORRECTED.name: json.dumps(before, ensure_ascii=False) if before else None,
            CLAIM_DECISIONS.name: json.dumps(claims, ensure_ascii=False) if claims else None,
        }

    def touched(self, store: Store) -> set[str]:
        """Find the items that decisions are laid over, or were when their rows were stored."""
        found = set(self.items)
        present = store.columns(ITEMS)
        if held := [name for name in (UNCORRECTED.name, CLAIM_DECISIONS.name) if name in present]:
            where = " OR ".join(f"{name} IS NOT NULL" for name in held)
            found.update(store.read(ITEMS, ["item_id"], where=where)["item_id"].to_pylist())
        return found

    def stored(self, store: Store, items: Collection[str]) -> Iterator[Work]:
        """Yield those of some items that are not as was decided, made of their stored rows, without a manifest."""
        listed = sorted(items) if store.has(ITEMS) else []
        for start in range(0, len(listed), _CHUNK):
            for stored in store.read(ITEMS, ids=listed[start : start + _CHUNK]).to_pylist():
                item_id, key = stored["item_id"], stored.get("source_key") or ""
                base = key.partition(_MARK)[0]
                wanted = self._key(item_id, base)
                if wanted != key:
                    yield Work(item_id, wanted, _finished(self.apply(Work(item_id, base, _base_row(stored))).row))


def read_corrections(store: Store) -> Corrections:
    """Read the decisions in force that are laid over the records of items."""
    return Corrections(read_decisions(store).holding)


def record_of(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a stored row, as `Item.record` has it."""
    created_at = stored.get("created_at")
    return {
        **{name: stored.get(name) for name in (*TEXT_FIELDS, *_KIND)},
        "tags": list(stored.get("tags") or ()),
        "created_at": None if created_at is None else to_jsonable_python(created_at),
        "attributes": read_attributes(stored.get("attributes")),
    }


def value_of(stored: Mapping[str, Any], name: str) -> Any:
    """Read the value of a field of the record from a stored row; None where it has none."""
    record = record_of(stored)
    return record["attributes"].get(name.removeprefix(ATTRIBUTE)) if name.startswith(ATTRIBUTE) else record.get(name)


def claims_of(text: str) -> dict[str, frozenset[tuple[str, str]]]:
    """Read the column `CLAIM_DECISIONS` of a row: `approved` and `rejected` claims, name and text; entries that are
    none, as a stranger may have written, are left out."""
    stored = read_object(text) or {}
    found: dict[str, frozenset[tuple[str, str]]] = {}
    for decided in ("approved", "rejected"):
        listed = stored.get(decided)
        pairs = [one for one in listed if isinstance(one, list) and len(one) == 2] if isinstance(listed, list) else []
        found[decided] = frozenset((a, b) for a, b in pairs if isinstance(a, str) and isinstance(b, str))
    return found


def _base_row(stored: Row) -> Row:
    """Return the row of an item as it was before any decision."""
    record = record_of(stored)
    before = {}
    for name, value in (read_object(stored.get(UNCORRECTED.name)) or {}).items():
        with suppress(TypeError, ValueError, RecursionError):
            before[name] = check_value(name, value)
    _set(record, before)
    return {
        **{name: value for name, value in stored.items() if name not in ("row_key", "source_key")},
        **_columns(record),
        "record": record,
        UNCORRECTED.name: None,
        CLAIM_DECISIONS.name: None,
    }


def _finished(row: Row | Reject) -> Row:
    """Return the row with its key: its media were read when it was stored."""
    assert not isinstance(row, Reject)
    fields = {name: value for name, value in row.items() if name != "record"}
    return {**fields, "row_key": item_key(row["record"], row.get("media") or ())}


def _set(record: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Set fields of a record; returns what they were."""
    before: dict[str, Any] = {}
    for name, value in values.items():
        if name.startswith(ATTRIBUTE):
            entries, key = dict(record["attributes"]), name.removeprefix(ATTRIBUTE)
            before[name] = entries.pop(key, None)
            if value is not None:
                entries[key] = value
            record["attributes"] = entries
        else:
            before[name] = record[name]
            record[name] = value
    return before


def _columns(record: Mapping[str, Any]) -> Row:
    """Return the columns of the table of items that decisions may change."""
    return {
        **{name: record[name] for name in TEXT_FIELDS},
        "tags": record["tags"],
        "price": record["price"],
        "attributes": json.dumps(record["attributes"], ensure_ascii=False, sort_keys=True),
        "language": item_language(record["title"], record["description"], record["attributes"]),
    }

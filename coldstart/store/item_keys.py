"""Compute the keys of the item fields that stages read, and carry over those of workspaces of layout version 1.

In version 1 the rows of every stage were made under the item's whole record (`row_key`). A workspace of that version
keeps its items as they were then in the table `CARRIED`. While the fields that a stage reads are what they were, its
row keeps that key: no row is made anew, and no key is written anew, neither in tables nor in ledger, fits and catalog.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from coldstart.core.item_fields import columns_of, field_digests
from coldstart.core.items import CONTENT_FIELDS

if TYPE_CHECKING:
    from coldstart.store import Store

ITEMS = "items"
CARRIED = "items_of_layout_1"
FIRST_VERSION = 2
"""Layout version from which on keys are those of the fields that a stage reads."""

_CONTENT = [field.name for field in CONTENT_FIELDS]
_MEDIA = pa.list_(pa.struct([("role", pa.string()), ("digest", pa.string())]))
_FEW = 20
"""Share of a table's rows, one in so many, up to which rows are looked up by id."""


def read_item_keys(store: Store, fields: Collection[str] | None) -> dict[str, str]:
    """Compute item -> key of some of its fields, in table order; None for the whole record."""
    now = store.keys(ITEMS)
    if fields is None or store.layout_version() < FIRST_VERSION:
        return now
    old = store.keys(CARRIED)
    changed = [item for item, key in now.items() if old.get(item) != key]
    own = _digests(store, ITEMS, changed, fields)
    if not old:
        return own
    then = _digests(store, CARRIED, [item for item in changed if item in old], fields)
    return {
        item: key if item not in own else carried_key(own[item], old.get(item), then.get(item))
        for item, key in now.items()
    }


def carried_key(own: str, old: str | None, then: str | None) -> str:
    """Return the key of an item's fields by their digest now and `then`: the `old` one while these are equal."""
    return old if old is not None and own == then else own


def _digests(store: Store, table: str, items: Sequence[str], fields: Collection[str]) -> dict[str, str]:
    if not items:
        return {}
    columns = ["item_id", *(name for name in columns_of(fields) if name in store.columns(table))]
    if len(items) * _FEW < store.count(table):
        return _by_item(store.read(table, columns, ids=items), fields)
    found: dict[str, str] = {}
    for batch in store.batches(table, columns):
        found |= _by_item(pa.Table.from_batches([batch]), fields)
    return found if len(found) == len(items) else {item: found[item] for item in items}


def _by_item(rows: pa.Table, fields: Collection[str]) -> dict[str, str]:
    return dict(zip(rows["item_id"].to_pylist(), field_digests(rows, fields), strict=True))


def carry_over(store: Store) -> None:
    """Keep the items of a workspace of version 1 as they are now, before ingest changes any; the caller holds the lock.

    A kill at any point leaves a workspace of version 1, or of the present one.
    """
    if store.layout_version() >= FIRST_VERSION:
        return
    if store.has(ITEMS):
        store.db.create_table(CARRIED, carried_rows(store), mode="overwrite" if store.has(CARRIED) else "create")
    store.set_layout_version()


def carried_rows(store: Store, ids: Sequence[str] | None = None) -> pa.Table | None:
    """Read what is kept, or would be, of items of version 1; None where the workspace has none."""
    if store.layout_version() >= FIRST_VERSION:
        return store.read(CARRIED, ids=ids) if store.has(CARRIED) else None
    names = [name for name in ("item_id", "row_key", *_CONTENT) if name in store.columns(ITEMS)]
    rows = store.read(ITEMS, names, ids=ids)
    place = rows.schema.get_field_index("media")
    return rows if place < 0 else rows.set_column(place, "media", rows["media"].cast(_MEDIA))


def copy_items(store: Store, target: Store, ids: Sequence[str]) -> None:
    """Copy items to another workspace so that they have the same keys there."""
    target.merge(ITEMS, store.read(ITEMS, ids=ids))
    carried = carried_rows(store, ids)
    if carried is not None and carried.num_rows:
        target.merge(CARRIED, carried)

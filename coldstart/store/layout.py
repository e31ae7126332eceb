"""Version of a workspace's layout: what its tables hold and how its keys are computed; columns that came later.

It stands in the table `layout`, one row that each write replaces. Workspaces from before that table are version 1. A
reader takes every version up to its own; the first run that writes carries an older one over (`set_version`); a newer
one is refused, since its keys would be taken for stale ones.
"""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from coldstart.core.item_fields import read_attributes
from coldstart.core.items import LANGUAGE
from coldstart.core.language import item_language
from coldstart.errors import ColdstartError
from coldstart.store.tables import damaged, reading

if TYPE_CHECKING:
    from coldstart.store import Store

LAYOUT = "layout"
CURRENT = 2
"""1: up to coldstart 0.1. 2: settings and fits have a sequence number, and keys are those of what a stage reads."""

_SCHEMA = pa.schema([("version", pa.int64()), ("release", pa.string())])


def read_version(store: Store) -> int:
    """Read the layout version of a workspace; the current one where it holds nothing yet.

    Raises:
        ColdstartError: a later release of coldstart made it, or the table is damaged.
    """
    if not store.has(LAYOUT):
        return 1 if store.tables() else CURRENT
    rows = store.read(LAYOUT).to_pylist()
    version = rows[-1].get("version") if rows else None
    if not isinstance(version, int):
        raise damaged(store.reader, LAYOUT, "it holds no version")
    if version > CURRENT:
        made, own = rows[-1].get("release"), version_of("coldstart-multimodal")
        raise ColdstartError(
            f"workspace {store.uri} was made by coldstart {made!r}; this is coldstart {own}: update it by `git "
            "pull` and `pip install .` in its clone"
        )
    return version


def set_version(store: Store, version: int = CURRENT) -> None:
    """Record that the workspace has a layout version; the caller holds the lock."""
    row = pa.Table.from_pylist([{"version": version, "release": version_of("coldstart-multimodal")}], schema=_SCHEMA)
    store.db.create_table(LAYOUT, row, mode="overwrite" if store.has(LAYOUT) else "create")


def add_language(store: Store, table: str) -> None:
    """Add the language of every item to the items of an earlier release; the caller holds the lock.

    No key rests on it, so that no other row is made anew. It is one commit: a kill leaves the table without the column.
    """
    if not store.has(table) or LANGUAGE.name in store.columns(table) or store.uri.startswith("db://"):
        return
    import lance

    schema = pa.schema([LANGUAGE])
    read = ["title", "description", "attributes"]

    def detect(batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = zip(*(batch.column(name).to_pylist() for name in read), strict=True)
        found = [item_language(title, text, read_attributes(given)) for title, text, given in texts]
        return pa.record_batch([pa.array(found, LANGUAGE.type)], schema=schema)

    with reading(store.db, table):
        opened = store.db.open_table(table)
        if missing := [name for name in read if name not in opened.schema.names]:
            raise damaged(store.reader, table, f"it has no column {missing[0]!r}")
        function: Any = lance.batch_udf(output_schema=schema)
        opened.to_lance().add_columns(function(detect), read_columns=read)

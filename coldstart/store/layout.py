"""Version of a workspace's layout: what its tables hold and how its keys are computed.

It stands in the table `layout`, one row that each write replaces. Workspaces from before that table are version 1. A
reader takes every version up to its own; the first run that writes carries an older one over (`set_version`); a newer
one is refused, since its keys would be taken for stale ones.
"""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

import pyarrow as pa

from coldstart.errors import ColdstartError
from coldstart.store.tables import damaged

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

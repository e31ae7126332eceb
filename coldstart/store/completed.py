"""Remember what the last run left done, for as long as nobody wrote since.

A record holds the balance of each stage that had done all of its items, under a digest of settings and of the tables
as they were when the run ended. While the digest is the same, every item of such a stage is in the state that was
counted, and no key needs to be read to know it; any other writer, and a run that was killed, changes it. A table is
identified by its files, whose names are drawn at random and never written again: numbers of versions repeat where it is
removed and made again. A stranger's record can leave no more undone than the keys of rows that he wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from coldstart.core.keys import digest
from coldstart.store import PIPELINES, RUNS, Store, tables
from coldstart.store.catalog import CATALOG, TAG
from coldstart.store.freshness import Balance
from coldstart.store.known_rows import KNOWN_ROWS

COMPLETED = "completed"
"""Table of the record: one row."""
_VERSION = 1
_LOGS = (RUNS, PIPELINES, KNOWN_ROWS, COMPLETED)
"""Tables on which the state of no item rests."""
_SIGNALS = ("interactions", "impressions")
"""Start of the names of tables that fits learn from, and that no row of a map stage rests on."""
_COLUMNS = ("content", "signals", "balances", "notes")
_SCHEMA = pa.schema([(name, pa.string()) for name in _COLUMNS])
_BALANCES, _NOTES = TypeAdapter(dict[str, Balance]), TypeAdapter(dict[str, list[str]])


@dataclass(frozen=True)
class StateDigest:
    """Digest of the state of a workspace, in two parts.

    Attributes:
        content: of settings and all tables that stages rest on; signals: of interactions and impressions.
    """

    content: str
    signals: str


@dataclass(frozen=True)
class Completed:
    """Record of the last complete run.

    Attributes:
        state: of the workspace as the run left it.
        balances: stage -> its balance, of the stages that had done all of their items.
        notes: stage -> what a run that changes nothing says of it, a line each.
    """

    state: StateDigest
    balances: Mapping[str, Balance]
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def state_digest(store: Store, settings: Sequence[Any]) -> StateDigest | None:
    """Compute the digest of a workspace as it is now; None where a table is damaged, or no file to tell by."""
    if store.uri.startswith(tables.WITHOUT_FILES):
        return None
    content: dict[str, Any] = {"version": _VERSION, "settings": settings}
    signals: dict[str, Any] = {}
    try:
        for name in store.tables():
            if name not in _LOGS:
                (signals if name.startswith(_SIGNALS) else content)[name] = _files_of(store, name)
    except tables.DamagedTable:  # whoever reads it says so
        return None
    return StateDigest(digest(content), digest(signals))


def _files_of(store: Store, name: str) -> list[Any]:
    """List the fragments of a table with their files of rows and of deletions, and which version is published."""
    table = tables.open_table(store.db, name)
    if table is None:
        return []
    with tables.reading(store.db, name):
        found: list[Any] = [fragment.metadata.to_json() for fragment in table.to_lance().get_fragments()]
        if name == CATALOG and TAG in (tags := table.tags.list()):
            found.append(tags[TAG]["version"])
    return found


def read_completed(store: Store) -> Completed | None:
    """Read the record of the last complete run; None where there is none that can be read."""
    if not store.has(COMPLETED) or store.columns(COMPLETED) != _SCHEMA.names:
        return None
    rows = store.read(COMPLETED).to_pylist()
    try:
        (row,) = rows
        state = StateDigest(row["content"], row["signals"])
        return Completed(state, _BALANCES.validate_json(row["balances"]), _NOTES.validate_json(row["notes"]))
    except (ValueError, TypeError, RecursionError):
        return None


def write_completed(store: Store, found: Completed) -> None:
    """Write the record in place of the last one; the caller holds the lock."""
    balances = json.dumps({name: asdict(balance) for name, balance in found.balances.items()})
    row = {**asdict(found.state), "balances": balances, "notes": json.dumps(found.notes)}
    rows = pa.Table.from_pylist([row], schema=_SCHEMA)
    store.db.create_table(COMPLETED, rows, mode="overwrite" if store.has(COMPLETED) else "create")

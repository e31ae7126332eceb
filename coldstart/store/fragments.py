"""Read and write tables from other processes: by version, by row address, by fragments that one process commits.

A fragment is a file of rows that belongs to no version of its table until it is committed: one that never is, because
its writer was killed, is a file that upkeep removes. Opens tables with Lance itself, so that no
database connection needs to exist where rows are read or written.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lance
import pyarrow as pa
from lance import fragment
from lance.fragment import FragmentMetadata

from coldstart.errors import ColdstartError
from coldstart.store.folder import TABLE_SUFFIX, native_path
from coldstart.store.sql import one_of
from coldstart.store.tables import open_table

if TYPE_CHECKING:
    from coldstart.store import Store

ADDRESS = "_rowaddr"
"""Column of a row's address, uint64: fragment x 2^32 + row in it. It holds until the table is compacted."""
_ROW_BITS = 32


@dataclass(frozen=True)
class TableVersion:
    """One version of a table, which any process that reaches the workspace can open; picklable."""

    uri: str
    version: int
    format: str

    @property
    def place(self) -> str:
        """URI as Lance takes it in this process."""
        return self.uri if "://" in self.uri else native_path(Path(self.uri))

    def open(self) -> Any:
        """Open the `lance.LanceDataset`."""
        return lance.dataset(self.place, version=self.version)


def table_version(store: Store, table: str) -> TableVersion | None:
    """Find the newest version of a table; None where it does not exist.

    Raises:
        ColdstartError: the workspace is on a LanceDB server, whose files other processes cannot open, or Ray cannot
            read its path.
    """
    if store.uri.startswith("db://"):
        raise ColdstartError(
            f"workspace {store.uri} is on a LanceDB server: `engine: ray` needs a folder or an object store, such as "
            "s3://BUCKET/PATH, that all workers reach"
        )
    if store.folder is not None and "?" in str(store.folder):
        raise ColdstartError(
            f"workspace {store.uri}: `engine: ray` cannot read a path with a question mark: rename the folder"
        )
    opened = open_table(store.db, table)
    if opened is None:
        return None
    found = lance.dataset(opened.uri)
    uri = found.uri if store.folder is None else str(store.folder / f"{table}{TABLE_SUFFIX}")
    return TableVersion(uri, found.version, found.data_storage_version)


def ensure_table(store: Store, table: str, schema: pa.Schema) -> TableVersion:
    """Find the newest version of a table with every column of a schema; makes it (with the schema's metadata) if
    needed, and adds columns that a table of an earlier release lacks."""
    table_version(store, table)  # refuses a workspace that workers cannot open
    store.open_or_create(table, schema)
    found = table_version(store, table)
    assert found is not None
    return found


def read_rows_at(where: TableVersion, addresses: Sequence[int]) -> list[dict[str, Any]]:
    """Read whole rows, in the order of the given addresses."""
    rows: list[dict[str, Any]] = where.open()._take_rows(list(addresses)).to_pylist() if addresses else []
    return rows


def addresses_of(where: TableVersion, ids: Sequence[str]) -> dict[str, int]:
    """Find `item_id` -> address of those of some items that have a row."""
    if not ids:
        return {}
    rows = where.open().scanner(columns=["item_id"], filter=one_of("item_id", ids), with_row_address=True).to_table()
    return dict(zip(rows["item_id"].to_pylist(), rows[ADDRESS].to_pylist(), strict=True))


def write_fragments(where: TableVersion, rows: pa.Table) -> list[str]:
    """Write rows as fragments of a table without making them part of it; returns what `commit_fragments` takes."""
    written = fragment.write_fragments(rows, where.place, mode="append", data_storage_version=where.format)
    return [json.dumps(fragment.to_json()) for fragment in written]


def commit_fragments(where: TableVersion, written: Iterable[str], gone: Iterable[int]) -> None:
    """Make fragments part of a table and remove the rows at some addresses, in one transaction.

    A kill leaves all of it done or nothing. Addresses whose rows are gone already do no harm.
    """
    new = [FragmentMetadata.from_json(text) for text in written]
    newest = lance.dataset(where.place)
    changed, emptied = [], []
    for number, rows in _by_fragment(gone).items():
        fragment = newest.get_fragment(number)
        if fragment is None:
            continue
        left = fragment.delete_rows(rows)
        if left is None:
            emptied.append(number)
        else:
            changed.append(left)
    if new or changed or emptied:
        update = lance.LanceOperation.Update(
            removed_fragment_ids=emptied, updated_fragments=changed, new_fragments=new, fields_modified=[]
        )
        lance.LanceDataset.commit(where.place, update, read_version=newest.version)


def _by_fragment(addresses: Iterable[int]) -> dict[int, list[int]]:
    """Group addresses by the number of their fragment: number -> rows in it."""
    found: dict[int, list[int]] = defaultdict(list)
    for address in addresses:
        found[address >> _ROW_BITS].append(address & ((1 << _ROW_BITS) - 1))
    return found

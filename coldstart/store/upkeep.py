"""Compact the tables of a workspace, and sweep old versions and what killed runs left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.core import scratch
from coldstart.store import compaction, tables
from coldstart.store.folder import TABLE_SUFFIX

if TYPE_CHECKING:
    from coldstart.store import Store


@dataclass(frozen=True)
class Maintenance:
    """Effect of a clean-up: bytes on disk (0 for remote stores) and table versions, before and after."""

    bytes_before: int
    bytes_after: int
    versions_before: int
    versions_after: int


def size_bytes(store: Store) -> int:
    """Measure the bytes on disk; 0 for a remote store."""
    if store.folder is None:
        return 0
    total = 0
    for folder, _, names in os.walk(store.folder):
        for name in names:
            with suppress(FileNotFoundError):  # a writer drops old versions while a reader counts
                total += Path(folder, name).stat().st_size
    return total


def maintain(store: Store, keep: timedelta, *, skip: Sequence[str] = ()) -> Maintenance:
    """Merge small fragments of every table where it is their turn (`compaction`), drop versions older than `keep`
    (readers still on one of those would fail), and sweep what killed runs left. The caller holds the lock.

    Args:
        skip: tables with an upkeep of their own (the catalog, whose published versions must stay).
    """
    scratch.sweep()
    before = size_bytes(store)
    versions_before = versions_after = 0
    for name in store.tables():
        table = tables.open_table(store.db, name)
        if table is None:
            _remove_half_made(store, name)
            continue
        with tables.reading(store.db, name):
            versions = len(table.list_versions())
            versions_before += versions
            if name not in skip:
                versions = _compact(store, table, keep)
            versions_after += versions
    return Maintenance(before, size_bytes(store), versions_before, versions_after)


def _remove_half_made(store: Store, name: str) -> None:
    """Remove the folder of a table that a kill left before its first version."""
    if store.folder is not None:
        folder = store.folder / f"{name}{TABLE_SUFFIX}"
        if not any((folder / "_versions").glob("*.manifest")):
            shutil.rmtree(folder, ignore_errors=True)


def _compact(store: Store, table: Any, keep: timedelta) -> int:
    """Compact and clean up one table; returns how many versions are left."""
    if store.uri.startswith("db://"):  # its files are the server's
        table.optimize(cleanup_older_than=keep)
    else:
        dataset = table.to_lance()
        compaction.compact(dataset)
        # files of no version are those of a killed writer: the lock keeps others out of a folder, not of a store
        dataset.cleanup_old_versions(max(keep, timedelta(microseconds=1)), delete_unverified=store.folder is not None)
        table.checkout_latest()
    return len(table.list_versions())


def purge(table: Any, *, keep_tags: bool, whole: bool) -> None:
    """Write the files anew that hold deleted rows, and drop all versions of a table but the present one.

    Args:
        keep_tags: keep the versions under a tag, too; otherwise the tags go.
        whole: drop files of no version as well, which a killed writer left; the caller's lock keeps other writers out.
    """
    dataset = table.to_lance()
    fragments = dataset.get_fragments()
    clean = [fragment.fragment_id for fragment in fragments if not fragment.num_deletions]
    if len(clean) < len(fragments):
        dataset.optimize.compact_files(
            excluded_fragment_ids=clean, materialize_deletions=True, materialize_deletions_threshold=0.0
        )
    table.checkout_latest()
    if not keep_tags:
        for tag in table.tags.list():
            table.tags.delete(tag)
    dataset = table.to_lance()
    dataset.cleanup_old_versions(timedelta(microseconds=1), delete_unverified=whole, error_if_tagged_old_versions=False)
    table.checkout_latest()

"""Drop damaged parts of a workspace and nothing else; `coldstart.store.check` finds them. The caller holds the lock."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lance

from coldstart.store import Store, sql, tables
from coldstart.store.artifacts import ARTIFACTS, FILES
from coldstart.store.catalog import TAG, set_tag
from coldstart.store.folder import TABLE_SUFFIX
from coldstart.store.fragments import TableVersion, commit_fragments
from coldstart.store.layout import LAYOUT
from coldstart.store.publications import PUBLICATIONS, Publication

_NEWEST_FIRST = 1 << 63
"""Names of manifests above this count down, so that the newest is listed first."""


def remove_table(store: Store, name: str) -> None:
    """Remove a table with all its versions."""
    if store.folder is None:
        store.db.drop_table(name, ignore_missing=True)
    else:
        shutil.rmtree(store.folder / f"{name}{TABLE_SUFFIX}")
    if name == LAYOUT:
        store.set_layout_version()


def open_again(store: Store, name: str) -> None:
    """Go back to the newest version of a table that can be opened; remove the table where none can."""
    if store.folder is not None:
        folder = store.folder / f"{name}{TABLE_SUFFIX}"
        (folder / "_versions" / "latest_version_hint.json").unlink(missing_ok=True)
        for manifest in sorted((folder / "_versions").glob("*.manifest"), key=_version_of, reverse=True):
            if _opens(store, name):
                return
            manifest.unlink()
    if not _opens(store, name):
        remove_table(store, name)


def _version_of(manifest: Path) -> int:
    number = int(manifest.stem) if manifest.stem.isdecimal() else 0
    return 2 * _NEWEST_FIRST - 1 - number if number >= _NEWEST_FIRST else number


def _opens(store: Store, name: str) -> bool:
    try:
        table = tables.open_table(store.db, name)
        return table is not None and table.to_lance().get_fragments() is not None
    except BaseException as error:  # a native part may panic
        tables.raise_if_not_damage(error)
        return False


def drop_versions(store: Store, table: Any) -> None:
    """Remove those versions of a table, besides the present one, whose manifests cannot be read."""
    assert store.folder is not None, "an object store keeps its bytes"
    for manifest in (store.folder / f"{table.name}{TABLE_SUFFIX}" / "_versions").glob("*.manifest"):
        version = _version_of(manifest)
        if version != table.version:
            try:
                lance.dataset(table.uri, version=version)
            except BaseException as error:
                tables.raise_if_not_damage(error)
                manifest.unlink()


def drop_fragments(table: Any, fragments: Sequence[int]) -> None:
    """Take fragments out of a table, without reading them."""
    dataset = table.to_lance()
    gone = lance.LanceOperation.Delete([], list(fragments), "damaged")
    lance.LanceDataset.commit(dataset.uri, gone, read_version=dataset.version)


def drop_rows(table: Any, addresses: Iterable[int]) -> None:
    """Take rows out of a table by their addresses."""
    dataset = table.to_lance()
    commit_fragments(TableVersion(dataset.uri, dataset.version, dataset.data_storage_version), [], addresses)


def drop_artifact(store: Store, digest: str | None) -> None:
    """Remove a fit and its files."""
    for table in (ARTIFACTS, FILES):
        store.drop(table, "digest IS NULL" if digest is None else sql.equals("digest", digest))


def keep_publications(store: Store, catalog: Any, good: Sequence[Publication]) -> None:
    """Remove all publications and tags but those of the good ones, and serve the newest where another was served."""
    numbers = ", ".join(str(publication.number) for publication in good)
    store.drop(PUBLICATIONS, f"number IS NULL OR number NOT IN ({numbers})" if numbers else "true")
    if catalog is None:
        return
    if store.folder is not None:
        for path in (store.folder / f"{catalog.name}{TABLE_SUFFIX}" / "_refs" / "tags").glob("*.json"):
            if not _names_version(path):
                path.unlink()
    versions = {publication.version for publication in good}
    wanted = {publication.tag: publication.version for publication in good}
    present = {name: int(tag["version"]) for name, tag in catalog.tags.list().items()}
    for name in present.keys() - wanted.keys() - {TAG}:
        catalog.tags.delete(name)
    for name, version in wanted.items():
        if present.get(name) != version:
            set_tag(catalog, name, version)
    if present.get(TAG) not in versions:
        if good:
            set_tag(catalog, TAG, max(good, key=lambda publication: publication.number).version)
        elif TAG in present:
            catalog.tags.delete(TAG)


def _names_version(tag: Path) -> bool:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return isinstance(json.loads(tag.read_bytes())["version"], int)
    return False

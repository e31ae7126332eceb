"""The catalog: one row an item with all spaces, text and filters; written, indexed, published, rolled back.

Readers open the version under the tag `published` (`coldstart.workspace.published`), so a catalog that is being
written or indexed is never seen. One writer at a time; the caller holds the lock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import FTS, Bitmap, BTree, LabelList

from coldstart.errors import ColdstartError
from coldstart.workspace import ann, publications, sql
from coldstart.workspace.ann import IndexReport, IndexSettings, column_of
from coldstart.workspace.publications import Publication
from coldstart.workspace.published import Published

CATALOG = "catalog"
TAG = "published"
SPACE_KEY = "space:"

SCALAR_INDEXES = {
    "item_id": BTree,
    "kind": Bitmap,
    "category": Bitmap,
    "creator": BTree,
    "price": BTree,
    "created_at": BTree,
    "tags": LabelList,
    "language": Bitmap,
    "duplicate_of": BTree,
    "label": Bitmap,
    "text": FTS,
}
WORDS = ("transcript", "screen_text")
"""Columns of what is said and written in an item, in `text` as well."""
_OPTIONAL = ("label", "label_score")
REQUIRED = (*(name for name in SCALAR_INDEXES if name not in _OPTIONAL), "title", "media", *WORDS, "index_key")

DELETE_BATCH = 10_000


class SpacePassport(Protocol):
    """What the catalog needs of a `coldstart.encoders.Passport`."""

    @property
    def dim(self) -> int: ...

    def to_json(self) -> str: ...


@dataclass(frozen=True)
class WriteReport:
    """What a write did.

    Attributes:
        version: the table version that holds the rows.
        replaced: the columns or passports differ from those present, so that every row was written anew.
    """

    version: int
    rows: int
    added: int
    changed: int
    deleted: int
    unchanged: int
    replaced: bool


@dataclass(frozen=True)
class CleanupReport:
    """Bytes of the catalog's folder (0 where it is remote) and what was dropped from it."""

    bytes_before: int
    bytes_after: int
    versions_removed: int
    publications_removed: int


class Catalog:
    """The tables `catalog` and `publications` of a workspace."""

    def __init__(self, db: lancedb.DBConnection) -> None:
        self._db = db

    def write(self, rows: pa.Table, spaces: Mapping[str, SpacePassport]) -> WriteReport:
        """Make the catalog hold exactly `rows`.

        With the columns and passports already present, only rows whose `index_key` differs are written and rows that
        are gone are deleted. Otherwise the table is replaced; published versions stay readable either way.

        Args:
            rows: one row an item: the item columns, `text`, `index_key`, and `vector_<space>`
                fixed_size_list<float32>[D] for each space, null where the item has none; `label` and `label_score` if
                there is such a thing.
            spaces: space -> passport of all its vectors.

        Raises:
            ColdstartError: a missing column, an id that stands twice, a vector column of the wrong type or length,
                or a vector that is not finite.
        """
        _check(rows, spaces)
        passports = {name: passport.to_json() for name, passport in sorted(spaces.items())}
        rows = rows.replace_schema_metadata({SPACE_KEY + name: text for name, text in passports.items()})
        table = publications.open_table(self._db, CATALOG)
        if table is None or not table.schema.equals(rows.schema) or _passports(table.schema) != passports:
            # "null" lets missing vectors pass; `_check` has turned away the bad ones it would also swallow.
            mode = "create" if table is None else "overwrite"
            table = self._db.create_table(CATALOG, rows, mode=mode, on_bad_vectors="null")
            count = rows.num_rows
            return WriteReport(table.version, count, added=count, changed=0, deleted=0, unchanged=0, replaced=True)
        present = table.search().select(["item_id", "index_key"]).limit(None).to_arrow()
        old = dict(zip(present["item_id"].to_pylist(), present["index_key"].to_pylist(), strict=True))
        new = dict(zip(rows["item_id"].to_pylist(), rows["index_key"].to_pylist(), strict=True))
        stale = rows.filter(pa.array([old.get(item_id) != key for item_id, key in new.items()], pa.bool_()))
        gone = [item_id for item_id in old if item_id not in new]
        if stale.num_rows:
            merge = table.merge_insert("item_id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(stale, on_bad_vectors="null")
        for start in range(0, len(gone), DELETE_BATCH):
            table.delete(sql.one_of("item_id", gone[start : start + DELETE_BATCH]))
        added = sum(item_id not in old for item_id in new)
        return WriteReport(
            version=table.version,
            rows=rows.num_rows,
            added=added,
            changed=stale.num_rows - added,
            deleted=len(gone),
            unchanged=rows.num_rows - stale.num_rows,
            replaced=False,
        )

    def build_indexes(self, settings: IndexSettings | None = None) -> list[IndexReport]:
        """Fold new rows into present indexes, build what is missing, and measure each space.

        Where nothing changed since the last build, the table version stays as it is.

        Raises:
            ColdstartError: nothing was written yet.
        """
        table = self._written()
        indexes = list(table.list_indices())
        if any(index.num_unindexed_rows for index in indexes):
            # Not `table.optimize()`: it also prunes, and raises once a tagged version is older than seven days.
            dataset = table.to_lance()
            dataset.optimize.compact_files()
            dataset.optimize.optimize_indices()
            table.checkout_latest()
        present = {index.name for index in indexes}
        for column, config in SCALAR_INDEXES.items():
            if f"{column}_idx" not in present and column in table.schema.names:
                table.create_index(column, config=config())
        return [ann.build(table, space, settings or IndexSettings()) for space in _passports(table.schema)]

    def publish(self, indexes: Sequence[IndexReport]) -> Publication:
        """Show readers the present version. Publishing the same version again only renews its figures.

        Args:
            indexes: what `build_indexes` returned for this version.

        Raises:
            ColdstartError: nothing was written yet.
        """
        table = self._written()
        known = {publication.version: publication for publication in self.publications()}
        current = self._current(table)
        publication = Publication(
            number=max((p.number for p in known.values()), default=0) + 1,
            version=table.version,
            published_at=datetime.now(UTC),
            rows=table.count_rows(),
            previous=current.number if current else None,
            passports=_passports(table.schema),
            indexes=tuple(indexes),
        )
        if again := known.get(table.version):
            publication = replace(publication, number=again.number, previous=again.previous)
        # In this order, a crash leaves readers at the former publication, and the next call ends the work.
        _tag(table, publication.tag, publication.version)
        publications.record(self._db, publication)
        _tag(table, TAG, publication.version)
        return publication

    def rollback(self) -> Publication:
        """Show readers the publication that was current before the present one.

        Raises:
            ColdstartError: there is none.
        """
        table = self._written()
        current = self._current(table)
        if current is None:
            raise ColdstartError("rollback: nothing is published; run `coldstart index`")
        known = {publication.number: publication for publication in self.publications()}
        former = known.get(current.previous) if current.previous is not None else None
        if former is None:
            raise ColdstartError(f"rollback: no publication is kept from before {current.tag}; it stays published")
        _tag(table, TAG, former.version)
        return former

    def publications(self) -> list[Publication]:
        """All that are kept, newest first."""
        return publications.read(self._db)

    def published(self) -> Published | None:
        """The catalog at the published version; None where nothing is published."""
        table = publications.open_table(self._db, CATALOG)
        current = None if table is None else self._current(table)
        if current is None:
            return None
        table.checkout(current.version)
        return Published(table, current)

    def cleanup(self, keep_publications: int = 3, older_than: timedelta = timedelta(days=1)) -> CleanupReport:
        """Drop all but the newest publications, and the versions that no publication needs.

        The current publication and the one it would roll back to are always kept.

        Args:
            keep_publications: how many of the newest are kept.
            older_than: younger versions stay, for readers that have them open.

        Raises:
            ColdstartError: nothing was written yet.
        """
        table = self._written()
        bytes_before = _size_bytes(table)
        present, current = self.publications(), self._current(table)
        kept = {publication.number for publication in present[:keep_publications]}
        if current:
            kept |= {current.number, current.previous or current.number}
        tags = {publication.tag for publication in present if publication.number in kept}
        for tag in table.tags.list():
            if tag != TAG and tag not in tags:
                table.tags.delete(tag)
        publications.forget(self._db, [p.number for p in present if p.number not in kept])
        # zero would read as the library's default of two weeks
        stats = table.to_lance().cleanup_old_versions(
            max(older_than, timedelta(microseconds=1)), error_if_tagged_old_versions=False
        )
        return CleanupReport(bytes_before, _size_bytes(table), stats.old_versions, len(present) - len(tags))

    def _written(self) -> Any:
        table = publications.open_table(self._db, CATALOG)
        if table is None:
            raise ColdstartError("catalog: nothing is written yet; run `coldstart index`")
        return table

    def _current(self, table: Any) -> Publication | None:
        tag = table.tags.list().get(TAG)
        known = {publication.version: publication for publication in self.publications()}
        return None if tag is None else known.get(tag["version"])


def _check(rows: pa.Table, spaces: Mapping[str, SpacePassport]) -> None:
    """Refuse what LanceDB would store wrongly (ids twice, vectors that are not numbers) or explain badly."""
    missing = [name for name in (*REQUIRED, *map(column_of, spaces)) if name not in rows.column_names]
    if missing:
        raise ColdstartError(f"catalog: the rows lack {', '.join(missing)}; run the stage that makes them")
    counts = pc.value_counts(rows["item_id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise ColdstartError(f"catalog: item_id {twice[0]!r} stands twice ({len(twice)} such ids); write each once")
    for name, passport in spaces.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ColdstartError(f"space {name!r}: use lower-case letters, digits and _ so that SQL can name it")
        column = rows[column_of(name)]
        if column.type != pa.list_(pa.float32(), passport.dim):
            raise ColdstartError(
                f"space {name!r}: vectors are {column.type}, its passport says {passport.dim} float32 numbers"
            )
        vectors = column.drop_null()
        finite = np.isfinite(pc.list_flatten(vectors).to_numpy()).reshape(-1, passport.dim).all(axis=1)
        if not finite.all():
            bad = rows["item_id"].filter(column.is_valid())[int(np.argmin(finite))].as_py()
            raise ColdstartError(f"space {name!r}: the vector of item {bad!r} is not finite; embed that item again")


def _passports(schema: pa.Schema) -> dict[str, str]:
    """space -> passport as JSON by name of space, from the metadata of the table (which come in any order)."""
    entries = sorted((key.decode(), value.decode()) for key, value in (schema.metadata or {}).items())
    return {key.removeprefix(SPACE_KEY): text for key, text in entries if key.startswith(SPACE_KEY)}


def _tag(table: Any, tag: str, version: int) -> None:
    if tag in table.tags.list():
        table.tags.update(tag, version)
    else:
        table.tags.create(tag, version)


def _size_bytes(table: Any) -> int:
    if "://" in table.uri:
        return 0
    return sum(path.stat().st_size for path in Path(table.uri).rglob("*") if path.is_file())

"""Write, index, publish and roll back the catalog: one row an item with all spaces, text and filters.

Readers open the version under the tag `published` (`coldstart.store.published`), so a catalog that is being
written or indexed is never seen. One writer at a time; the caller holds the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coldstart.errors import ColdstartError
from coldstart.store import ann, compaction, publications, sql, tables, upkeep, word_search
from coldstart.store.ann import IndexReport, IndexSettings, column_of
from coldstart.store.ground_truth import CHANGED, SAMPLES_TABLE, Changes, RecallSamples
from coldstart.store.publications import Publication
from coldstart.store.published import COPY_OF, Published

if TYPE_CHECKING:
    import lancedb

CATALOG = "catalog"
TAG = "published"
SPACE_KEY = "space:"

SCALAR_INDEXES = {
    "item_id": "BTree",
    "kind": "Bitmap",
    "category": "Bitmap",
    "creator": "BTree",
    "price": "BTree",
    "created_at": "BTree",
    "tags": "LabelList",
    "language": "Bitmap",
    "duplicate_of": "BTree",
    "label": "Bitmap",
}
"""Column -> kind of its index, a class of `lancedb.index`."""
WORDS = ("transcript", "screen_text")
"""Columns of what is said and written in an item, in `text` as well."""
_OPTIONAL = ("label", "label_score")
REQUIRED = (*(n for n in SCALAR_INDEXES if n not in _OPTIONAL), "title", "media", *WORDS, "text", "index_key")

DELETE_BATCH = 10_000
MERGE_BYTES = 64 * 2**20
"""About what one merge may hold: the store's join has 300 MB, and fails beyond."""


class SpacePassport(Protocol):
    """Part of a `coldstart.encoders.Passport` that the catalog reads."""

    @property
    def dim(self) -> int: ...

    def to_json(self) -> str: ...


@dataclass(frozen=True)
class WriteReport:
    """Numbers of rows that a write changed.

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


P = ParamSpec("P")
R = TypeVar("R")


def _reading_catalog(method: Callable[Concatenate[Catalog, P], R]) -> Callable[Concatenate[Catalog, P], R]:
    """Let a method of the catalog run in `tables.reading`."""

    @wraps(method)
    def call(self: Catalog, /, *values: P.args, **options: P.kwargs) -> R:
        with tables.reading(self._db, CATALOG):
            return method(self, *values, **options)

    return call


class Catalog:
    """The tables `catalog` and `publications` of a workspace."""

    def __init__(self, db: lancedb.DBConnection) -> None:
        self._db = db
        self._changes: Changes | None = None

    def write(self, rows: pa.Table, spaces: Mapping[str, SpacePassport]) -> WriteReport:
        """Write the catalog so that it holds exactly `rows`.

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
        _check_once(rows)
        keys = dict(zip(rows["item_id"].to_pylist(), rows["index_key"].to_pylist(), strict=True))
        written = self.update(
            keys, lambda ids: rows.filter(pc.is_in(rows["item_id"], pa.array(ids, pa.string()))), spaces
        )
        assert written is not None, "all rows are given"
        return written

    @_reading_catalog
    def update(
        self,
        keys: Mapping[str, str],
        rows_of: Callable[[Sequence[str]], pa.Table],
        spaces: Mapping[str, SpacePassport],
        among: Collection[str] | None = None,
    ) -> WriteReport | None:
        """Write rows that are made only where they are needed, else as `write`.

        Args:
            keys: item -> the `index_key` that its row should have, of all items or of those in `among`.
            rows_of: the rows of some of the items, as `write` takes them; also of none, for their columns.
            among: the only items to write or delete; the rows of others stay.

        Returns:
            Numbers of rows; None where `among` is given and all rows have to be written anew, which was not done.

        Raises:
            ColdstartError: as `write`.
        """
        empty = rows_of([])
        _check(empty, spaces)
        passports = {name: passport.to_json() for name, passport in sorted(spaces.items())}
        metadata = {SPACE_KEY + name: text for name, text in passports.items()}
        schema = empty.schema.with_metadata(metadata)
        table = tables.open_table(self._db, CATALOG)
        if table is None or not table.schema.equals(schema) or _passports(table.schema) != passports:
            if among is not None:
                return None
            rows = rows_of(list(keys)).replace_schema_metadata(metadata)
            _check(rows, spaces)
            # "null" lets missing vectors pass; `_check` has turned away the bad ones it would also swallow.
            mode = "create" if table is None else "overwrite"
            table = self._db.create_table(CATALOG, rows, mode=mode, on_bad_vectors="null")
            count = rows.num_rows
            self._changes = None  # of all rows
            return WriteReport(table.version, count, added=count, changed=0, deleted=0, unchanged=0, replaced=True)
        query = table.search() if among is None else table.search().where(sql.one_of("item_id", sorted(among)))
        present = query.select(["item_id", "index_key"]).limit(None).to_arrow()
        old = dict(zip(present["item_id"].to_pylist(), present["index_key"].to_pylist(), strict=True))
        stale = [item_id for item_id, key in keys.items() if old.get(item_id) != key]
        gone = [item_id for item_id in old if item_id not in keys]
        self._changes = Changes(table.version, stale, gone)
        batch = max(1, MERGE_BYTES // (1024 + 4 * sum(passport.dim for passport in spaces.values())))
        for start in range(0, len(stale), batch):
            rows = rows_of(stale[start : start + batch]).replace_schema_metadata(metadata)
            _check(rows, spaces)
            merge = table.merge_insert("item_id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(rows, on_bad_vectors="null")
        for start in range(0, len(gone), DELETE_BATCH):
            table.delete(sql.one_of("item_id", gone[start : start + DELETE_BATCH]))
        added = sum(item_id not in old for item_id in stale)
        return WriteReport(
            version=table.version,
            rows=len(keys) if among is None else table.count_rows(),
            added=added,
            changed=len(stale) - added,
            deleted=len(gone),
            unchanged=len(keys) - len(stale),
            replaced=False,
        )

    @_reading_catalog
    def build_indexes(
        self, settings: IndexSettings | None = None, *, few_changed: int | None = None
    ) -> list[IndexReport]:
        """Fold new rows into present indexes, build what is missing, and measure each space.

        Costs what came, not what is there: new rows become small indexes and fragments beside the large ones
        (`tiers`), and the true neighbours that recall is measured by are known from before but for them (`truth`).
        Where nothing changed since the last build, the table version stays as it is.

        Args:
            few_changed: number of the rows that were written or deleted since the current publication: while they are
                few, its recall stands (`ann.build_index`). By default all of it is measured.

        Raises:
            ColdstartError: nothing was written yet.
        """
        from lancedb import index

        table = self._written()
        kept = tables.open_table(self._db, SAMPLES_TABLE)
        samples = RecallSamples.load(kept, self._changes or Changes(table.version))
        # Not `table.optimize()`: it also prunes, raises once a tagged version is older than seven days, and writes all
        # rows and indexes anew for each that came.
        compaction.fold_indexes(table.to_lance(), compaction.SEARCHED)
        table.checkout_latest()
        compaction.compact(table.to_lance(), compaction.SEARCHED)
        table.checkout_latest()
        present = {one.name for one in table.list_indices()}
        for column, kind in SCALAR_INDEXES.items():
            if f"{column}_idx" not in present and column in table.schema.names:
                table.create_index(column, config=getattr(index, kind)())
        word_search.build_word_indexes(table)
        settings = settings or IndexSettings()
        former = {} if few_changed is None else self._former(table)
        reports = [
            ann.build_index(table, space, settings, samples, former.get(space), few_changed or 0)
            for space in _passports(table.schema)
        ]
        samples.save(self._db, table.version)
        self._changes = None
        return reports

    def _former(self, table: Any) -> dict[str, IndexReport]:
        """Read the reports of the current publication by space; none where rows were written between it and the last
        write, as by a run that was killed."""
        current = self._current(table)
        if current is None or self._changes is None or self._changes.version != current.version:
            return {}
        return {report.space: report for report in current.indexes}

    @_reading_catalog
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
        set_tag(table, publication.tag, publication.version)
        publications.record_publication(self._db, publication)
        set_tag(table, TAG, publication.version)
        return publication

    @_reading_catalog
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
        set_tag(table, TAG, former.version)
        return former

    @_reading_catalog
    def remove(self, item_ids: Sequence[str], settings: IndexSettings | None = None) -> tuple[Publication | None, int]:
        """Serve the published catalog without some items, and drop the publications that held them.

        Copies that are served by one of them go too: their rows hold its vectors. A version that was written and not
        published is left, since the next run writes it anew.

        Returns:
            the publication that is served now, None where nothing is, and how many others were dropped.
        """
        table = tables.open_table(self._db, CATALOG)
        if table is None:
            return None, 0
        current = self._current(table)
        if current is not None and table.version != current.version:
            table.checkout(current.version)
            table.restore()
        held = self._holding(item_ids)
        gone = _held(table, item_ids)
        self._changes = Changes(current.version if current else table.version, [], gone)
        for start in range(0, len(gone), DELETE_BATCH):
            table.delete(sql.one_of("item_id", gone[start : start + DELETE_BATCH]))
        upkeep.purge(table, keep_tags=True, whole="://" not in table.uri)
        publication = current
        if current is not None and current in held:
            publication = self.publish(self.build_indexes(settings))
            table.checkout_latest()
        for former in held:
            if former.tag in table.tags.list():
                table.tags.delete(former.tag)
        publications.forget_publications(self._db, [former.number for former in held])
        samples = tables.open_table(self._db, SAMPLES_TABLE)
        if samples is not None and CHANGED in (samples.schema.metadata or {}):  # it names items
            self._db.drop_table(SAMPLES_TABLE)
        elif samples is not None:
            samples.delete(f"version != {publication.version if publication else table.version}")
        return publication, len(held)

    def _holding(self, item_ids: Sequence[str]) -> list[Publication]:
        """Find the stored publications that hold one of some items."""
        found = []
        for publication in self.publications():
            table = self._db.open_table(CATALOG)
            table.checkout(publication.version)
            if _held(table, item_ids):
                found.append(publication)
        return found

    def publications(self) -> list[Publication]:
        """List the stored publications, newest first."""
        return publications.read_publications(self._db)

    def current(self) -> Publication | None:
        """Read what is published now, without opening it; None where nothing is."""
        table = tables.open_table(self._db, CATALOG)
        return None if table is None else self._current(table)

    def published(self) -> Published | None:
        """Open the catalog at the published version; None where nothing is published."""
        table = tables.open_table(self._db, CATALOG)
        current = None if table is None else self._current(table)
        return None if current is None else self._open(table, current)

    def at(self, publication: Publication) -> Published:
        """Open the catalog at one of `publications`.

        Raises:
            ColdstartError: it was dropped, or cannot be read.
        """
        return self._open(self._written(), publication)

    def _open(self, table: Any, publication: Publication) -> Published:
        with tables.reading(self._db, CATALOG):
            table.checkout(publication.version)
            tables.check_table(self._db, table)
            if fault := publications.space_fault(publication, table.schema):
                raise tables.damaged(self._db, publications.PUBLICATIONS, fault)
        guarded: Any = tables.GuardedTable(self._db, CATALOG, table)
        return Published(guarded, publication)

    @_reading_catalog
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
        publications.forget_publications(self._db, [p.number for p in present if p.number not in kept])
        # zero would read as the library's default of two weeks
        stats = table.to_lance().cleanup_old_versions(
            max(older_than, timedelta(microseconds=1)),
            delete_unverified="://"
            not in table.uri,  # of killed writers: the caller's lock keeps others out of a folder
            error_if_tagged_old_versions=False,
        )
        return CleanupReport(bytes_before, _size_bytes(table), stats.old_versions, len(present) - len(tags))

    def _written(self) -> Any:
        table = tables.open_table(self._db, CATALOG)
        if table is None:
            raise ColdstartError("catalog: nothing is written yet; run `coldstart index`")
        return table

    def _current(self, table: Any) -> Publication | None:
        with tables.reading(self._db, CATALOG):
            tag = table.tags.list().get(TAG)
        known = {publication.version: publication for publication in self.publications()}
        return None if tag is None else known.get(tag["version"])


def _held(table: Any, item_ids: Sequence[str]) -> list[str]:
    """Find the rows of a version of the catalog that are of some items, or that show one of them as their original."""
    wanted = pa.array(sorted(item_ids), pa.string())
    columns = [name for name in ("item_id", COPY_OF) if name in table.schema.names]
    rows = table.search().select(columns).limit(None).to_arrow()
    met = [pc.is_in(rows[name], value_set=wanted) for name in columns]
    found: list[str] = rows["item_id"].filter(met[0] if len(met) < 2 else pc.or_(*met)).to_pylist()
    return found


def _check_once(rows: pa.Table) -> None:
    counts = pc.value_counts(rows["item_id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise ColdstartError(f"catalog: item_id {twice[0]!r} stands twice ({len(twice)} such ids); write each once")


def _check(rows: pa.Table, spaces: Mapping[str, SpacePassport]) -> None:
    """Refuse what LanceDB would store wrongly (vectors that are not numbers) or explain badly."""
    missing = [name for name in (*REQUIRED, *map(column_of, spaces)) if name not in rows.column_names]
    if missing:
        raise ColdstartError(f"catalog: the rows lack {', '.join(missing)}; run the stage that makes them")
    for name, passport in spaces.items():
        if not publications.SPACE_NAME.fullmatch(name):
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
    """Read space -> passport as JSON by name of space, from the metadata of the table (which come in any order)."""
    entries = sorted((key.decode(), value.decode()) for key, value in (schema.metadata or {}).items())
    return {key.removeprefix(SPACE_KEY): text for key, text in entries if key.startswith(SPACE_KEY)}


def set_tag(table: Any, tag: str, version: int) -> None:
    if tag in table.tags.list():
        table.tags.update(tag, version)
    else:
        table.tags.create(tag, version)


def _size_bytes(table: Any) -> int:
    if "://" in table.uri:
        return 0
    return sum(path.stat().st_size for path in Path(table.uri).rglob("*") if path.is_file())

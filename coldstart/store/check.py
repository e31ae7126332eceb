"""Check every stored byte of a workspace that can be checked, and drop what is damaged, so that a run makes it again.

Knows that tables, rows, indexes, fits, settings and publications are whole and fit each other. LanceDB stores no
checksums: a flipped bit that leaves a vector finite and near length one, or a text a text, goes unseen. Files of fits
have digests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.file import LanceFileReader

from coldstart.core.item_fields import read_object
from coldstart.core.keys import KEY_LENGTH
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, LEDGER, PIPELINES, RUNS, Store, histories, history_build, mending, tables
from coldstart.store.artifacts import ARTIFACTS, FILES
from coldstart.store.catalog import CATALOG, TAG
from coldstart.store.completed import COMPLETED
from coldstart.store.decisions import DECISIONS
from coldstart.store.fragments import ADDRESS
from coldstart.store.ground_truth import SAMPLES_TABLE
from coldstart.store.impressions import EARLY, IMPRESSIONS
from coldstart.store.interactions import INTERACTIONS
from coldstart.store.item_keys import CARRIED
from coldstart.store.known_rows import KNOWN_ROWS
from coldstart.store.layout import LAYOUT
from coldstart.store.publications import PUBLICATIONS, Publication, parse_publication, space_fault
from coldstart.store.tombstones import REMOVED

_IDENTITY = {
    LEDGER: ("stage", "item_id"),
    INTERACTIONS: ("row_key",),
    IMPRESSIONS: ("row_key",),
    EARLY: ("row_key",),
    ARTIFACTS: ("digest",),
    FILES: ("digest", "path"),
    PUBLICATIONS: ("number",),
    REMOVED: ("what", "key"),
    DECISIONS: ("decision_id",),
}
"""Columns that tell the rows of a table apart; else `item_id` or `text_key`, where a table has one."""
_KEYS = ("row_key", "index_key", "text_key", "source_key")
_DIGEST = f"[0-9a-f]{{{KEY_LENGTH}}}"
_KEY = f"^({_DIGEST}([-+]{_DIGEST})?)?$"
"""A key; a second one behind it is of the facts that told an item apart (-) or of what people decided on it (+); none
of a copy that is matched again."""
_UNIT = 0.01
"""How far the length of a stored vector may be from one; float16 is within a tenth of it."""
_JSON = {PIPELINES: "settings", RUNS: "report"}
_ATTRIBUTES = "attributes"
_COSTS = {
    ITEMS: "the next run reads them from the manifest anew",
    CARRIED: "when such an item changes, all its rows are made anew",
    LEDGER: "the next run tries these items again",
    CATALOG: "the next run writes them anew",
    SAMPLES_TABLE: "the next run draws them anew",
    INTERACTIONS: "ingest the interaction files again: what is there is not added twice",
    IMPRESSIONS: "ingest the files of impressions and outcomes again: what is there is not added twice",
    EARLY: "ingest the files of impressions and outcomes again, if you want to look at them",
    PIPELINES: "name the pipeline in the next run, unless earlier settings serve",
    RUNS: "the history lacks them",
    COMPLETED: "the next run looks at all items",
    KNOWN_ROWS: "the next run checks these rows of its manifest anew",
    ARTIFACTS: "the next run fits anew, and makes anew what rests on the fit",
    FILES: "the next run fits anew, and makes anew what rests on the fit",
    PUBLICATIONS: "the next run publishes anew; until then an earlier publication is served, if one is whole",
    LAYOUT: "it is written anew at once",
    DECISIONS: "these decisions of people no longer hold",
    REMOVED: "what was removed comes back with a manifest or log that still has it",
}
_COST = "the next run makes them anew"


@dataclass(frozen=True)
class Damage:
    """Something in a workspace that cannot be read or cannot be right.

    Attributes:
        table: its table.
        what: what is wrong, with the number of rows.
        cost: what it costs to drop it.
        repair: drops it.
    """

    table: str
    what: str
    cost: str
    repair: Callable[[], None] = field(repr=False, compare=False)


def find_damage(store: Store) -> list[Damage]:
    """Read everything and list what is damaged; changes nothing.

    Raises:
        ColdstartError: the workspace is on a LanceDB server, whose files cannot be read.
    """
    if store.uri.startswith("db://"):
        raise ColdstartError(f"workspace {store.uri} is on a LanceDB server, which keeps its files itself")
    found: list[Damage] = []
    for name in store.tables():
        found += _check_table(store, name)
    unreadable = {damage.table for damage in found}
    if not unreadable & {ARTIFACTS, FILES}:
        found += _check_artifacts(store)
    if PUBLICATIONS not in unreadable:
        found += _check_publications(store)
    return found + _check_histories(store)


def _check_histories(store: Store) -> list[Damage]:
    if not (histories.folder_of(store) / histories.MANIFEST).is_file():
        return []
    opened = histories.open_files(store)
    fault = "cannot be opened" if opened is None else opened[1].fault()
    if fault is None:
        return []
    cost = "they are built anew from the interactions when they are next read"
    return [Damage("histories", fault, cost, lambda: history_build.drop_histories(store))]


def repair(store: Store) -> list[Damage]:
    """Drop what is damaged until nothing is, and return all that was dropped; the caller holds the lock.

    Raises:
        ColdstartError: something cannot be dropped.
    """
    dropped: list[Damage] = []
    for _ in range(_ROUNDS):  # behind a damage may be another, as in the version of a table before
        waiting = find_damage(store)
        if not waiting:
            return dropped
        for damage in waiting:
            damage.repair()
        dropped += waiting
    raise ColdstartError(
        f"workspace {store.uri} cannot be repaired (table {waiting[0].table!r}: {waiting[0].what}): make a new one"
    )


_ROUNDS = 5


# -- tables


def _check_table(store: Store, name: str) -> Iterator[Damage]:
    cost = _COSTS.get(name, _COST)
    try:
        table = tables.open_table(store.reader, name)
        if table is None:
            yield Damage(name, "half made", "nothing: the next run makes it", lambda: mending.remove_table(store, name))
            return
        dataset = table.to_lance()
        fragments = dataset.get_fragments()
    except Exception as error:
        yield Damage(name, f"cannot be opened ({_reason(error)})", cost, lambda: mending.open_again(store, name))
        return
    if fault := _passport_fault(table.schema):
        yield Damage(name, fault, cost, lambda: mending.remove_table(store, name))
        return
    unreadable: list[int] = []
    rows = _Rows(name, table.schema)
    for fragment in fragments:
        try:
            rows.add(dataset, fragment)
        except _Unreadable:
            unreadable.append(fragment.fragment_id)
    if unreadable:
        count = sum(fragment.physical_rows for fragment in fragments if fragment.fragment_id in unreadable)
        part = f"{count} of {count + rows.count} rows cannot be read"
        yield Damage(name, part, cost, lambda: mending.drop_fragments(table, unreadable))
    for what, addresses in rows.faults():
        yield Damage(name, f"{len(addresses)} rows {what}", cost, lambda bad=addresses: mending.drop_rows(table, bad))  # type: ignore[misc]
    try:
        dataset.versions()
    except BaseException as error:
        what = f"a version before the present one cannot be read ({_reason(error)})"
        yield Damage(name, what, "nothing: only its rollback", lambda: mending.drop_versions(store, table))
    for index in _damaged_indexes(dataset):
        again = "the next run builds it anew"
        yield Damage(name, f"index {index!r} cannot be read", again, lambda bad=index: table.drop_index(bad))  # type: ignore[misc]
    if name == LAYOUT and not unreadable and not rows.count:
        yield Damage(name, "it holds no version", cost, store.set_layout_version)


class _Rows:
    """Rows of one table as they are read: their number, and the addresses of those that cannot be right."""

    def __init__(self, table: str, schema: pa.Schema) -> None:
        names = schema.names
        self._table = table
        self._identity = [c for c in _IDENTITY.get(table, ("item_id",)) if c in names] or (
            ["text_key"] if "text_key" in names else []
        )
        if table in (SAMPLES_TABLE, RUNS, PIPELINES) or table.endswith("_rejected"):
            self._identity = []
        strings = {field.name for field in schema if pa.types.is_string(field.type)}
        self._keys = [column for column in (("index_key",) if table == CATALOG else _KEYS) if column in strings]
        self._vectors = [field.name for field in schema if pa.types.is_fixed_size_list(field.type)]
        self._attributed = table in (ITEMS, CARRIED) and _ATTRIBUTES in strings
        self._seen: list[pa.Array] = []
        self._addresses: list[np.ndarray[Any, Any]] = []
        self._bad: dict[str, list[int]] = {}
        self.count = 0

    def add(self, dataset: Any, fragment: Any) -> None:
        """Read a fragment in full.

        Raises:
            _Unreadable: its bytes are damaged.
        """
        part = _Rows(self._table, dataset.schema)
        for batch in _batches(dataset, fragment):
            part.count += batch.num_rows
            part._check_batch(batch)
        self.count += part.count  # only now: of a fragment that cannot be read in full no row stays
        self._seen += part._seen
        self._addresses += part._addresses
        for what, addresses in part._bad.items():
            self._bad.setdefault(what, []).extend(addresses)

    def _check_batch(self, batch: pa.RecordBatch) -> None:
        addresses = batch.column(ADDRESS).to_numpy()
        if self._identity:
            parts = [pc.cast(batch.column(column), pa.string()) for column in self._identity]
            self._note("have no id", addresses, _any(pc.is_null(part) for part in parts))
            self._seen.append(pc.binary_join_element_wise(*parts, "\0", null_handling="replace", null_replacement=""))
            self._addresses.append(addresses)
        for column in self._keys:
            keys = pc.fill_null(pc.match_substring_regex(batch.column(column), _KEY), column != "row_key")
            self._note(f"have no {column} of {KEY_LENGTH} hex digits", addresses, ~keys.to_numpy(zero_copy_only=False))
        for column in self._vectors:
            self._note(f"have a faulty {column}", addresses, self._faulty(batch.column(column), column))
        if self._table in _JSON:
            texts = batch.column(_JSON[self._table]).to_pylist()
            self._note("are no JSON objects", addresses, np.array([not _is_object(text) for text in texts], bool))
        if self._attributed:
            texts = batch.column(_ATTRIBUTES).to_pylist()
            none = np.array([read_object(text) is None for text in texts], bool)
            self._note("have attributes that are no JSON object", addresses, none)

    def _faulty(self, column: pa.Array, name: str) -> np.ndarray[Any, Any]:
        faulty = np.zeros(len(column), bool)
        present = column.is_valid().to_numpy(zero_copy_only=False)
        numbers = column.drop_null().flatten().to_numpy(zero_copy_only=False)
        vectors = numbers.astype(np.float64).reshape(int(present.sum()), column.type.list_size)  # also where none is
        right = np.isfinite(vectors).all(axis=1)
        if name == "vector" and self._table != CATALOG:  # all that stages store are of length one
            with np.errstate(invalid="ignore", over="ignore"):
                right &= np.abs(np.linalg.norm(vectors, axis=1) - 1) < _UNIT
        faulty[present] = ~right
        return faulty

    def _note(self, what: str, addresses: np.ndarray[Any, Any], bad: np.ndarray[Any, Any]) -> None:
        if bad.any():
            self._bad.setdefault(what, []).extend(addresses[bad].tolist())

    def faults(self) -> list[tuple[str, list[int]]]:
        """List what is wrong, with the addresses of the rows; of equal rows of a log the first is right."""
        if self._seen:
            names = pa.chunked_array(self._seen).combine_chunks().dictionary_encode()
            codes = names.indices.to_numpy()
            counts = np.bincount(codes)
            twice = counts[codes] > 1
            if self._table in (INTERACTIONS, IMPRESSIONS, EARLY):
                first = np.zeros(len(codes), bool)
                first[np.unique(codes, return_index=True)[1]] = True
                twice &= ~first
            self._note("stand more than once", np.concatenate(self._addresses), twice)
        return sorted(self._bad.items())


class _Unreadable(Exception):  # noqa: N818  (what is found, not what failed)
    """Bytes of a fragment that cannot be read."""


def _batches(dataset: Any, fragment: Any) -> Iterator[pa.RecordBatch]:
    """Read a fragment and nothing else in the same guard: a fault of a check must not pass for damage of good rows.

    Raises:
        _Unreadable: its bytes are damaged.
    """
    try:
        for batch in dataset.scanner(fragments=[fragment], with_row_address=True).to_batches():
            batch.validate(full=True)  # texts that are no UTF-8
            yield batch
    except GeneratorExit:
        raise
    except BaseException as error:
        tables.raise_if_not_damage(error)
        raise _Unreadable from error


def _any(parts: Iterable[Any]) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.logical_or.reduce([part.to_numpy(zero_copy_only=False) for part in parts])
    return found


def _is_object(text: str | None) -> bool:
    with suppress(TypeError, ValueError, RecursionError):
        return isinstance(json.loads(text or ""), dict)
    return False


def _passport_fault(schema: pa.Schema) -> str | None:
    """Find a vector column whose width is not that of the passport of its table."""
    with suppress(KeyError, ValueError, TypeError):
        wanted = json.loads((schema.metadata or {})[b"passport"])["dim"]
        width = schema.field("vector").type.list_size
        if isinstance(wanted, int) and width != wanted:
            return f"holds vectors of {width} numbers, its passport says {wanted}"
    return None


def _damaged_indexes(dataset: Any) -> list[str]:
    """Read the files of every index in full; returns the names of those that cannot be."""
    found = []
    for index in dataset.describe_indices():
        try:
            for segment in index.segments:
                files = sorted(Path(dataset.uri, "_indices", str(segment.uuid)).glob("*"))  # none of a remote table
                if files and segment.size_bytes and segment.size_bytes != sum(path.stat().st_size for path in files):
                    raise ValueError("a file of it is missing or cut")
                for path in files:
                    for _ in LanceFileReader(str(path)).read_all().to_batches():
                        pass
            dataset.stats.index_stats(index.name)
        except BaseException as error:
            tables.raise_if_not_damage(error)
            found.append(index.name)
    return found


def _reason(error: BaseException) -> str:
    tables.raise_if_not_damage(error)
    return error.reason if isinstance(error, tables.DamagedTable) else tables.short(str(error.__cause__ or error))


# -- fits and publications


def _check_artifacts(store: Store) -> Iterator[Damage]:
    """Hash the files of every fit."""
    if not store.has(ARTIFACTS):
        return
    for row in store.read(ARTIFACTS).to_pylist():
        try:
            store.artifacts.parse(row).files()
        except ColdstartError:
            digest = row["digest"]
            what = f"fit {row.get('name')!r} does not have the files of its digest {digest}"
            yield Damage(ARTIFACTS, what, _COSTS[ARTIFACTS], lambda bad=digest: mending.drop_artifact(store, bad))  # type: ignore[misc]


def _check_publications(store: Store) -> Iterator[Damage]:
    """Read every published version, and find what its tags name."""
    stored = tables.open_table(store.reader, PUBLICATIONS)
    rows = [] if stored is None else sorted(stored.to_arrow().to_pylist(), key=lambda row: row.get("number") or 0)
    faults: list[str] = []
    good: list[Publication] = []
    with suppress(ColdstartError):  # the catalog itself is reported by `_check_table`
        catalog = tables.open_table(store.reader, CATALOG)
        whole = _WholeFragments()
        for row in rows:
            if fault := _publication_fault(store, catalog, row, whole):
                faults.append(f"publication {row.get('number')} {fault}")
            else:
                good.append(parse_publication(row))
        try:
            tag = {} if catalog is None else catalog.tags.list().get(TAG)
            if tag and tag["version"] not in {publication.version for publication in good} and not faults:
                faults.append("what is published is none of them")
        except Exception as error:
            faults.append(f"the tags cannot be read ({_reason(error)})")
        for what in faults:
            yield Damage(
                PUBLICATIONS, what, _COSTS[PUBLICATIONS], lambda: mending.keep_publications(store, catalog, good)
            )


class _WholeFragments:
    """Fragments that were read in full; most versions of a table share theirs."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def read(self, dataset: Any) -> None:
        for fragment in dataset.get_fragments():
            name = json.dumps(fragment.metadata.to_json(), sort_keys=True, default=str)
            if name not in self._known:
                for _ in fragment.to_batches():
                    pass
                self._known.add(name)


def _publication_fault(store: Store, catalog: Any, row: dict[str, Any], whole: _WholeFragments) -> str | None:
    try:
        publication = parse_publication(row)
    except (ValueError, RecursionError):
        return "cannot be read"
    if catalog is None:
        return "names a catalog that is not there"
    try:
        table = store.reader.open_table(CATALOG)
        table.checkout(publication.version)
        tables.check_table(store.reader, table)
        if fault := space_fault(publication, table.schema):
            return fault.removeprefix(f"publication {publication.number} ")
        dataset = table.to_lance()
        whole.read(dataset)
    except BaseException as error:
        return f"names version {publication.version}, which cannot be read ({_reason(error)})"
    if broken := _damaged_indexes(dataset):
        return f"names version {publication.version}, whose index {broken[0]!r} cannot be read"
    return None

"""Remove items, or all that is stored of a user, from every table of a workspace and from the files below it.

LanceDB hides a deleted row and keeps its bytes: in the file of the rows beside it, in the versions before, in indexes.
So the files that hold one are written anew, and all earlier versions of such a table go at once; a reader that has one
of them open has to open the workspace again. Rows are dropped by address: a condition would stand in the log of the
table, with the id. Weights of fits stay as they are; those that learnt from what was removed are named.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coldstart.core.interactions import MAX_DETAIL
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, LEDGER, Store, history_build, mending, tables, tombstones, upkeep
from coldstart.store.ann import IndexSettings
from coldstart.store.artifacts import FILES, Artifact
from coldstart.store.catalog import CATALOG, Catalog
from coldstart.store.fits import CARD, HEADS, ITEMS_FILE
from coldstart.store.fragments import ADDRESS
from coldstart.store.ground_truth import SAMPLES_TABLE
from coldstart.store.impressions import EARLY, IMPRESSIONS
from coldstart.store.impressions import REJECTED as REJECTED_IMPRESSIONS
from coldstart.store.interactions import INTERACTIONS, REJECTED
from coldstart.store.item_keys import CARRIED
from coldstart.store.sql import equals, one_of
from coldstart.store.tombstones import ITEM, USER, Tombstones, read_tombstones, write_tombstones

_COPY_REASONS = ("original_not_served",)
_COMMANDS = {
    HEADS: "align",
    CARD: "describe",
    "fit.json": "behaviour",
    "codebooks.json": "sids",
    "recall.json": "recall",
}
"""File of a fit -> family of `coldstart finetune` that fits it anew; others are fitted by a run with `refit`."""
_CHUNK = 500
_IDS_A_PATTERN = 200


def counted(count: int, noun: str) -> str:
    """Format a number of things, such as `1 item` or `2,000 items`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class StaleFit:
    """Fit that learnt from what was removed since.

    Attributes:
        name: stage of the fit.
        items, users: numbers of removed ones that it learnt from; of users any whose rows it read.
        command: fits it anew.
    """

    name: str
    items: int
    users: int
    command: str

    def __str__(self) -> str:
        parts = [counted(self.items, "removed item")] if self.items else []
        parts += [f"the interactions of {counted(self.users, 'removed user')}"] if self.users else []
        return f"{self.name} learnt from {' and '.join(parts)}: `{self.command}` fits it anew"


@dataclass(frozen=True)
class Removal:
    """Report of a removal.

    Attributes:
        what: `item` or `user`; removed: how many; unknown: ids that the workspace does not have; already: those that
            were removed before.
        rows: table -> rows that were dropped.
        copies: items that were linked to a removed original, and are matched anew by the next run.
        interactions_kept, impressions_kept: rows of these logs that name a removed item, and stay.
        as_creator: items whose creator is a removed user; they stay.
        publication: tag of the publication that serves the rest; None where nothing was published, or served them.
        publications_dropped: earlier publications that held them and cannot be rolled back to any more.
        fits: fits that learnt from them.
        resumed: of them, those whose removal had been interrupted.
        dry_run: nothing was removed; the numbers are those of what would be.
    """

    what: str
    removed: int
    unknown: tuple[str, ...] = ()
    already: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    copies: tuple[str, ...] = ()
    interactions_kept: int = 0
    impressions_kept: int = 0
    as_creator: int = 0
    publication: str | None = None
    publications_dropped: int = 0
    fits: tuple[StaleFit, ...] = ()
    resumed: int = 0
    dry_run: bool = False
    bytes_before: int = 0
    bytes_after: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


# -- items


def remove_items(
    store: Store,
    ids: Iterable[str],
    *,
    interactions: bool = False,
    dry_run: bool = False,
    index: IndexSettings | None = None,
) -> Removal:
    """Remove items from every table, publish the catalog without them, and drop the publications that held them.

    A kill at any point leaves a removal that the same call finishes.

    Args:
        interactions: drop the rows of the logs of interactions and impressions that name them, too.
        index: settings of the indexes of the catalog.

    Raises:
        ColdstartError: the workspace is on a LanceDB server.
    """
    _check_files(store)
    wanted = list(dict.fromkeys(ids))
    known = read_tombstones(store)
    names = _item_tables(store, interactions)
    held, verdicts = ([name for name in (*names, CATALOG) if (name == LEDGER) is own] for own in (False, True))
    rows, present = _count(store, held, "item_id", wanted)
    noted, named = _count(store, verdicts, "item_id", wanted)
    rows |= noted
    present |= named - known.items.keys()  # a run filters what was removed, and notes it in the ledger
    interrupted = known.open_items & set(wanted)
    found = sorted(present | interrupted)
    left = _without(wanted, found)
    copies = _copies_of(store, found)
    logs = {} if interactions else _count(store, [INTERACTIONS, IMPRESSIONS], "item_id", found)[0]
    learnt = _fits_of_items(store, found)
    report = Removal(
        what=ITEM,
        removed=len(found),
        unknown=tuple(item for item in left if item not in known.items),
        already=tuple(item for item in left if item in known.items),
        rows=rows,
        copies=tuple(copies),
        interactions_kept=logs.get(INTERACTIONS, 0),
        impressions_kept=logs.get(IMPRESSIONS, 0),
        fits=_named(store, learnt, ITEM),
        resumed=len(interrupted),
        dry_run=dry_run,
    )
    if dry_run or not found:
        return report
    before = store.size_bytes()
    fits_of = {item: {digest for digest, own in learnt.items() if item in own} for item in found}
    write_tombstones(store, ITEM, found, fits_of, known.salt, done=False)
    gone = pa.array(found, pa.string())
    for name in sorted(names, key=lambda name: name not in (ITEMS, CARRIED)):  # a run in between serves no such item
        _drop_rows(store, name, "item_id", gone)
    _open_copies(store, copies)
    publication, dropped = Catalog(store.db).remove(found, index)
    for name in [*names, CATALOG, SAMPLES_TABLE]:
        purge(store, name)
    history_build.renew(store)
    write_tombstones(store, ITEM, found, fits_of, known.salt, done=True)
    return replace(
        report,
        publication=None if publication is None else publication.tag,
        publications_dropped=dropped,
        bytes_before=before,
        bytes_after=store.size_bytes(),
    )


def _item_tables(store: Store, interactions: bool) -> list[str]:
    """List the tables with a row an item, or several; the catalog has its own removal."""
    others = (CATALOG, SAMPLES_TABLE, *(() if interactions else (INTERACTIONS, IMPRESSIONS, EARLY)))
    return [name for name in store.tables() if name not in others and "item_id" in store.columns(name)]


def _copies_of(store: Store, originals: Collection[str]) -> list[str]:
    """Find the items that are linked as copies to some originals, which are not among these themselves."""
    found: set[str] = set()
    for name in _copy_tables(store):
        rows = store.read(name, ["item_id", "duplicate_of"], where="duplicate_of IS NOT NULL")
        linked = rows.filter(pc.is_in(rows["duplicate_of"], pa.array(sorted(originals), pa.string())))
        found.update(linked["item_id"].to_pylist())
    return sorted(found - set(originals))


def _copy_tables(store: Store) -> list[str]:
    return [name for name in store.tables() if name.startswith("stage.") and "duplicate_of" in store.columns(name)]


def _open_copies(store: Store, copies: Sequence[str]) -> None:
    """Mark copies whose original is gone as open: the next run matches them anew, in their old order of arrival."""
    if not copies:
        return
    for name in _copy_tables(store):
        rows = store.read(name, ids=copies)
        if rows.num_rows:
            blank: dict[str, Any] = {"row_key": "", "duplicate_of": None, "score": 0.0, "matches": []}
            opened = [{**row, **{key: value for key, value in blank.items() if key in row}} for row in rows.to_pylist()]
            store.merge(name, pa.Table.from_pylist(opened, schema=rows.schema))
    if store.has(LEDGER):
        as_copies = f"(state = 'duplicate' OR {one_of('reason', _COPY_REASONS)})"
        for start in range(0, len(copies), _CHUNK):
            store.drop(LEDGER, f"{one_of('item_id', copies[start : start + _CHUNK])} AND {as_copies}")


# -- users


def remove_users(store: Store, ids: Iterable[str], *, dry_run: bool = False) -> Removal:
    """Remove all interactions and impressions of users, and rejected rows that name them, from every version of every
    table.

    A keyed hash of each id stays, by which their rows are refused when a log that has them is read again. A kill at any
    point leaves a removal that the same call finishes.

    Raises:
        ColdstartError: the workspace is on a LanceDB server.
    """
    _check_files(store)
    wanted = list(dict.fromkeys(ids))
    known = read_tombstones(store)
    names = [name for name in store.tables() if "user_id" in store.columns(name)]
    rows, logged = _count(store, [INTERACTIONS], "user_id", wanted)
    others, present = _count(store, [name for name in names if name != INTERACTIONS], "user_id", wanted)
    rows, present = rows | others, present | logged
    rejected = {name: list(_rejected_rows(store, name, wanted)) for name in (REJECTED, REJECTED_IMPRESSIONS)}
    rows |= {name: len(own) for name, own in rejected.items() if own}
    hashes = {user: known.hashed(user) for user in wanted}
    interrupted = {user for user, digest in hashes.items() if digest in known.open_users}
    named = {user for own in rejected.values() for _, users in own for user in users}
    found = sorted(present | interrupted | named)
    left = _without(wanted, found)
    fits = [artifact for artifact in store.artifacts.all() if "interactions" in artifact.report] if logged else []
    learnt = {artifact.digest: frozenset(hashes[user] for user in logged) for artifact in fits}
    report = Removal(
        what=USER,
        removed=len(found),
        unknown=tuple(user for user in left if hashes[user] not in known.users),
        already=tuple(user for user in left if hashes[user] in known.users),
        rows=rows,
        as_creator=_as_creator(store, wanted),
        fits=_named(store, learnt, USER),
        resumed=len(interrupted),
        dry_run=dry_run,
    )
    if dry_run or not found:
        return report
    before = store.size_bytes()
    digests = {hashes[user] for user in found}
    before_kill = {digest for digest, (_, users) in known.fits.items() if users} if interrupted else set()
    fits_of = {digest: {*learnt, *before_kill} if digest in known.open_users else set(learnt) for digest in digests}
    write_tombstones(store, USER, digests, fits_of, known.salt, done=False)
    gone = pa.array(found, pa.string())
    for name in names:
        _drop_rows(store, name, "user_id", gone)
    for name, own in rejected.items():
        if own:
            mending.drop_rows(tables.open_table(store.db, name), [address for address, _ in own])
    for name in {*names, *rejected}:
        purge(store, name)
    history_build.renew(store)
    write_tombstones(store, USER, digests, fits_of, known.salt, done=True)
    return replace(report, bytes_before=before, bytes_after=store.size_bytes())


def _rejected_rows(store: Store, name: str, users: Collection[str]) -> Iterator[tuple[int, set[str]]]:
    """Find the rejected rows of a table whose file or value names a user: address, and the users. A value may be
    shortened to `MAX_DETAIL`, in the middle of an id."""
    if not users or not store.has(name):
        return
    listed = sorted(filter(None, users), key=len, reverse=True)
    patterns = [
        re.compile(rf"(?<![\w@+-])(?:{'|'.join(map(re.escape, listed[start : start + _IDS_A_PATTERN]))})(?![\w@+-])")
        for start in range(0, len(listed), _IDS_A_PATTERN)
    ]
    table = tables.open_table(store.db, name)
    with tables.reading(store.db, name):
        batches = table.to_lance().scanner(columns=["file", "detail"], with_row_address=True).to_batches()
        for batch in batches:
            texts = zip(batch.column("file").to_pylist(), batch.column("detail").to_pylist(), strict=True)
            for address, (file, detail) in zip(batch.column(ADDRESS).to_pylist(), texts, strict=True):
                text = f"{file or ''}\n{detail or ''}"
                named = {match for pattern in patterns for match in pattern.findall(text)}
                if len(detail or "") >= MAX_DETAIL:
                    end = re.split(r"[\s,;]", detail)[-1]
                    named |= {user for user in listed if end and user.startswith(end)}
                if named:
                    yield address, named


def _as_creator(store: Store, users: Collection[str]) -> int:
    if "creator" not in store.columns(ITEMS):
        return 0
    return _count(store, [ITEMS], "creator", users)[0].get(ITEMS, 0)


# -- what both do


def _check_files(store: Store) -> None:
    if store.uri.startswith("db://"):
        raise ColdstartError(
            f"workspace {store.uri} is on a LanceDB server, which keeps its files itself: remove the rows there"
        )


def _without(wanted: Sequence[str], found: Collection[str]) -> list[str]:
    present = set(found)
    return [one for one in wanted if one not in present]


def _count(store: Store, names: Iterable[str], column: str, values: Collection[str]) -> tuple[dict[str, int], set[str]]:
    """Count the rows of each table whose column has one of some values; returns the values that were met, too."""
    wanted = pa.array(sorted(values), pa.string())
    counts: dict[str, int] = {}
    met: set[str] = set()
    for name in names:
        for batch in store.batches(name, [column]):
            own = batch.column(column)
            own = own.filter(pc.is_in(own, value_set=wanted.cast(own.type)))
            if len(own):
                counts[name] = counts.get(name, 0) + len(own)
                met.update(pc.unique(own).to_pylist())
    return counts, met


def _drop_rows(store: Store, name: str, column: str, values: pa.Array) -> None:
    """Drop the rows of a table whose column has one of some values, in one transaction that names none of them."""
    table = tables.open_table(store.db, name)
    if table is None:
        return
    addresses: list[int] = []
    with tables.reading(store.db, name):
        for batch in table.to_lance().scanner(columns=[column], with_row_address=True).to_batches():
            own = batch.column(column)
            met = pc.is_in(own, value_set=values.cast(own.type))
            addresses += batch.column(ADDRESS).filter(met).to_pylist()
        if addresses:
            mending.drop_rows(table, addresses)


def purge(store: Store, name: str) -> None:
    """Drop the bytes of deleted rows of a table, and all its versions but the present one and those under a tag of a
    publication; the caller holds the lock."""
    table = tables.open_table(store.db, name)
    if table is None:
        return
    with tables.reading(store.db, name):
        upkeep.purge(table, keep_tags=name == CATALOG, whole=store.folder is not None)


# -- fits


def _fits_of_items(store: Store, items: Collection[str]) -> dict[str, frozenset[str]]:
    """Find the fits that learnt from some items: digest of the fit -> those of the items that it read."""
    wanted, found = frozenset(items), dict[str, frozenset[str]]()
    for artifact in store.artifacts.all() if wanted else ():
        rows = store.read(
            FILES, ["data"], where=f"{equals('digest', artifact.digest)} AND {equals('path', ITEMS_FILE)}"
        )
        for data in rows["data"].to_pylist():
            with suppress(pa.ArrowException, OSError, ValueError, KeyError):  # `check` names a damaged fit
                own = pq.read_table(io.BytesIO(data), columns=["item_id"])["item_id"].to_pylist()
                if met := wanted.intersection(own):
                    found[artifact.digest] = met
    return found


def _named(store: Store, learnt: Mapping[str, Collection[str]], what: str) -> tuple[StaleFit, ...]:
    counts = {digest: (len(own), 0) if what == ITEM else (0, len(own)) for digest, own in learnt.items()}
    return _stale(store, counts)


def stale_fits(store: Store, known: Tombstones | None = None) -> tuple[StaleFit, ...]:
    """Find the fits in force that learnt from items or users that were removed since."""
    return _stale(store, (known or read_tombstones(store)).fits)


def removal_notes(store: Store) -> list[str]:
    """List the removals that were interrupted, and the fits that learnt from what was removed; a line each."""
    if not store.has(tombstones.REMOVED):
        return []
    known = read_tombstones(store)
    notes = []
    if known.open_items:
        first = sorted(known.open_items)[0]
        many = counted(len(known.open_items), "item")
        notes.append(f"the removal of {many}, such as {first}, was interrupted: {_AGAIN}")
    if known.open_users:
        notes.append(f"the removal of {counted(len(known.open_users), 'user')} was interrupted: {_AGAIN}")
    return [*notes, *map(str, stale_fits(store, known))]


_AGAIN = "run the same `coldstart remove` again to go on"


def _stale(store: Store, counts: Mapping[str, tuple[int, int]]) -> tuple[StaleFit, ...]:
    if not counts:
        return ()
    newest: dict[str, Artifact] = {}
    for artifact in store.artifacts.all():
        newest.setdefault(artifact.name, artifact)
    found = []
    for name, artifact in sorted(newest.items()):
        if artifact.digest in counts:
            items, users = counts[artifact.digest]
            found.append(StaleFit(name, items, users, _command(store, artifact)))
    return tuple(found)


def _command(store: Store, artifact: Artifact) -> str:
    paths = set(store.read(FILES, ["path"], where=equals("digest", artifact.digest))["path"].to_pylist())
    family = next((family for path, family in _COMMANDS.items() if path in paths), None)
    if family is not None:
        return f"coldstart finetune {family} --workspace {shlex.quote(store.uri)}"
    uri, name = json.dumps(store.uri), json.dumps(artifact.name)
    script = f"import coldstart; coldstart.open({uri}).run(only=[{name}], refit=True)"
    return f"python -c {shlex.quote(script)}"


def undo(store: Store, what: str, ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Let removed items or users come back with their next run or ingest; the caller holds the lock.

    Returns:
        those that may come back now, and those that were not removed.
    """
    known = read_tombstones(store)
    wanted = list(dict.fromkeys(ids))
    keys = {one: one if what == ITEM else known.hashed(one) for one in wanted}
    present: Collection[str] = known.items if what == ITEM else known.users
    there = [one for one in wanted if keys[one] in present]
    tombstones.drop_tombstones(store, what, [keys[one] for one in there])
    return there, [one for one in wanted if keys[one] not in present]

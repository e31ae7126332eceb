"""Find the stale rows of one stage on the workers of a Ray cluster: the driver sees counts, no list of the items.

Every worker reads some fragments of the key columns and distributes their rows by a digest of `item_id`; all rows of an
item meet in one partition, and `coldstart.store.freshness` decides there as it does on one machine. Blocked items are
computed once, in one task, since a gate may read the whole catalogue (duplicates of each other).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, cast

import pyarrow as pa
import pyarrow.compute as pc
import ray

from coldstart.core.item_fields import columns_of, field_digests
from coldstart.core.pipeline import Pipeline
from coldstart.core.stage import Gate, LedgerRow, MapStage, Reject, is_map
from coldstart.engine.ray.actors import check_same_key
from coldstart.engine.ray.cluster import fetch, task
from coldstart.engine.work import Scope, Source, sources
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, LEDGER, Store
from coldstart.store.fragments import ADDRESS, TableVersion, table_version
from coldstart.store.freshness import REVIEW, Assessment, Balance, PipelineState, assess_map
from coldstart.store.item_keys import CARRIED, FIRST_VERSION, carried_key
from coldstart.store.sql import one_of

PARTITION_ROWS = 200_000
"""Items that one task looks at: some 100 MB of keys with those of the stages read."""

_CORE_S = 1800.0
"""Seconds in which a core of the cluster has to come free for planning. Others may be at work on it for long; without
an end, a run would wait for ever beside actors that nothing ends."""

_LEDGER_COLUMNS = ["stage", "item_id", "row_key", "state", "reason", "detail"]


class PipelineFactory(Protocol):
    """Picklable factory that builds a stage and its pipeline anew, as `Recipe` does."""

    def build(self, **engine: Any) -> Any: ...

    def pipeline(self) -> Pipeline: ...

    def pipeline_state(
        self, view: Store, blocked: Mapping[str, Mapping[str, Reject]] | None = None
    ) -> PipelineState: ...

    def store(self) -> Store: ...


@dataclass(frozen=True)
class Tables:
    """Tables that decide on stale rows, each at one version.

    Attributes:
        places: table -> where it is, for those that exist.
        keys: table -> its key column.
        stages: whose ledger rows count.
        fields: sets of item fields that they read; none where all keys are those of whole records.
    """

    places: Mapping[str, TableVersion]
    keys: Mapping[str, str]
    stages: Sequence[str]
    fields: Sequence[frozenset[str]] = ()


@dataclass(frozen=True)
class Summary:
    """Counts of one partition.

    Attributes:
        balance: before anything is done.
        chosen: items in scope that are to be done.
        turned_away: verdicts of gates to be filed; obsolete: items whose verdict is to go.
    """

    balance: Balance
    chosen: int
    turned_away: Sequence[LedgerRow] = ()
    obsolete: Sequence[str] = ()


@dataclass
class Plan:
    """Plan of all partitions: the sum of the counts, and references to the summaries and to the parts to do.

    `parts`: number -> reference to a table.
    """

    balance: Balance
    chosen: int = 0
    summaries: list[Any] = field(default_factory=list)
    parts: dict[int, Any] = field(default_factory=dict)


class Partition:
    """View of a workspace with one partition's keys, verdicts and row addresses.

    Holds what `assess_map` and `PipelineState` read of a `Store`.
    """

    def __init__(self, names: Sequence[str], fields: Sequence[frozenset[str]], rows: pa.Table) -> None:
        self._keys: dict[str, dict[str, str]] = {}
        self._fields = fields
        self._digests: dict[str, dict[str, list[str]]] = {}
        self.addresses: dict[str, dict[str, int]] = {}
        self._verdicts: dict[str, dict[str, LedgerRow]] = {}
        for number, name in enumerate(names):
            own = rows.filter(pc.equal(rows["table"], number))
            if name == LEDGER:
                for row in own.select(["item_id", "key", "stage", "state", "reason", "detail"]).to_pylist():
                    verdict = LedgerRow(row_key=row.pop("key"), **row)
                    self._verdicts.setdefault(verdict.stage, {})[verdict.item_id] = verdict
                continue
            ids = own["item_id"].to_pylist()
            self._keys[name] = dict(zip(ids, own["key"].to_pylist(), strict=True))
            self.addresses[name] = dict(zip(ids, own[ADDRESS].to_pylist(), strict=True))
            if name in (ITEMS, CARRIED):
                self._digests[name] = dict(zip(ids, own["digests"].to_pylist(), strict=True))

    def has(self, table: str) -> bool:
        return table in self._keys

    def keys(self, table: str, column: str = "row_key") -> dict[str, str]:
        """Return keys as `Store.keys`; `column` is the one that was read."""
        return self._keys.get(table, {})

    def item_keys(self, fields: Collection[str] | None) -> dict[str, str]:
        """Return keys as `Store.item_keys`, of one of the sets of fields that were read."""
        if fields is None or not self._fields:
            return self.keys(ITEMS)
        place = self._fields.index(frozenset(fields))
        own, then, old = self._digests.get(ITEMS, {}), self._digests.get(CARRIED, {}), self.keys(CARRIED)
        return {
            item: carried_key(now[place], old.get(item), then[item][place] if item in then else None)
            for item, now in own.items()
        }

    def verdicts(self, stage: str) -> dict[str, LedgerRow]:
        """Return verdicts as `Store.verdicts`."""
        return self._verdicts.get(stage, {})


def make_plan(store: Store, plans: PipelineFactory, stage: MapStage, key: str, scope: Scope, part: int) -> Plan:
    """Find the stale rows of a map stage, and divide them into parts of at most `part` items.

    Args:
        key: of the stage, which every worker has to arrive at as well.

    Raises:
        ColdstartError: a worker would make other rows; or a set-up fault that it met.
    """
    tables = tables_of(store, plans, stage)
    if ITEMS not in tables.places:
        return Plan(Balance())
    count = max(1, -(-store.count(ITEMS) // PARTITION_ROWS))
    blocked = task(blocked_items).options(num_returns=count).remote(plans, stage.name, count)
    blocked = [blocked] if count == 1 else blocked
    dealt = _deal(tables, count)
    names = tuple(tables.places)
    shared = ray.put(scope)
    streams = [
        task(summarize_partition)
        .options(num_returns="streaming")
        .remote(plans, key, names, tables.fields, shared, (number << 32, part), blocked[number], *blocks)
        for number, blocks in enumerate(dealt)
    ]
    summaries = []
    parts: dict[int, Any] = {}
    for number, stream in enumerate(streams):
        first, *own = list(stream)
        summaries.append(first)
        parts.update(enumerate(own, number << 32))
    counts = task(_counts)
    counted = fetch([counts.remote(first) for first in summaries])
    plan = Plan(add_balances(balance for balance, _ in counted), sum(chosen for _, chosen in counted), summaries, parts)
    if scope.limit is not None and plan.chosen > scope.limit:
        plan.parts = first_of(parts.values(), scope.limit, part)
        plan.chosen = scope.limit
    return plan


def stage_balance(store: Store, plans: PipelineFactory, stage: MapStage, key: str) -> Balance:
    """Count the present balance of a map stage."""
    return make_plan(store, plans, stage, key, Scope(limit=0), 1).balance


def add_balances(balances: Iterable[Balance]) -> Balance:
    """Add the balances of several partitions."""
    total = Balance()
    for one in balances:
        reasons = {name: total.reasons.get(name, 0) + count for name, count in one.reasons.items()}
        total = Balance(
            total.fresh + one.fresh,
            total.failed + one.failed,
            total.filtered + one.filtered,
            total.duplicate + one.duplicate,
            total.pending + one.pending,
            {**total.reasons, **reasons},
        )
    most_first = sorted(total.reasons.items(), key=lambda pair: -pair[1])
    return replace(total, reasons=dict(most_first))


def tables_of(store: Store, plans: PipelineFactory, stage: MapStage) -> Tables:
    """List the tables at one version each: `items`, those of the stage and of all it reads, and the ledger."""
    pipeline_state = plans.pipeline_state(store)
    found: dict[str, MapStage] = {}
    left = [stage.name]
    while left:
        name = left.pop()
        if name not in found:
            one = pipeline_state.stage(name)
            assert is_map(one), f"{name} is no map stage"
            found[name] = one
            left += one.reads.values()
    keys = {ITEMS: "row_key", **{one.table: one.key_column for one in found.values()}, LEDGER: "row_key"}
    fields: list[frozenset[str]] = []
    if store.layout_version() >= FIRST_VERSION:
        read = {frozenset(one.item_fields) for one in found.values() if one.item_fields is not None}
        fields = sorted(read, key=sorted)
        keys[CARRIED] = "row_key"
    places = {table: where for table in keys if (where := table_version(store, table)) is not None}
    return Tables(places, keys, sorted(found), fields)


def _deal(tables: Tables, count: int) -> list[list[Any]]:
    """Distribute rows to partitions; returns references to the blocks of each.

    Raises:
        ColdstartError: no core of the cluster came free for the tasks that read.
    """
    reading = task(read_block)
    blocks = [
        reading.remote(where, fragments, read_columns(tables, table), filter_of(tables, table), *labels)
        for number, (table, where) in enumerate(tables.places.items())
        for labels in [(number, tables.keys[table], tables.fields if table in (ITEMS, CARRIED) else ())]
        for fragments in fragment_groups(where)
    ]
    if blocks and not ray.wait(blocks, timeout=_CORE_S, fetch_local=False)[0]:
        raise ColdstartError(
            f"no core of the Ray cluster came free in {_CORE_S / 60:.0f} minutes, so the tables were not read: "
            "`ray status` shows what holds them"
        )
    if count == 1:
        return [blocks]
    dealt = [task(split_block).options(num_returns=count).remote(block, count) for block in blocks]
    return [[parts[number] for parts in dealt] for number in range(count)]


def fragment_groups(where: TableVersion) -> list[list[int]]:
    """Divide the fragments of a table into groups of about `PARTITION_ROWS` rows, each read by one task."""
    groups: list[list[int]] = []
    rows = PARTITION_ROWS
    for fragment in where.open().get_fragments():
        if rows >= PARTITION_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(fragment.fragment_id)
        rows += fragment.count_rows()
    return groups


def read_block(
    where: TableVersion, fragments: Sequence[int], columns: Sequence[str], rows: str | None, *labels: Any
) -> pa.Table:
    """Read some fragments of a table as a block of `BLOCK`; `rows`: a filter, `labels`: of `label_rows`."""
    table = where.open()
    chosen = [fragment for fragment in table.get_fragments() if fragment.fragment_id in set(fragments)]
    read = table.scanner(columns=list(columns), filter=rows, fragments=chosen, with_row_address=True).to_table()
    return label_rows(read, *labels)


def filter_of(tables: Tables, table: str) -> str | None:
    """Write the filter of a table's rows that decide on stale rows."""
    return one_of("stage", tables.stages) if table == LEDGER else None


def read_columns(tables: Tables, table: str) -> list[str]:
    """List the columns of a table that decide on stale rows."""
    if table == LEDGER:
        return _LEDGER_COLUMNS
    wanted = ["item_id", tables.keys[table]]
    if table in (ITEMS, CARRIED) and tables.fields:
        present = tables.places[table].open().schema.names
        wanted += [name for name in columns_of(frozenset().union(*tables.fields)) if name in present]
    return wanted


BLOCK = pa.schema(
    [
        ("table", pa.int16()),
        ("item_id", pa.string()),
        ("key", pa.string()),
        (ADDRESS, pa.uint64()),
        ("stage", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("digests", pa.list_(pa.string())),
    ]
)


def label_rows(rows: pa.Table, number: int, key: str, fields: Sequence[frozenset[str]] = ()) -> pa.Table:
    """Convert rows of any of the tables to one schema; those of items with a digest of each set of fields."""
    none = pa.nulls(rows.num_rows, pa.string())
    there = set(rows.column_names)
    named = {"key": key, **{name: name for name in BLOCK.names if name not in ("table", "key", "digests")}}
    columns = [rows[named[name]] if named.get(name) in there else none for name in BLOCK.names[1:-1]]
    label = pa.repeat(pa.scalar(number, pa.int16()), rows.num_rows)
    own = [list(one) for one in zip(*(field_digests(rows, some) for some in fields), strict=True)]
    kind = BLOCK.field("digests").type
    digests = pa.array(own, kind) if fields else pa.nulls(rows.num_rows, kind)
    return pa.Table.from_arrays([label, *columns, digests], schema=BLOCK)


def partition_of(item_id: str, count: int) -> int:
    """Return the partition of an item, of `count`; the same on any machine."""
    return zlib.crc32(item_id.encode()) % count


def split_block(block: pa.Table, count: int) -> list[pa.Table]:
    places = pa.array([partition_of(item, count) for item in block["item_id"].to_pylist()], pa.int32())
    return [block.filter(pc.equal(places, number)) for number in range(count)]


def blocked_items(plans: PipelineFactory, name: str, count: int) -> Any:
    """Collect the blocked items of each partition: gate -> item -> reason."""
    pipeline = plans.pipeline()
    store = plans.store()
    pipeline_state = plans.pipeline_state(store)
    parts: list[dict[str, dict[str, Reject]]] = [{REVIEW: {}} for _ in range(count)]
    for item, why in pipeline_state.rejected().items():
        parts[partition_of(item, count)][REVIEW][item] = why
    for spec in pipeline.stages:
        if spec.name == name:
            break
        gate = None if spec.kind == "ingest" else pipeline_state.stage(spec.name)
        if isinstance(gate, Gate):
            for part in parts:
                part[spec.name] = {}
            for item, why in pipeline_state.blocked_by(spec.name).items():
                parts[partition_of(item, count)][spec.name][item] = why
    return parts[0] if count == 1 else parts


def summarize_partition(
    plans: PipelineFactory,
    key: str,
    names: Sequence[str],
    fields: Sequence[frozenset[str]],
    scope: Scope,
    numbered: tuple[int, int],
    blocked: Any,
    *blocks: pa.Table,
) -> Iterator[Any]:
    """Yield the summary of one partition, then its parts; `numbered`: number of the first, and size of each."""
    view = Partition(names, fields, pa.concat_tables([BLOCK.empty_table(), *blocks]))
    stage = plans.build()
    check_same_key(stage, key)
    pipeline_state = plans.pipeline_state(cast(Store, view), blocked)
    upstream = pipeline_state.upstream(stage)
    found = assess_map(cast(Store, view), stage, upstream, scope.retry)
    recorded = view.verdicts(stage.name)
    items = view.addresses.get(ITEMS, {})
    stale = sorted((item for item in found.stale if item not in found.waiting), key=items.__getitem__)
    chosen = scope.choose(stale)
    yield Summary(
        found.balance,
        len(chosen),
        [row for item, row in found.settled.items() if item in upstream.blocked and recorded.get(item) != row],
        sorted(recorded.keys() - (found.expected.keys() - found.fresh)),
    )
    yield from _parts(view, stage, found, chosen, sources(stage, pipeline_state), recorded, *numbered)


def _parts(
    view: Partition,
    stage: MapStage,
    found: Assessment,
    chosen: Sequence[str],
    read: Sequence[Source],
    recorded: Collection[str],
    number: int,
    size: int,
) -> Iterator[pa.Table]:
    items, old = view.addresses[ITEMS] if chosen else {}, view.addresses.get(stage.table, {})
    ids = iter(chosen)
    while some := list(islice(ids, size)):
        columns = {
            "part": pa.repeat(number, len(some)),
            "item_id": pa.array(some, pa.string()),
            "key": pa.array([found.expected[item] for item in some], pa.string()),
            "at": pa.array([items[item] for item in some], pa.uint64()),
            "old": pa.array([old.get(item) for item in some], pa.uint64()),
            "recorded": pa.array([item in recorded for item in some], pa.bool_()),
        }
        for source in read:
            there = view.addresses.get(source.table, {})
            at = [there[item] if item in source.fresh else None for item in some]
            columns[f"at.{source.field}"] = pa.array(at, pa.uint64())
        yield pa.table(columns)
        number += 1


def _counts(summary: Summary) -> tuple[Balance, int]:
    return summary.balance, summary.chosen


def first_of(parts: Iterable[Any], limit: int, size: int) -> dict[int, Any]:
    """Select the parts of the first `limit` rows, by the order of the items; no partition has more than that many."""
    rows = pa.concat_tables([fetch(part) for part in parts]).sort_by("at").slice(0, limit)
    return number_parts((rows.slice(start, size) for start in range(0, limit, size)), 0)


def number_parts(tables: Iterable[pa.Table], start: int) -> dict[int, Any]:
    """Number parts from `start`; returns references."""
    return {number: ray.put(renumber_part(table, number)) for number, table in enumerate(tables, start)}


def renumber_part(table: pa.Table, number: int) -> pa.Table:
    """Give a part another number."""
    place = table.column_names.index("part")
    return table.set_column(place, "part", pa.repeat(number, table.num_rows))

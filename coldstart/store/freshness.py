"""Compare the rows of a workspace with its pipeline: fresh and stale rows, settled items, the balance of each stage.

A row is fresh if and only if its key equals the one the pipeline would compute now. A ledger verdict holds for as long
as its key does. So every item of a stage is in exactly one state, and nothing but keys decides which. An item that a
gate blocks is in that gate's state in all later stages, whatever rows it has there from before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from coldstart.core import stage as registry
from coldstart.core.keys import chain, stage_key
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.stage import CatalogStage, Gate, LedgerRow, MapStage, Reject, is_map
from coldstart.errors import ColdstartError, NotFitted
from coldstart.store import ITEMS, Store
from coldstart.store.decisions import DecisionLog, approvals, read_decisions, rejected_items
from coldstart.store.items_view import ItemsView


@dataclass(frozen=True)
class Balance:
    """Numbers of the items of a stage by state: fresh + failed + filtered + duplicate + pending = total."""

    fresh: int = 0
    failed: int = 0
    filtered: int = 0
    duplicate: int = 0
    pending: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of items in any state."""
        return self.fresh + self.failed + self.filtered + self.duplicate + self.pending

    @property
    def failed_share(self) -> float:
        """Share of failed items in the total; 0 without items."""
        return self.failed / self.total if self.total else 0.0


def tally(fresh: int, verdicts: Iterable[LedgerRow], pending: int) -> Balance:
    """Count the balance of a stage from its fresh rows, its verdicts and the number of pending items."""
    verdicts = list(verdicts)
    states = Counter(row.state for row in verdicts)
    reasons = Counter(row.reason for row in verdicts)
    return Balance(
        fresh, states["failed"], states["filtered"], states["duplicate"], pending, dict(reasons.most_common())
    )


@dataclass(frozen=True)
class Assessment:
    """The state of every item of a stage.

    Attributes:
        expected: item -> the key its row should carry, in table order.
        fresh: items whose row carries it.
        settled: items turned away under it, here or by an earlier stage.
        stale: all others, in table order: the work to do.
        waiting: those of them that an earlier stage, which this one reads, has still to do.
    """

    expected: Mapping[str, str]
    fresh: frozenset[str]
    settled: Mapping[str, LedgerRow]
    stale: tuple[str, ...]
    waiting: frozenset[str] = frozenset()

    @property
    def balance(self) -> Balance:
        """Numbers of items by state."""
        return tally(len(self.fresh), self.settled.values(), len(self.stale))

    def key_of(self, item: str) -> str:
        """Return the part of an item's row in the keys of rows made from it; a constant where the item has no row."""
        return _NO_ROW if item in self.settled or item not in self.expected else self.expected[item]


_NO_ROW = "none"
REVIEW = "review"
"""Name under which the items that people rejected stand among those that gates block."""


@dataclass(frozen=True)
class Upstream:
    """State of the earlier stages that one stage depends on.

    Attributes:
        rows: name -> state of each stage that it reads.
        blocked: items that an earlier gate keeps from it, and why.
        items: item -> key of the fields that it reads; None where that is still to be computed.
    """

    rows: Mapping[str, Assessment] = field(default_factory=dict)
    blocked: Mapping[str, Reject] = field(default_factory=dict)
    items: Mapping[str, str] | None = None


def assess(
    expected: Mapping[str, str],
    present: Mapping[str, str],
    ledger: Mapping[str, LedgerRow],
    blocked: Mapping[str, LedgerRow] | None = None,
) -> Assessment:
    """Compare expected keys with present ones; `blocked` items are settled whatever rows they have."""
    blocked = blocked or {}
    fresh = frozenset(item for item, key in expected.items() if present.get(item) == key and item not in blocked)
    settled = {
        item: blocked[item] if item in blocked else ledger[item]
        for item, key in expected.items()
        if item in blocked or (item not in fresh and item in ledger and ledger[item].row_key == key)
    }
    stale = tuple(item for item in expected if item not in fresh and item not in settled)
    return Assessment(expected, fresh, settled, stale)


def expected_keys(
    stage: MapStage, items: Mapping[str, str], upstream: Mapping[str, Assessment] | None = None
) -> dict[str, str]:
    """Compute item -> key of its row of `stage`, from the keys of item fields and of rows of the stages it reads."""
    key = stage_key(stage.kind, stage.version, stage.fingerprint())
    read = [(upstream or {})[name] for _, name in sorted(stage.reads.items())]
    return {item: chain(key, "\n".join([own, *(rows.key_of(item) for rows in read)])) for item, own in items.items()}


def assess_map(
    workspace: Store, stage: MapStage, upstream: Upstream | None = None, retry: Iterable[str] = ()
) -> Assessment:
    """Compute the state of every item of a map stage over the `items` table.

    Args:
        upstream: state of the stages before it; None for a stage that reads items alone and has no gate before it.
        retry: states (`failed`, …) whose verdicts are set aside, so that their items count as stale.
    """
    upstream = upstream or Upstream()
    again = set(retry)
    ledger = {item: row for item, row in workspace.verdicts(stage.name).items() if row.state not in again}
    items = workspace.item_keys(stage.item_fields) if upstream.items is None else upstream.items
    expected = expected_keys(stage, items, upstream.rows)
    blocked = {
        item: _blocked_row(stage.name, item, expected[item], why)
        for item, why in upstream.blocked.items()
        if item in expected
    }
    found = assess(expected, workspace.keys(stage.table, stage.key_column), ledger, blocked)
    held_up = {item for rows in upstream.rows.values() for item in rows.stale}
    return replace(found, waiting=frozenset(item for item in found.stale if item in held_up))


def _blocked_row(stage: str, item: str, key: str, why: Reject) -> LedgerRow:
    """Build the verdict on a blocked item, under a key of its own: once the gate lets it pass, the item is stale."""
    return LedgerRow(stage, item, chain(key, f"closed: {why}"), why.state, why.reason, why.detail)


def build(spec: StageSpec, pipeline: Pipeline) -> MapStage | CatalogStage:
    """Build a stage of a pipeline; its model is not loaded yet.

    Raises:
        ColdstartError: its settings name a place that nobody gave now, or have a fault.
    """
    if spec.name in pipeline.distrusted:
        raise ColdstartError(pipeline.distrusted[spec.name])
    stage: MapStage | CatalogStage = registry.stage_module(spec.kind).build(spec.name, spec.settings, pipeline)
    return stage


class PipelineState:
    """State of a pipeline's items in each of its map stages, at one moment of the workspace; each computed once.

    All items of a stage that needs something not yet fitted wait.

    Args:
        stages: those that are built already, by name.
        blocked: items that each gate blocks, by its name, where known already; under `REVIEW` those rejected by people.
    """

    def __init__(
        self,
        workspace: Store,
        pipeline: Pipeline,
        stages: Mapping[str, MapStage | CatalogStage] | None = None,
        blocked: Mapping[str, Mapping[str, Reject]] | None = None,
    ) -> None:
        self._workspace = workspace
        self._pipeline = pipeline
        self._stages = dict(stages or {})
        self._found: dict[str, Assessment] = {}
        self._blocked = dict(blocked or {})
        self._item_keys: dict[frozenset[str] | None, Mapping[str, str]] = {}

    def stage(self, name: str) -> MapStage | CatalogStage:
        """Build a stage of the pipeline by its name, once."""
        if name not in self._stages:
            self._stages[name] = build(self._pipeline.stage(name), self._pipeline)
        return self._stages[name]

    def of(self, name: str) -> Assessment:
        """Compute the state of every item of a map stage."""
        if name not in self._found:
            stage = self.stage(name)
            assert is_map(stage), f"{name} is no map stage"
            try:
                self._found[name] = assess_map(self._workspace, stage, self.upstream(stage))
            except NotFitted:
                items = self._workspace.keys(ITEMS)
                every = dict.fromkeys(items, "")
                self._found[name] = Assessment(every, frozenset(), {}, tuple(items), frozenset(items))
        return self._found[name]

    def upstream(self, stage: MapStage) -> Upstream:
        """Compute the state of the stages that a map stage depends on.

        A gate evaluates duplicates as well: a linked duplicate is served with its own texts and pictures.
        """
        ignoring = ("duplicate",) if isinstance(stage, Gate) else ()
        rows = {name: self.of(name) for name in stage.reads.values()}
        return Upstream(rows, self.blocked(stage.name, ignoring), self.item_keys(stage.item_fields))

    def item_keys(self, fields: Collection[str] | None) -> Mapping[str, str]:
        """Compute item -> key of some of its fields."""
        chosen = None if fields is None else frozenset(fields)
        if chosen not in self._item_keys:
            self._item_keys[chosen] = self._workspace.item_keys(chosen)
        return self._item_keys[chosen]

    def blocked(self, name: str, ignoring: Collection[str] = ()) -> dict[str, Reject]:
        """Collect the items that earlier gates block, with the first reason; leaves out states in `ignoring`."""
        found = dict(self.rejected())
        for spec in self._pipeline.stages:
            if spec.name == name:
                break
            if spec.kind == "ingest":  # no gate, and its manifest need not be known any more
                continue
            for item, why in self.blocked_by(spec.name).items():
                if why.state not in ignoring:
                    found.setdefault(item, why)
        return found

    def rejected(self) -> Mapping[str, Reject]:
        """Return the items that people rejected, and the verdict on each."""
        if REVIEW not in self._blocked:
            self._blocked[REVIEW] = rejected_items(self._decisions)
        return self._blocked[REVIEW]

    @cached_property
    def _decisions(self) -> DecisionLog:
        return read_decisions(self._workspace)

    def blocked_by(self, name: str) -> Mapping[str, Reject]:
        """Find the items that one gate blocks, without those that a person let pass; none where it is no gate."""
        if name not in self._blocked:
            stage = self.stage(name)
            if isinstance(stage, Gate):
                blocked = stage.blocked(self._workspace)
                approved = self.approved(name, blocked)
                self._blocked[name] = {item: why for item, why in blocked.items() if item not in approved}
            else:
                self._blocked[name] = {}
        return self._blocked[name]

    def approved(self, name: str, items: Collection[str]) -> frozenset[str]:
        """Find those of some items that a person let pass a gate, and whose fields that it reads are the same since."""
        given = {item: key for item, key in approvals(self._decisions, name).items() if item in items}
        now = self.gate_keys(name, given) if given else {}
        return frozenset(item for item, key in given.items() if now.get(item) == key)

    def gate_keys(self, name: str, items: Collection[str]) -> dict[str, str]:
        """Compute the key of the fields that a gate reads, itself or by the stages that it reads, of some items."""
        fields = self._read_fields(name)
        return ItemsView(self._workspace, items).item_keys(fields)

    def _read_fields(self, name: str) -> frozenset[str] | None:
        stage = self.stage(name)
        own: Collection[str] | None = getattr(stage, "item_fields", None)
        parts = [None if own is None else frozenset(own)]
        parts += [self._read_fields(other) for other in getattr(stage, "reads", {}).values()]
        return None if None in parts else frozenset().union(*(part for part in parts if part is not None))

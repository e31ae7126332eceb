"""Take a batch of items that arrive through a pipeline at once, from ingest to index, and nothing of the others.

What a batch costs grows with the batch: stages see the catalogue through its items (`coldstart.store.items_view`), a
gate that compares items with each other runs whole, fits are used as they are, and the index adds to what is published.
A plain run afterwards finds the rows fresh. Items whose state changes with an arrival, such as a copy whose original
was changed, are done with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from coldstart.core.pipeline import Engine, Pipeline, StageSpec
from coldstart.core.progress import Progress
from coldstart.core.stage import CatalogStage, FitStage, Gate, LedgerRow, MapStage, Reject, SourceStage, Work, is_map
from coldstart.engine import devices
from coldstart.engine.local import Step, produce_here, run_map
from coldstart.engine.one_pass import share_passes
from coldstart.engine.stages import run_map_stage
from coldstart.engine.work import Scope, SourceWork, sources, stale_work
from coldstart.engine.workers import WorkerGroups, reuse_workers
from coldstart.errors import NotFitted
from coldstart.store import ITEMS, Store
from coldstart.store.decisions import REJECTED_BY_REVIEW
from coldstart.store.fits import with_fits
from coldstart.store.freshness import PipelineState, assess_map, build
from coldstart.store.item_keys import carry_over
from coldstart.store.items_view import ItemsView
from coldstart.store.layout import add_language

State: TypeAlias = Literal["searchable", "failed", "filtered", "duplicate", "pending"]
Change: TypeAlias = Literal["added", "updated", "unchanged", "none"]

_SMALL_PARTS = 16
"""Fragments of the table of items from which on the tables are compacted: each batch adds one."""


@runtime_checkable
class TakesItems(Protocol):
    """A catalog stage that takes some items into its last result, as if it had read all."""

    def run_items(
        self,
        workspace: Any,
        items: Collection[str],
        stages: Mapping[str, MapStage | CatalogStage],
        blocked: Mapping[str, Mapping[str, Reject]],
        progress: Progress,
    ) -> tuple[int, list[str]]:
        """Take the items in. Returns the number of changed rows, and notes for a person, a line each.

        Args:
            stages: those of the pipeline that are built, by name.
            blocked: items that gates over the whole catalogue block, by the gate's name.
        """


@dataclass(frozen=True)
class Outcome:
    """State of one item after its batch.

    Attributes:
        state: `searchable`; `duplicate` of one that is served; `failed` or `filtered` with the ledger's reason;
            `pending` while a stage waits for a fit.
        change: what the row did: `added`, `updated`, `unchanged`, or `none` where it was turned away and an item of
            that id stays as it was.
        stage: where it was turned away; empty for one that is searchable.
    """

    item_id: str
    state: State
    change: Change
    stage: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class ArrivalsReport:
    """Work of a batch: its items in order, the seconds of each stage, and what stages noted."""

    items: Sequence[Outcome]
    seconds: Mapping[str, float]
    notes: Sequence[str] = ()


@dataclass
class WarmEngine:
    """Models and worker processes that are kept from one batch to the next."""

    workers: WorkerGroups = field(default_factory=list)
    _stages: dict[str, tuple[Pipeline, Any, MapStage]] = field(default_factory=dict)

    def stage(self, spec: StageSpec, pipeline: Pipeline) -> MapStage | CatalogStage:
        """Build a stage, or return the one of an earlier batch where settings, fits and prompts are the same."""
        made = build(spec, pipeline)
        if not is_map(made):
            return made
        try:
            fingerprint = made.fingerprint()
        except NotFitted:
            return made
        known = self._stages.get(spec.name)
        if known is not None and known[0] == pipeline and known[1] == fingerprint:
            return known[2]
        self._stages[spec.name] = (pipeline, fingerprint, made)
        return made

    def close(self) -> None:
        """Stop the processes and forget the models."""
        for group in self.workers:
            group.stop()
        self.workers.clear()
        self._stages.clear()


@contextmanager
def warm_engine(kept: WarmEngine | None = None) -> Iterator[WarmEngine]:
    """Yield a warm engine: the given one, or a new one that is closed at the end."""
    if kept is not None:
        yield kept
        return
    made = WarmEngine()
    try:
        yield made
    finally:
        made.close()


def run_arrivals(
    workspace: Store,
    pipeline: Pipeline,
    source: SourceStage,
    ids: Iterable[str],
    warm: WarmEngine,
    progress: Progress,
) -> ArrivalsReport:
    """Do all stages for the items of a source; the caller holds the lock of the workspace.

    Settings, manifest and record of runs of the workspace stay as they are. Items whose new row fails in ingest stay as
    they were.

    Args:
        source: the stage in the place of `ingest`; `ids`: the items that it brings, in the order of the report.

    Raises:
        ColdstartError: a set-up fault, such as missing weights; rows that were finished before are stored.
    """
    wanted = list(ids)
    local = pipeline.engine.model_copy(update={"name": "local"})
    pipeline = with_fits(devices.with_first_device(replace(pipeline, engine=local)), workspace)
    carry_over(workspace)
    add_language(workspace, ITEMS)
    with reuse_workers(warm.workers):
        return _Batch(workspace, pipeline, warm, progress).run(source, wanted)


def load_models(workspace: Store, pipeline: Pipeline, warm: WarmEngine) -> None:
    """Load what the stages of arrivals need, by doing one item of each kind again; nothing is stored."""
    if not workspace.has(ITEMS):
        return
    pipeline = with_fits(devices.with_first_device(pipeline), workspace)
    rows = workspace.read(ITEMS, ["item_id", "kind"])
    firsts = {kind: item for item, kind in zip(*(column.to_pylist() for column in rows.columns), strict=True)}
    view = ItemsView(workspace, firsts.values())
    stages = {spec.name: warm.stage(spec, pipeline) for spec in pipeline.stages if spec.kind != "ingest"}
    state = PipelineState(view, pipeline, stages)
    with reuse_workers(warm.workers):
        for stage in stages.values():
            if not is_map(stage):
                continue
            with suppress(NotFitted):
                found = assess_map(view, stage, state.upstream(stage))
                ready = [item for item in found.fresh if item not in found.waiting]
                work = stale_work(view, found.expected, ready, sources(stage, state), stage.item_fields)
                deque(produce_here(stage, work, pipeline.engine), maxlen=0)


_OF_GATES = (REJECTED_BY_REVIEW, "near_duplicate")
"""Reasons of verdicts that later stages have of a person or of the gate of copies."""


class _Batch:
    def __init__(self, workspace: Store, pipeline: Pipeline, warm: WarmEngine, progress: Progress) -> None:
        self._workspace = workspace
        self._pipeline = pipeline
        self._progress = progress
        specs = [spec for spec in pipeline.stages if spec.kind != "ingest"]
        self._stages = {spec.name: warm.stage(spec, pipeline) for spec in specs}
        self._blocked: dict[str, Mapping[str, Reject]] = {}
        self._blocked_before: dict[str, Mapping[str, Reject]] = {}
        self._seconds: dict[str, float] = {}
        self._notes: list[str] = []

    def run(self, source: SourceStage, wanted: Sequence[str]) -> ArrivalsReport:
        view = ItemsView(self._workspace, wanted)
        state = PipelineState(self._workspace, self._pipeline, self._stages)
        self._blocked_before = {
            name: state.blocked_by(name)  # before an original changes, which ends the verdict on its copies
            for name, stage in self._stages.items()
            if not is_map(stage) and isinstance(stage, Gate) and not isinstance(stage, FitStage)
        }
        before = view.keys(ITEMS, source.key_column)
        with self._timed(source.name):
            kept = self._ingest(view, source, before)
        after = view.keys(ITEMS, source.key_column)
        with share_passes(self._stages.values()):
            view = self._run_stages(view, frozenset(wanted))
        with self._timed("upkeep"):
            if self._workspace.parts(ITEMS) > _SMALL_PARTS:
                self._workspace.maintain(skip=("catalog",))
        found = self._outcomes(view, source.name, wanted, before, after, kept)
        return ArrivalsReport(found, self._seconds, self._notes)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = time.monotonic() - began

    def _ingest(self, view: Store, source: SourceStage, before: Mapping[str, str]) -> dict[str, Reject]:
        """Ingest the rows; returns the verdicts on those whose item stays as it was."""
        kept: dict[str, Reject] = {}

        def produce(stage: MapStage, work: Iterable[Work], settings: Engine) -> Iterator[Step]:
            with closing(produce_here(stage, work, settings)) as steps:
                for step in steps:
                    results = []
                    for entry, result, cost in step.results:
                        if isinstance(result, Reject) and entry.item_id in before:
                            kept[entry.item_id] = result
                        else:
                            results.append((entry, result, cost))
                    yield replace(step, results=results)

        rows = SourceWork(view, source, Scope())
        run_map(view, source, rows, None, self._pipeline.engine, self._progress, produce)  # type: ignore[arg-type]
        return kept

    def _run_stages(self, view: ItemsView, items: frozenset[str]) -> ItemsView:
        """Run the stages after ingest; returns a view of all items that were done."""
        state = PipelineState(view, self._pipeline, self._stages)
        for name, stage in self._stages.items():
            with self._timed(name):
                try:
                    if is_map(stage):
                        run_map_stage(view, self._pipeline, stage, state, Scope(among=items), self._progress)
                    elif isinstance(stage, TakesItems):
                        _, notes = stage.run_items(self._workspace, items, self._stages, self._blocked, self._progress)
                        self._notes += notes
                        self._record(view, stage, items)
                    elif isinstance(stage, Gate) and not isinstance(stage, FitStage):
                        items |= self._run_gate(stage, items)
                        view = ItemsView(self._workspace, items)
                        state = PipelineState(view, self._pipeline, self._stages, self._blocked)
                    elif isinstance(stage, FitStage):
                        self._forget_released(view, state, name)
                    else:
                        self._notes.append(f"{name}: done for new items by the next `coldstart run`")
                except NotFitted as waiting:
                    self._notes.append(str(waiting))
        return view

    def _run_gate(self, stage: Any, items: frozenset[str]) -> frozenset[str]:
        """Run a gate that compares items with each other; returns the items whose verdict is another one since."""
        before = self._blocked_before[stage.name]
        stage.run(self._workspace, self._progress)
        state = PipelineState(self._workspace, self._pipeline, self._stages)
        after = self._blocked[stage.name] = state.blocked_by(stage.name)
        self._record(ItemsView(self._workspace, items), stage, items)
        return frozenset(item for item in before.keys() | after.keys() if str(before.get(item)) != str(after.get(item)))

    def _forget_released(self, view: Store, state: PipelineState, name: str) -> None:
        """Forget the verdicts in a fit stage on items that no gate and no person keeps out any more."""
        of_gates = [row.item_id for row in view.verdicts(name).values() if row.reason in _OF_GATES]
        if of_gates:
            self._workspace.delete_verdicts(name, set(of_gates) - state.blocked(name).keys())

    def _record(self, view: Store, stage: CatalogStage, items: Collection[str]) -> None:
        """Record the verdicts of a catalog stage on some items."""
        known = view.verdicts(stage.name)
        _, verdicts = stage.expected(self._workspace)
        view.record([row for item, row in verdicts.items() if item in items and known.get(item) != row])
        view.delete_verdicts(stage.name, {item for item in known if item not in verdicts})

    def _outcomes(
        self,
        view: Store,
        source: str,
        wanted: Sequence[str],
        before: Mapping[str, str],
        after: Mapping[str, str],
        kept: Mapping[str, Reject],
    ) -> list[Outcome]:
        ledger = view.ledger()
        served, verdicts = self._served()
        found = []
        for item in wanted:
            change: Change = "none"
            if item in after and item not in kept:
                change = "added" if item not in before else "updated" if after[item] != before[item] else "unchanged"
            if item in kept:
                own = kept[item]
                found.append(Outcome(item, own.state, change, source, own.reason, own.detail))
            elif item not in after:
                row = ledger.get(source, {}).get(item)
                found.append(_of_row(item, change, row) if row else Outcome(item, "pending", change, source))
            elif served.get(item):
                found.append(self._searchable(item, change))
            elif item in verdicts:
                found.append(_of_row(item, change, self._cause(verdicts[item], ledger)))
            else:
                waits = self._notes[0] if self._notes else "a stage of the pipeline has still to do it"
                found.append(Outcome(item, "pending", change, reason="waits", detail=waits))
        return found

    def _served(self) -> tuple[Mapping[str, str], Mapping[str, LedgerRow]]:
        """Return the keys of the items that the last catalog stage serves, and its verdicts on others."""
        for stage in reversed(self._stages.values()):
            if isinstance(stage, TakesItems) and isinstance(stage, CatalogStage):
                try:
                    return stage.expected(self._workspace)
                except NotFitted:
                    break
        return {}, {}

    def _searchable(self, item: str, change: Change) -> Outcome:
        for name, blocked in self._blocked.items():
            if (why := blocked.get(item)) is not None:
                return Outcome(item, why.state, change, name, why.reason, why.detail)
        return Outcome(item, "searchable", change)

    def _cause(self, verdict: LedgerRow, ledger: Mapping[str, Mapping[str, LedgerRow]]) -> LedgerRow:
        """Find the first stage that turned an item away as the index says."""
        for name in self._stages:
            row = ledger.get(name, {}).get(verdict.item_id)
            if (
                row is not None
                and row.state == verdict.state
                and (row.state == "failed" or row.reason == verdict.reason)
            ):
                return row
        return verdict


def _of_row(item: str, change: Change, row: LedgerRow) -> Outcome:
    return Outcome(item, row.state, change, row.stage, row.reason, row.detail)

"""Do in a run what came since the last complete one, where nobody wrote in between.

Every stage that had done all of its items is then run over the items that ingest takes in now, and over those whose
verdict a gate changes with them, through a view of these alone (`coldstart.store.items_view`), as for arrivals. Without
such items it is not run at all. A stage whose work is not of single items (a fit, labels) is run whole, and so is every
stage after one that changed rows of other items. What a stage reports is the same either way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.progress import Progress
from coldstart.core.stage import CatalogStage, FitStage, Gate, LedgerRow, MapStage, Reject, is_map, is_source
from coldstart.core.version import __version__
from coldstart.engine.arrivals import TakesItems
from coldstart.engine.local import PassReport
from coldstart.engine.report import StageReport, run_catalog_stage
from coldstart.engine.stages import run_map_stage, run_source_stage
from coldstart.engine.work import Scope
from coldstart.errors import NotFitted
from coldstart.store import Store
from coldstart.store.completed import Completed, StateDigest, read_completed, state_digest, write_completed
from coldstart.store.freshness import Balance, PipelineState, build, tally
from coldstart.store.items_view import ItemsView

_FEW, _FEW_SHARE = 1000, 0.05
"""Items, or share of a catalogue, that may come at once: of more, stages look at all items."""


@runtime_checkable
class DescribesResult(Protocol):
    """A catalog stage that can describe its last result."""

    def describe(self, workspace: Any) -> list[str]:
        """Describe the last result for a person, a line each, as `run` does."""


@runtime_checkable
class Fingerprinted(Protocol):
    """A catalog stage that knows what its result rests on besides its settings and the rows of the workspace."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Return all of that (files, models, prompts) as JSON values; loads no weights.

        Raises:
            NotFitted: a fit is to come before it.
        """


@runtime_checkable
class ReadsThresholds(Protocol):
    """A gate with thresholds besides its settings that are no part of its fingerprint."""

    def thresholds(self) -> Mapping[str, float]:
        """Return these thresholds by name."""


class Increment:
    """Items that came in a run, and the stages of which all others are known to be done.

    Args:
        stages: those of the pipeline, built, by name.
    """

    def __init__(
        self,
        workspace: Store,
        pipeline: Pipeline,
        stages: Mapping[str, MapStage | CatalogStage],
        progress: Progress,
    ) -> None:
        self._workspace, self._pipeline, self._stages, self._progress = workspace, pipeline, stages, progress
        self._stored = read_completed(workspace)
        stored = None if self._stored is None else self._stored.state
        began = None if stored is None else self._state()  # without a record there is nothing to compare
        self._same = stored is not None and began is not None and stored.content == began.content
        self._same_signals = self._same and stored == began
        self._items: frozenset[str] = frozenset()
        self._existed: frozenset[str] = frozenset()
        self._blocked: dict[str, Mapping[str, Reject]] = {}
        self._balances: dict[str, Balance] = {}
        self._notes: dict[str, list[str]] = {}

    def run(self, stage: MapStage | CatalogStage) -> StageReport | None:
        """Run a stage over the items that came; None where it has to be run over all."""
        if is_source(stage):
            return self._run_source(stage)
        known = self._balances_before.get(stage.name)
        if known is None:
            return None
        if not self._items:
            whole = not is_map(stage) and not isinstance(stage, TakesItems)
            if whole and not (self._same_signals and stage.name in self._notes_before):
                return None
            return self._unchanged(stage, known)
        if is_map(stage):
            return self._run_map(stage, known)
        if isinstance(stage, FitStage):
            return None
        if isinstance(stage, TakesItems):
            return self._run_items(stage, known)
        return self._run_gate(stage) if isinstance(stage, Gate) else None

    @property
    def _balances_before(self) -> Mapping[str, Balance]:
        return self._stored.balances if self._same and self._stored is not None else {}

    @property
    def _notes_before(self) -> Mapping[str, Sequence[str]]:
        return self._stored.notes if self._same and self._stored is not None else {}

    def take(self, stage: MapStage | CatalogStage, report: StageReport, *, by_items: bool) -> None:
        """Take note of what a stage did.

        Args:
            by_items: `run` did it; otherwise it was run over all items.
        """
        if is_source(stage):
            return
        if not by_items and (report.ran.done or report.ran.lost):
            self._same = False  # rows of other items changed
        whole = not is_map(stage) and not isinstance(stage, TakesItems)
        if whole and not by_items and self._items and not isinstance(stage, FitStage):
            self._same = False  # its rows of the items that came may be as they were, and are in no view
        if isinstance(stage, FitStage) or not report.balance.pending:
            self._balances[stage.name] = report.balance
            if whole and not report.ran.done and isinstance(stage, Fingerprinted):
                self._notes[stage.name] = list(report.notes)  # without them the next run asks it again

    def save(self) -> None:
        """Store the record of the run for the next one; the caller holds the lock and writes nothing after."""
        state = self._state(ran=True)
        if state is None:
            return
        found = Completed(state, self._balances, self._notes)
        if found != self._stored:
            write_completed(self._workspace, found)

    def _state(self, ran: bool = False) -> StateDigest | None:
        """Compute the digest of settings, stages and tables.

        Its stages are its own: one that was asked for its fingerprint keeps the fit that it found.

        Args:
            ran: None is returned where the stages of this run were made of something else, such as a file that was
                written meanwhile.
        """
        specs = self._pipeline.stages
        settings = [_made_of(spec, build(spec, self._pipeline)) for spec in specs]
        if ran and settings != [_made_of(spec, self._stages[spec.name]) for spec in specs]:
            return None
        return state_digest(self._workspace, [__version__, *settings])

    def _run_source(self, stage: Any) -> StageReport:
        gates = {
            name: one
            for name, one in self._stages.items()
            if not is_map(one) and isinstance(one, Gate) and not isinstance(one, FitStage)
        }

        def before() -> None:
            if self._same:  # an original that changes ends the verdict on its copies
                state = PipelineState(self._workspace, self._pipeline, self._stages)
                self._blocked.update({name: state.blocked_by(name) for name in gates})

        report, source = run_source_stage(self._workspace, self._pipeline, stage, Scope(), self._progress, before)
        self._items = frozenset(source.given)
        self._existed = frozenset(item for item, key in source.given.items() if key is not None)
        left = self._workspace.keys_of(stage.table, self._existed)
        if len(self._items) > max(_FEW, _FEW_SHARE * report.balance.total) or len(left) < len(self._existed):
            self._same = False  # too many, or some whose rows in later stages go with them
        return report

    def _unchanged(self, stage: MapStage | CatalogStage, known: Balance) -> StageReport:
        notes = list(self._notes_before.get(stage.name, []))
        if is_map(stage):
            notes = stage.notes(self._workspace)
        elif isinstance(stage, DescribesResult):
            notes = stage.describe(self._workspace)
        return StageReport(stage.name, stage.kind, known, notes=notes)

    def _run_map(self, stage: MapStage, known: Balance) -> StageReport:
        view = ItemsView(self._workspace, self._items)
        before = list(view.verdicts(stage.name).values())
        state = PipelineState(view, self._pipeline, self._stages, self._blocked)
        report = run_map_stage(view, self._pipeline, stage, state, Scope(), self._progress)
        balance = moved(known, self._existed, before, report.balance)
        return replace(report, balance=balance, notes=stage.notes(self._workspace))

    def _run_gate(self, stage: Any) -> StageReport:
        """Run a gate that compares items with each other, and add the items whose verdict changed."""
        before = self._blocked[stage.name]
        report = run_catalog_stage(self._workspace, stage, False, self._progress)
        after = PipelineState(self._workspace, self._pipeline, self._stages).blocked_by(stage.name)
        self._blocked[stage.name] = after
        changed = {item for item in before.keys() | after.keys() if str(before.get(item)) != str(after.get(item))}
        self._existed |= changed - self._items
        self._items |= changed
        return report

    def _run_items(self, stage: Any, known: Balance) -> StageReport | None:
        began = time.monotonic()
        done, notes = stage.run_items(self._workspace, self._items, self._stages, self._blocked, self._progress)
        keys, verdicts = stage.expected(self._workspace)
        touched = keys.keys() | verdicts.keys() | self._items
        recorded = {item: row for item, row in self._workspace.verdicts(stage.name).items() if item in touched}
        self._workspace.record([row for item, row in verdicts.items() if recorded.get(item) != row])
        self._workspace.delete_verdicts(stage.name, recorded.keys() - verdicts.keys())
        pending = sum(not key for key in keys.values())
        after = tally(len(keys) - pending, verdicts.values(), pending)
        balance = moved(known, self._existed | (touched - self._items), list(recorded.values()), after)
        return StageReport(stage.name, stage.kind, balance, PassReport(done, seconds=time.monotonic() - began), notes)


def _made_of(spec: StageSpec, stage: MapStage | CatalogStage) -> list[Any]:
    """List what the rows of a stage rest on besides other rows; of a source, which is read in each run, nothing."""
    if is_source(stage):
        return [spec.name]
    made: list[Any] = [spec.name, spec.kind, spec.settings.model_dump(mode="json"), getattr(stage, "version", 0)]
    if is_map(stage) or isinstance(stage, Fingerprinted):
        try:
            made.append(stage.fingerprint())
        except NotFitted:
            made.append(None)
    if isinstance(stage, ReadsThresholds):
        made.append(dict(stage.thresholds()))
    return made


def moved(known: Balance, existed: Set[str], before: list[LedgerRow], after: Balance) -> Balance:
    """Compute the balance of a stage after some of its items were done again.

    Args:
        known: its balance before, of all items; none was pending.
        existed: those of the items that were there then; before: the verdicts on them, the others had rows.
        after: the balance of these items now.
    """
    verdicts = [row for row in before if row.item_id in existed]
    then = tally(len(existed) - len(verdicts), verdicts, 0)
    reasons = Counter(known.reasons)
    reasons.subtract(then.reasons)
    reasons.update(after.reasons)
    return Balance(
        known.fresh - then.fresh + after.fresh,
        known.failed - then.failed + after.failed,
        known.filtered - then.filtered + after.filtered,
        known.duplicate - then.duplicate + after.duplicate,
        after.pending,
        {reason: count for reason, count in reasons.most_common() if count > 0},
    )

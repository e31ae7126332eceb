"""Report a run: what each stage did, and the balance of its items."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from coldstart.core.progress import Progress
from coldstart.core.reasons import plain, remedy
from coldstart.core.stage import CatalogStage, FitStage, SourceStage
from coldstart.engine.estimate.report import Comparison
from coldstart.engine.local import PassReport
from coldstart.store import Maintenance, Store
from coldstart.store.freshness import Balance, assess, tally

_MANY_FAULTS = 3  # as many in one place are hardly chance


@dataclass(frozen=True)
class StageReport:
    """Work of a run in one stage, and the present balance of its items.

    Attributes:
        fault_places: places at which the decoding of several items failed, with their number, the most first.
        fault: why the stage's settings do not resolve; empty where they do.
        fit_in_use: its pending items are newer than a fit that stays in use, so a run does not do them.
    """

    stage: str
    kind: str
    balance: Balance
    ran: PassReport = field(default_factory=PassReport)
    notes: Sequence[str] = ()
    fault_places: Mapping[str, int] = field(default_factory=dict)
    fault: str = ""
    fit_in_use: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return asdict(self)

    @property
    def refit_command(self) -> str:
        """Command that counts in the items that its fit does not know yet; empty where there is none."""
        return REFIT_COMMANDS.get(self.kind, "") if self.fit_in_use else ""


REFIT_COMMANDS = {
    "align.behaviour": "coldstart finetune behaviour",
    "align.sids": "coldstart finetune sids",
    "align.text_image": "coldstart finetune align",
    "finetune.describe": "coldstart finetune describe",
}
"""Kind of a fit stage -> command that fits it anew."""


@dataclass(frozen=True)
class Loss:
    """Failed items of one stage that share a reason.

    Attributes:
        count: how many they are.
        item_id, detail: one of them, and what was wrong with it.
        cure: what to do about this reason; empty where only the detail can tell.
    """

    reason: str
    count: int
    item_id: str
    detail: str
    cure: str

    def __str__(self) -> str:
        cure = self.cure and f" -> {self.cure}"
        return f"{self.count:,} {plain(self.reason)}, such as {self.item_id}: {self.detail}{cure}"


@dataclass(frozen=True)
class RunReport:
    """Work of a run, stage by stage.

    Attributes:
        over_budget: stages whose share of failed items exceeds the pipeline's `max_failed`.
        losses: the three most frequent reasons of each stage in `over_budget`.
        stopped_after: the source stage that lost most of its items, so that none after it was run; None otherwise.
        estimated: the dry run before it compared with it; None where there was none of the same work.
    """

    stages: Sequence[StageReport]
    seconds: float
    over_budget: Sequence[str]
    maintenance: Maintenance | None = None
    estimated: Comparison | None = None
    losses: Mapping[str, Sequence[Loss]] = field(default_factory=dict)
    stopped_after: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return {**asdict(self), "estimated": None if self.estimated is None else self.estimated.to_dict()}


def with_fault_places(report: StageReport, workspace: Store) -> StageReport:
    """Add the places at which many items failed: there the fault may be the program's, and no verdict says so."""
    if report.balance.reasons.get("decoder_fault", 0) < _MANY_FAULTS:
        return report  # the ledger need not be read once more
    verdicts = workspace.verdicts(report.stage).values()
    places = Counter(row.detail for row in verdicts if row.reason == "decoder_fault")
    many = {place: count for place, count in places.most_common() if count >= _MANY_FAULTS}
    notes = [
        f"{count} items failed in one place: {place}. Where other programs open their files, it is a fault of "
        "coldstart or of a library: report it, and do them again with `coldstart retry` after an update"
        for place, count in many.items()
    ]
    return replace(report, notes=[*report.notes, *notes], fault_places=many)


_MOST = 0.5
"""A run stops after a source that lost a greater share of its items: what comes after would only hide why."""
_REASONS_SHOWN = 3


def exceeds_loss_limit(balance: Balance, max_failed: float) -> bool:
    """Tell whether a source lost so many items that its run should stop: more than half, and more than allowed."""
    return balance.failed_share > max(_MOST, max_failed)


def largest_losses(workspace: Store, stage: str) -> list[Loss]:
    """Find the most frequent reasons for which items failed in a stage, most frequent first, each with an example."""
    failed = [row for row in workspace.verdicts(stage).values() if row.state == "failed"]
    found = []
    for reason, count in Counter(row.reason for row in failed).most_common(_REASONS_SHOWN):
        example = next(row for row in failed if row.reason == reason)
        found.append(Loss(reason, count, example.item_id, example.detail, remedy(reason)))
    return found


def source_balance(workspace: Store, stage: SourceStage, pending: set[str]) -> Balance:
    """Count the balance of a source, given its rows that are new or changed and not yet done."""
    recorded = workspace.verdicts(stage.name)
    present = workspace.keys_of(stage.table, pending | recorded.keys()).keys()
    fresh = workspace.count(stage.table) - len(present & pending)
    # a verdict beside a row was left by a kill between two writes, and the row is the newer
    verdicts = [row for item, row in recorded.items() if item not in pending and item not in present]
    return tally(fresh, verdicts, len(pending))


def run_catalog_stage(workspace: Store, stage: CatalogStage, refit: bool, progress: Progress) -> StageReport:
    """Run a catalog stage and record its verdicts."""
    began = time.monotonic()
    before = workspace.verdicts(stage.name)
    run = stage.refit if refit and isinstance(stage, FitStage) else stage.run
    changed, notes = run(workspace, progress)
    _, verdicts = stage.expected(workspace)
    workspace.record([row for item, row in verdicts.items() if before.get(item) != row])
    workspace.delete_verdicts(stage.name, before.keys() - verdicts.keys())
    balance = catalog_balance(workspace, stage)
    return StageReport(stage.name, stage.kind, balance, PassReport(changed, seconds=time.monotonic() - began), notes)


def fitted_report(workspace: Store, stage: CatalogStage) -> StageReport:
    """Report the status of a catalog stage; says of one with a fit in use how many items are newer than that."""
    balance = catalog_balance(workspace, stage)
    if not balance.pending or not isinstance(stage, FitStage) or not stage.present(workspace):
        return StageReport(stage.name, stage.kind, balance)
    report = StageReport(stage.name, stage.kind, balance, fit_in_use=True)
    items = "1 item is" if balance.pending == 1 else f"{balance.pending:,} items are"
    again = report.refit_command
    then = f"`{again}` fits anew" if again else "a later run fits anew, once there are many more"
    return replace(report, notes=[f"{items} new or changed since its fit, which stays in use: {then}"])


def catalog_balance(workspace: Store, stage: CatalogStage) -> Balance:
    """Count the present balance of a catalog stage."""
    keys, verdicts = stage.expected(workspace)
    state = assess(keys, stage.present(workspace), {})
    return tally(len(state.fresh), verdicts.values(), len(state.stale))

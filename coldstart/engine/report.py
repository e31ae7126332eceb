"""New file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from coldstart.core.progress import Progress
from coldstart.core.stage import CatalogStage, FitStage, SourceStage
from coldstart.engine.estimate.report import Comparison
from coldstart.engine.local import PassReport
from coldstart.store import Maintenance, Store
from coldstart.store.freshness import Balance, assess, tally


@dataclass(frozen=True)
class StageReport:
    """What a run did in one stage, and where its items are now."""

    stage: str
    kind: str
    balance: Balance
    ran: PassReport = field(default_factory=PassReport)
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return asdict(self)


@dataclass(frozen=True)
class RunReport:
    """What a run did.

    Attributes:
        over_budget: stages whose share of failed items passes the pipeline's `max_failed`.
        estimated: the dry run before it against what it took; None where there was none of the same work.
    """

    stages: Sequence[StageReport]
    seconds: float
    over_budget: Sequence[str]
    maintenance: Maintenance | None = None
    estimated: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return {**asdict(self), "estimated": None if self.estimated is None else self.estimated.to_dict()}


def source_balance(workspace: Store, stage: SourceStage, pending: set[str]) -> Balance:
    """Where the rows of a source are, given those that are new or changed and not yet done."""
    present = workspace.keys(stage.table).keys()
    fresh = present - pending
    # a verdict beside a row was left by a kill between two writes, and the row is the newer
    verdicts = [
        row for item, row in workspace.verdicts(stage.name).items() if item not in pending and item not in present
    ]
    return tally(len(fresh), verdicts, len(pending))


def run_catalog_stage(workspace: Store, stage: CatalogStage, refit: bool, progress: Progress) -> StageReport:
    """Make what a whole stage makes, and file its verdicts."""
    began = time.monotonic()
    before = workspace.verdicts(stage.name)
    run = stage.refit if refit and isinstance(stage, FitStage) else stage.run
    changed, notes = run(workspace, progress)
    _, verdicts = stage.expected(workspace)
    workspace.record([row for item, row in verdicts.items() if before.get(item) != row])
    workspace.delete_verdicts(stage.name, before.keys() - verdicts.keys())
    balance = catalog_balance(workspace, stage)
    return StageReport(stage.name, stage.kind, balance, PassReport(changed, seconds=time.monotonic() - began), notes)


def catalog_balance(workspace: Store, stage: CatalogStage) -> Balance:
    """Where the items of a whole stage are now."""
    keys, verdicts = stage.expected(workspace)
    state = assess(keys, stage.present(workspace), {})
    return tally(len(state.fresh), verdicts.values(), len(state.stale))

"""Report a run: what each stage did, and the balance of its items."""

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
    """Work of a run in one stage, and the present balance of its items."""

    stage: str
    kind: str
    balance: Balance
    ran: PassReport = field(default_factory=PassReport)
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return asdict(self)


@dataclass(frozen=True)
class RunReport:
    """Work of a run, stage by stage.

    Attributes:
        over_budget: stages whose share of failed items exceeds the pipeline's `max_failed`.
        estimated: the dry run before it compared with it; None where there was none of the same work.
    """

    stages: Sequence[StageReport]
    seconds: float
    over_budget: Sequence[str]
    maintenance: Maintenance | None = None
    estimated: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return {**asdict(self), "estimated": None if self.estimated is None else self.estimated.to_dict()}


def source_balance(workspace: Store, stage: SourceStage, pending: set[str]) -> Balance:
    """Count the balance of a source, given its rows that are new or changed and not yet done."""
    present = workspace.keys(stage.table).keys()
    fresh = present - pending
    # a verdict beside a row was left by a kill between two writes, and the row is the newer
    verdicts = [
        row for item, row in workspace.verdicts(stage.name).items() if item not in pending and item not in present
    ]
    return tally(len(fresh), verdicts, len(pending))


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


def catalog_balance(workspace: Store, stage: CatalogStage) -> Balance:
    """Count the present balance of a catalog stage."""
    keys, verdicts = stage.expected(workspace)
    state = assess(keys, stage.present(workspace), {})
    return tally(len(state.fresh), verdicts.values(), len(state.stale))

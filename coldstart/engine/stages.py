"""Run one stage on this machine over all that a workspace, or a view of some of its items, shows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import MapStage, SourceStage, Work
from coldstart.engine import devices, one_pass
from coldstart.engine.local import PassReport, run_map
from coldstart.engine.report import StageReport, source_balance
from coldstart.engine.work import Scope, SourceWork, sources, stale_work
from coldstart.store import Store
from coldstart.store.freshness import PipelineState, Upstream, assess_map


def run_source_stage(
    workspace: Store,
    pipeline: Pipeline,
    stage: SourceStage,
    scope: Scope,
    progress: Progress,
    before: Callable[[], None] | None = None,
) -> tuple[StageReport, SourceWork]:
    """Do the rows of a source that are new or changed.

    Args:
        before: is called once there is a row to do, before any is written.

    Returns:
        the report with the balance of its items, and the work that was done.
    """
    recorded = workspace.verdicts(stage.name)
    present = workspace.keys_of(stage.table, recorded.keys())
    workspace.delete_verdicts(stage.name, recorded.keys() & present.keys())  # left by a kill
    source = SourceWork(workspace, stage, scope)

    def work() -> Iterator[Work]:
        for number, entry in enumerate(source):
            if not number and before is not None:
                before()
            yield entry

    produce = devices.device_producer(workspace, pipeline, stage, None)
    ran = run_map(workspace, stage, work(), None, pipeline.engine, progress, produce)
    if source.known is not None:
        source.known.save()
    workspace.delete_verdicts(stage.name, stage.forgotten(source.recorded))
    balance = source_balance(workspace, stage, source.pending)
    return StageReport(stage.name, stage.kind, balance, ran, stage.notes(workspace)), source


def run_map_stage(
    workspace: Store,
    pipeline: Pipeline,
    stage: MapStage,
    pipeline_state: PipelineState,
    scope: Scope,
    progress: Progress,
) -> StageReport:
    """Do the stale rows of one map stage on this machine, and report the balance of its items.

    Args:
        pipeline_state: of the items in `workspace`, which may be a view of some of them.
    """
    recorded = workspace.verdicts(stage.name)
    upstream = pipeline_state.upstream(stage)
    before = assess_map(workspace, stage, upstream, scope.retry)
    # left by a kill, by settings that were changed and changed back, or by items that ingest turned away since
    workspace.delete_verdicts(stage.name, recorded.keys() - (before.expected.keys() - before.fresh))
    turned_away = [
        row for item, row in before.settled.items() if item in upstream.blocked and recorded.get(item) != row
    ]
    workspace.record(turned_away)
    chosen = scope.choose([item for item in before.stale if item not in before.waiting])
    work = stale_work(workspace, before.expected, chosen, sources(stage, pipeline_state), stage.item_fields)
    produce = devices.device_producer(workspace, pipeline, stage, len(chosen))
    engine = pipeline.engine
    one_pass.current().plan(
        stage,
        chosen,
        lambda other: assess_map(workspace, other, Upstream({}, {}, pipeline_state.item_keys(other.item_fields))),
    )
    ran = run_map(workspace, stage, work, len(chosen), engine, progress, produce) if chosen else PassReport()
    after = assess_map(workspace, stage, upstream)
    return StageReport(stage.name, stage.kind, after.balance, ran, stage.notes(workspace))

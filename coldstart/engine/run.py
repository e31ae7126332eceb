"""Run a pipeline: do the stale rows of each stage in turn, and report the balance of its items."""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from coldstart.core.extras import install_command
from coldstart.core.pipeline import Pipeline, StageSpec, load
from coldstart.core.progress import Progress, SilentProgress
from coldstart.core.settings import data_files, suggestion
from coldstart.core.stage import SPACES, CatalogStage, MapStage, groups, is_source, kinds
from coldstart.engine import devices
from coldstart.engine.estimate.report import EstimateRequest, compare_estimate
from coldstart.engine.increment import Increment
from coldstart.engine.one_pass import share_passes
from coldstart.engine.report import (
    RunReport,
    StageReport,
    exceeds_loss_limit,
    fitted_report,
    largest_losses,
    run_catalog_stage,
    source_balance,
    with_fault_places,
)
from coldstart.engine.resolve import check_settings, readable
from coldstart.engine.stages import run_map_stage, run_source_stage
from coldstart.engine.work import Scope, SourceWork
from coldstart.engine.workers import reuse_workers
from coldstart.errors import ColdstartError, NotFitted, NothingToLearn
from coldstart.store import ITEMS, Store
from coldstart.store.catalog import CATALOG
from coldstart.store.fits import with_fits
from coldstart.store.freshness import Balance, PipelineState, build
from coldstart.store.item_keys import carry_over
from coldstart.store.layout import add_language


def choose_stages(pipeline: Pipeline, only: Iterable[str] = (), start: str | None = None) -> list[StageSpec]:
    """Choose the stages to run: all, those named (by name, kind or group), or those from one on.

    Raises:
        ColdstartError: a name that the pipeline does not have.
    """
    only = list(only)
    known = {name for spec in pipeline.stages for name in spec.names}
    for name in [*only, *([start] if start else [])]:
        if name not in known:
            raise ColdstartError(
                f"no stage {name!r} in {pipeline.source}{suggestion(name, {*known, *kinds(), *groups()})}: it has "
                f"{', '.join(s.name for s in pipeline.stages)}{_where_else(name)}"
            )
    specs = list(pipeline.stages)
    if start:
        first = next(i for i, spec in enumerate(specs) if start in spec.names)
        specs = specs[first:]
    return [spec for spec in specs if not only or not spec.names.isdisjoint(only)]


def _where_else(name: str) -> str:
    """Name the packaged pipelines that have a stage of this name, kind or group."""
    having = [
        packaged
        for packaged, file in data_files("pipelines", "*.yaml").items()
        if any(name in spec.names for spec in load(file).stages)
    ]
    return f"; a pipeline with it: {', '.join(having)}" if having else ""


def check_manifest(workspace: Store, pipeline: Pipeline, specs: Iterable[StageSpec]) -> None:
    """Refuse to run `ingest` without a manifest in a workspace without items; raises `ColdstartError`."""
    if pipeline.manifest is None and any(spec.kind == "ingest" for spec in specs) and not workspace.count(ITEMS):
        raise ColdstartError(f"{pipeline.source} names no manifest: give one with --manifest FILE")


def check_run(
    workspace: Store, pipeline: Pipeline, only: Iterable[str] = (), start: str | None = None
) -> list[StageSpec]:
    """Choose the stages of a run, and refuse one that would stop before its first item; stores nothing.

    Raises:
        ColdstartError: there is no such stage, no manifest, or settings do not resolve.
    """
    specs = choose_stages(pipeline, only, start)
    check_manifest(workspace, pipeline, specs)
    check_settings(workspace, pipeline, specs)
    return specs


def run_pipeline(
    workspace: Store,
    pipeline: Pipeline,
    *,
    only: Iterable[str] = (),
    start: str | None = None,
    limit: int | None = None,
    items: Set[str] | None = None,
    retry: Iterable[str] = (),
    refit: bool = False,
    drop_spaces: bool = False,
    progress: Progress | None = None,
) -> RunReport:
    """Do the stale rows stage by stage, then compact the tables.

    Args:
        only, start: see `choose_stages`.
        limit: at most so many items a map stage.
        items: map stages do only these; None for all.
        retry: with states (`failed`, …) given, only items in one of them are done, changed or not.
        refit: let fit stages fit anew where items came or changed since.
        drop_spaces: take spaces out of the catalog that the pipeline no longer makes.

    Raises:
        ColdstartError: another process writes to the workspace, or a set-up fault; finished rows are saved.
    """
    began = time.monotonic()
    progress = progress or SilentProgress()
    retry = frozenset(retry)
    request = EstimateRequest(workspace.uri, pipeline, tuple(only), start, limit)
    pipeline = with_fits(devices.with_first_device(pipeline), workspace)
    specs = check_run(workspace, pipeline, request.only, start)
    built = {spec.name: build(spec, pipeline) for spec in specs}
    for stage in built.values():
        if drop_spaces and stage.kind == "index":
            stage.drop_spaces = True  # type: ignore[union-attr]  # no other kind of stage serves spaces
    reports: list[StageReport] = []
    stopped_after = None
    with workspace.lock(), reuse_workers(), share_passes(built.values()), _cluster(pipeline, workspace):
        carry_over(workspace)
        add_language(workspace, ITEMS)
        among = None if items is None else frozenset(items)
        if retry:
            verdicts = (row for rows in workspace.ledger().values() for row in rows.values())
            retried = frozenset(row.item_id for row in verdicts if row.state in retry)
            among = retried if among is None else among & retried
        if not refit:
            workspace.save_pipeline(pipeline.source, pipeline.raw)
        plain = not (request.only or start or limit or retry or refit or drop_spaces) and among is None
        local = pipeline.engine.name != "ray"
        increment = Increment(workspace, pipeline, built, progress) if plain and local else None
        for stage in built.values():
            started_at = datetime.now(UTC)
            began_stage = time.monotonic()
            pipeline_state = PipelineState(workspace, pipeline, built)
            try:
                scope = Scope(limit, retry, among, refit)
                found = None if increment is None else increment.run(stage)
                report = found or _run_stage(workspace, pipeline, stage, pipeline_state, scope, progress)
                if increment is not None:
                    increment.take(stage, report, by_items=found is not None)
            except NothingToLearn as waiting:  # there is no fit yet that its rows could be made with
                report = StageReport(
                    stage.name, stage.kind, pipeline_state.of(stage.name).balance, notes=[str(waiting)]
                )
            report = with_fault_places(report, workspace)
            workspace.save_run(stage.name, started_at, time.monotonic() - began_stage, report.to_dict())
            reports.append(report)
            if is_source(stage) and exceeds_loss_limit(report.balance, pipeline.max_failed):
                stopped_after = stage.name
                break
        if refit:  # one that finds too little to learn from leaves the settings as they were
            workspace.save_pipeline(pipeline.source, pipeline.raw)
        maintenance = workspace.maintain(skip=(CATALOG,))  # the index stage keeps its own published versions
        if increment is not None and stopped_after is None:
            increment.save()
    over = [report.stage for report in reports if report.balance.failed_share > pipeline.max_failed]
    seconds = time.monotonic() - began
    took = {report.stage: (report.ran.done + report.ran.lost, report.ran.seconds) for report in reports}
    estimated = None if retry or refit or items is not None else compare_estimate(request, took, seconds)
    losses = {name: largest_losses(workspace, name) for name in over}
    return RunReport(reports, seconds, over, maintenance, estimated, losses, stopped_after)


def _cluster(pipeline: Pipeline, workspace: Store) -> AbstractContextManager[None]:
    """Connect to the Ray cluster of the pipeline's engine, if it has one.

    Raises:
        ColdstartError: Ray is not installed, or the cluster cannot be reached.
    """
    if pipeline.engine.name != "ray":
        return nullcontext()
    try:
        importlib.import_module("ray.data")
    except ImportError as error:
        raise ColdstartError(f"`engine: ray` needs Ray ({error}): {install_command('ray')}") from error
    from coldstart.engine.ray.cluster import cluster

    return cluster(pipeline.engine.ray, workspace)


def _run_stage(
    workspace: Store,
    pipeline: Pipeline,
    stage: MapStage | CatalogStage,
    pipeline_state: PipelineState,
    scope: Scope,
    progress: Progress,
) -> StageReport:
    if pipeline.engine.name == "ray":
        from coldstart.engine.ray import run as ray

        return ray.run_stage(workspace, pipeline, stage, scope, progress)
    if isinstance(stage, CatalogStage):
        return run_catalog_stage(workspace, stage, scope.refit, progress)
    if is_source(stage):
        return run_source_stage(workspace, pipeline, stage, scope, progress)[0]
    return run_map_stage(workspace, pipeline, stage, pipeline_state, scope, progress)


def status(workspace: Store, pipeline: Pipeline) -> list[StageReport]:
    """Report the balance of every stage; computes keys, changes nothing.

    A stage whose settings do not resolve has all items pending, and a note that says what is wrong.
    """
    listed = {spec.name: spec.kind for spec in pipeline.stages}
    pipeline = readable(with_fits(pipeline, workspace))
    names = _stage_names(pipeline)
    faults = {name: why for name, why in pipeline.unresolved.items() if name.partition(".")[0] in names}
    if spaces := [name for name in faults if listed.get(name, "embed") in SPACES]:
        faults |= {
            spec.name: f"waits for {', '.join(spaces)}; what is published is searched all the same"
            for spec in pipeline.of_kind("index")
        }
    pipeline_state = PipelineState(workspace, pipeline)
    pending = Balance(pending=workspace.count(ITEMS))
    reports = []
    for name, kind in {**listed, **{name: name for name in faults if name not in listed}}.items():
        if name in faults:
            report = StageReport(name, kind, pending, fault=faults[name])
        else:
            report = _status_of(workspace, pipeline_state, pipeline.stage(name))
        reports.append(with_fault_places(report, workspace))
    return reports


def _stage_names(pipeline: Pipeline) -> Collection[str]:
    named = pipeline.raw.get("stages")
    return named if isinstance(named, dict) else ()


def _status_of(workspace: Store, pipeline_state: PipelineState, spec: StageSpec) -> StageReport:
    stage = pipeline_state.stage(spec.name)
    notes: Sequence[str] = ()
    if isinstance(stage, CatalogStage):
        return fitted_report(workspace, stage)
    if is_source(stage):
        source = SourceWork(workspace, stage, Scope(limit=0))
        try:
            deque(source, maxlen=0)
            notes = stage.notes(workspace)
        except ColdstartError as error:  # the manifest may be gone by now; what was read from it is not
            notes = [str(error)]
        balance = source_balance(workspace, stage, source.pending)
    else:
        balance = pipeline_state.of(spec.name).balance
        try:
            stage.fingerprint()
            notes = stage.notes(workspace)
        except NotFitted as waiting:
            notes = [str(waiting)]
    return StageReport(stage.name, stage.kind, balance, notes=notes)

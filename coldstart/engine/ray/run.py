"""Run stages over a Ray cluster, on the same tables, with this process as the only one that commits.

A map stage runs through two pools of actors of Ray Data: one reads rows and prepares them on cores, one computes where
the model is and writes its rows as fragments; between them Ray Data slows the faster one. This process finds stale rows
by tasks of a partition each, commits fragments as they come, and records verdicts.
"""

from __future__ import annotations

import gc
import pickle
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from itertools import islice
from types import TracebackType
from typing import Any, Self, cast

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy
from ray.util.annotations import RayDeprecationWarning

from coldstart.core.keys import stage_key
from coldstart.core.pipeline import Engine, Pipeline, RayCluster
from coldstart.core.progress import Progress, SilentProgress
from coldstart.core.stage import CatalogStage, FitStage, LedgerRow, MapStage, SourceStage, is_map, is_source
from coldstart.engine.local import PassReport
from coldstart.engine.ray.actors import ActorConfig, Computer, PartOutcome, Preparer
from coldstart.engine.ray.cluster import fetch, has_gpus, task
from coldstart.engine.ray.plan import PipelineFactory, make_plan, number_parts, stage_balance
from coldstart.engine.recipe import Recipe
from coldstart.engine.report import StageReport, run_catalog_stage, source_balance
from coldstart.engine.work import Scope, SourceWork
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store
from coldstart.store.fragments import TableVersion, addresses_of, commit_fragments, ensure_table, table_version

_SOURCE_CHUNK = 8192

_RETRIED_PARTS = 8
"""Parts that are done again item by item at once: enough to keep the pools busy, few enough that a set-up in which all
die is seen before the whole catalogue was tried."""


def run_stage(
    workspace: Store, pipeline: Pipeline, stage: MapStage | CatalogStage, scope: Scope, progress: Progress
) -> StageReport:
    """Run one stage as `coldstart.engine.run` does, on the connected cluster."""
    recipe = Recipe.of(workspace, pipeline, stage.name)
    if not is_map(stage):
        return _run_whole(pipeline.engine, recipe, stage, scope.refit)
    if is_source(stage):
        return run_source(workspace, pipeline.engine, recipe, stage, scope, progress)
    return run_map(workspace, pipeline.engine, recipe, stage, scope, progress)


def run_map(
    workspace: Store, engine: Engine, recipe: PipelineFactory, stage: MapStage, scope: Scope, progress: Progress
) -> StageReport:
    """Do the stale rows of a map stage over the items.

    Raises:
        ColdstartError: a set-up fault, here or of a worker.
        Exception: any fault of the program, after all finished rows were committed.
    """
    key = stage_key(stage.kind, stage.version, stage.fingerprint())
    plan = make_plan(workspace, recipe, stage, key, scope, engine.ray.part)
    for ref in plan.summaries:
        summary = fetch(ref)
        workspace.delete_verdicts(stage.name, summary.obsolete)
        workspace.record(summary.turned_away)
    ran, balance = PassReport(), plan.balance
    if plan.chosen:
        order = _order(workspace, engine, recipe, stage, key)
        ran = _do(workspace, stage, order, plan.parts, plan.chosen, engine, progress)
        balance = stage_balance(workspace, recipe, stage, key)
    notes = fetch(_notes.remote(recipe))
    return StageReport(stage.name, stage.kind, balance, ran, notes)


def run_source(
    workspace: Store, engine: Engine, recipe: PipelineFactory, stage: SourceStage, scope: Scope, progress: Progress
) -> StageReport:
    """Do the new rows of a source. Its entries are read here and wait in the cluster's object store, which spills."""
    recorded = workspace.verdicts(stage.name)
    workspace.delete_verdicts(stage.name, recorded.keys() & workspace.keys(stage.table).keys())  # left by a kill
    source = SourceWork(workspace, stage, scope)
    parts = number_parts(_entries(workspace, stage, source, engine.ray.part), 0)
    key = stage_key(stage.kind, stage.version, stage.fingerprint())
    order = _order(workspace, engine, recipe, stage, key)
    ran = _do(workspace, stage, order, parts, None, engine, progress) if parts else PassReport()
    workspace.delete_verdicts(stage.name, stage.forgotten(source.recorded))
    balance = source_balance(workspace, stage, source.pending)
    return StageReport(stage.name, stage.kind, balance, ran, stage.notes(workspace))


def _entries(workspace: Store, stage: SourceStage, source: SourceWork, size: int) -> Iterator[pa.Table]:
    """Read the entries of a source, in parts."""
    before = table_version(workspace, stage.table) if workspace.count(stage.table) else None
    entries = iter(source)
    while chunk := list(islice(entries, _SOURCE_CHUNK)):
        old = addresses_of(before, [work.item_id for work in chunk]) if before else {}
        for start in range(0, len(chunk), size):
            some = chunk[start : start + size]
            yield pa.table(
                {
                    "part": pa.repeat(0, len(some)),
                    "item_id": pa.array([work.item_id for work in some], pa.string()),
                    "key": pa.array([work.key for work in some], pa.string()),
                    "old": pa.array([old.get(work.item_id) for work in some], pa.uint64()),
                    "recorded": pa.array([work.item_id in source.recorded for work in some], pa.bool_()),
                    "row": pa.array([pickle.dumps(work.row) for work in some], pa.large_binary()),
                }
            )


def _order(workspace: Store, engine: Engine, recipe: PipelineFactory, stage: MapStage, key: str) -> ActorConfig:
    pipeline_state = recipe.pipeline_state(workspace)
    tables = {name: cast(MapStage, pipeline_state.stage(read)).table for name, read in stage.reads.items()}
    places = {name: table_version(workspace, name) for name in {ITEMS, *tables.values()}}
    return ActorConfig(
        recipe,
        key,
        {name: where for name, where in places.items() if where is not None},
        ensure_table(workspace, stage.table, stage.schema),
        tables,
        max(1, round(engine.ray.cpus)),
        engine.worker_memory_bytes,
        _device(engine, _gpus(engine.ray, on_device=stage.on_device)),
    )


def _do(
    workspace: Store,
    stage: MapStage,
    order: ActorConfig,
    parts: Mapping[int, Any],
    total: int | None,
    engine: Engine,
    progress: Progress,
) -> PassReport:
    """Do the parts; those whose actors died each time are done again item by item, and an item that goes on killing
    them is turned away."""
    began = time.monotonic()
    left = dict(parts)
    with progress.meter(stage.name, total) as meter, Committer(workspace, stage, order.target, engine) as committer:

        def take(refs: Mapping[int, Any], *, apart: bool = False) -> dict[int, Any]:
            """Do some parts; returns those that never came back."""
            missing = dict(refs)
            with closing(_outcomes(order, stage, engine.ray, list(refs.values()), apart)) as outcomes:
                for outcome in outcomes:
                    if missing.pop(outcome.part, None) is None:
                        continue  # done twice, since its first answer was lost: its fragments are of no version
                    committer.add(outcome)
                    ended = outcome.done + len(outcome.verdicts)
                    reasons = Counter(verdict.reason for verdict in outcome.verdicts)
                    meter.advance(ended, reasons, committer.wait_share(time.monotonic() - began))
                    if outcome.fault is not None:
                        raise outcome.fault
            return missing

        left = take(left)
        number = max(parts) + 1
        again = iter(left.values())
        while some := list(islice(again, _RETRIED_PARTS)):
            rows = [row for table in map(fetch, some) for row in _rows(table)]
            singles = number_parts(rows, number)
            number += len(rows)
            for single in take(singles, apart=True):
                if not committer.parts:
                    raise ColdstartError(
                        f"workers of stage {stage.name!r} died {engine.ray.restarts + 1} times in a row without "
                        "finishing an item: is there memory for the model? see the logs of Ray, and raise `ray.cpus` "
                        "or lower the batch size"
                    )
                died = _died(stage, fetch(singles[single]), single, engine.ray.restarts + 1)
                committer.add(died)
                reasons = Counter(verdict.reason for verdict in died.verdicts)
                meter.advance(1, reasons, committer.wait_share(time.monotonic() - began))
    return committer.ran(time.monotonic() - began)


def _rows(table: pa.Table) -> list[pa.Table]:
    return [table.slice(row, 1) for row in range(table.num_rows)]


def _died(stage: MapStage, part: pa.Table, number: int, times: int) -> PartOutcome:
    row = part.select(["item_id", "key", "old"]).to_pylist()[0]
    detail = f"the worker process died each time, {times} times alone with it"
    verdict = LedgerRow(stage.name, row["item_id"], row["key"], "failed", "worker_died", detail)
    return PartOutcome(number, gone=[] if row["old"] is None else [row["old"]], verdicts=[verdict])


def _outcomes(
    order: ActorConfig, stage: MapStage, settings: RayCluster, parts: list[Any], apart: bool
) -> Generator[PartOutcome]:
    """Run parts through both pools, and yield outcomes as they end, but for parts whose actors died too often.

    Args:
        apart: no actor has a part waiting while it is at another, since those that wait die with it.
    """
    dataset = ray.data.from_arrow_refs(parts)
    context = dataset.context
    context.max_errored_blocks = -1
    context.target_max_block_size = None  # one part is one block, see `coldstart.engine.ray.actors`
    context.print_on_execution_start = False
    gpus = _gpus(settings, on_device=stage.on_device)
    with warnings.catch_warnings():  # Ray 2.60 has no other way to bound retries yet, and announces one for 2.64
        warnings.simplefilter("ignore", RayDeprecationWarning)
        for kind, (least, most), share in ((Preparer, settings.preparers, 0), (Computer, settings.computers, gpus)):
            least = min(least, len(parts))
            dataset = dataset.map_batches(
                kind,
                fn_constructor_args=(order,),
                batch_size=None,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(
                    min_size=least,
                    max_size=max(least, min(most, len(parts))),
                    max_tasks_in_flight_per_actor=1 if apart else None,
                ),
                num_cpus=settings.cpus,
                num_gpus=share,
                max_restarts=-1,  # a pool does not replace an actor that is dead for good
                max_task_retries=settings.restarts,
            )
    try:
        for bundle in dataset.iter_internal_ref_bundles():
            for entry in bundle.blocks:
                for outcome in fetch(entry.ref)["outcome"]:
                    yield pickle.loads(outcome.as_buffer())
    finally:
        del dataset
        gc.collect()  # an actor holds its cores until nothing refers to it; after a death, a cycle of Ray Data's does


def _gpus(settings: RayCluster, *, on_device: bool) -> float:
    """Return the share of a GPU for each actor that computes a stage."""
    if not on_device:
        return 0
    return (1 if has_gpus() else 0) if settings.gpus is None else settings.gpus


def _device(engine: Engine, gpus: float) -> str:
    """Choose the device of an actor, which sees of its node's GPUs its own alone."""
    return "cuda" if gpus and engine.device.startswith(("auto", "cuda")) else engine.device


def _run_whole(engine: Engine, recipe: Recipe, stage: CatalogStage, refit: bool) -> StageReport:
    """Run a catalog stage on one worker, with all cores of its node, and a GPU for a fit stage."""
    cores = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    gpus = _gpus(engine.ray, on_device=True) if isinstance(stage, FitStage) else 0
    whole = _whole.options(num_cpus=cores, num_gpus=gpus, max_retries=engine.ray.restarts)
    report: StageReport = fetch(whole.remote(recipe, _device(engine, gpus), refit))
    return report


@task
def _whole(recipe: Recipe, device: str, refit: bool) -> StageReport:
    stage = recipe.build(device=device, devices=1)
    assert not is_map(stage)
    return run_catalog_stage(recipe.store(), stage, refit, SilentProgress())


@task
def _notes(recipe: PipelineFactory) -> list[str]:
    stage: MapStage = recipe.build()
    return stage.notes(recipe.store())


class Committer:
    """Committer of outcomes, every N rows or T seconds. Leaving the `with` block commits what is left, also
    after an error.

    Rows go first, with those that they replace and those of items turned away in one transaction, verdicts second: a
    kill in between leaves work undone, never a row without its item.
    """

    def __init__(self, workspace: Store, stage: MapStage, target: TableVersion, settings: Engine) -> None:
        self._workspace = workspace
        self._stage = stage
        self._target = target
        self._settings = settings
        self._waiting: list[PartOutcome] = []
        self._since = self._began = time.monotonic()
        self._compute_s: dict[str, float] = defaultdict(float)
        self._start_s = 0.0
        self._done = self._lost = self._commits = 0
        self._cost = 0.0
        self.parts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.commit()

    def add(self, outcome: PartOutcome) -> None:
        """Add the outcome of one part, and commit if it is time."""
        if outcome.actor:
            self._start_s = self._start_s or time.monotonic() - self._began - outcome.compute_s
            self._compute_s[outcome.actor] += outcome.compute_s
            self.parts += 1
        self._done += outcome.done
        self._lost += len(outcome.verdicts)
        self._cost += outcome.cost
        self._waiting.append(outcome)
        rows = sum(one.done + len(one.verdicts) for one in self._waiting)
        if rows >= self._settings.commit_rows or time.monotonic() - self._since >= self._settings.commit_s:
            self.commit()

    def commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            gone = [address for one in waiting for address in one.gone]
            commit_fragments(self._target, [text for one in waiting for text in one.fragments], gone)
            self._workspace.delete_verdicts(self._stage.name, [item for one in waiting for item in one.settled])
            self._workspace.record([row for one in waiting for row in one.verdicts])
            self._commits += 1
        self._since = time.monotonic()

    def wait_share(self, seconds: float) -> float:
        """Compute the share of the time that the models did not work, as a mean over the actors."""
        return max(0.0, 1.0 - self._mean_compute_s() / max(seconds, 1e-9))

    def ran(self, seconds: float) -> PassReport:
        """Report the pass as `run_map` does. Writing fragments counts as computing."""
        compute_s = self._mean_compute_s()
        wait_s = max(0.0, seconds - compute_s)
        return PassReport(
            self._done,
            self._lost,
            seconds,
            wait_s,
            compute_s,
            self._commits,
            self._cost,
            start_s=min(wait_s, self._start_s),
        )

    def _mean_compute_s(self) -> float:
        return sum(self._compute_s.values()) / max(len(self._compute_s), 1)

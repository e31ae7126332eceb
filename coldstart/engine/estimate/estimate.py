"""Estimate rows, time, memory and disk of a run from a probe of a few items. Writes nothing in the workspace.

The probed items go through the stages in a temporary workspace (`sandbox`), each stage for a few seconds (`probe`), and
their figures are scaled to all rows (`forecast`). Parts that cannot be estimated are named. Not known: items that gates
will block, and the work that duplicates found on the way save; both make an estimate too high.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from coldstart.core import scratch
from coldstart.core.device import usable_cores
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.progress import SilentProgress
from coldstart.core.stage import CatalogStage, FitStage, Forecasts, MapStage, Reject, SourceStage, is_map, is_source
from coldstart.engine import devices
from coldstart.engine.estimate.forecast import Machine, StageNeeds, StageTime, ThisMachine, stage_needs
from coldstart.engine.estimate.probe import Memory, Probe, probe
from coldstart.engine.estimate.report import Assumption, Estimate, OtherMachine, StageEstimate
from coldstart.engine.estimate.sandbox import ItemPool, Sandbox, kind_and_size
from coldstart.engine.run import check_run
from coldstart.engine.work import Scope, SourceWork
from coldstart.engine.workers import reuse_workers
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store
from coldstart.store.fits import with_fits
from coldstart.store.freshness import PipelineState

ITEMS_PROBED = 160
"""Items that are drawn for a stage; fewer are done where they take long."""
PROBE_S = 10.0
"""Seconds that a stage is probed for, about; its start and one batch come on top."""

CATALOG_ROW_S: Mapping[str, float] = {"index": 1.5e-4, "understand.duplicates": 2e-4, "label": 3e-4}
"""Seconds for each item of a stage that reads the whole catalogue, on top of what it takes with a handful."""
KEY_ROW_S = 6e-5
"""Seconds to work out the key of an item in a stage, and to read its rows."""


def estimate(
    store: Store,
    pipeline: Pipeline,
    *,
    only: Iterable[str] = (),
    start: str | None = None,
    limit: int | None = None,
    on: Machine | None = None,
    seconds: float = PROBE_S,
) -> Estimate:
    """Probe each stage that `run` would do.

    The probed items are drawn with a fixed seed.

    Args:
        only, start, limit: as for `run_pipeline`.
        on: another machine to tell the time of as well.
        seconds: how long each stage is probed, about.

    Raises:
        ColdstartError: a set-up fault, such as missing weights.
    """
    pipeline = devices.with_first_device(pipeline)
    scratch.sweep()
    with scratch.scratch_folder("estimate") as folder:
        specs = check_run(store, with_fits(pipeline, store), only, start)
        found = _Estimator(store, pipeline, specs, folder, limit, seconds)
        with reuse_workers():
            for spec in specs:
                found.take(spec)
        upkeep_s = found.rehearsal.upkeep()
    here = _here(pipeline, measure=on is not None)
    stages = [found.with_times(stage, here, on) for stage in found.stages]
    left_out = [stage.stage for stage in stages if stage.rows and stage.seconds is None]
    return Estimate(stages, upkeep_s, left_out, _assumptions(here, on, {spec.kind for spec in specs}), on)


class _Estimator:
    """Estimator of the stages, one by one, in their order."""

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        specs: Sequence[StageSpec],
        folder: Path,
        limit: int | None,
        seconds: float,
    ) -> None:
        self._store = store
        self._pipeline = with_fits(pipeline, store)
        self._pipeline_state = PipelineState(store, self._pipeline)
        self.rehearsal = Sandbox(store, pipeline, specs, folder)
        self._random = Random(0)
        self._limit = limit
        self._seconds = seconds
        self._kinds: dict[str, str] = {}
        self._sizes: dict[str, float] | None = None
        self._new: set[str] = set()
        self._new_counts: Counter[str] = Counter()
        self._new_drawn: list[str] = []
        self._changed_counts: Counter[str] = Counter()
        self._changed_drawn: list[str] = []
        self._changes = False
        self.stages: list[StageEstimate] = []
        self._needs: dict[str, StageNeeds] = {}

    def take(self, spec: StageSpec) -> None:
        """Probe one stage."""
        try:
            stage = self.rehearsal.stage(spec.name)
            if is_source(stage):
                found = self._source(stage)
            elif is_map(stage):
                found = self._map(stage)
            else:
                found = self._whole(stage)
        except ColdstartError as error:  # the settings resolve: a model that is still to be fitted, say
            found = StageEstimate(spec.name, self._rows_of(spec.name), note=f"not estimated: {error}")
        self._changes = self._changes or found.rows > 0
        self.stages.append(found)

    def _rows_of(self, name: str) -> int:
        return sum(self._counts(name).values()) if is_map(self.rehearsal.stage(name)) else 0

    # -- rows of items

    def _source(self, stage: SourceStage) -> StageEstimate:
        pool: ItemPool[Any] = ItemPool(self._random)
        present = self._store.keys(ITEMS)
        changed: Counter[str] = Counter()
        for entry in SourceWork(self._store, stage, Scope(self._limit)):
            turned_away = isinstance(entry.row, Reject)
            kind, size = ("", 0.0) if isinstance(entry.row, Reject) else kind_and_size(entry.row)
            if not turned_away:
                self._new.add(entry.item_id)
                changed[kind] += entry.item_id in present
            pool.add(kind, size, entry)
        drawn = pool.draw(ITEMS_PROBED)
        for entry in drawn.entries:
            self._kinds[entry.item_id] = "" if isinstance(entry.row, Reject) else str(entry.row["kind"])
        if not drawn.entries:
            return StageEstimate(stage.name, 0)
        self.rehearsal.copy([entry.item_id for entry in drawn.entries if entry.item_id in present])
        found = probe(stage, drawn.entries, self._pipeline.engine, self._seconds)
        made = [entry.item_id for entry, result in found.made if not isinstance(result, Reject)]
        tried = Counter(self._kinds[entry.item_id] for entry, _ in found.made)
        kept = Counter(self._kinds[item] for item in made)
        share = {kind: kept[kind] / tried[kind] if tried[kind] else 1.0 for kind in drawn.counts}
        self._new_counts = Counter({kind: round((n - changed[kind]) * share[kind]) for kind, n in drawn.counts.items()})
        self._changed_counts = Counter({kind: round(n * share[kind]) for kind, n in changed.items()})
        self._new_drawn = made
        self._changed_drawn = [item for item in made if item in present]
        return self._estimated(stage, found, drawn.counts)

    def _map(self, stage: MapStage) -> StageEstimate:
        counts = self._counts(stage.name)
        rows = sum(counts.values())
        if not rows:
            return StageEstimate(stage.name, 0)
        present = [item for item in self._pipeline_state.of(stage.name).stale if item not in self._new]
        drawn = self._draw(present)
        self.rehearsal.copy(drawn)
        work = self.rehearsal.work(stage, _mixed(self._new_drawn, drawn))[:ITEMS_PROBED]
        if not work:
            return StageEstimate(stage.name, rows, note="not estimated: no probed item came as far as this stage")
        return self._estimated(stage, probe(stage, work, self._pipeline.engine, self._seconds), counts)

    def _counts(self, name: str) -> Counter[str]:
        """Count the rows to do in a map stage, by kind."""
        stale = self._pipeline_state.of(name).stale if self._store.has(ITEMS) else ()
        counts = Counter(self._kind(item) for item in stale if item not in self._new) + self._new_counts
        share = self._touched_share(name) if self._changed_counts else 0.0
        counts += Counter({kind: round(count * share) for kind, count in self._changed_counts.items()})
        total = sum(counts.values())
        if self._limit is not None and total > self._limit:
            return Counter({kind: round(count * self._limit / total) for kind, count in counts.items()})
        return counts

    def _touched_share(self, name: str) -> float:
        """Estimate the share of the changed items that a map stage has to redo, by those drawn; 1 where none was."""
        if not self._changed_drawn:
            return 1.0
        stale = set(self.rehearsal.state(name).stale)
        return sum(item in stale for item in self._changed_drawn) / len(self._changed_drawn)

    def _kind(self, item: str) -> str:
        self._read_items()
        return self._kinds[item]

    def _read_items(self) -> dict[str, float]:
        """Read the kinds and sizes of the items in the workspace, once."""
        if self._sizes is None:
            self._sizes = {}
            columns = ["item_id", "kind", "title", "description", "media"]
            for row in self._store.read(ITEMS, columns).to_pylist() if self._store.has(ITEMS) else ():
                kind, self._sizes[row["item_id"]] = kind_and_size(row)
                self._kinds.setdefault(row["item_id"], kind)
        return self._sizes

    def _draw(self, items: Sequence[str]) -> list[str]:
        sizes = self._read_items()
        pool: ItemPool[str] = ItemPool(
            Random(0)
        )  # the same of the same items: stages after each other share what was copied
        for item in items:
            pool.add(self._kinds[item], sizes[item], item)
        return list(pool.draw(ITEMS_PROBED).entries) if items else []

    def _estimated(self, stage: MapStage, found: Probe, counts: Mapping[str, int]) -> StageEstimate:
        commit_s = self.rehearsal.write(stage, found.made)
        rows = sum(counts.values())
        done = [item for item in found.items if item.done]
        lost = sum(item.lost for item in done)
        self._needs[stage.name] = stage_needs(
            found,
            counts,
            self._kinds,
            self._pipeline.engine,
            isolated=stage.isolated,
            on_device=any(hasattr(type(stage), name) for name in ("encoder", "generator")),
            commit_s=commit_s,
        )
        return StageEstimate(
            stage.name,
            rows,
            probed=len(done),
            lost=lost,
            memory_bytes=found.peak_bytes,
            gpu_bytes=found.gpu_bytes,
            bytes=round(found.row_bytes * rows * (1 - lost / max(len(done), 1))),
            note=self.rehearsal.stood_in.get(stage.name, ""),
        )

    # -- the whole catalogue

    def _whole(self, stage: CatalogStage) -> StageEstimate:
        count = (self._store.count(ITEMS) if self._store.has(ITEMS) else 0) + sum(self._new_counts.values())
        if not self._changes and self._settled(stage):
            return StageEstimate(stage.name, 0)
        if isinstance(stage, FitStage):
            return self._fit(stage, count)
        present = list(self._read_items()) if not self._new_drawn else []
        self.rehearsal.copy(self._draw(present))
        began = time.monotonic()
        with Memory() as memory:
            try:
                stage.run(self.rehearsal.scratch, SilentProgress())
            except ColdstartError as fault:
                return StageEstimate(stage.name, count, note=f"not estimated: {fault}")
        took = time.monotonic() - began
        per_row = CATALOG_ROW_S.get(stage.kind)
        note = "" if per_row is not None else "as for the few probed items: how it grows with rows is not known"
        copied = sum(one.bytes or 0 for one in self.stages)  # the catalog holds what the stages made once more
        return StageEstimate(
            stage.name,
            count,
            seconds=took + (per_row or 0.0) * count,
            memory_bytes=memory.peak,
            bytes=copied if stage.kind == "index" else None,
            bottleneck="whole",
            note=note,
        )

    def _settled(self, stage: CatalogStage) -> bool:
        """Tell whether a run would find nothing to do."""
        real = self._pipeline_state.stage(stage.name)
        assert not is_map(real)
        with suppress(ColdstartError):
            return real.expected(self._store)[0] == real.present(self._store)
        return False

    def _fit(self, stage: FitStage, count: int) -> StageEstimate:
        real = self._pipeline_state.stage(stage.name)
        assert not is_map(real)
        with suppress(ColdstartError):
            if real.present(self._store):  # a run fits once under the same settings
                return StageEstimate(stage.name, 0)
        if not isinstance(stage, Forecasts):
            return StageEstimate(stage.name, count, note="not estimated: a fit whose time follows from what it finds")
        present = list(self._read_items()) if not self._new_drawn else []
        self.rehearsal.copy(self._draw(present))
        with Memory() as memory:
            try:
                low, seconds, high = stage.forecast(self.rehearsal.scratch, count, SilentProgress())
            except ColdstartError as fault:
                return StageEstimate(stage.name, count, note=f"not estimated: {fault}")
        return StageEstimate(
            stage.name,
            count,
            seconds=seconds,
            low=low,
            high=high,
            memory_bytes=memory.peak,
            bottleneck="model",
            note="a fit: its range is from the fewest epochs to the most",
        )

    # -- what they come to

    def with_times(self, stage: StageEstimate, here: ThisMachine, on: Machine | None) -> StageEstimate:
        """Add the time of a stage on this machine, and on the other."""
        known = self._needs.get(stage.stage)
        if known is None:
            if on is None or stage.seconds is None or not stage.rows:
                return stage
            same = stage.seconds, stage.low or stage.seconds, stage.high or stage.seconds
            return replace(stage, other=OtherMachine(*same, 0.0, stage.bottleneck or "whole"))
        took = _with_keys(known.here(here), stage.rows)
        held = took.seconds * here.gpus / 3600 if known.on_device else 0.0
        stage = replace(
            stage,
            seconds=took.seconds,
            low=took.low,
            high=took.high,
            gpu_hours=held,
            bottleneck=took.bottleneck,
            parts=took.parts,
        )
        if on is None:
            return stage
        there = _with_keys(known.on(on, here), stage.rows)
        used = there.seconds * on.gpus / 3600 if known.on_device else 0.0
        needed = stage.gpu_bytes or 0
        fits = not (known.on_device and on.gpu_gb and needed > on.gpu_gb * 1e9)
        if on.memory_gb and (stage.memory_bytes or 0) > on.memory_gb * 1e9:
            fits = False
        return replace(stage, other=OtherMachine(there.seconds, there.low, there.high, used, there.bottleneck, fits))


def _with_keys(took: StageTime, rows: int) -> StageTime:
    more = KEY_ROW_S * rows
    return replace(took, seconds=took.seconds + more, low=took.low + more, high=took.high + more)


def _mixed(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Mix two lists, each spread evenly over the whole."""
    placed = [((place + 0.5) / len(items), item) for items in (one, other) for place, item in enumerate(items)]
    return [item for _, item in sorted(placed, key=lambda entry: entry[0])]


def _here(pipeline: Pipeline, *, measure: bool) -> ThisMachine:
    """Describe this machine; torch is asked only where a model has imported it, since nothing else is on a device.

    Args:
        measure: time matrix products, by which another machine is compared.
    """
    cores = usable_cores()
    if "torch" not in sys.modules:
        return ThisMachine(cores)
    from coldstart.core.device import choose_device, choose_dtype, product_rate

    device = choose_device(pipeline.engine.device)
    gpus = len(devices.device_slots(pipeline.engine)) if device.type == "cuda" else 0
    if not measure:
        return ThisMachine(cores, gpus=gpus)
    rate = product_rate(device, choose_dtype(device, pipeline.engine.dtype))
    return ThisMachine(cores, rate / 1e12, gpus)


def _assumptions(here: ThisMachine, on: Machine | None, kinds: Collection[str]) -> list[Assumption]:
    measured = "measured in this probe"
    found = [Assumption("cores here", str(here.cores), "the system")]
    if here.tflops:
        found.append(Assumption("matrix products here", f"{here.tflops:.2f} TFLOP/s", measured))
    found += [
        Assumption("items, media, model", "seconds an item, by kind", measured),
        Assumption("keys and reading", f"{KEY_ROW_S * 1e6:.0f} µs a row and stage", "assumed"),
        *(
            Assumption(
                f"{kind}, besides what it takes with few items",
                f"{s * 1e6:.0f} µs an item",
                "measured on 1,000 items" if kind == "index" else "assumed",
            )
            for kind, s in CATALOG_ROW_S.items()
            if kind in kinds
        ),
    ]
    if on is not None:
        found.append(Assumption(on.name, on.facts, on.source))
        found.append(
            Assumption("models there", "reach the share of the machine's products that they reach here", "assumed")
        )
        found.append(Assumption("start, commits, stages over the whole catalogue", "as here", "assumed"))
    return found

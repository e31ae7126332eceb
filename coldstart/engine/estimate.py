"""What a run would take: rows, time and disk, from a probe of a few items. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import pyarrow as pa

from coldstart.engine.run import choose
from coldstart.engine.work import Scope, SourceWork, sources, stale_work
from coldstart.engine.workers import Prepared, prepare_here, prepare_isolated
from coldstart.errors import NotFitted
from coldstart.fitted import bound
from coldstart.freshness import Standing
from coldstart.pipeline import Engine, Pipeline
from coldstart.stage import MapStage, Reject, Row, WholeStage, Work, is_source
from coldstart.workspace import ITEMS, Store

PROBE = 16
"""Items of each stage that are really done, to time them."""


@dataclass(frozen=True)
class StageEstimate:
    """What one stage would take.

    Attributes:
        rows: items it would do.
        probed: items that were done to find out; `lost`: how many of those were turned away.
        seconds: time for all rows on this machine, None where there was nothing to probe.
        bytes: disk for all rows, before compaction.
        bottleneck: `decode` or `model`: what the time goes into.
    """

    stage: str
    rows: int
    probed: int = 0
    lost: int = 0
    seconds: float | None = None
    bytes: int | None = None
    bottleneck: str | None = None


@dataclass(frozen=True)
class Estimate:
    """What a run would take, stage by stage."""

    stages: Sequence[StageEstimate]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return asdict(self)


def estimate(store: Store, pipeline: Pipeline, *, only: Iterable[str] = (), start: str | None = None) -> Estimate:
    """Probe each stage that `run` would do.

    The probed items are drawn at random, with a fixed seed. Stages after an ingest that has rows to do are probed with
    those rows, as ingest would make them.
    """
    random = Random(0)
    found: list[StageEstimate] = []
    new_rows: list[Row] = []
    new_count = 0
    pipeline = bound(pipeline, store)
    standing = Standing(store, pipeline)
    for spec in choose(pipeline, only, start):
        stage = standing.stage(spec.name)
        if isinstance(stage, WholeStage):
            copied = sum(one.bytes or 0 for one in found)  # the catalog holds what the stages made once more
            found.append(StageEstimate(spec.name, store.count(ITEMS) + new_count, bytes=copied))
        elif is_source(stage):
            work, new_count = _draw(SourceWork(store, stage, Scope()), random)
            estimated, new_rows = _probe(stage, work, new_count, pipeline.engine)
            found.append(estimated)
        else:
            state = standing.of(spec.name)
            ready = [item for item in state.stale if item not in state.waiting] or state.stale
            drawn = random.sample(ready, min(PROBE, len(ready)))
            work = list(stale_work(store, state.expected, drawn, sources(stage, standing)))
            work = work or _from_rows(stage, new_rows)
            rows = len(state.stale) + new_count
            try:
                found.append(_probe(stage, work, rows, pipeline.engine)[0])
            except NotFitted:  # nothing to probe with before the fit
                found.append(StageEstimate(spec.name, rows))
    return Estimate(found)


def _draw(source: Iterable[Work], random: Random) -> tuple[list[Work], int]:
    """Some of the work, each with the same chance (Algorithm R of Vitter, 1985), and how much there is."""
    drawn: list[Work] = []
    count = 0
    for count, work in enumerate(source, start=1):
        if count <= PROBE:
            drawn.append(work)
        elif (place := random.randrange(count)) < PROBE:
            drawn[place] = work
    return drawn, count


def _from_rows(stage: MapStage, rows: Sequence[Row]) -> list[Work]:
    """Work on rows that are not in the store, and so without those of the stages read: keys stand for nothing here."""
    missing = dict.fromkeys(stage.reads)
    return [Work(row["item_id"], "", {**row, **missing}) for row in rows]


def _probe(stage: MapStage, work: Sequence[Work], rows: int, settings: Engine) -> tuple[StageEstimate, list[Row]]:
    if not work:
        return StageEstimate(stage.name, rows), []
    prepared, prepare_s = _prepare(stage, work, settings)
    samples = [(entry, data) for entry, data, _ in prepared if not isinstance(data, Reject)]
    made: list[Row] = []
    compute_s = 0.0
    if samples:
        batch = [data for _, data in samples]
        stage.compute(batch[:1])  # loads the model and warms it up
        began = time.monotonic()
        results = stage.compute(batch)
        compute_s = time.monotonic() - began
        made = [
            {"item_id": entry.item_id, stage.key_column: entry.key, **result}
            for (entry, _), result in zip(samples, results, strict=True)
            if not isinstance(result, Reject)
        ]
    size = pa.Table.from_pylist(made, schema=stage.schema).nbytes if made else 0
    per_item = max(prepare_s, compute_s) / len(work)
    estimated = StageEstimate(
        stage.name,
        rows,
        probed=len(work),
        lost=len(work) - len(made),
        seconds=per_item * rows,
        bytes=round(size / len(work) * rows),
        bottleneck="decode" if prepare_s > compute_s else "model",
    )
    return estimated, made


def _prepare(stage: MapStage, work: Sequence[Work], settings: Engine) -> tuple[list[Prepared], float]:
    """The samples, and the seconds that preparing them took once the workers stood ready."""
    if not stage.isolated:
        began = time.monotonic()
        return list(prepare_here(stage, work)), time.monotonic() - began
    steps = prepare_isolated(stage, work, settings.workers, lambda: len(work))
    first = next(steps)  # the workers start before this one
    began = time.monotonic()
    rest = list(steps)
    seconds = time.monotonic() - began
    return [first, *rest], seconds * len(work) / max(len(rest), 1)

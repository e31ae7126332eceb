"""Run a few items through the stages in a temporary workspace, so that each stage is probed on true rows.

Items of the real workspace come with all their rows; new ones as ingest makes them. Gates, keys and commits are those
of a run. Fit stages fit on these few items where that takes seconds; a writer that is not fitted yet is replaced by its
base model. Of each kind a share of items is drawn, but a few at least: sorted by the amount to decode and cut into
equal parts, one of each part. Kinds are mixed evenly, so that a probe may stop anywhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.stage import CatalogStage, MapStage, Reject, Row, Work, is_source
from coldstart.engine.work import Writer, sources, stale_work
from coldstart.store import Store
from coldstart.store.fits import GENERATOR_FITS, with_fits
from coldstart.store.freshness import Assessment, PipelineState
from coldstart.store.item_keys import copy_items

_STAGE_TABLES = "stage."


class Sandbox:
    """Temporary workspace of an estimate.

    Args:
        store: the real one, which is read alone.
        pipeline: of the run; specs: the stages of it that the run does.
    """

    def __init__(self, store: Store, pipeline: Pipeline, specs: Sequence[StageSpec], folder: Path) -> None:
        self._store = store
        self.scratch = Store(folder / "workspace", create=True, cache=folder / "cache")
        self.scratch.set_layout_version()
        self.stood_in: dict[str, str] = {}
        real = with_fits(pipeline, store)

        def fitted(name: str) -> Path | None:
            made = self.scratch.artifacts.newest(name)
            return real.fitted(name) if made is None else made.folder

        self.pipeline = replace(self._without_unmade(real, specs), fitted=fitted)
        self._built: dict[str, MapStage | CatalogStage] = {}
        self._copied: set[str] = set()

    def _without_unmade(self, pipeline: Pipeline, specs: Sequence[StageSpec]) -> Pipeline:
        """Replace writers that this run would fit by their base models."""
        unmade = {
            spec.name: spec for spec in specs if spec.kind in GENERATOR_FITS and pipeline.fitted(spec.name) is None
        }
        found = []
        for spec in pipeline.stages:
            prefix, _, wanted = str(getattr(spec.settings, "generator", "")).partition(":")
            fit = next((s for s in unmade.values() if wanted in (s.name, s.name.rpartition(".")[2])), None)
            if prefix == "finetune" and fit is not None:
                base = fit.settings.generator
                self.stood_in[spec.name] = f"probed with {base}, from which stage {fit.name!r} tunes its writer"
                spec = replace(spec, settings=spec.settings.model_copy(update={"generator": base}))
            found.append(spec)
        return replace(pipeline, stages=tuple(found))

    def stage(self, name: str) -> MapStage | CatalogStage:
        """Build a stage over the temporary workspace, once, as a run does."""
        if name not in self._built:
            self._built[name] = self._pipeline_state().stage(name)
        return self._built[name]

    def _pipeline_state(self) -> PipelineState:
        return PipelineState(self.scratch, self.pipeline, self._built)

    def state(self, name: str) -> Assessment:
        """Compute the state of its items in a map stage."""
        return self._pipeline_state().of(name)

    def copy(self, items: Sequence[str]) -> None:
        """Copy items of the real workspace, with all their rows and verdicts."""
        new = [item for item in items if item not in self._copied]
        self._copied.update(new)
        if not new:
            return
        copy_items(self._store, self.scratch, new)
        for table in self._store.tables():
            if table.startswith(_STAGE_TABLES) and "item_id" in self._store.columns(table):
                rows = self._store.read(table, ids=new)
                if rows.num_rows:
                    self.scratch.merge(table, rows)
        among = set(new)
        verdicts = [row for rows in self._store.ledger().values() for item, row in rows.items() if item in among]
        self.scratch.record(verdicts)

    def work(self, stage: MapStage, items: Sequence[str]) -> list[Work]:
        """List the work of the items that are ready, in their order.

        Raises:
            NotFitted: the stage waits for a fit.
        """
        stage.fingerprint()
        pipeline_state = self._pipeline_state()
        state = pipeline_state.of(stage.name)
        ready = set(state.stale) - state.waiting
        chosen = [item for item in items if item in ready]
        return list(stale_work(self.scratch, state.expected, chosen, sources(stage, pipeline_state), stage.item_fields))

    def write(self, stage: MapStage, made: Sequence[tuple[Work, Row | Reject]]) -> float:
        """Commit results in two parts; returns the seconds of the second, since the first creates the tables."""
        writer = Writer(self.scratch, stage, commit_rows=len(made) // 2 + 1, commit_s=float("inf"))
        first_s = 0.0
        with writer:
            for entry, result in made:
                writer.add(entry, result)
                first_s = first_s or writer.seconds
        if is_source(stage):
            self._copied.update(entry.item_id for entry, _ in made)
        return writer.seconds - first_s if writer.commits > 1 else writer.seconds

    def upkeep(self) -> float:
        """Measure the seconds of what a run does after its stages."""
        began = time.monotonic()
        self.scratch.maintain()
        return time.monotonic() - began


LEAST = 8
"""Items drawn of each kind, however rare it is."""

_POOL = 4000
"""Items of a kind among which the drawn ones are spread by size; beyond, they are a random part of the kind."""

T = TypeVar("T")


@dataclass(frozen=True)
class DrawnItems(Generic[T]):
    """Drawn items, in the order to probe them, and the number of each kind in all."""

    entries: Sequence[T]
    counts: Mapping[str, int]


class ItemPool(Generic[T]):
    """Pool of all entries, which keeps a random part of each kind in memory.

    That part is drawn by Algorithm R of Vitter (1985), each entry with the same chance.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._kept: dict[str, list[tuple[float, T]]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, size: float, entry: T) -> None:
        """Take one.

        Args:
            size: what its cost may grow with, in a unit of the kind's own.
        """
        kept = self._kept.setdefault(kind, [])
        self.counts[kind] += 1
        if len(kept) < _POOL:
            kept.append((size, entry))
        elif (place := self._random.randrange(self.counts[kind])) < _POOL:
            kept[place] = (size, entry)

    def draw(self, most: int) -> DrawnItems[T]:
        """Draw about `most` of them."""
        total = sum(self.counts.values())
        placed: list[tuple[float, T]] = []
        for kind, kept in sorted(self._kept.items()):
            wanted = min(len(kept), max(LEAST, round(most * self.counts[kind] / total)))
            chosen = _spread(kept, wanted, self._random)
            placed += [((place + 0.5) / wanted, entry) for place, entry in enumerate(chosen)]
        placed.sort(key=lambda one: one[0])
        return DrawnItems([entry for _, entry in placed], dict(self.counts))


def _spread(kept: Iterable[tuple[float, T]], wanted: int, random: Random) -> list[T]:
    ordered = sorted(kept, key=lambda one: one[0])
    edges = [round(part * len(ordered) / wanted) for part in range(wanted + 1)]
    chosen = [ordered[random.randrange(low, high)][1] for low, high in pairwise(edges)]
    random.shuffle(chosen)
    return chosen


def kind_and_size(row: Row) -> tuple[str, float]:
    """Return the kind of an item and its amount to decode: seconds of its media, else their bytes, else letters."""
    media: Sequence[Mapping[str, Any]] = row.get("media") or ()
    if media:
        lengths = sum(one.get("duration_s") or 0.0 for one in media)
        return str(row.get("kind")), lengths or float(sum(one.get("size_bytes") or _size(one["uri"]) for one in media))
    return str(row.get("kind")), float(len(row.get("title") or "") + len(row.get("description") or ""))


def _size(uri: str) -> int:
    """Measure the bytes of a local file; 0 for a remote or missing one."""
    try:
        return Path(uri.removeprefix("file://")).stat().st_size
    except OSError:
        return 0

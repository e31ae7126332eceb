"""A workspace in a temporary folder in which a few items go through the stages, so that each is probed on true rows.

Items that are in the real workspace come with all the rows that they have there; new ones as ingest makes them. Gates,
keys and commits are those of a run. What a fit stage would learn is learnt from these few items where that is a matter
of seconds; a writer that is still to be tuned is stood in for by the one that it is tuned from.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coldstart.engine.work import sources, stale_work
from coldstart.engine.writer import Writer
from coldstart.fitted import WRITERS, bound
from coldstart.freshness import Standing
from coldstart.pipeline import Pipeline, StageSpec
from coldstart.stage import MapStage, Reject, Row, WholeStage, Work, is_source
from coldstart.workspace import ITEMS, Store

_STAGE_TABLES = "stage."


class Rehearsal:
    """The temporary workspace.

    Args:
        store: the real one, which is read alone.
        pipeline: of the run; specs: the stages of it that the run does.
    """

    def __init__(self, store: Store, pipeline: Pipeline, specs: Sequence[StageSpec], folder: str | Path) -> None:
        self._store = store
        self.scratch = Store(folder, create=True)
        self.stood_in: dict[str, str] = {}
        real = bound(pipeline, store)

        def fitted(name: str) -> Path | None:
            made = self.scratch.artifacts.newest(name)
            return real.fitted(name) if made is None else made.folder

        self.pipeline = replace(self._without_unmade(real, specs), fitted=fitted)
        self._built: dict[str, MapStage | WholeStage] = {}
        self._copied: set[str] = set()

    def close(self) -> None:
        """Take away what fits laid out on this machine."""
        for spec in self.pipeline.stages:
            known = {made.digest for made in self._store.artifacts.all(spec.name)}
            for made in self.scratch.artifacts.all(spec.name):
                if made.digest not in known:
                    shutil.rmtree(made.folder, ignore_errors=True)

    def _without_unmade(self, pipeline: Pipeline, specs: Sequence[StageSpec]) -> Pipeline:
        """The pipeline with writers as they are before the tuning that this run would begin with."""
        unmade = {spec.name: spec for spec in specs if spec.kind in WRITERS and pipeline.fitted(spec.name) is None}
        found = []
        for spec in pipeline.stages:
            prefix, _, asked = str(getattr(spec.settings, "generator", "")).partition(":")
            fit = next((s for s in unmade.values() if asked in (s.name, s.name.rpartition(".")[2])), None)
            if prefix == "finetune" and fit is not None:
                base = fit.settings.generator
                self.stood_in[spec.name] = f"probed with {base}, from which stage {fit.name!r} tunes its writer"
                spec = replace(spec, settings=spec.settings.model_copy(update={"generator": base}))
            found.append(spec)
        return replace(pipeline, stages=tuple(found))

    def stage(self, name: str) -> MapStage | WholeStage:
        """A stage over the temporary workspace; built once, as a run does."""
        if name not in self._built:
            self._built[name] = self._standing().stage(name)
        return self._built[name]

    def _standing(self) -> Standing:
        return Standing(self.scratch, self.pipeline, self._built)

    def copy(self, items: Sequence[str]) -> None:
        """Take items of the real workspace over, with all their rows and verdicts."""
        new = [item for item in items if item not in self._copied]
        self._copied.update(new)
        if not new:
            return
        self.scratch.merge(ITEMS, self._store.read(ITEMS, ids=new))
        for table in self._store.tables():
            if table.startswith(_STAGE_TABLES) and "item_id" in self._store.columns(table):
                rows = self._store.read(table, ids=new)
                if rows.num_rows:
                    self.scratch.merge(table, rows)
        among = set(new)
        verdicts = [row for rows in self._store.ledger().values() for item, row in rows.items() if item in among]
        self.scratch.record(verdicts)

    def work(self, stage: MapStage, items: Sequence[str]) -> list[Work]:
        """What is to be done for those of the items that are ready, in their order.

        Raises:
            NotFitted: the stage waits for a fit.
        """
        stage.fingerprint()
        standing = self._standing()
        state = standing.of(stage.name)
        ready = set(state.stale) - state.waiting
        chosen = [item for item in items if item in ready]
        return list(stale_work(self.scratch, state.expected, chosen, sources(stage, standing)))

    def write(self, stage: MapStage, made: Sequence[tuple[Work, Row | Reject]]) -> float:
        """Commit what was made, in two parts; gives the seconds of the second, since the first makes the tables."""
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
        """Seconds of what a run does after its stages."""
        began = time.monotonic()
        self.scratch.maintain()
        return time.monotonic() - began

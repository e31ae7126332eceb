"""Methods that do the work of a catalogue: run, estimate, ingest interactions, fit, export, and inspect the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.api.opened import OpenedStore, PipelineSource
from coldstart.core import trust
from coldstart.core.interactions import Interactions
from coldstart.core.item_fields import read_object
from coldstart.core.items import LANGUAGE
from coldstart.core.language import UNKNOWN, count_languages, languages_text, mostly_english
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress, SilentProgress
from coldstart.core.reasons import OF_VIDEOS
from coldstart.engine.report import RunReport, StageReport
from coldstart.engine.run import check_run, run_pipeline, status
from coldstart.errors import redact_urls
from coldstart.store import ITEMS, LEDGER
from coldstart.store.interactions import INTERACTIONS, InteractionSummary, InteractionTable
from coldstart.store.sql import equals, one_of

if TYPE_CHECKING:
    from coldstart.engine.estimate.report import Estimate
    from coldstart.ingest.load_interactions import InteractionReport
    from coldstart.store.check import Damage
    from coldstart.store.histories import Histories, HistorySummary


LANGUAGES_READ = 5000
"""Items whose language is detected to advise an encoder."""


class WorkMethods(OpenedStore):
    """Methods of a workspace that run its pipeline."""

    def run(
        self,
        pipeline: PipelineSource = None,
        *,
        only: Iterable[str] = (),
        start: str | None = None,
        limit: int | None = None,
        items: Iterable[str] | None = None,
        where: str | None = None,
        retry: Iterable[str] = (),
        refit: bool = False,
        drop_spaces: bool = False,
        progress: Progress | None = None,
        **settings: Any,
    ) -> RunReport:
        """Do what is stale and skip the rest.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes; further keywords go there too.
            only: names or kinds of the stages to run; `start`: the stage to begin with.
            limit: at most so many items a stage.
            items: ids of the only items to do; where: an SQL condition as for `search` that they must meet. Rows of
                other items stay as they are.
            retry: with states (`failed`, …) given, only items in one of them are done, changed or not.
            refit: let fit stages learn from rows that came or changed since their last fit.
            drop_spaces: take spaces out of the catalog that the pipeline no longer makes; by default they stay as they
                are, and new items have no vector there.

        Raises:
            ColdstartError: a fault that you can mend; rows that were finished before it are stored.
        """
        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline, **settings)
        trust.remember(self.uri, trust.places(pipeline.raw))
        chosen = self._chosen_items(items, where)
        self._published = None
        return run_pipeline(
            self._store,
            pipeline,
            only=only,
            start=start,
            limit=limit,
            items=chosen,
            retry=retry,
            refit=refit,
            drop_spaces=drop_spaces,
            progress=progress,
        )

    def check_run(self, pipeline: Pipeline, *, only: Iterable[str] = (), start: str | None = None) -> None:
        """Refuse a run that would stop before its first item, as `run` does; stores nothing.

        Raises:
            ColdstartError: there is no such stage, no manifest, or settings do not resolve.
        """
        check_run(self._store, pipeline, only, start)

    def estimate(
        self,
        pipeline: Pipeline | str | Path | None = None,
        *,
        only: Iterable[str] = (),
        start: str | None = None,
        limit: int | None = None,
        items: Iterable[str] | None = None,
        where: str | None = None,
        on: str | None = None,
        uri: str | None = None,
        **settings: Any,
    ) -> Estimate:
        """Estimate rows, time, memory and disk of a `run` from a probe of a few items; writes nothing here.

        The estimate is saved in the user's cache folder, and the `run` that follows is compared with it.

        Args:
            only, start, limit, items, where: as for `run`; of chosen items the number is estimated for.
            on: another machine to estimate the time of too: a name such as `h100x8` or `cpu16`,
                `gpus=1,tflops=300,…`, or a YAML file; see `coldstart.engine.estimate.forecast`.
            uri: the workspace that the run will be in, where that does not exist yet.

        Raises:
            ColdstartError: a set-up fault, such as missing weights, or no such machine.
        """
        from coldstart.engine.estimate.estimate import estimate
        from coldstart.engine.estimate.forecast import parse_machine
        from coldstart.engine.estimate.report import EstimateRequest, save_estimate

        other = None if on is None else parse_machine(on)
        if (chosen := self._chosen_items(items, where)) is not None:
            limit = len(chosen) if limit is None else min(limit, len(chosen))
        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline, **settings)
        only = tuple(only)
        result = estimate(self._store, pipeline, only=only, start=start, limit=limit, on=other)
        save_estimate(EstimateRequest(uri or self.uri, pipeline, only, start, limit), result.to_dict())
        return result

    def status(self, pipeline: Pipeline | None = None) -> list[StageReport]:
        """Count the items in each state, stage by stage."""
        return status(self._store, pipeline or self._reading_pipeline())

    def count_items(self) -> int:
        """Count the items of the workspace, served or not."""
        return self._store.count(ITEMS)

    def runs(self, limit: int = 50) -> list[dict[str, Any]]:
        """List the last runs of stages, newest first: `stage`, `started_at` (ISO 8601), `seconds`, `report`."""
        from coldstart.store import EVALUATION, RUNS

        rows = [row for row in self._store.in_sequence(RUNS)[::-1] if row["stage"] != EVALUATION][:limit]
        return [
            {
                "stage": row["stage"],
                "started_at": row["started_at"].isoformat(timespec="seconds"),
                "seconds": row["seconds"],
                "report": _json_object(row["report"]),
            }
            for row in rows
        ]

    def languages(self) -> Counter[str]:
        """Count the languages of items: code -> items; `und` counts those whose language does not show.

        In a workspace of an earlier version, which no run has added them to, those of the first `LANGUAGES_READ` items.
        """
        found: Counter[str] = Counter()
        if LANGUAGE.name in self._store.columns(ITEMS):
            for batch in self._store.batches(ITEMS, [LANGUAGE.name]):
                found.update(code or UNKNOWN for code in batch.column(0).to_pylist())
            return found
        for batch in self._store.batches(ITEMS, ["title", "description"]):
            texts = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            found += count_languages(islice(texts, LANGUAGES_READ - found.total()))
            if found.total() >= LANGUAGES_READ:
                break
        return found

    def encoder_advice(self) -> str | None:
        """Advise `starter:multilingual` where texts in other languages are encoded by `starter`, which reads English.

        Returns:
            The reason and the next commands in one sentence, or None.
        """
        languages = self.languages()
        if mostly_english(languages) is not False:
            return None
        spaces = [
            spec.name
            for spec in self._reading_pipeline().of_kind("embed")
            if spec.settings.input == "text" and spec.settings.encoder == "starter"
        ]
        if not spaces:
            return None
        chosen = " ".join(f"--set {space}.encoder=starter:multilingual" for space in spaces)
        return (
            f"{languages_text(languages)} of the items whose language shows: `starter` reads English; to find them by "
            f"meaning, from queries in English too, run `coldstart models pull multilingual`, then `coldstart run "
            f"--workspace {self.uri} {chosen}`: it encodes texts in 2.5 times the time"
        )

    def failures(self) -> list[dict[str, Any]]:
        """Read the ledger: every item without a row in a stage of the pipeline, why, and when.

        Rows are in the order of the stages, then of the ids.
        """
        return self.failures_page()[0]

    def failures_page(
        self,
        given: Mapping[str, str] | None = None,
        start: int = 0,
        limit: int | None = None,
        *,
        of_kind: bool = True,
    ) -> tuple[list[dict[str, Any]], int]:
        """Read a part of `failures`, and count all of them.

        Args:
            given: column -> value that rows have in it; start: the first row; limit: rows, by default all.
            of_kind: list also what items cannot have by their kind, such as products without a video.
        """
        if not self._store.has(LEDGER):
            return [], 0
        import pyarrow as pa
        import pyarrow.compute as pc

        stages = [spec.name for spec in self._reading_pipeline().stages]
        conditions = [one_of("stage", stages), *(equals(name, value) for name, value in (given or {}).items())]
        rows = self._store.read(LEDGER, where=" AND ".join(conditions))
        if not of_kind and self._store.has(ITEMS):
            products = self._store.read(ITEMS, ["item_id"], where=equals("kind", "product"))["item_id"]
            by_kind = pc.is_in(rows["reason"], value_set=pa.array(OF_VIDEOS, pa.string()))
            rows = rows.filter(pc.invert(pc.and_(by_kind, pc.is_in(rows["item_id"], value_set=products))))
        places = pc.index_in(rows["stage"], value_set=pa.array(stages, pa.string()))
        order = pc.sort_indices(
            pa.table({"place": places, "item_id": rows["item_id"]}),
            [("place", "ascending"), ("item_id", "ascending")],
        )
        shown = rows.take(order.slice(start, limit)).to_pylist()
        return [{**row, "detail": redact_urls(row["detail"] or "")} for row in shown], len(rows)

    def check(self, *, repair: bool = False) -> list[Damage]:
        """Read everything that is stored and list what is damaged: tables, keys, vectors, fits, indexes, publications.

        Args:
            repair: drop what is damaged, and nothing else, so that the next run makes it again; lists what was dropped.

        Raises:
            ColdstartError: another process writes to the workspace, or something cannot be dropped.
        """
        from coldstart.store import check

        if not repair:
            return check.find_damage(self._store)
        with self._store.lock():
            self._published = None
            return check.repair(self._store)

    def ingest_interactions(
        self,
        path: str | Path,
        *,
        columns: Mapping[str, str] | None = None,
        event_weights: Mapping[str, float | None] | None = None,
        time_unit: str = "auto",
        max_failed: float = 0.01,
        progress: Progress | None = None,
    ) -> InteractionReport:
        """Read a user-item interaction log into the workspace; rows that it already has are not added again.

        Args:
            path: a CSV, TSV, JSON or Parquet file, perhaps as .gz, one interaction a row.
            columns: `user_id`, `item_id`, `timestamp`, `event`, `weight` -> the file's column, "" for none; fields that
                are left out are recognised by name where that is plain.
            event_weights: event -> the weight of its rows, None for that of the weight column, or 1; rows with another
                event are rejected. By default all weigh as the column says, or 1.
            time_unit: `s`, `ms`, `us`, `iso`, or `auto` to recognise it by the first times.
            max_failed: share of rows that may be rejected before the report is `over_budget`.

        Raises:
            ColdstartError: a fault in the file or its columns, or another process writes to the workspace.
        """
        from coldstart.ingest.load_interactions import import_interactions

        return import_interactions(
            self._store,
            Path(path),
            columns=columns,
            event_weights=event_weights,
            time_unit=time_unit,
            max_failed=max_failed,
            progress=progress,
        )

    def interactions(self, start: int | None = None, end: int | None = None) -> Interactions:
        """Read the interactions with start <= time < end, in seconds since 1970 in UTC; empty before any ingest."""
        return InteractionTable(self._store).read(start, end)

    def interaction_summary(self) -> InteractionSummary | None:
        """Count interactions, users and items, with the first and last time; None where none were ingested."""
        return InteractionTable(self._store).summary() if self._store.has(INTERACTIONS) else None

    def histories(self) -> Histories:
        """Open the actions of each user, sorted by time; built from the interactions where these changed since.

        Raises:
            ColdstartError: they have to be built, and another process writes to the workspace.
        """
        from coldstart.store.history_build import open_histories

        return open_histories(self._store)

    def history_summary(self) -> HistorySummary | None:
        """Count the histories as they are stored; None where none were built yet."""
        from coldstart.store.histories import read_summary

        return read_summary(self._store)

    def finetune_align(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        image: str | None = None,
        text: str | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fit `align.text_image` on the present items, where any came, changed or went since the last fit.

        Args:
            source: the pipeline, as for `pipeline()`; one without such a stage gets it before its index.
            image: the image space to learn from; by default the stage's own, for a new one the pipeline's first.
            text: the text encoder; by default the stage's own, for a new one as its settings choose it.

        Raises:
            ColdstartError: a fault that you can mend, such as too few items to learn from.
        """
        from coldstart.align.settings import KIND, with_align

        raw, changes = with_align(self.pipeline(source), image, text)
        return self.run(raw, overrides=[*changes, *overrides], only=[KIND], refit=True, progress=progress)

    def finetune_behaviour(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        spaces: Sequence[str] | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fit `align.behaviour` on the present data, where items or interactions came, changed or went since the last
        fit. `run` then fills the space `behaviour`.

        Args:
            source: the pipeline, as for `pipeline()`; one without such a stage gets it, and the space.
            spaces: the content spaces to learn from; by default the stage's own, for a new one all before it.

        Raises:
            ColdstartError: a fault that you can mend, such as too few interactions to learn from.
        """
        from coldstart.recommend.inputs import FIT
        from coldstart.recommend.settings import with_behaviour

        raw, changes = with_behaviour(self.pipeline(source), spaces)
        return self.run(raw, overrides=[*changes, *overrides], only=[FIT], refit=True, progress=progress)

    def finetune_describe(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        generator: str | None = None,
        method: str | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fine-tune a generator on the present items, where any came, changed or went since the last fit.

        Args:
            source: the pipeline, as for `pipeline()`; one without a stage `finetune.describe` gets it.
            generator: the model to tune; by default the stage's own, for a new one `starter`.
            method: `sft`, or `dpo` to go on from the last fit.

        Raises:
            ColdstartError: a fault that you can mend, such as too few items to learn from.
        """
        from coldstart.describe.finetune.settings import FINETUNE, with_finetune

        raw, changes = with_finetune(self.pipeline(source), {"generator": generator, "method": method})
        return self.run(raw, overrides=[*changes, *overrides], only=[FINETUNE], refit=True, progress=progress)

    def export_adapter(
        self,
        out: str | Path,
        pipeline: PipelineSource = None,
        *,
        prompts: int = 20,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Merge the adapter of `finetune.describe` into its base and save a folder that transformers and vLLM load.

        Args:
            prompts: so many are answered by the adapter, by the merged model and in batches, and must agree.

        Raises:
            ColdstartError: nothing was fitted, `out` exists, the base cannot be merged, or the three ways disagree.
        """
        from coldstart.describe.finetune.export import export_model

        return export_model(self._store, self._loaded(pipeline), Path(out), prompts, progress or SilentProgress())

    def fitted(self, stage: str) -> dict[str, str]:
        """Map each item to `train`, `valid` or `test` of the last fit of a stage; empty where nothing was fitted."""
        from coldstart.store.fits import read_fit_items

        artifact = self._store.artifacts.newest(stage)
        return {} if artifact is None else {item: side for item, (_, side) in read_fit_items(artifact).items()}

    def fit_report(self, stage: str) -> dict[str, Any]:
        """Load the report of the last fit of a stage: settings and measures; empty where nothing was fitted."""
        artifact = self._store.artifacts.newest(stage)
        return {} if artifact is None else dict(artifact.report)


def _json_object(text: str) -> dict[str, Any]:
    """Parse the report of a run; empty where it is no JSON object."""
    return read_object(text) or {}

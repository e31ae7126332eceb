"""Methods that measure fits, descriptions and recommendations on items that no fit has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.api.opened import PipelineSource
from coldstart.api.recommend import RecommendMethods
from coldstart.api.search import SearchMethods
from coldstart.core.item_fields import read_object
from coldstart.core.progress import Progress, SilentProgress
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.ablation.report import LadderReport
    from coldstart.align.evaluate import AlignReport
    from coldstart.describe.evaluate.report import DescribeReport
    from coldstart.evaluate.workspace import EvaluationReport
    from coldstart.recommend.evaluate import RecommendReport
    from coldstart.semantic_ids.recall_evaluation import RecallReport
    from coldstart.understand.safety_evaluation import SafetyReport


MOST_EVALUATION = 1 << 20
"""Characters of a kept evaluation that are read; those of all capabilities have about 40,000."""


class EvaluateMethods(SearchMethods, RecommendMethods):
    """Methods of a workspace that evaluate its models; searches are evaluated as they are served."""

    def evaluate_align(
        self,
        pipeline: PipelineSource = None,
        *,
        split: str = "test",
        classes: str | Path | None = None,
        view: str | None = None,
        progress: Progress | None = None,
    ) -> AlignReport:
        """Measure text-image retrieval of the last fit, before and after it, on items that it has not seen.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes.
            split: `test`; or `valid` or `train`, which the fit has seen.
            classes: a classes file for zero-shot accuracy; by default the categories of the items.
            view: the texts to query by, such as `description`; by default titles.

        Raises:
            ColdstartError: nothing is fitted yet, or no item of that split has a query.
        """
        from coldstart.align.evaluate import evaluate_store

        meters = progress or SilentProgress()
        return evaluate_store(self._store, self._loaded(pipeline), meters, split=split, classes=classes, view=view)

    def evaluate_describe(
        self,
        pipeline: PipelineSource = None,
        *,
        split: str = "test",
        limit: int | None = None,
        given: Iterable[str] | None = None,
        writers: Iterable[str] | None = None,
        gallery: str = "held-out",
        progress: Progress | None = None,
    ) -> DescribeReport:
        """Measure descriptions of new items: correct and invented claims before and after the checks, and their
        effect on search.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes.
            split: `test`; or `valid` or `train`, which the fit has seen.
            limit: at most so many items, drawn at random.
            given: the fields in the prompt; by default those of the fit.
            writers: `base`, `adapter` and names of generators; by default the first two.
            gallery: `held-out`, or `all` to search for the items among all others as well.

        Raises:
            ColdstartError: no writer is tuned yet, or no item of that split can be evaluated.
        """
        from coldstart.describe.evaluate.workspace import evaluate_store

        return evaluate_store(
            self._store,
            self._loaded(pipeline),
            progress or SilentProgress(),
            split=split,
            limit=limit,
            given=None if given is None else list(given),
            writers=None if writers is None else list(writers),
            gallery=gallery,
        )

    def compare_descriptions(self, pipeline: PipelineSource = None, *, limit: int = 5) -> list[dict[str, Any]]:
        """Describe some items by the base and by the tuned generator: `item_id`, `title`, `written`.

        Of each writer the raw `text`, what the checks `kept`, and the claims that they `cut`. Nothing is stored.

        Raises:
            ColdstartError: the pipeline describes nothing, or its generator is tuned by nothing.
        """
        from coldstart.describe.evaluate.workspace import compare_fit

        return compare_fit(self._store, self._loaded(pipeline), limit)

    def evaluate_recall(
        self,
        pipeline: PipelineSource = None,
        *,
        split: str = "last-out",
        methods: Iterable[str] | None = None,
        seeds: int = 1,
        users: int | None = None,
        progress: Progress | None = None,
    ) -> RecallReport:
        """Measure how often lists hold the next item of a user, by the sequence model and by baselines, each fitted
        inside one split.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes.
            split: `last-out`: each user's last item is asked for; `time`: the first one after a cut; `cold:0.1`: as
                last-out, with a tenth of the items held out as new.
            methods: names of methods; by default all.
            seeds: fits of each trained method.
            users: judge so many users, drawn by a hash of their ids; by default all.

        Raises:
            LeakError: something that is read lies after a target.
            ColdstartError: there are no interactions, or nobody is left to judge.
        """
        from coldstart.semantic_ids.recall_workspace import evaluate_store

        return evaluate_store(
            self._store,
            self._loaded(pipeline),
            progress or SilentProgress(),
            split=split,
            methods=None if methods is None else list(methods),
            seeds=seeds,
            users=users,
        )

    def evaluate_recommend(
        self,
        pipeline: PipelineSource = None,
        *,
        split: str | Path = "time",
        methods: Iterable[str] | None = None,
        spaces: Iterable[str] | None = None,
        part: str = "test",
        seeds: int = 5,
        min_weight: float | None = None,
        warm_min: int | None = None,
        folder: str | Path | None = None,
        ranked: bool = True,
        progress: Progress | None = None,
    ) -> RecommendReport:
        """Measure recommendations of new items by every method, each fitted inside one split.

        The last rows are lists as `recommend` gives them: `served`, `ranked` by the union of channels and, where the
        workspace has a fit or a certificate of a reranker, `reranked`.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes.
            split: `time`, `items` or `coldrec`; or a folder that holds a split which was written before.
            methods: names of methods; by default all.
            spaces: the content spaces; by default those that `align.behaviour` learns from, or all.
            part: `test`; or `valid`, by which one may choose.
            seeds: fits of each trained method.
            min_weight: interactions of at least this weight count as positive; by default as `align.behaviour` has
                it, or ratings of 0.7 of their scale and more, or else those above 0.
            warm_min: users that an item needs in the training window; by default 5 in a split by time, else 1.
            folder: where the split is written.
            ranked: rows of lists, too; with `methods`, those among them.

        Raises:
            LeakError: a fit has used data of the held-out side.
            ColdstartError: there are no interactions, or none on one side of the split.
        """
        from coldstart.api.rerank import reranked_notes
        from coldstart.api.served_comparison import ranked_notes
        from coldstart.recommend.evaluate import EvaluateSettings
        from coldstart.recommend.evaluate.methods import LIST_ROWS
        from coldstart.recommend.evaluate.workspace import evaluate_store

        settings = EvaluateSettings(
            methods=None if methods is None else tuple(methods),
            part=part,
            seeds=seeds,
            min_weight=min_weight,
            warm_min=warm_min,
        )
        loaded = self._loaded(pipeline)
        meters, listed = progress or SilentProgress(), None
        rows = None if settings.methods is None else tuple(name for name in settings.methods if name in LIST_ROWS)
        if ranked and (rows is None or rows):
            from coldstart.api.served_rows import ServedRows

            listed = ServedRows(self._store, loaded, meters, rows)
        found = evaluate_store(
            self._store,
            loaded,
            meters,
            split=split,
            settings=settings,
            spaces=None if spaces is None else list(spaces),
            folder=None if folder is None else Path(folder),
            listed=listed,
        )
        reranked = reranked_notes(self._store, self._listing, self._union_key)
        return replace(found, notes=[*found.notes, *ranked_notes(self._store, loaded), *reranked])

    def evaluate_stages(
        self,
        pipeline: PipelineSource = None,
        *,
        seeds: int = 1,
        write: int | str | None = None,
        min_weight: float | None = None,
        warm_min: int = 1,
        labels: bool = False,
        held_out: Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> LadderReport:
        """Measure the gain of each stage in recommending new items, and the seconds that it takes.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes.
            seeds: so many times other items are held out as if they were new.
            write: `all`, or the number of items to describe now by the writer (tuned or base) that has no stored
                descriptions, so that it is evaluated too.
            min_weight: interactions of at least this weight count as positive; by default as `align.behaviour`
                has it, or ratings of 0.7 of their scale and more, or else those above 0.
            warm_min: users that an item needs to be a training item.
            labels: give every step category, tags and attributes beside its own content.
            held_out: ids of the items that are new, in place of some drawn at random.

        Raises:
            ColdstartError: there are no interactions, or too few to hold items out.
        """
        from coldstart.ablation.workspace import evaluate_store

        return evaluate_store(
            self._store,
            self._loaded(pipeline),
            progress or SilentProgress(),
            seeds=seeds,
            write=write,
            min_weight=min_weight,
            warm_min=warm_min,
            labels=labels,
            held_out=None if held_out is None else list(held_out),
        )

    def evaluate_safety(
        self, pipeline: PipelineSource = None, *, labels: str | Path | Mapping[str, bool] | None = None
    ) -> SafetyReport:
        """Measure the safety gate: false alarms on harmless items, recall where unsafe ones are known.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes.
            labels: item -> whether it is unsafe, or a file with `item_id` and `label`, `safe` or `unsafe`; they count
                before what the records state.

        Raises:
            ColdstartError: the pipeline has no safety policy or has not run, or the labels cannot be read.
        """
        from coldstart.store.freshness import PipelineState
        from coldstart.understand.safety_evaluation import measure_safety, read_harm_labels, stated_harm

        loaded = self._loaded(pipeline)
        specs = loaded.of_kind("understand.safety")
        if not specs:
            raise ColdstartError(
                "the pipeline has no stage understand.safety: a group `understand: {safety: {}}` has one"
            )
        given = labels if isinstance(labels, Mapping) else {} if labels is None else read_harm_labels(Path(labels))
        stage: Any = PipelineState(self._store, loaded).stage(specs[-1].name)
        return measure_safety(self._store, stage, {**stated_harm(self._store), **given})

    def keep_evaluation(self, report: EvaluationReport) -> None:
        """Keep the results of `evaluate_all` with the workspace, which `evaluations` and a server list.

        Raises:
            ColdstartError: another process writes to the workspace, or it cannot be written.
        """
        from coldstart.store import EVALUATION

        with self._store.lock():
            seconds = sum(one.cpu_s for one in report.done)
            self._store.save_run(EVALUATION, datetime.fromisoformat(report.made_at), seconds, report.to_dict())

    def evaluations(self, limit: int = 10) -> list[dict[str, Any]]:
        """List the last evaluations that were kept, newest first, as `EvaluationReport.to_dict` gives them; what cannot
        be read is left out."""
        from coldstart.store import EVALUATION, RUNS

        found: list[dict[str, Any]] = []
        for row in self._store.in_sequence(RUNS)[::-1]:
            if len(found) == limit:
                break
            readable = row["stage"] == EVALUATION and len(row["report"] or "") <= MOST_EVALUATION
            if readable and (report := read_object(row["report"])):
                found.append(report)
        return found

    def evaluate_all(
        self,
        pipeline: PipelineSource = None,
        *,
        only: Iterable[str] | None = None,
        skip: Iterable[str] = (),
        quick: bool = False,
        limit: int | None = None,
        budget_s: float | None = None,
        say: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> EvaluationReport:
        """Measure every capability on this catalogue's own held-out items, each against its baseline.

        A capability that fails is a row with the error, and one that lacks data says so.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes.
            only, skip: names of capabilities, see `coldstart.evaluate.workspace.CAPABILITIES`.
            quick: measure samples of a hundred, give the fit of behaviour a minute, and write no descriptions.
            limit: describe at most so many items, by default 30.
            budget_s: seconds of processor time: a capability whose estimate is above what is left is left out.
            say: called with a line before each capability.

        Raises:
            ColdstartError: the workspace has no items, or there is no such capability.
        """
        from coldstart.evaluate.capability import Context
        from coldstart.evaluate.workspace import choose_capabilities, evaluate_capabilities

        chosen = choose_capabilities(only, skip)
        context = Context(
            self._store,
            self._loaded(pipeline),
            progress or SilentProgress(),
            published=self.published,
            encoder_for=self.encoder_for,
            frames_of=self._frames_of,
            limits=self.media_limits(),
            quick=quick,
            limit=limit,
        )
        return evaluate_capabilities(context, chosen, budget_s=budget_s, say=say or (lambda text: None))

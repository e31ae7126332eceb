"""Methods that fit, use and evaluate a ranker of what users are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from coldstart.api.opened import PipelineSource
from coldstart.api.work import WorkMethods
from coldstart.core.progress import Progress, SilentProgress
from coldstart.core.values import unix_seconds
from coldstart.engine.report import RunReport
from coldstart.errors import ColdstartError, NotFitted

if TYPE_CHECKING:
    from coldstart.rank.evaluate import RankReport
    from coldstart.rank.service import Ranked, RankService


class RankMethods(WorkMethods):
    """Methods of a workspace that rank candidates by what a user will do with them."""

    _rank_service: tuple[object, RankService] | None = None

    def finetune_rank(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        events: Sequence[str] | Mapping[str, float] | None = None,
        model: str | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fit rankers where items, showings or interactions came, changed or went since the last fit.

        Two fits: `finetune.union`, channels of candidates and the ranker of their union, learnt from interactions; and
        `finetune.rank` on the logged showings, where there are 2,000 or more.

        Args:
            source: the pipeline, as for `pipeline()`; one without such a stage gets it.
            events: outcomes to learn, perhaps with their weights in the score; by default the stage's own, for a new
                one all outcomes that are 0 or 1.
            model: `trees`, `attention`, `both`, `long`, `trees_and_long`, or `auto`, what had the smallest log loss on
                the latest showings.

        Raises:
            ColdstartError: a fault that you can mend, such as too few showings, or an event that all of them have.
        """
        from coldstart.rank.settings import FEWEST_SHOWINGS, RANK, with_rank
        from coldstart.rank.union_stage import UNION, with_union
        from coldstart.store.impressions import ImpressionTable

        given = self.pipeline(source)
        has_content = bool(given.of_kind("embed"))
        raw = with_union(given) if has_content else dict(given.raw)
        few = ImpressionTable(self._store).count() < FEWEST_SHOWINGS
        if has_content and few and events is None and model is None and not given.of_kind(RANK):
            done = self.run(raw, overrides=overrides, only=[UNION], refit=True, progress=progress)
            return self._compared(done, progress)
        weights = None
        if events is not None:
            weights = dict(events) if isinstance(events, Mapping) else dict.fromkeys(events, 1.0)
        raw, changes = with_rank(self.pipeline(raw), events=weights, model=model)
        changes = [*changes, *overrides]
        if has_content:
            known = self.pipeline(raw).of_kind(UNION)[-1].name
            # where nothing was fitted yet there may be too few interactions for it, which is no fault beside showings
            is_there = self._store.artifacts.newest(known) is not None
            self.run(raw, overrides=changes, only=[UNION], refit=is_there, progress=progress)
        done = self.run(raw, overrides=changes, only=[RANK], refit=True, progress=progress)
        return self._compared(done, progress) if has_content else done

    def _compared(self, done: RunReport, progress: Progress | None) -> RunReport:
        """Compare the ranker of the union with the lists that it replaces, and add what came out to the last notes."""
        from coldstart.api.served_comparison import compare_with_served

        try:
            note = compare_with_served(self._listing(), progress or SilentProgress())  # type: ignore[attr-defined]
        except NotFitted:  # no ranker of the union
            return done
        except ColdstartError as why:
            note = f"not compared with the lists that it replaces, so that `--rank auto` stays off: {why}"
        last = replace(done.stages[-1], notes=[*done.stages[-1].notes, note])
        return replace(done, stages=[*done.stages[:-1], last])

    def rank(
        self,
        user: str,
        items: Sequence[str],
        *,
        at: int | datetime | None = None,
        pipeline: PipelineSource = None,
    ) -> Ranked:
        """Rank items for a user by the fit of `finetune_rank`.

        What the user did at or after the time of the request is left out and counted. Rates are those of the showings
        in the workspace before the day of the request.

        Args:
            user: one who was shown nothing yet is ranked for by the items alone.
            items: ids; one that neither catalogue nor log has is `unknown`, and stands last.
            at: time of the request, in seconds since 1970, or as a datetime, in UTC if it has no zone; by default now.

        Raises:
            ColdstartError: nothing is fitted, the fit is of other semantic IDs than those of now, or no item is given.
        """
        seconds = unix_seconds(at) if isinstance(at, datetime) else int(time() if at is None else at)
        return self._ranking(pipeline).rank(user, items, seconds)

    def evaluate_rank(
        self,
        pipeline: PipelineSource = None,
        *,
        split: str = "time",
        events: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> RankReport:
        """Measure rankers on showings after a cut, each fitted on those before it: AUC, GAUC, log loss, calibration.

        Args:
            pipeline: a `Pipeline`, or a source that `pipeline()` takes; settings of its `finetune.rank` count.
            split: `time`: the latest 30 % are judged; `time:2022-05-01`, or with hours and zone: those from then on.
            events: outcomes to judge; by default those of the settings.

        Raises:
            LeakError: a feature changes with what came after its showing.
            ColdstartError: there are too few showings before or after the cut, or outcomes of one kind alone.
        """
        from coldstart.rank.workspace import evaluate_store

        loaded = self._loaded(pipeline)
        return evaluate_store(self._store, loaded, progress or SilentProgress(), split=split, events=events)

    def _ranking(self, pipeline: PipelineSource = None) -> RankService:
        """Load the ranker, once for each fit and state of the tables that it reads."""
        from coldstart.rank.service import RankService
        from coldstart.rank.workspace import state_of, why_not_fitted

        loaded = self._loaded(pipeline) if pipeline is not None else self._reading_pipeline()
        try:
            now = state_of(self._store, loaded)
            if self._rank_service is None or self._rank_service[0] != now:
                self._rank_service = now, RankService(self._store, loaded)
        except NotFitted as missing:
            raise why_not_fitted(self._store, missing) from None
        return self._rank_service[1]

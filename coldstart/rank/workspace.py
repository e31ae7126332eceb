"""Evaluate rankers on the showings of a workspace, and tell whether what a loaded ranker reads has changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.values import unix_seconds
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rank.data import read_data
from coldstart.rank.evaluate import RankReport, evaluate_data
from coldstart.rank.fit_stage import rank_stage, sids_of
from coldstart.rank.settings import FEWEST_SHOWINGS, RANK, Settings
from coldstart.store import ITEMS, Store
from coldstart.store.impressions import IMPRESSIONS, ImpressionTable
from coldstart.store.interactions import INTERACTIONS, InteractionTable

_STEPS = ("features", "logistic", "trees", "both")


def evaluate_store(
    store: Store, pipeline: Pipeline, progress: Progress, *, split: str = "time", events: Sequence[str] | None = None
) -> RankReport:
    """Evaluate every method on the showings of a workspace, by the settings of its `finetune.rank`.

    Raises:
        ColdstartError: the split is unknown, or there are too few showings.
    """
    cut = parse_split(split)
    stages = pipeline.of_kind(RANK)
    settings: Any = stages[-1].settings if stages else Settings()
    if events is not None:
        own = settings.events or {}
        settings = Settings.model_validate(
            {**settings.model_dump(), "events": {event: own.get(event, 1.0) for event in events}}
        )
    count = ImpressionTable(store).count()
    if count < settings.min_showings:
        raise ColdstartError(
            f"workspace {store.uri} has {count:,} showings, and {settings.min_showings:,} are needed: bring more with "
            f"`coldstart ingest --impressions FILE --workspace {store.uri}`"
        )
    with progress.meter("evaluate rank", len(_STEPS)) as meter:
        data = read_data(store, settings, sids_of(store, pipeline)[0])
        meter.advance(1, 0, 0.0)
        return evaluate_data(
            data, settings, cut=cut, device=pipeline.engine.device, step=lambda name: meter.advance(1, 0, 0.0)
        )


def parse_split(split: str) -> int | None:
    """Read the cut of a split: None for `time`, seconds for `time:DATE`.

    Raises:
        ColdstartError: it is something else.
    """
    kind, _, when = split.partition(":")
    if kind == "time" and not when:
        return None
    try:
        if kind != "time":
            raise ValueError
        return unix_seconds(datetime.fromisoformat(when))
    except (ValueError, OverflowError):
        raise ColdstartError(
            f"split {split[:80]!r}: use time, or time:DATE such as time:2022-05-01 or time:2022-05-01T00:00+08:00"
        ) from None


def why_not_fitted(store: Store, missing: NotFitted) -> NotFitted:
    """Say what a ranker of showings needs where there are too few of them to fit one; otherwise what is missing."""
    count = ImpressionTable(store).count()
    if count >= FEWEST_SHOWINGS:
        return missing
    has_likes = InteractionTable(store).count() > 0
    likes = "; a log of likes orders lists by `coldstart recommend --rank auto` (`POST /v1/recommend`)"
    next = "bring showings with `coldstart ingest --impressions FILE`, then run `coldstart finetune rank`"
    return NotFitted(
        f"no ranker of showings is fitted: workspace {store.uri} has {count:,} showings, and a fit needs "
        f"{FEWEST_SHOWINGS:,} with outcomes{likes if has_likes else ''}: {next}",
        next=next,
    )


def state_of(store: Store, pipeline: Pipeline) -> tuple[object, ...]:
    """Describe what a loaded ranker rests on: its fit, and the versions of the tables that it reads."""
    fit = store.artifacts.newest(rank_stage(pipeline).name)
    versions = tuple(store.table_version(name) for name in (ITEMS, IMPRESSIONS, INTERACTIONS))
    return (None if fit is None else fit.digest, *versions)

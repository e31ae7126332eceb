"""Fit `finetune.rank`: what users do with what they are shown, learnt from logged showings.

The fit is an artifact of the workspace: trees and weights, calibration, numbering of items, and a card of what was
measured on the latest part of its window. Rates and histories are not in it: they are read from the workspace when it
ranks, so that they are of today, and a removed user is in none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from coldstart.core.device import choose_device
from coldstart.core.keys import chain, digest, stage_key
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import LedgerRow, Reject
from coldstart.errors import ColdstartError
from coldstart.rank.data import RankData, read_data
from coldstart.rank.features import ACTIONS_READ, MOST_SHOWINGS
from coldstart.rank.fitted import FittedRanker, from_files, to_files
from coldstart.rank.model import PARTS, RankModel, Recipe, check_classes
from coldstart.rank.settings import RANK, Settings
from coldstart.rank.whole_history import SIMILAR
from coldstart.store import Store
from coldstart.store.fit_stage import (
    FitInputs,
    SavedFits,
    expected_or_waiting,
    fit_in_use,
    fit_unchanged,
    remove_scratch,
)
from coldstart.store.fits import ITEMS_FILE, items_file
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage
from coldstart.store.impressions import IMPRESSIONS, ImpressionTable
from coldstart.store.interactions import InteractionTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from coldstart.store.artifacts import Artifact

ITEM_FIELDS = ("creator", "category", "tags", "created_at", "price", "attributes")
"""Fields of an item that features are made of."""
VECTOR_DIM = 32
_COMMAND = "coldstart finetune rank"


def build(name: str, settings: Settings, pipeline: Pipeline) -> RankFitStage:
    """Build the stage."""
    return RankFitStage(name, settings, pipeline)


class RankFitStage:
    """Fit stage; see `coldstart.core.stage.FitStage`."""

    kind = RANK
    version = 3  # networks over what search found and over whole histories; intervals of probabilities

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name, self.settings, self._pipeline = name, settings, pipeline
        counted = settings.model_dump(mode="json", exclude={"min_showings"})
        self._key = stage_key(self.kind, self.version, counted)
        self._fits = SavedFits(name, lambda: self._key, reads=_summary)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its fits rest on besides rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self._key}

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Compute the keys of the items that a fit takes, and the ledger rows of those left out."""
        return expected_or_waiting(store, self._inputs)

    def present(self, store: Store) -> dict[str, str]:
        """Read the keys of the items of the last fit."""
        return self._fits.present(store)

    def newest(self, store: Store) -> Artifact:
        """Find the newest fit under these settings.

        Raises:
            NotFitted: there is none.
        """
        return self._fits.required(store, _COMMAND)

    def _inputs(self, store: Store) -> FitInputs:
        state, inputs = PipelineState(store, self._pipeline), FitInputs(self.name)
        blocked = state.blocked(self.name)
        shown = frozenset[str]()
        if store.has(IMPRESSIONS):
            shown = frozenset(pc.unique(store.read(IMPRESSIONS, ["item_id"])["item_id"]).to_pylist())
        for item, own in state.item_keys(ITEM_FIELDS).items():
            key = chain(self._key, own)
            if item in blocked:
                inputs.leave_out(item, key, blocked[item])
            elif shown and item not in shown:
                inputs.leave_out(item, key, Reject("not_shown", "nobody was shown it", "filtered"))
            else:
                inputs.take(item, key)
        return inputs

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings and there are enough showings."""
        fit = self._fits.newest(store)
        if fit is None:
            training = self._training(store)
            if isinstance(training, str):
                return 0, [f"waits: {training}"]
            return self._fit(store, training, progress)
        note = self._fits.changes(fit, self._inputs(store).keys).note(_COMMAND)
        came = ImpressionTable(store).count() - int(fit.report["showings"]["in_workspace"])
        if not note and came:
            note = f"; {abs(came):,} showings {'came' if came > 0 else 'went'} since: `{_COMMAND}`"
        return 0, [fit_in_use(fit, note, _summary(fit))]

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings, or items, showings or interactions changed since.

        Raises:
            ColdstartError: there is too little data.
        """
        fit = self._fits.newest(store)
        if fit is not None and fit.report["data"] == self._state_of(store) and self.present(store) == (
            self._inputs(store).ready
        ):  # fmt: skip
            return 0, [fit_unchanged(fit, _summary(fit))]
        training = self._training(store)
        if isinstance(training, str):
            raise ColdstartError(f"{self.name}: {training}")
        return self._fit(store, training, progress)

    def _state_of(self, store: Store) -> dict[str, Any]:
        return {
            "impressions": ImpressionTable(store).digest(),
            "interactions": InteractionTable(store).digest(),
            "sids": sids_of(store, self._pipeline)[1],
        }

    def _training(self, store: Store) -> RankData | str:
        """Read the training data, or say what is missing."""
        count = ImpressionTable(store).count()
        bring = f"bring more with `coldstart ingest --impressions FILE --workspace {store.uri}`"
        least = self.settings.min_showings
        if count < least:
            return f"{count:,} showings, and a fit needs {least:,} with an outcome: {bring}"
        data = read_data(store, self.settings, sids_of(store, self._pipeline)[0])
        if not data.rows.labels:
            return f"{count:,} showings, and no outcome of them is 0 or 1: {bring}, or name outcomes with --events"
        stated = ImpressionTable(store).signals()
        for event in self.settings.events or ():
            if event not in stated and np.isnan(data.rows.labels[event]).all():
                raise ColdstartError(
                    f"{self.name}.events: no showing states {event!r}; outcomes are {', '.join(stated) or 'none'}"
                )
        if len(data.rows) < least:
            left = "; ".join(f"{why}: {own:,}" for why, own in data.left_out.items())
            left = f" ({left})" if left else ""
            return f"{len(data.rows):,} showings with an outcome, and a fit needs {least:,}{left}: {bring}"
        for event in self.settings.events or ():
            check_classes(event, data.rows.labels[event])
        return data

    def _fit(self, store: Store, data: RankData, progress: Progress) -> tuple[int, list[str]]:
        inputs = self._inputs(store)
        keys = dict(sorted(inputs.ready.items()))
        state = self._state_of(store)
        data_key = digest([list(keys.values()), state])[:16]
        scratch = self._fits.scratch(store, f"-{data_key}", of_settings=True)
        models = {part for kind in kinds_of(self.settings, data) for part in PARTS[kind]}
        with progress.meter(f"{self.name}: models", 2 * len(models)) as meter:
            fitted, report = fit_ranker(
                data, self.settings, sids_of(store, self._pipeline)[1], self._pipeline.engine.device,
                lambda: meter.advance(1, 0, 0.0), scratch,
            )  # fmt: skip
        order = np.arange(len(keys))
        files = {
            **to_files(fitted),
            ITEMS_FILE: items_file(list(keys), list(keys.values()), order, {"train": order}),
        }
        report |= {
            "showings": {**report["showings"], "in_workspace": ImpressionTable(store).count()},
            "interactions": {"digest": state["interactions"], "in_workspace": InteractionTable(store).count()},
            "data": state,
        }
        fit = self._fits.save(store, [list(keys.values()), state], files, report)
        remove_scratch(scratch)
        return len(keys), [_summary(fit), *_details(fit)]


def fit_ranker(
    data: RankData,
    settings: Settings,
    sids: str | None,
    device: str,
    step: Callable[[], None] = lambda: None,
    checkpoints: Path | None = None,
) -> tuple[FittedRanker, dict[str, Any]]:
    """Fit a ranker on all showings of the data, the newest million; also its report."""
    past = data.rows
    labels = past.labels if settings.events else {
        event: own for event, own in past.labels.items() if _has_classes(own)
    }  # fmt: skip
    if not labels:
        check_classes(*next(iter(past.labels.items())))
    rows = past.where(np.arange(len(past))[-MOST_SHOWINGS:])
    since = int(rows.times.min())
    vectors = data.vectors(since, VECTOR_DIM, settings.seed)
    maker = data.maker(past, settings, vectors)
    features = maker.make(rows)
    if not data.is_similar_read(settings):
        features = features.without(SIMILAR)
    own = {event: rows.labels[event] for event in labels}
    cold, offsets = maker.cold(rows), maker.offsets(rows)
    model = RankModel.fit(
        features, own, rows.times, cold, recipe_of(settings, data, device), users=rows.users, offsets=offsets,
        step=step, checkpoints=checkpoints,
    )  # fmt: skip
    weights = {event: (settings.events or {}).get(event, 1.0) for event in labels}
    report = {
        **model.report,
        "events": {
            event: {"weight": weights[event], "rate": float(np.nanmean(one)), "rows": int((~np.isnan(one)).sum())}
            for event, one in own.items()
        },
        "showings": {"fitted": len(rows), "left_out": dict(data.left_out), "users": len(np.unique(rows.users))},
        "features": list(features.names),
        "vectors": int(vectors.shape[1]),
        "histories": {"longest": data.longest, "found_read": maker.reads_found},
        "search_by_codes": data.shortcut_recall(vectors, since, settings.seed),
        "sids": sids,
    }
    return FittedRanker(model, weights, data.names, vectors, sids, settings.long_backend), report


def kinds_of(settings: Settings, data: RankData) -> tuple[str, ...]:
    """List the kinds of rankers that a fit compares: the one that is named, or for `auto` those of short histories, and
    where some are long all."""
    if settings.model != "auto":
        return (settings.model,)
    return tuple(kind for kind, parts in PARTS.items() if data.is_long or "long" not in parts)


def recipe_of(settings: Settings, data: RankData, device: str) -> Recipe:
    """Build the recipe of a fit from the settings of its stage.

    Raises:
        ColdstartError: the back end of attention cannot be fitted on this device.
    """
    names = {one.name for one in fields(Recipe)} & set(Settings.model_fields)
    own = {name: getattr(settings, name) for name in names}
    models, at = kinds_of(settings, data), str(choose_device(device))
    if settings.long_backend == "flex" and at == "cpu" and any("long" in PARTS[kind] for kind in models):
        raise ColdstartError("rank.long_backend=flex has no gradient on a CPU: take auto or sdpa, or fit on CUDA")
    return Recipe(**own, models=models, device=at)


def sids_of(store: Store, pipeline: Pipeline) -> tuple[dict[str, tuple[int, ...]], str | None]:
    """Read the newest semantic IDs: item -> codes, and their version; none where the pipeline gives none."""
    stages = pipeline.of_kind("sids")
    if not stages:
        return {}, None
    stage: Any = build_stage(stages[-1], pipeline)
    version, texts = stage.newest_ids(store, store)
    codes = {item: tuple(int(code) for code in text.split("-")) for item, text in texts.items()}
    return codes, version or None


def rank_stage(pipeline: Pipeline) -> RankFitStage:
    """Build the last stage of a pipeline that fits a ranker.

    Raises:
        NotFitted: it has none.
    """
    stage = build_stage(pipeline.last(RANK, _COMMAND), pipeline)
    assert isinstance(stage, RankFitStage)
    return stage


def load_ranker(stage: RankFitStage, store: Store, version: str | None) -> FittedRanker:
    """Load the newest fit of a stage; `version`: of the semantic IDs of now.

    Raises:
        NotFitted: there is none.
        ColdstartError: its files are no ranker, or it read other semantic IDs than those of now.
    """
    from safetensors import SafetensorError

    made = stage.newest(store)
    try:
        found = from_files(made.folder)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
            OverflowError, MemoryError) as error:  # fmt: skip
        raise ColdstartError(f"{made.folder} holds no ranker ({error}): run `{_COMMAND}`") from None
    if found.sids is not None and found.sids != version:
        raise ColdstartError(
            f"stage {stage.name!r} was fitted on other semantic IDs than those of now: run `{_COMMAND}`"
        )
    return found


def _has_classes(labels: Any) -> bool:
    try:
        check_classes("", labels)
    except ColdstartError:
        return False
    return True


def _summary(fit: Artifact) -> str:
    """Summarise a fit in one line; raises where its report lacks a field."""
    report = fit.report
    _ = report["data"], report["showings"]["in_workspace"]
    events = ", ".join(f"{event} {float(own['rate']):.1%}" for event, own in report["events"].items())
    loss = float(report["log_loss"][report["model"]])
    return (
        f"{int(report['showings']['fitted']):,} showings to {int(report['showings']['users']):,} users; {events}; "
        f"model {report['model']}, log loss on the latest part {loss:.4f}"
    )


def _details(fit: Artifact) -> list[str]:
    report = fit.report
    losses = ", ".join(f"{name} {float(own):.4f}" for name, own in report["log_loss"].items())
    found = [f"log loss on the latest part: {losses}"]
    longest, is_found = int(report["histories"]["longest"]), report["histories"]["found_read"]
    reads = f"what search found in those of more than {ACTIONS_READ}, too" if is_found else "the latest actions alone"
    found.append(f"the longest history has {longest:,} actions; target attention reads {reads}")
    for event, slices in report["calibration"].items():
        own = ", ".join(f"{name} {one['method']} of {int(one['rows']):,} rows" for name, one in slices.items())
        found.append(f"calibration of {event}: {own}")
    missing = [event for event in report["events"] if not report["calibration"].get(event)]
    if missing:
        found.append(f"too few rows to calibrate {', '.join(missing)}: their numbers are scores, not probabilities")
    if report["showings"]["left_out"]:
        left = ", ".join(f"{own:,} with {why}" for why, own in report["showings"]["left_out"].items())
        found.append(f"showings left out: {left}")
    return found

"""Fit `finetune.rerank`: what is clicked in a list as a whole, learnt from the logged showings of requests.

The fit is an artifact of the workspace: weights, and a card with what was measured on the latest tenth of the requests.
Histories and counts are not in it: they are read from the workspace when a list is reranked.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.core.impressions import Impressions
from coldstart.core.keys import chain, digest, stage_key
from coldstart.core.likes import find_likes
from coldstart.core.pipeline import Pipeline, content_space
from coldstart.core.progress import Progress
from coldstart.core.stage import LedgerRow
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rerank.settings import RERANK, Settings
from coldstart.store import ITEMS, Store
from coldstart.store.fit_stage import FitInputs, SavedFits, expected_or_waiting, fit_in_use, fit_unchanged
from coldstart.store.fits import ITEMS_FILE, items_file
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage
from coldstart.store.impressions import ImpressionTable
from coldstart.store.interactions import InteractionTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from coldstart.rerank.features import ListFeatures
    from coldstart.rerank.listwise import ListwiseModel
    from coldstart.store.artifacts import Artifact

WEIGHTS_FILE, CARD_FILE = "listwise.safetensors", "listwise.json"
FIELDS = ("creator", "category")
"""Fields of an item by which items are alike, besides content."""
VALID_SHARE = 0.1
_COMMAND = "coldstart finetune rerank"


def build(name: str, settings: Settings, pipeline: Pipeline) -> RerankFitStage:
    """Build the stage over an earlier space.

    Raises:
        ColdstartError: there is no such space before it, or `dim` is no multiple of `heads`.
    """
    if settings.dim % settings.heads:
        raise ColdstartError(f"{name}.dim={settings.dim}: give a multiple of heads, {settings.heads}")
    return RerankFitStage(name, settings, pipeline, content_space(pipeline, name, settings.space))


class RerankFitStage:
    """Fit stage; see `coldstart.core.stage.FitStage`. `space`: name of the space of content."""

    kind = RERANK
    version = 1

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, space: str) -> None:
        self.name, self.settings, self.space, self._pipeline = name, settings, space, pipeline
        self._fits = SavedFits(name, lambda: self.key, reads=_summary)

    @cached_property
    def space_stage(self) -> Any:
        """Stage of the space."""
        return build_stage(self._pipeline.stage(self.space), self._pipeline)

    @cached_property
    def key(self) -> str:
        """Key of the settings and the encoder of the space.

        Raises:
            NotFitted: the encoder waits for a fit of its own.
        """
        counted = self.settings.model_dump(mode="json", exclude={"space", "min_requests"})
        return stage_key(self.kind, self.version, {**counted, "passport": self.space_stage.passport.digest})

    def resolve(self) -> None:
        """Find the encoder of the space; see `coldstart.core.stage.Resolves`."""
        _ = self.key

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its fits rest on besides rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self.key}

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Compute the keys of the items that a fit knows."""
        return expected_or_waiting(store, self._inputs)

    def present(self, store: Store) -> dict[str, str]:
        """Read the keys of the items of the last fit."""
        return self._fits.present(store)

    def _inputs(self, store: Store) -> FitInputs:
        state, inputs = PipelineState(store, self._pipeline), FitInputs(self.name)
        blocked = state.blocked(self.name)
        for item, own in state.item_keys(FIELDS).items():
            if item in blocked:
                inputs.leave_out(item, chain(self.key, own), blocked[item])
            else:
                inputs.take(item, chain(self.key, own))
        return inputs

    def newest(self, store: Store) -> Artifact:
        """Find the newest fit under these settings.

        Raises:
            NotFitted: there is none.
        """
        return self._fits.required(store, _COMMAND)

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings and there are enough requests."""
        try:
            fit = self._fits.newest(store)
        except NotFitted as waits:
            return 0, [str(waits)]
        if fit is None:
            missing, fitted = self._fit(store, progress)
            return (0, [f"waits: {missing}"]) if fitted is None else fitted
        came = ImpressionTable(store).count() - int(fit.report["showings"])
        note = f"; {abs(came):,} showings {'came' if came > 0 else 'went'} since: `{_COMMAND}`" if came else ""
        return 0, [fit_in_use(fit, note, _summary(fit))]

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings, or showings or interactions changed since.

        Raises:
            ColdstartError: there are too few requests.
        """
        fit = self._fits.newest(store)
        if fit is not None and fit.report["data"] == _data_digest(store):
            return 0, [fit_unchanged(fit, _summary(fit))]
        missing, fitted = self._fit(store, progress)
        if fitted is None:
            raise ColdstartError(f"{self.name}: {missing}")
        return fitted

    # -- data and fit

    def features(self, store: Store, end: int | None = None) -> ListFeatures:
        """Build features of all items from the likes before a time in seconds; None: all."""
        from coldstart.rerank.features import KnownItems, ListFeatures

        rows = store.read(ITEMS, ["item_id", *FIELDS]).to_pylist() if store.has(ITEMS) else []
        records = {row["item_id"]: row for row in rows}
        ids = sorted(records)
        known = KnownItems.of(ids, vectors_of(store, self.space_stage, ids), records)
        every = InteractionTable(store).read(end=end)
        return ListFeatures(known, every.positive(find_likes(every.weights).min_weight).over(ids))

    def train(
        self, features: ListFeatures, shown: Impressions, step: Callable[[], None] = lambda: None
    ) -> tuple[ListwiseModel, dict[str, Any]] | str:
        """Fit on the requests of showings; or say what is missing."""
        from coldstart.rerank.listwise import ListwiseTraining, click_probabilities, train

        lists, _ = features.lists(shown, self.settings.signal, self.settings.min_items)
        clicks = int(np.nansum(lists.clicks))
        if len(lists) < self.settings.min_requests:
            return _too_few(len(lists), "known items and more with outcomes", self.settings)
        if not clicks or clicks == int((~np.isnan(lists.clicks)).sum()):
            return f"of the showings {clicks:,} have {self.settings.signal}: a fit needs some with and some without"
        cut = len(lists) - max(1, int(VALID_SHARE * len(lists)))
        valid = lists.take(slice(cut, None))
        settings = ListwiseTraining(**self.settings.training(self._pipeline.engine.device))
        model, report = train(lists.take(slice(0, cut)), settings, valid=valid, step=step)
        there = (valid.slots > 0) & ~np.isnan(valid.clicks)
        chance = np.clip(click_probabilities(model, valid)[there], 1e-6, 1 - 1e-6)
        rate = float(np.nanmean(lists.take(slice(0, cut)).clicks))
        own, base = (
            float(np.mean(_log_loss(valid.clicks[there], one))) for one in (chance, np.full(len(chance), rate))
        )
        report |= {"requests": len(lists), "clicks": clicks, "log_loss": own, "log_loss_of_the_rate": base}
        return model, report

    def _fit(self, store: Store, progress: Progress) -> tuple[str, tuple[int, list[str]] | None]:
        from coldstart.rerank.listwise import to_files

        shown = ImpressionTable(store).read()
        if (count := _count_requests(shown, self.settings.min_items)) < self.settings.min_requests:
            return _too_few(count, "items and more", self.settings), None  # before vectors are read
        features = self.features(store)
        with progress.meter(f"{self.name}: epochs", self.settings.epochs) as meter:
            trained = self.train(features, shown, lambda: meter.advance(1, 0, 0.0))
        if isinstance(trained, str):
            return trained, None
        model, report = trained
        keys = self._inputs(store).ready
        ids = sorted(keys)
        order = np.arange(len(ids))
        files = {
            **to_files(model, {"passport": self.space_stage.passport.digest, "signal": self.settings.signal}),
            ITEMS_FILE: items_file(ids, [keys[item] for item in ids], order, {"train": order}),
        }
        data = _data_digest(store)
        about = {**report, "space": self.space, "showings": ImpressionTable(store).count(), "data": data}
        fit = self._fits.save(store, [data], files, about)
        return "", (int(report["requests"]), [_summary(fit)])

    def model(self, store: Store) -> ListwiseModel:
        """Load the newest fit.

        Raises:
            NotFitted: there is none.
            ColdstartError: its files do not fit.
        """
        from coldstart.rerank.listwise import from_files

        files = self.newest(store).files()
        try:
            model, about = from_files(files[WEIGHTS_FILE], files[CARD_FILE])
            if about["passport"] != self.space_stage.passport.digest:
                raise ValueError("it was fitted on another encoder's vectors")
        except (KeyError, ValueError, TypeError) as error:
            raise ColdstartError(f"stage {self.name!r}: its fit cannot be read ({error}): run `{_COMMAND}`") from error
        return model


def check_showings(store: Store, name: str, settings: Settings) -> None:
    """Refuse a first fit of the stage `name` for which there are too few showings, before anything else is read.

    Raises:
        ColdstartError: there are fewer than its least number of requests can have.
    """
    table = ImpressionTable(store)
    count = table.count()
    if count >= settings.min_requests * settings.min_items or store.artifacts.newest(name) is not None:
        return
    requests = _count_requests(table.read(window_s=None), settings.min_items)
    raise ColdstartError(f"{name}: {count:,} showings: {_too_few(requests, 'items and more', settings)}")


def _count_requests(shown: Impressions, least: int) -> int:
    """Count the requests that state the places of at least so many showings, whatever is known of them."""
    _, counts = np.unique(shown.requests[(shown.requests >= 0) & (shown.positions >= 0)], return_counts=True)
    return int((counts >= least).sum())


def _too_few(requests: int, what: str, settings: Settings) -> str:
    return (
        f"{requests:,} requests showed {settings.min_items} {what}, and a fit needs {settings.min_requests:,} with "
        "outcomes (min_requests): bring more with `coldstart ingest --impressions FILE`"
    )


def _log_loss(clicks: Any, chance: Any) -> Any:
    return -(clicks * np.log(chance) + (1 - clicks) * np.log(1 - chance))


def _data_digest(store: Store) -> str:
    """Digest showings with their outcomes, and the interactions."""
    return digest([ImpressionTable(store).digest(), InteractionTable(store).digest()])


def _summary(fit: Artifact) -> str:
    """Summarise a fit in one line."""
    report = fit.report
    _ = report["data"], int(report["showings"])
    return (
        f"{int(report['requests']):,} requests with {int(report['clicks']):,} clicks, {int(report['epochs'])} epochs; "
        f"log loss on the latest tenth {float(report['log_loss']):.4f}, of the mean rate "
        f"{float(report['log_loss_of_the_rate']):.4f}; `coldstart evaluate rerank --kinds listwise` tells its worth"
    )

"""Fit `align.behaviour`: map item content to user interactions of a training window.

Candidate mappers are fitted and evaluated on warm items held out as cold; the best, fitted on all, is saved as an
artifact of the workspace (method: `coldstart.recommend.model.selection`). A stage of kind `behaviour` fills a space
with it. A fit uses items with content and an interaction; all other items get vectors too. With too few interactions
the stage waits, and a run goes on without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.keys import chain, stage_key
from coldstart.core.likes import Likes, find_likes
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import LedgerRow, Reject
from coldstart.errors import ColdstartError, NotFitted, NothingToLearn
from coldstart.recommend.inputs import FIT_FILE, LABEL_FIELDS, LABELS, load_content, spaces_before
from coldstart.recommend.model import RECIPE
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.settings import Settings
from coldstart.store import Store
from coldstart.store.fit_stage import FitInputs, SavedFits, expected_or_waiting, fit_in_use, fit_unchanged
from coldstart.store.fits import ITEMS_FILE, items_file
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage
from coldstart.store.interactions import InteractionTable, met_items

if TYPE_CHECKING:
    from coldstart.recommend.model.fitted import Behaviour
    from coldstart.store.artifacts import Artifact


def build(name: str, settings: Settings, pipeline: Pipeline) -> BehaviourFitStage:
    """Build the stage over earlier spaces.

    Raises:
        ColdstartError: a space is not before the stage, or a weight is for none of its spaces.
    """
    spaces = spaces_before(pipeline, name, settings.spaces)
    for space in settings.weights or ():
        if space not in (*spaces, LABELS) and not space.startswith(f"{LABELS}."):
            raise ColdstartError(
                f"{name}.weights has {space!r}, and its spaces are {', '.join((*spaces, LABELS))}: name those"
            )
    return BehaviourFitStage(name, settings, pipeline, spaces)


class BehaviourFitStage:
    """Fit stage; see `coldstart.core.stage.FitStage`. `spaces`: name -> embed stage of the content."""

    kind = "align.behaviour"
    version = 1

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, spaces: list[str]) -> None:
        self.name = name
        self._settings = settings
        self._pipeline = pipeline
        self._fits = SavedFits(name, lambda: self._key, entry="settings_key", reads=_read_report)
        self.spaces: dict[str, Any] = {space: build_stage(pipeline.stage(space), pipeline) for space in spaces}

    @cached_property
    def _key(self) -> str:
        """Key of the settings and the encoders of the spaces.

        Raises:
            NotFitted: the encoder of a space waits for a fit of its own.
        """
        passports = {space: asdict(stage.passport) for space, stage in self.spaces.items()}
        return stage_key(self.kind, self.version, {**self._settings.counted(), "spaces": passports})

    @property
    def _end(self) -> int | None:
        return self._settings.until_s

    def resolve(self) -> None:
        """Find the models, spaces and prompts of the settings; see `coldstart.core.stage.Resolves`."""
        _ = self._key

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its fits rest on besides rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self._key}

    # -- state of the items

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Compute the keys of the items that a fit takes, and the ledger rows of those left out."""
        return expected_or_waiting(store, self._inputs)

    def present(self, store: Store) -> dict[str, str]:
        """Read the keys of the items of the last fit."""
        return self._fits.present(store)

    def _pipeline_state(self, store: Store) -> PipelineState:
        return PipelineState(store, self._pipeline, self.spaces)

    def _inputs(self, store: Store, pipeline_state: PipelineState | None = None) -> FitInputs:
        pipeline_state = pipeline_state or self._pipeline_state(store)
        blocked = pipeline_state.blocked(self.name)
        states = {space: pipeline_state.of(space) for space in self.spaces}
        met = met_items(store, self._end)
        inputs = FitInputs(self.name)
        for item, own in pipeline_state.item_keys(LABEL_FIELDS).items():
            key = chain(self._key, "\n".join([own, *(state.key_of(item) for state in states.values())]))
            if item in blocked:
                why = blocked[item]
            elif all(item in state.settled for state in states.values()):
                reasons = "; ".join(f"{space}: {state.settled[item].reason}" for space, state in states.items())
                why = Reject("no_content", reasons, "filtered")
            elif met and item not in met:  # without any interaction all items wait
                why = Reject("no_interactions", "nobody has met it in the training window", "filtered")
            else:
                inputs.take(item, key, ready=not any(item in state.stale for state in states.values()))
                continue
            inputs.leave_out(item, key, why)
        return inputs

    # -- the fit

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings and there is enough data."""
        try:
            fit = self._fits.newest(store)
        except NotFitted as waits:
            return 0, [str(waits)]
        if fit is None:
            training = self._training_data(store)
            if (missing := training.missing(self._settings, store.uri)) is not None:
                return 0, [f"waits: {missing}"]
            try:
                return self._fit(store, training, progress)
            except NothingToLearn as waits:  # enough rows, but nothing that can be held out or mapped
                return 0, [f"waits: {waits}"]
        changes = self._fits.changes(fit, self._inputs(store).keys)
        rows = InteractionTable(store).count() - fit.report["interactions"]["in_workspace"]
        counts = {"items came": changes.new, "items changed": changes.changed, "interactions came": rows}
        since = ", ".join(f"{count} {name}" for name, count in counts.items() if count > 0)
        again = f"since then {since}" if since else ""
        if fit.report.get("recipe", 1) < RECIPE:
            again = "fitted by the recipe of an earlier version, and a new fit takes the present one"
        if not self._is_calibrated(fit):
            again = "an earlier version calibrated the scores of its cold items for another basis than its own"
        since = f"; {again}: `coldstart finetune behaviour`" if again else ""
        return 0, [fit_in_use(fit, since, _summary(fit))]

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings, or items or interactions changed since.

        Raises:
            ColdstartError: there is too little data.
        """
        fit = self._fits.newest(store)
        if fit is not None and self._is_current(fit, store):
            return 0, [fit_unchanged(fit, _summary(fit))]
        training = self._training_data(store)
        if (missing := training.missing(self._settings, store.uri)) is not None:
            raise ColdstartError(f"{self.name}: {missing}")
        try:
            return self._fit(store, training, progress)
        except NothingToLearn as nothing:
            raise ColdstartError(f"{self.name}: {nothing}") from None

    def _is_calibrated(self, fit: Artifact) -> bool:
        """Tell whether the calibration, if one is set, is of the fit's own basis, as the report of the fit says."""
        return not self._settings.calibrate or fit.report.get("calibration") is not None

    def _is_current(self, fit: Artifact, store: Store) -> bool:
        if not self._is_calibrated(fit) or fit.report.get("recipe", 1) < RECIPE:
            return False
        same = fit.report["interactions"]["digest"] == InteractionTable(store).digest(end=self._end)
        return same and self.present(store) == self._inputs(store).keys

    def _training_data(self, store: Store) -> TrainingData:
        pipeline_state = self._pipeline_state(store)
        keys = self._inputs(store, pipeline_state).ready
        content = load_content(store, self._pipeline, list(self.spaces), sorted(keys), pipeline_state=pipeline_state)
        read = InteractionTable(store).read(end=self._end)
        likes = find_likes(read.weights, self._settings.min_weight)
        return TrainingData(content, keys, read.over(content.item_ids), likes)

    def _fit(self, store: Store, training: TrainingData, progress: Progress) -> tuple[int, list[str]]:
        from coldstart.recommend.count_attributes import check_fit
        from coldstart.recommend.model.fitted import to_files
        from coldstart.recommend.model.selection import count_steps, select_model

        content = training.content
        settings = replace(self._settings.selection(), min_weight=training.likes.min_weight)
        groups, traces, learnt = self._learnt(content, training.interactions)
        with progress.meter(f"{self.name}: mappers", count_steps(settings)) as meter:
            selected = select_model(
                training.interactions, learnt, settings, groups=groups, step=lambda: meter.advance(1, 0, 0.0)
            )
        counted = None
        if traces:
            counted = check_fit(
                training.interactions,
                content,
                min_weight=settings.min_weight,
                groups=groups,
                share=self._settings.valid_share,
                weights=settings.weights,
                seed=settings.seed,
                are_used=self._settings.count_attributes,
            )
        keys = [training.keys[item] for item in content.item_ids]
        rows = InteractionTable(store).digest(end=self._end)
        card = {
            "dim": selected.behaviour.dim,
            "spaces": {space: stage.passport.digest for space, stage in self.spaces.items()},
        }
        whole = {"train": np.arange(len(content))}
        files = {
            **to_files(selected.behaviour),
            ITEMS_FILE: items_file(content.item_ids, keys, groups, whole),
            FIT_FILE: json.dumps(card, sort_keys=True).encode(),
        }
        report = {
            **selected.report,
            **card,
            "interactions": {
                "in_workspace": InteractionTable(store).count(),
                "learnt_from": len(training.interactions),
                "digest": rows,
                "until": None if self._settings.until is None else self._settings.until.isoformat(),
            },
            "likes": str(training.likes),
            "count_attributes": counted,
        }
        fit = self._fits.save(store, [rows, *keys], files, report)
        return len(content), [_summary(fit), *_details(fit), self._next(store)]

    def _learnt(self, content: Content, rows: Interactions) -> tuple[NDArray[np.int64], Any, Content]:
        """Prepare content for a fit: groups of nearly equal items, attributes that count rows, and what is learnt."""
        from coldstart.recommend.count_attributes import find_count_attributes, without_attributes

        groups = content_groups(content, self._settings.near_duplicates)
        settings = self._settings.selection()
        traces = find_count_attributes(content, rows.counts(), settings.weights) if settings.labels else []
        learnt = content if self._settings.count_attributes else without_attributes(content, traces, settings.weights)
        return groups, traces, learnt

    def repeat(self, content: Content, rows: Interactions, progress: Progress) -> Behaviour:
        """Fit as a run would, on some liked rows over `content.item_ids`; nothing is saved.

        Raises:
            ColdstartError: there is too little data.
        """
        from coldstart.recommend.model.selection import count_steps, select_model

        settings = replace(self._settings.selection(), min_weight=None)
        groups, _, learnt = self._learnt(content, rows)
        with progress.meter(f"{self.name}: mappers", count_steps(settings)) as meter:
            return select_model(rows, learnt, settings, groups=groups, step=lambda: meter.advance(1, 0, 0.0)).behaviour

    def _next(self, store: Store) -> str:
        spaces = [spec.name for spec in self._pipeline.of_kind("behaviour")]
        if spaces:
            return f"`coldstart run --workspace {store.uri}` fills {', '.join(spaces)} with it"
        return "no space is filled with it: add a stage `behaviour: {}` after it"


def _read_report(fit: Artifact) -> tuple[str, int, str]:
    """Read the summary, the interactions of the workspace and their digest."""
    known = fit.report["interactions"]
    return _summary(fit), int(known["in_workspace"]), str(known["digest"])


def _summary(fit: Artifact) -> str:
    """Summarise a fit in one line: the selected mapper, and its metrics on items held out as cold."""
    report = fit.report
    best = report["chosen"]
    parts = ", ".join(f"{share:.0%} {part}" for part, share in report["parts"].items())
    selected = f"{best} ({parts})" if len(report["parts"]) > 1 else best
    held_out = report["judged"]
    metrics = ", ".join(
        f"{metric} {one['value']:.3f} ({one['low']:.3f}–{one['high']:.3f})"
        for metric, one in report["candidates"][best].items()
        if metric in compared_metrics(report)
    )
    return (
        f"fitted on {report['rows']} likes of {report['users']} users, {report['warm']} of {report['items']} items "
        f"warm; selected {selected}: on {held_out['items']} items held out as cold, {metrics}"
    )


def _details(fit: Artifact) -> list[str]:
    """Describe what a fit learnt from: likes, the blocks of content with their weights, and the budget."""
    report = fit.report
    powers, budget = report["powers"], report["budget"]
    blocks = sorted(report["weights"].items(), key=lambda entry: -entry[1])
    whitened = {name: f" (whitened by {power:g})" if power else "" for name, power in powers.items()}
    weights = ", ".join(f"{name} {weight:.0%}{whitened[name]}" for name, weight in blocks)
    left_out = f"; left out for it: {', '.join(budget['left_out'])}" if budget["left_out"] else ""
    return [
        f"likes: {report['likes']}",
        f"content: {weights}",
        f"budget: {budget['estimated']:,.0f} of {budget['seconds']:,.0f} processor seconds (budget_s), as estimated "
        f"from the sizes, so that the same data give the same fit; {budget['trials']} trials of weights{left_out}; it "
        f"took {report['seconds']:,.0f} s",
        *(f"warning: {line}" for line in (report["count_attributes"] or {"lines": ()})["lines"]),
    ]


def compared_metrics(report: Mapping[str, Any]) -> list[str]:
    """List the metrics that tell candidates apart: of k items held out all are among the first k, so no recall."""
    held_out = report["judged"]["items"]
    metrics = next(iter(report["candidates"].values()))
    return [name for name in metrics if not name.startswith("recall@") or int(name.partition("@")[2]) < held_out]


@dataclass(frozen=True)
class TrainingData:
    """Training data of a fit.

    Attributes:
        keys: item -> key, of the items of `content`.
        interactions: rows of the training window, over those items.
        likes: which rows of the window, with any item, count as likes.
    """

    content: Content
    keys: Mapping[str, str]
    interactions: Interactions
    likes: Likes

    def missing(self, settings: Settings, uri: str) -> str | None:
        """Describe what is missing and the next step; None where there is enough data."""
        bring = f"bring more with `coldstart ingest --workspace {uri} --interactions FILE`"
        if not self.likes.rows:
            before = "" if settings.until is None else f" before {settings.until:%Y-%m-%d}"
            return f"the workspace has no interactions{before}: {bring}"
        liked = self.interactions.positive(self.likes.min_weight).matrix()
        warm = int((np.bincount(liked.indices, minlength=liked.shape[1]) >= settings.warm_min).sum())
        users = int((np.diff(liked.indptr) > 0).sum())
        if warm >= settings.min_items and users >= settings.min_users:
            return None
        return (
            f"{users} users liked something and {warm} items were liked by {settings.warm_min} or more (warm_min), and "
            f"a fit needs {settings.min_users} (min_users) and {settings.min_items} (min_items); of {self.likes.rows} "
            f"interactions {len(self.interactions)} are with items whose content is known: {bring}"
        )


def content_groups(content: Content, near_duplicates: float | None) -> NDArray[np.int64]:
    """Group items of nearly the same content in the same spaces, int64 [N].

    Args:
        near_duplicates: mean cosine over the spaces from which on two items are one group; None: each item alone.
    """
    from coldstart.metrics.splits import group_items, near_pairs

    alone: list[list[str]] = [[] for _ in content.item_ids]
    if near_duplicates is None or not len(content):
        return group_items(alone)
    present = np.stack([content.present(space) for space in content.blocks], axis=1)
    share = 1 / np.sqrt(np.maximum(present.sum(1, keepdims=True), 1))
    joined = np.concatenate([content.blocks[space] * share for space in content.blocks], axis=1)
    return group_items(alone, near_pairs(joined.astype(np.float16), near_duplicates))

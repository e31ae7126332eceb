"""Fit `finetune.union`: channels of candidates and the ranker of their union, learnt from interactions alone.

The fit is an artifact of the workspace: neighbours of items, popularity, weights of the ranker, its items, and a card
of what it is worth on users that it was not fitted on, by which `recommend --rank auto` goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from coldstart.core.interactions import Interactions
from coldstart.core.keys import chain, stage_key
from coldstart.core.likes import Likes, find_likes
from coldstart.core.neighbours import MOST_EASE
from coldstart.core.pipeline import Pipeline, Section, content_space, describe_content
from coldstart.core.progress import Progress
from coldstart.core.settings import with_stage
from coldstart.core.stage import LedgerRow, Reject
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.store import ITEMS, Store
from coldstart.store.fit_stage import FitInputs, SavedFits, expected_or_waiting, fit_in_use, fit_unchanged
from coldstart.store.fits import ITEMS_FILE, items_file
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage
from coldstart.store.interactions import InteractionTable, met_items

if TYPE_CHECKING:
    from coldstart.rank.union_fit import UnionRecipe
    from coldstart.store.artifacts import Artifact

UNION = "finetune.union"
"""Stage kind: the fit of channels and of the ranker of their union."""
OWN_UNION = "union"
"""Name of such a stage that is added to a pipeline."""
ATTRIBUTES = ("category", "creator")
"""Fields of an item whose share in the history is a feature."""
_COMMAND = "coldstart finetune rank"
_HELD_OUT_FILE = "held-out.safetensors"


class Settings(Section):
    """Settings of the channels and the ranker of their union."""

    space: str | None = None
    """Space of the content that is compared; by default the first of texts before this stage."""
    model: Literal["auto", "linear", "trees"] = "auto"
    """A linear ranker, boosted trees, or trees where they won on users that neither was fitted on."""
    depth: int = Field(default=100, ge=1, le=10_000)
    """Candidates of each channel."""
    new_depth: int = Field(default=30, ge=0, le=10_000)
    """New items among the candidates of a request."""
    min_weight: float | None = None
    """Least weight of an interaction that counts as a like; by default as for `align.behaviour`."""
    min_users: int = Field(default=100, ge=30)
    """Users with three liked items below which nothing is fitted."""
    most_requests: int = Field(default=8_000, ge=100)
    """Most requests that are fitted and judged on; of few users up to four last items are held out."""
    most_ease: int = Field(default=MOST_EASE, ge=0, le=20_000)
    """Most items with which EASE is a channel: it inverts a matrix of all pairs."""
    seed: int = 0
    """Random seed of the fit."""


def with_union(pipeline: Pipeline) -> dict[str, Any]:
    """Add `finetune.union` to a pipeline where it lacks one: its raw settings."""
    raw = dict(pipeline.raw)
    return raw if pipeline.of_kind(UNION) else with_stage(raw, OWN_UNION, UNION, {})


def build(name: str, settings: Settings, pipeline: Pipeline) -> UnionFitStage:
    """Build the stage over an earlier space.

    Raises:
        ColdstartError: there is no such space before it.
    """
    return UnionFitStage(name, settings, pipeline, content_space(pipeline, name, settings.space))


def union_stage(pipeline: Pipeline) -> UnionFitStage:
    """Build the last stage of a pipeline that fits a ranker of the union of channels.

    Raises:
        NotFitted: it has none.
    """
    stage = build_stage(pipeline.last(UNION, _COMMAND), pipeline)
    assert isinstance(stage, UnionFitStage)
    return stage


class UnionFitStage:
    """Fit stage; see `coldstart.core.stage.FitStage`. `space`: name of the space of content."""

    kind = UNION
    version = 2

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, space: str) -> None:
        self.name, self.settings, self.space, self._pipeline = name, settings, space, pipeline
        self._fits = SavedFits(name, lambda: self.key, reads=_summary)

    @cached_property
    def space_stage(self) -> Any:
        """Stage of the space."""
        return build_stage(self._pipeline.stage(self.space), self._pipeline)

    @cached_property
    def key(self) -> str:
        """Key of the settings and the encoder of the space."""
        counted = self.settings.model_dump(mode="json", exclude={"space", "min_users"})
        return stage_key(self.kind, self.version, {**counted, "passport": asdict(self.space_stage.passport)})

    def resolve(self) -> None:
        """Find the encoder of the space; see `coldstart.core.stage.Resolves`."""
        _ = self.key

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its fits rest on besides rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self.key}

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

    @property
    def recipe(self) -> UnionRecipe:
        """Settings of the fit."""
        from coldstart.rank.union_fit import UnionRecipe

        own = self.settings
        return UnionRecipe(
            depth=own.depth, new_depth=own.new_depth, model=own.model, most_requests=own.most_requests,
            most_ease=own.most_ease, seed=own.seed,
        )  # fmt: skip

    def missing(self, histories: Sequence[NDArray[np.int64]], uri: str) -> str | None:
        """Describe what is missing for a fit on histories, and the next step; None where there is enough."""
        users, least = sum(len(own) >= 3 for own in histories), self.settings.min_users
        if users >= least:
            return None
        return (
            f"{users:,} users liked three items and more, and a fit needs {least:,} (min_users): bring more with "
            f"`coldstart ingest --workspace {uri} --interactions FILE`"
        )

    def _inputs(self, store: Store) -> FitInputs:
        state = PipelineState(store, self._pipeline, {self.space: self.space_stage})
        found, blocked, inputs = state.of(self.space), state.blocked(self.name), FitInputs(self.name)
        met = met_items(store)
        for item, own in state.item_keys(ATTRIBUTES).items():
            key = chain(self.key, f"{own}\n{found.key_of(item)}")
            if item in blocked:
                inputs.leave_out(item, key, blocked[item])
            elif met and item not in met:  # without any interaction all items wait
                inputs.leave_out(item, key, Reject("no_interactions", "nobody has met it", "filtered"))
            else:
                inputs.take(item, key, ready=item not in found.stale)
        return inputs

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings and there is enough data."""
        try:
            fit = self._fits.newest(store)
            inputs = self._inputs(store)
        except NotFitted as waits:
            return 0, [str(waits)]
        if fit is None:
            data = UnionData(store, self, inputs.ready)
            if (missing := self.missing(data.histories, store.uri)) is not None:
                return 0, [f"waits: {missing}"]
            try:
                return self._fit(store, data, progress)
            except ColdstartError as waits:
                return 0, [f"waits: {waits}"]
        note = self._fits.changes(fit, inputs.keys).note(_COMMAND)
        if not note and fit.report["interactions"]["digest"] != InteractionTable(store).digest():
            note = f"; interactions came, changed or went since: `{_COMMAND}`"
        return 0, [fit_in_use(fit, note, _summary(fit))]

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings, or items or interactions changed since.

        Raises:
            ColdstartError: there is too little data.
        """
        fit, inputs = self._fits.newest(store), self._inputs(store)
        same = fit is not None and self.present(store) == inputs.ready
        if fit is not None and same and fit.report["interactions"]["digest"] == InteractionTable(store).digest():
            return 0, [fit_unchanged(fit, _summary(fit))]
        data = UnionData(store, self, inputs.ready)
        if (missing := self.missing(data.histories, store.uri)) is not None:
            raise ColdstartError(f"{self.name}: {missing}")
        return self._fit(store, data, progress)

    def _fit(self, store: Store, data: UnionData, progress: Progress) -> tuple[int, list[str]]:
        from safetensors.numpy import save

        from coldstart.rank.union_files import to_files
        from coldstart.rank.union_fit import FOLDS, fit_union

        with progress.meter(f"{self.name}: fits", FOLDS + 3) as meter:
            fit = fit_union(
                data.histories, data.times, data.item_ids, data.content, data.attributes, self.recipe,
                lambda: meter.advance(1, 0, 0.0),
            )  # fmt: skip
        keys, order = [data.keys[item] for item in data.item_ids], np.arange(len(data.item_ids))
        table = InteractionTable(store)
        report = {
            **fit.report,
            "space": self.space,
            "content": describe_content(self._pipeline, self.name, self.space),
            "items": len(keys),
            "likes": str(data.likes),
            "min_weight": data.likes.min_weight,
            "interactions": {"digest": table.digest(), "in_workspace": table.count()},
        }
        files = {
            **to_files(fit),
            _HELD_OUT_FILE: save({name: np.ascontiguousarray(own) for name, own in fit.held_out.items()}),
            ITEMS_FILE: items_file(data.item_ids, keys, order, {"train": order}),
        }
        saved = self._fits.save(store, [keys, report["interactions"]["digest"]], files, report)
        return len(keys), [_summary(saved), *_details(saved)]


class UnionData:
    """Training data of a fit: items with an interaction, histories and times of users, the latest item last."""

    def __init__(self, store: Store, stage: UnionFitStage, keys: dict[str, str]) -> None:
        self.keys = dict(sorted(keys.items()))
        self.item_ids = list(self.keys)
        rows = InteractionTable(store).read()
        self.likes: Likes = find_likes(rows.weights, stage.settings.min_weight)
        self.histories, self.times = timed_histories(rows.positive(self.likes.min_weight).over(self.item_ids))
        self.content = content_of(store, stage, self.item_ids)
        self.attributes = attribute_codes(store, self.item_ids), ATTRIBUTES


@dataclass(frozen=True)
class HeldOut:
    """Requests that judged a fit, each user's in turn, for lists of other methods to be judged on.

    Attributes:
        item_ids, histories: as `UnionData` has them; stands_for_new: items without rows in the fit, bool [N].
        users, targets: number of the user and place of what was taken, int64 [R]; back: its place from the end.
        ranked: NDCG of the ranker's list, by a ranker that other users taught, float64 [R].
    """

    item_ids: list[str]
    histories: list[NDArray[np.int64]]
    stands_for_new: NDArray[np.bool_]
    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    back: NDArray[np.int64]
    ranked: NDArray[np.float64]

    def before(self, back: int) -> list[NDArray[np.int64]]:
        """Cut all histories so many items before the last: what channels and histories of those requests know."""
        cut = (own[: max(0, len(own) - 1 - back)] for own in self.histories)
        return [own[~self.stands_for_new[own]] for own in cut]


def read_held_out(store: Store, stage: UnionFitStage) -> HeldOut:
    """Read the requests that judged the newest fit.

    Raises:
        NotFitted: there is no fit.
        ColdstartError: interactions came, changed or went since, or the fit is broken.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from coldstart.rank.union_fit import is_pseudo_new

    fit = stage.newest(store)
    if fit.report["interactions"]["digest"] != InteractionTable(store).digest():
        raise ColdstartError(f"interactions came, changed or went since the fit of {stage.name}: run `{_COMMAND}`")
    data = UnionData(store, stage, stage.present(store))
    stands = np.array([is_pseudo_new(item) and data.content.shape[1] > 0 for item in data.item_ids], bool)
    try:
        arrays = load(fit.files()[_HELD_OUT_FILE])
        users, targets, ranked = arrays["users"], arrays["targets"], arrays["ranked"]
        if not users.shape == targets.shape == ranked.shape == (len(users),) or users.min(initial=0) < 0:
            raise ValueError("they are of different numbers")
        if (users.dtype, targets.dtype) != (np.int64, np.int64) or not np.isfinite(ranked).all():
            raise ValueError("they are no numbers of users and items")
        own = [np.flatnonzero(data.histories[user] == target)[0] for user, target in zip(users, targets, strict=True)]
    except (SafetensorError, LookupError, ValueError, TypeError) as error:
        raise ColdstartError(
            f"the held-out requests of {stage.name} cannot be read ({error}): `{_COMMAND}` after new interactions"
        ) from None
    lengths = np.array([len(data.histories[user]) for user in users], np.int64)
    back = lengths - 1 - np.array(own, np.int64)
    return HeldOut(data.item_ids, data.histories, stands, users, targets, back, ranked.astype(np.float64))


def content_of(store: Store, stage: UnionFitStage, item_ids: list[str]) -> NDArray[np.float32]:
    """Read the vectors of items, float32 [N, D]; 0 for an item without a usable one."""
    vectors = vectors_of(store, stage.space_stage, item_ids)
    vectors[~np.isfinite(vectors).all(1)] = 0
    return vectors


def attribute_codes(store: Store, item_ids: list[str]) -> NDArray[np.int64]:
    """Number the values of each attribute, int64 [N, A]; -1 for none."""
    found = np.full((len(item_ids), len(ATTRIBUTES)), -1, np.int64)
    known = [name for name in ATTRIBUTES if store.has(ITEMS) and name in store.columns(ITEMS)]
    if not known:
        return found
    rows = store.read(ITEMS, ["item_id", *known])
    places = {item: place for place, item in enumerate(rows["item_id"].to_pylist())}
    own = np.array([places.get(item, -1) for item in item_ids], np.int64)
    for name in known:
        numbers: dict[str, int] = {}
        values = [None if one is None else str(one) for one in rows[name].to_pylist()]
        codes = np.array([-1 if one is None else numbers.setdefault(one, len(numbers)) for one in values], np.int64)
        found[own >= 0, ATTRIBUTES.index(name)] = codes[own[own >= 0]]
    return found


def timed_histories(rows: Interactions) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Order the items of each user by time, each once by its latest row: places of items, and seconds."""
    order = np.lexsort((rows.items, rows.times, rows.users))
    users, items, times = rows.users[order], rows.items[order].astype(np.int64), rows.times[order]
    pairs = users.astype(np.int64) * max(1, len(rows.item_ids)) + items
    _, from_end = np.unique(pairs[::-1], return_index=True)
    last = np.sort(len(pairs) - 1 - from_end)
    starts = np.flatnonzero(np.diff(users[last], prepend=-1))[1:]
    histories, seconds = np.split(items[last], starts), np.split(times[last], starts)
    kept = [place for place, own in enumerate(histories) if len(own)]
    return [histories[place] for place in kept], [seconds[place] for place in kept]


def _summary(fit: Artifact) -> str:
    """Summarise a fit in one line; raises where its report lacks a field."""
    report = fit.report
    _ = report["interactions"]["digest"], report["min_weight"], report["best"]
    return f"ranker of {int(report['users']):,} users' last items, {report['model']}: {why_auto(report)}"


def why_auto(report: Any) -> str:
    """Say by how much the ranker won or lost on users that it was not fitted on, with the interval."""
    gain = report["gain"]
    value, low, high = (float(gain[name]) for name in ("value", "low", "high"))
    return (
        f"NDCG@10 {value:+.4f} ({low:+.4f} to {high:+.4f}) against the best channel, {report['best']}, over "
        f"{int(gain['n']):,} users that it was not fitted on"
    )


def _details(fit: Artifact) -> list[str]:
    report = fit.report
    rows = ", ".join(f"{name} {float(own['all']['value']):.4f}" for name, own in report["ndcg@10"].items())
    new = report["new"]
    return [
        f"likes: {report['likes']}",
        f"content: {report.get('content', report['space'])}",
        f"NDCG@10 on users that it was not fitted on: {rows}",
        f"items that stood for new ones: {float(new['share']):.1%} of what users took, {float(new['exposure']):.1%} of "
        "the first 10",
    ]

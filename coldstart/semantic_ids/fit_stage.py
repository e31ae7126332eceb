"""Fit `align.sids`: codebooks of semantic IDs on the vectors of one space.

The fit is on warm items where the space knows which are (`behaviour`), else on all. A stage of kind `sids` then gives
every item its ID, new ones too. Codebooks belong to the passport of their space and are used with no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.keys import chain, stage_key
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.progress import Progress
from coldstart.core.settings import suggestion
from coldstart.core.stage import SPACES, LedgerRow, Reject
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.semantic_ids.codebooks import Codebooks, load_card, load_codebooks
from coldstart.semantic_ids.kmeans import Codes, Vectors
from coldstart.semantic_ids.methods import FEWEST_A_CODE, LEVELS, can_begin_with, fit_codebooks
from coldstart.semantic_ids.settings import FEWEST_ITEMS, FIT, Settings, choose_space
from coldstart.store import Store
from coldstart.store.fit_stage import FitInputs, SavedFits, expected_or_waiting, fit_in_use, fit_unchanged
from coldstart.store.fits import ITEMS_FILE, items_file
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage

if TYPE_CHECKING:
    from coldstart.store.artifacts import Artifact


def build(name: str, settings: Settings, pipeline: Pipeline) -> SidFitStage:
    """Build the stage over an earlier space.

    Raises:
        ColdstartError: there is no space before it, or none of that name.
    """
    known = [spec.name for spec in pipeline.earlier(name) if spec.kind in SPACES]
    space = settings.space or choose_space(pipeline, name)
    if space not in known:
        raise ColdstartError(
            f"{name}.space={space!r}: no space of that name stands before it{suggestion(space, known)}; there is "
            f"{', '.join(known) or 'none'}"
        )
    return SidFitStage(name, settings, pipeline, space)


@dataclass(frozen=True)
class SidTraining:
    """Items with a usable vector: ids sorted, vectors float32 [N, D], and which a fit learns from.

    Attributes:
        keys: item -> key, also of items whose vector is zero or not finite.
    """

    item_ids: list[str]
    keys: dict[str, str]
    vectors: Vectors
    learns: NDArray[np.bool_]


class SpaceFitStage:
    """Compute keys, and the items that a fit takes, for fit stages over the vectors of one space.

    Attributes:
        uncounted: settings that change no result, or that the key has by the passport of the space.
        summary: summarises a fit in one line; raises where its report lacks a field.
    """

    name: str
    kind: str
    version = 1
    uncounted: frozenset[str]

    def __init__(
        self, name: str, settings: Section, pipeline: Pipeline, space: str, summary: Callable[[Artifact], str]
    ) -> None:
        self.name = name
        self.space = space
        self._counted = settings.model_dump(mode="json", exclude=set(self.uncounted))
        self._pipeline = pipeline
        self._fits = SavedFits(name, lambda: self._key, reads=summary)

    @cached_property
    def space_stage(self) -> Any:
        """Stage of the space."""
        return build_stage(self._pipeline.stage(self.space), self._pipeline)

    @property
    def _key(self) -> str:
        return stage_key(self.kind, self.version, {**self._counted, "passport": asdict(self.space_stage.passport)})

    def resolve(self) -> None:
        """Find the encoder of the space; see `coldstart.core.stage.Resolves`."""
        _ = self._key

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its fits rest on besides rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self._key}

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Compute the keys of the items that a fit takes, and the ledger rows of those left out."""
        return expected_or_waiting(store, self._inputs)

    def present(self, store: Store) -> dict[str, str]:
        """Read the keys of the items of the last fit."""
        return self._fits.present(store)

    def _left_out(self, store: Store) -> Callable[[str], Reject | None]:
        """Return the test of an item with a vector: None where the fit takes it, or the reason why not."""
        return lambda item: None

    def _inputs(self, store: Store) -> FitInputs:
        key = self._key
        pipeline_state = PipelineState(store, self._pipeline, {self.space: self.space_stage})
        found = pipeline_state.of(self.space)
        blocked = pipeline_state.blocked(self.name)
        left_out = self._left_out(store)
        inputs = FitInputs(self.name)
        for item, made in found.expected.items():
            own = chain(key, made)
            if item in blocked:
                inputs.leave_out(item, own, blocked[item])
            elif item in found.settled:
                why = Reject("no_vector", f"{self.space}: {found.settled[item].reason}", "filtered")
                inputs.leave_out(item, own, why)
            elif (reject := left_out(item)) is not None:
                inputs.leave_out(item, own, reject)
            else:
                inputs.take(item, own, ready=item in found.fresh)
        return inputs


class SidFitStage(SpaceFitStage):
    """Fit stage; see `coldstart.core.stage.FitStage`. `space`: name of the space that is coded."""

    kind = FIT
    uncounted = frozenset({"space", "warm_start"})

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, space: str) -> None:
        super().__init__(name, settings, pipeline, space, _summary)
        self.settings = settings

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings and there are enough items."""
        try:
            fit = self._fits.newest(store)
        except NotFitted as waits:
            return 0, [str(waits)]
        inputs = self._inputs(store)
        if fit is not None:
            changes = self._fits.changes(fit, inputs.keys)
            return 0, [fit_in_use(fit, changes.note("coldstart finetune sids"), _summary(fit))]
        training = self.training(store, inputs)
        if (missing := self._missing(training, store.uri)) is not None:
            return 0, [f"waits: {missing}"]
        return self._fit(store, training, progress)

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit if nothing was fitted under these settings, or items came, changed or went since.

        Raises:
            ColdstartError: too few items have a vector.
        """
        fit = self._fits.newest(store)
        inputs = self._inputs(store)
        if fit is not None and self.present(store) == inputs.ready:
            return 0, [fit_unchanged(fit, _summary(fit))]
        training = self.training(store, inputs)
        if (missing := self._missing(training, store.uri)) is not None:
            raise ColdstartError(f"{self.name}: {missing}")
        return self._fit(store, training, progress)

    def _missing(self, training: SidTraining, uri: str) -> str | None:
        if len(training.item_ids) >= FEWEST_ITEMS:
            return None
        return (
            f"{len(training.item_ids)} items have a vector in space {self.space!r}, and codebooks need {FEWEST_ITEMS}: "
            f"add items, or run `coldstart run --workspace {uri}` so that those there are embedded"
        )

    def training(self, store: Store, inputs: FitInputs | None = None) -> SidTraining:
        """Read the items with a fresh vector that is finite and not zero.

        Raises:
            NotFitted: the space waits for a fit.
        """
        ready = (inputs or self._inputs(store)).ready
        ids = sorted(ready)
        vectors = vectors_of(store, self.space_stage, ids)
        usable = is_usable(vectors)
        kept = [item for item, is_kept in zip(ids, usable.tolist(), strict=True) if is_kept]
        return SidTraining(kept, ready, vectors[usable], self.learns(store, kept))

    def learns(self, store: Store, item_ids: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which items a fit learns from, bool [N]: warm ones, where the space knows them and they are enough."""
        every = np.ones(len(item_ids), bool)
        if "warm" not in self.space_stage.schema.names or not item_ids:
            return every
        rows = store.read(self.space_stage.table, ["item_id", "warm"])
        warm = dict(zip(rows["item_id"].to_pylist(), rows["warm"].to_pylist(), strict=True))
        found = np.array([bool(warm.get(item)) for item in item_ids], bool)
        return found if found.sum() >= FEWEST_ITEMS else every

    def fit(self, vectors: Vectors, start: Codebooks | None = None, meter: Any = None) -> Codebooks:
        """Fit codebooks by the settings of the stage on vectors, float32 [N, D]."""
        return fit_codebooks(
            vectors,
            self.settings.method,
            self.settings.levels,
            crowding=self.settings.crowding,
            seed=self.settings.seed,
            start=start,
            step=(lambda: meter.advance(1, 0, 0.0)) if meter else (lambda: None),
        )

    def _fit(self, store: Store, training: SidTraining, progress: Progress) -> tuple[int, list[str]]:
        before = self._codebooks_before(store) if self.settings.warm_start else None
        with progress.meter(f"{self.name}: levels", len(self.settings.levels or LEVELS)) as meter:
            found = self.fit(training.vectors[training.learns], before, meter)
        rule = self.settings.collisions
        equal = not np.ptp(training.vectors, axis=0).any()
        if equal:
            rule = "suffix"
        if rule == "reassign" and prod(found.sizes) < len(training.item_ids):
            raise ColdstartError(
                f"{self.name}: levels {', '.join(map(str, found.sizes))} have {prod(found.sizes):,} IDs and there are "
                f"{len(training.item_ids):,} items: {self._more_ids(found, int(training.learns.sum()))}set collisions "
                "to suffix or keep"
            )
        projected = found.project(training.vectors)
        codes, left = found.encode(projected)
        about = {"space": self.space, "passport": self.space_stage.passport.digest, "collisions": rule}
        report = {
            **about,
            "method": found.method,
            "sizes": list(found.sizes),
            "items": len(training.item_ids),
            "learnt_from": int(training.learns.sum()),
            "without_vector": len(training.keys) - len(training.item_ids),
            "equal": equal,
            "content": self._pipeline.stage(self.space).kind != "behaviour",
            "unique_share": unique_share(codes),
            "perplexity": perplexities(codes, found.sizes),
            "variance_left": variance_left(projected, left),
            "warm_started": before is not None and can_begin_with(before, found.method, found.dim, found.sizes),
        }
        ids = sorted(training.keys)
        keys = [training.keys[item] for item in ids]
        learnt = np.isin(ids, [item for item, is_one in zip(training.item_ids, training.learns, strict=True) if is_one])
        parts = {"train": np.flatnonzero(learnt), "valid": np.flatnonzero(~learnt)}
        files = {**found.to_files(about), ITEMS_FILE: items_file(ids, keys, np.arange(len(ids)), parts)}
        fit = self._fits.save(store, keys, files, report)
        return len(training.item_ids), [_summary(fit), *_details(fit)]

    def _more_ids(self, found: Codebooks, items: int) -> str:
        """Say how to get more IDs: no level can have more codes than there are different vectors."""
        asked = self.settings.levels or LEVELS
        if found.form == "parallel" or all(
            size in (most, items // FEWEST_A_CODE) for size, most in zip(found.sizes, asked, strict=False)
        ):
            return "raise levels, or "
        return f"many items of space {self.space!r} have the same vector: "

    def _codebooks_before(self, store: Store) -> Codebooks | None:
        """Load the codebooks of the last fit, if they are of the same space."""
        newest = store.artifacts.newest(self.name)
        if newest is None or newest.report.get("passport") != self.space_stage.passport.digest:
            return None
        try:
            if load_card(newest.folder).get("passport") != self.space_stage.passport.digest:
                return None
            return load_codebooks(newest.folder)
        except ColdstartError:  # damaged: the fit begins anew
            return None


def is_usable(vectors: Vectors) -> NDArray[np.bool_]:
    """Tell which vectors are finite and not zero, bool [N]."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.einsum("nd,nd->n", vectors, vectors)
    return np.asarray(np.isfinite(lengths) & (lengths > 0))


def unique_share(codes: Codes) -> float:
    """Divide the number of different IDs by that of items."""
    return len(np.unique(codes, axis=0)) / max(1, len(codes))


def perplexities(codes: Codes, sizes: tuple[int, ...]) -> list[float]:
    """Compute exp(entropy) of the codes of each level: the number of codes that are used, if all were used alike."""
    found = []
    for own, size in zip(codes.T, sizes, strict=False):
        shares = np.bincount(own, minlength=size) / max(1, len(own))
        shares = shares[shares > 0]
        found.append(float(np.exp(-(shares * np.log(shares)).sum())))
    return found


def variance_left(projected: Vectors, left: Vectors) -> list[float]:
    """Divide the squared distance that is left after each level by the variance of the projected vectors."""
    whole = float(np.square(projected - projected.mean(0)).sum(dtype=np.float64))
    return [0.0 if whole <= 1e-12 else float(own) / whole for own in left.sum(0, dtype=np.float64)]


def _summary(fit: Artifact) -> str:
    """Summarise a fit in one line."""
    report = fit.report
    sizes = " x ".join(f"{int(size)}" for size in report["sizes"])
    return (
        f"{report['method']} {sizes} on {int(report['learnt_from']):,} of {int(report['items']):,} items of space "
        f"{report['space']}: {float(report['unique_share']):.1%} of nearest codes unique, "
        f"{float(report['variance_left'][-1]):.0%} of variance left, collisions {report['collisions']}"
    )


def _details(fit: Artifact) -> list[str]:
    report: Mapping[str, Any] = fit.report
    used = ", ".join(
        f"{value:.0f} of {size}" for value, size in zip(report["perplexity"], report["sizes"], strict=False)
    )
    found = [f"perplexity of the levels: {used}"]
    if report["content"]:
        found.append(
            f"{report['space']} codes what items are like; after `coldstart finetune behaviour`, `coldstart finetune "
            "sids --space behaviour` codes who likes them"
        )
    if report["equal"]:
        found.append("all vectors are equal: codes tell nothing, and a last code counts the items")
    if report["without_vector"]:
        found.append(f"{report['without_vector']:,} items have a vector that is zero or not finite, and are in no fit")
    if report["warm_started"]:
        found.append("began with the codebooks of the last fit; IDs by those stay stored beside the new ones")
    return found

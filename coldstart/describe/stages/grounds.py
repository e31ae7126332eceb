"""Run `describe.grounds`: fit the models that predict attributes such as "blue", on items whose records state them.

Pictures of the spaces before this stage, brand, title and texts become probabilities of an attribute's values, with the
lowest threshold that reaches `precision` (`coldstart.describe.attribute_model`). A part is held out for
`coldstart evaluate describe`: that of the writer's fit where the pipeline has one, else `test_share` of the items. Of a
space, the items that its encoder was fitted on are left out: their scores would be too good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from coldstart.core.keys import chain, digest, stage_key
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.settings import suggestion
from coldstart.core.stage import LedgerRow, Reject, Row
from coldstart.describe.attribute_fit import (
    AttributeTruth,
    FitItems,
    SpacePictures,
    attribute_truths,
    fit_attribute_model,
)
from coldstart.describe.attribute_model import AttributeModel, load_attribute_model, weights_json
from coldstart.describe.check_context import NAMES_FILE, names_file
from coldstart.describe.finetune.dataset import item_rows
from coldstart.describe.held_out import HeldOut, Share, held_out_groups, split_groups
from coldstart.describe.writing import given_fields
from coldstart.embed.class_scores import embeds_text, hash_order
from coldstart.embed.spaces import encoders_of, vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.metrics.splits import split
from coldstart.store import ITEMS, Store
from coldstart.store.artifacts import Artifact
from coldstart.store.fit_stage import FitInputs, SavedFits, expected_or_waiting
from coldstart.store.fits import ITEMS_FILE, read_fit_items, read_held_out
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 8000
"""Most items that a fit uses."""
FOLDS = 5
NEAR = 0.98
"""Cosine from which pictures count as copies, which share a fold."""
GROWN = 2
"""Growth of the items, as a factor, from which a run fits again."""


class Settings(HeldOut):
    """Settings of the models of attributes: spaces, witnesses, precision, and the items held out."""

    spaces: tuple[str, ...] | None = None
    """Spaces of pictures before this stage; by default all."""
    judge: Literal["auto", "words", "probe"] = "auto"
    """Evidence of pictures: `words` compares them with texts of the values, in spaces that hold both; `probe` is a
    regression fitted on the items; `auto` weighs both."""
    template: str = "a photo of {}"
    """Text with one `{}` for a value."""
    precision: float = Field(default=0.9, gt=0, lt=1)
    """Share of stated values that should be right, of each attribute. A higher one states fewer."""
    min_items: int = Field(default=50, ge=10)
    """Least items that state an attribute; with fewer it is not predicted."""
    test_share: Share = 0.0
    """Share held out for `coldstart evaluate describe`, 0 for none; the part of a writer's fit goes before it."""
    given: tuple[str, ...] = ("creator", "transcript", "screen_text", "picture")
    """Fields of a new item, of which `coldstart evaluate describe` writes; it changes no fit."""
    seed: int = 0
    """Seed of the split, folds and halves."""

    def counted(self) -> dict[str, Any]:
        """Return the settings that change a fit, as JSON values; without a part held out, those of earlier versions."""
        split = set() if self.test_share else set(HeldOut.model_fields)
        return self.model_dump(mode="json", exclude={"spaces", "given", *split})

    @field_validator("template")
    @classmethod
    def _one_place(cls, template: str) -> str:
        if template.count("{}") != 1:
            raise ValueError("give a text with one {}, such as 'a photo of {}'")
        return template


def build(name: str, settings: Settings, pipeline: Pipeline) -> GroundsStage:
    """Build the stage over the pipeline's spaces of pictures.

    Raises:
        ColdstartError: a space is none of pictures that stands before it.
    """
    earlier = pipeline.earlier(name)
    pictures = [spec.name for spec in earlier if spec.kind == "embed" and spec.settings.input == "image"]
    for space in settings.spaces or ():
        if space not in pictures:
            raise ColdstartError(
                f"{name}.spaces: no space of pictures {space!r} stands before it{suggestion(space, pictures)}: "
                f"there is {', '.join(pictures) or 'none'}"
            )
    chosen = [space for space in pictures if settings.spaces is None or space in settings.spaces]
    return GroundsStage(name, settings, pipeline, chosen)


@dataclass(frozen=True)
class _Inputs:
    """Items of a fit, and what their records state."""

    items: FitInputs
    attributes: Sequence[AttributeTruth]
    fresh: Mapping[str, frozenset[str]]
    rows: Mapping[str, Row]


class GroundsStage:
    """Fit stage of attributes; see `coldstart.core.stage.FitStage`; `load_attribute_model` reads its artifact."""

    kind = "describe.grounds"
    version = 4  # all spaces of pictures together are one more witness

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, spaces: Sequence[str]) -> None:
        self.name = name
        self._settings = settings
        self._pipeline = pipeline
        self._names = spaces
        given_fields(name, settings.given)
        self._fits = SavedFits(name, lambda: self._key)

    @cached_property
    def _spaces(self) -> dict[str, Any]:
        """Embed stages of the classifiers, by name.

        Raises:
            NotFitted: the encoder of one is not fitted yet.
        """
        pipeline = self._pipeline
        found: dict[str, Any] = {name: build_stage(pipeline.stage(name), pipeline) for name in self._names}
        worded = self._settings.judge == "words"
        return {name: stage for name, stage in found.items() if not worded or embeds_text(stage)}

    @cached_property
    def _key(self) -> str:
        passports = {space: asdict(stage.passport) for space, stage in self._spaces.items()}
        made_of = {**self._settings.counted(), "passports": passports, "attributes": self._pipeline.attributes.plain()}
        return stage_key(self.kind, self.version, made_of)

    def resolve(self) -> None:
        """Find the models, spaces and prompts of the settings; see `coldstart.core.stage.Resolves`."""
        _ = self._key

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its fits rest on besides rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self._key}

    # -- where items are

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        return expected_or_waiting(store, lambda store: self._inputs(store).items)

    def present(self, store: Store) -> dict[str, str]:
        """Return the keys of the items of the last fit."""
        return self._fits.present(store)

    def _inputs(self, store: Store) -> _Inputs:
        pipeline_state = PipelineState(store, self._pipeline, self._spaces)
        states = {space: pipeline_state.of(space) for space in self._spaces}
        blocked = pipeline_state.blocked(self.name)
        rows = item_rows(store, self._pipeline, self.name, pipeline_state)
        evidence = self._pipeline.before(self.name, "understand.evidence")
        heard = pipeline_state.of(evidence) if evidence else None
        stating = [row for item, row in rows.items() if item not in blocked]
        truths = list(attribute_truths(self._pipeline.attributes, stating))
        items = FitInputs(self.name)
        for item in store.keys(ITEMS):
            own = {one.name: one.values[one.truth[item]] for one in truths if one.truth.get(item, -1) >= 0}
            own |= {one.name: "" for one in truths if one.truth.get(item) == -1}
            read = {name: rows[item].get(name) for name in ("title", "description", "creator")} if item in rows else {}
            made = [f"{space} {state.key_of(item)}" for space, state in sorted(states.items())]
            key = chain(self._key, "\n".join([digest([own, read]), heard.key_of(item) if heard else "", *made]))
            having = [space for space, state in states.items() if item not in state.settled]
            if item in blocked:
                why = blocked[item]
            elif not own:
                why = Reject("states_nothing", "its record states no attribute of `attributes:`", "filtered")
            else:
                items.take(item, key, ready=all(item in states[space].fresh for space in having))
                continue
            items.leave_out(item, key, why)
        fresh = {space: state.fresh for space, state in states.items()}
        return _Inputs(items, truths, fresh, rows)

    # -- the fit

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit where nothing was fitted under these settings, or on far fewer items than there are."""
        return self._run(store, progress, asked=False)

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit where nothing was fitted under these settings, or items came, changed or went since."""
        return self._run(store, progress, asked=True)

    def _run(self, store: Store, progress: Progress, *, asked: bool) -> tuple[int, list[str]]:
        try:
            made, inputs = self._fits.newest(store), self._inputs(store)
        except NotFitted as waiting:
            return 0, [str(waiting)]
        keys = inputs.items.ready
        if made is not None and self._held_by_writers(store).keys().isdisjoint(_fitted(made)):
            present = self.present(store)
            if present == keys or not (asked or len(keys) >= GROWN * max(len(present), 1)):
                news = sum(present.get(item) != key for item, key in keys.items())
                since = [f"{news} items came or changed since: the next fit includes them"] if news else []
                with suppress(ColdstartError):  # of a damaged one, which is fitted anew
                    return 0, [*self._notes(load_attribute_model(made.folder)), *since]
        chosen, held = self._parts(store, inputs)
        spaces = [self._space(store, inputs, name, chosen) for name in self._spaces]
        with progress.meter(self.name, len(inputs.attributes)) as meter:
            model = fit_attribute_model(
                inputs.attributes,
                self._fit_items(store, inputs, chosen),
                spaces,
                judge=self._settings.judge,
                template=self._settings.template,
                precision=self._settings.precision,
                min_items=self._settings.min_items,
                meter=lambda: meter.advance(1, 0, 0.0),
            )
        fitted = {
            name: {case: weights_json(getattr(one, case)) for case in ("with_pictures", "new_brand", "without")}
            for name, one in model.predictors.items()
        }
        report = {"items": len(keys), "held_out": len(held), "attributes": fitted, "reasons": dict(model.reasons)}
        names = names_file(store.read(ITEMS, ["creator", "category"]).to_pylist())
        files = {ITEMS_FILE: _items_file(keys, chosen, held), NAMES_FILE: names, **model.files()}
        self._fits.save(store, [sorted(keys.items())], files, report)
        return len(keys), self._notes(model)

    def _parts(self, store: Store, inputs: _Inputs) -> tuple[list[str], dict[str, int]]:
        """Choose the items of the fit, `MOST` at most, and those held out: item -> group."""
        ready = sorted(inputs.items.ready, key=hash_order)
        share = self._settings.test_share
        held = {item: group for item, group in self._held_by_writers(store).items() if item in inputs.items.ready}
        if not held and share:
            ready = ready[: round(MOST / (1 - share))]
            creators = [inputs.rows[item].get("creator") for item in ready]
            groups, _ = held_out_groups(
                self._settings, store, self._pipeline, self.name, ready, creators, next(iter(self._spaces), None)
            )
            places = split(groups, ready, {"test": share, "rest": 1 - share}, self._settings.seed)["test"]
            held = {ready[place]: int(groups[place]) for place in places}
        return [item for item in ready if item not in held][:MOST], held

    def _fit_items(self, store: Store, inputs: _Inputs, items: Sequence[str]) -> FitItems:
        space = next(iter(self._spaces), None)
        seed = _APART + 2 * self._settings.seed

        def parts(group_by: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
            groups = split_groups(
                store, self._pipeline, self.name, items, group_by=group_by, space=space, threshold=NEAR
            )
            folds = split(groups, items, {str(fold): 1 / FOLDS for fold in range(FOLDS)}, seed)
            halves = split(groups, items, {"one": 0.5, "other": 0.5}, seed + 1)
            return _numbers(folds, len(items)), _numbers(halves, len(items)) == 1

        rows = [inputs.rows[item] for item in items]
        return FitItems(rows, *parts(("title",)), *parts(("title", "creator")))

    def _space(self, store: Store, inputs: _Inputs, name: str, items: Sequence[str]) -> SpacePictures:
        """Collect the vectors of a space, zero where its encoder was fitted on the item or its title."""
        stage = self._spaces[name]
        fitted = self._fitted_on(store, name)
        titles = {_title(inputs.rows[item]) for item in fitted if item in inputs.rows} - {""}
        vectors = vectors_of(store, stage, items)
        for place, item in enumerate(items):
            if item not in inputs.fresh[name] or item in fitted or _title(inputs.rows[item]) in titles:
                vectors[place] = 0.0
        encode = stage.encoder.encode_queries if embeds_text(stage) else None
        return SpacePictures(name, stage.passport.digest, vectors, encode)

    def _fitted_on(self, store: Store, space: str) -> frozenset[str]:
        """Return the items that the encoder of a space was fitted on."""
        encoder = self._spaces[space].settings.encoder
        for spec in self._pipeline.of_kind("align.text_image"):
            made = store.artifacts.newest(spec.name) if encoder in encoders_of(spec.name) else None
            if made is not None:
                return frozenset(item for item, (_, side) in read_fit_items(made).items() if side == "train")
        return frozenset()

    def _held_by_writers(self, store: Store) -> dict[str, int]:
        """Return the items that writers are evaluated on, with their groups: a fit on them would bias that."""
        fits = [store.artifacts.newest(spec.name) for spec in self._pipeline.of_kind("finetune.describe")]
        return {item: group for made in fits if made is not None for item, group in read_held_out(made).items()}

    def _notes(self, model: AttributeModel) -> list[str]:
        if not self._pipeline.attributes.root:
            return ["no attribute stands in `attributes:` of the pipeline: none is predicted"]
        notes = []
        for name, one in model.predictors.items():
            weights = one.with_pictures or one.without
            if weights is None or weights.threshold is None:
                continue
            scores = weights.scores
            shown = "from pictures and brand" if one.with_pictures else "from brand and texts"
            said = f"{name} {shown}: stated of {scores.stated:.0%} of {scores.items} items"
            if scores.precision is not None and scores.precision_interval is not None:
                low, high = scores.precision_interval
                said += f", {scores.precision:.2f} [{low:.2f}, {high:.2f}] of them right"
            notes.append(f"{said}; right and stated {scores.coverage:.0%}")
        return [*notes, *(f"{name} is not predicted: {why}" for name, why in model.reasons.items())]


_APART = 2_000_003
"""Offset of the seed: parts equal to those of another fit would all lie in its held-out part."""


def _fitted(made: Artifact) -> frozenset[str]:
    """Return the items that a fit learnt from."""
    return frozenset(item for item, (_, side) in read_fit_items(made).items() if side == "judged")


def _title(row: Row) -> str:
    return " ".join((row.get("title") or "").casefold().split())


def _numbers(parts: Mapping[str, NDArray[np.int64]], items: int) -> NDArray[np.int64]:
    """Return the part number of each item, int64 [items]."""
    found = np.zeros(items, np.int64)
    for number, places in enumerate(parts.values()):
        found[places] = number
    return found


def _items_file(keys: Mapping[str, str], chosen: Sequence[str], held: Mapping[str, int]) -> bytes:
    """Write `items.parquet`: side `judged` for items that the models were fitted on, `test` for those held out, with
    their groups, else `counted`."""
    sides = dict.fromkeys(keys, "counted") | dict.fromkeys(chosen, "judged") | dict.fromkeys(held, "test")
    columns = {
        "item_id": list(keys),
        "key": list(keys.values()),
        "split": [sides[item] for item in keys],
        "group": pa.array([held.get(item, -1) for item in keys], pa.int64()),
    }
    out = BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()

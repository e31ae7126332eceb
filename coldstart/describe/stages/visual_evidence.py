"""Run `describe.grounds`: fit classifiers by which pictures support claims such as "blue", on items that state them.

For each visual attribute of the pipeline file, picture vectors of the spaces before this stage become probabilities of
its values, with the lowest threshold that reaches `precision`. Items that a fit of the space was trained on are left
out, since their scores would be too good, and so are the items that writers are evaluated on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from coldstart.core.keys import chain, digest, stage_key
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.progress import Progress
from coldstart.core.settings import suggestion
from coldstart.core.stage import LedgerRow, Reject, Row
from coldstart.describe.check_context import NAMES_FILE, names_file
from coldstart.describe.visual_evidence import (
    SpacePictures,
    VisualAttribute,
    VisualEvidence,
    classifier_json,
    fit_visual_evidence,
    load_visual_evidence,
    stated_values,
    visual_attributes,
)
from coldstart.embed.class_scores import embeds_text, hash_order
from coldstart.embed.spaces import encoders_of, vectors_of
from coldstart.errors import ColdstartError, NotFitted
from coldstart.store import ITEMS, Store
from coldstart.store.fit_stage import FitInputs, SavedFits, expected_or_waiting
from coldstart.store.fits import ITEMS_FILE, read_fit_items
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 4000
"""Most items of a space that are used."""
FOLDS = 5
NEAR = 0.98
"""Cosine from which pictures count as copies, which share a fold."""
GROWN = 2
"""Growth of the items, as a factor, from which a run fits again."""


class Settings(Section):
    """Settings of the visual evidence: spaces, classifiers and precision."""

    spaces: tuple[str, ...] | None = None
    """Spaces of pictures before this stage; by default all."""
    judge: Literal["auto", "words", "probe"] = "auto"
    """`words` compares pictures with texts of the values, in spaces that hold both; `probe` is fitted on the items;
    `auto` takes the one of higher coverage at the same precision."""
    template: str = "a photo of {}"
    """Text with one `{}` for a value."""
    precision: float = Field(default=0.9, gt=0, lt=1)
    """Share of claims supported by a picture that should be right."""
    min_items: int = Field(default=50, ge=10)
    """Least items that state an attribute; with fewer, pictures do not support it."""
    seed: int = 0
    """Seed of folds and halves."""

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
    """Items of a fit, and their visual attributes."""

    items: FitInputs
    attributes: Sequence[VisualAttribute]
    fresh: Mapping[str, frozenset[str]]
    titles: Mapping[str, str]


class GroundsStage:
    """Fit stage of visual evidence; see `coldstart.core.stage.FitStage`; `load_visual_evidence` reads its artifact."""

    kind = "describe.grounds"
    version = 1

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline, spaces: Sequence[str]) -> None:
        self.name = name
        self._settings = settings
        self._pipeline = pipeline
        self._names = spaces
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
        chosen = self._settings.model_dump(exclude={"spaces"})
        made_of = {**chosen, "passports": passports, "attributes": self._pipeline.attributes.plain()}
        return stage_key(self.kind, self.version, made_of)

    def resolve(self) -> None:
        """Find the models, spaces and prompts of the settings; see `coldstart.core.stage.Resolves`."""
        _ = self._key

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
        fields = ["item_id", "title", "category", "creator", "tags", "attributes"]
        rows: list[Row] = store.read(ITEMS, fields).to_pylist() if store.has(ITEMS) else []
        rows = [row for row in rows if row["item_id"] not in blocked]
        told = stated_values(self._pipeline.attributes, rows)
        items = FitInputs(self.name)
        for item in store.keys(ITEMS):
            own = {name: values[item][0] for name, values in told.items() if item in values}
            made = [f"{space} {state.key_of(item)}" for space, state in sorted(states.items())]
            key = chain(self._key, "\n".join([digest(own), *made]))
            having = [space for space, state in states.items() if item not in state.settled]
            if item in blocked:
                why = blocked[item]
            elif not own:
                why = Reject("states_nothing", "its record states no visual attribute", "filtered")
            elif not having:
                no_vector = "; ".join(f"{space}: {state.settled[item].reason}" for space, state in states.items())
                why = Reject("no_vector", no_vector or _NO_SPACE, "filtered")
            else:
                items.take(item, key, ready=all(item in states[space].fresh for space in having))
                continue
            items.leave_out(item, key, why)
        fresh = {space: state.fresh for space, state in states.items()}
        titles = {row["item_id"]: " ".join((row["title"] or "").casefold().split()) for row in rows}
        return _Inputs(items, list(visual_attributes(self._pipeline.attributes, told)), fresh, titles)

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
        if made is not None:
            present = self.present(store)
            if present == keys or not (asked or len(keys) >= GROWN * max(len(present), 1)):
                news = sum(present.get(item) != key for item, key in keys.items())
                since = [f"{news} items came or changed since: the next fit includes them"] if news else []
                return 0, [*self._notes(load_visual_evidence(made.folder)), *since]
        spaces = [space for name in self._spaces if (space := self._space(store, inputs, name)) is not None]
        with progress.meter(self.name, len(inputs.attributes) * len(spaces)) as meter:
            grounds = fit_visual_evidence(
                inputs.attributes,
                spaces,
                judge=self._settings.judge,
                template=self._settings.template,
                precision=self._settings.precision,
                min_items=self._settings.min_items,
                meter=lambda: meter.advance(1, 0, 0.0),
            )
        judges = {
            name: [classifier_json(judge) for judge in one.classifiers] for name, one in grounds.attributes.items()
        }
        report = {"items": len(keys), "judges": judges, "reasons": dict(grounds.reasons)}
        names = names_file(store.read(ITEMS, ["creator", "category"]).to_pylist())
        files = {ITEMS_FILE: _items_file(keys, spaces), NAMES_FILE: names, **grounds.files()}
        self._fits.save(store, [sorted(keys.items())], files, report)
        return len(keys), self._notes(grounds)

    def _space(self, store: Store, inputs: _Inputs, name: str) -> SpacePictures | None:
        """Collect items of a space that its encoder was not fitted on, nor on their titles, and that no writer is
        evaluated on; None where there is none."""
        from coldstart.describe.finetune.dataset import split_groups
        from coldstart.metrics.splits import split

        fitted = self._fitted_on(store, name)
        titles = {inputs.titles.get(item) for item in fitted} - {"", None}
        held = self._held_out(store)
        items = [
            item
            for item in inputs.items.ready
            if item in inputs.fresh[name] and item not in fitted | held and inputs.titles[item] not in titles
        ]
        items = sorted(items, key=hash_order)[:MOST]
        if not items:
            return None
        stage = self._spaces[name]
        groups = split_groups(store, self._pipeline, self.name, items, group_by=("title",), space=name, threshold=NEAR)
        seed = _APART + 2 * self._settings.seed
        folds = split(groups, items, {str(fold): 1 / FOLDS for fold in range(FOLDS)}, seed)
        halves = split(groups, items, {"one": 0.5, "other": 0.5}, seed + 1)
        return SpacePictures(
            name,
            stage.passport.digest,
            items,
            vectors_of(store, stage, items),
            _numbers(folds, len(items)),
            _numbers(halves, len(items)) == 1,
            stage.encoder.encode_queries if embeds_text(stage) else None,
        )

    def _fitted_on(self, store: Store, space: str) -> frozenset[str]:
        """Return the items that the encoder of a space was fitted on."""
        encoder = self._spaces[space].settings.encoder
        for spec in self._pipeline.of_kind("align.text_image"):
            made = store.artifacts.newest(spec.name) if encoder in encoders_of(spec.name) else None
            if made is not None:
                return frozenset(item for item, (_, side) in read_fit_items(made).items() if side == "train")
        return frozenset()

    def _held_out(self, store: Store) -> frozenset[str]:
        """Return the items that writers are evaluated on; fitting on them would bias their evaluation."""
        fits = [store.artifacts.newest(spec.name) for spec in self._pipeline.of_kind("finetune.describe")]
        sides = [read_fit_items(made) for made in fits if made is not None]
        return frozenset(item for own in sides for item, (_, side) in own.items() if side == "test")

    def _notes(self, grounds: VisualEvidence) -> list[str]:
        if not grounds.attributes:
            return ["no visual attribute stands in `attributes:`: no claim is looked for in pictures"]
        if not self._spaces:
            return [f"{_NO_WORDS if self._names else _NO_SPACE}: visual claims need words as their evidence"]
        notes = []
        for name, one in grounds.attributes.items():
            if not one.classifiers:
                notes.append(f"{name}: pictures are no evidence of it: {grounds.reasons[name]}")
                continue
            best = one.classifiers[0]
            worth = best.scores
            assert best.threshold is not None, "the others were left out"
            said = f"{name}: by {best.kind} in {best.space}, from {best.threshold:.2f}; on {worth.items} items "
            if worth.precision is not None and worth.precision_interval is not None:
                low, high = worth.precision_interval
                said += f"{worth.precision:.2f} [{low:.2f}, {high:.2f}] of such claims are right, "
            notes.append(f"{said}{worth.coverage:.0%} of true ones have this evidence")
        return notes


_APART = 2_000_003
"""Offset of the seed: parts equal to those of another fit would all lie in its held-out part."""
_NO_SPACE = "no space of pictures stands before it"
_NO_WORDS = "no space with words and pictures"


def _numbers(parts: Mapping[str, NDArray[np.int64]], items: int) -> NDArray[np.int64]:
    """Return the part number of each item, int64 [items]."""
    found = np.zeros(items, np.int64)
    for number, places in enumerate(parts.values()):
        found[places] = number
    return found


def _items_file(keys: Mapping[str, str], spaces: Sequence[SpacePictures]) -> bytes:
    """Write `items.parquet`: side `judged` for items that a classifier was fitted on, else `counted`."""
    judged = {item for space in spaces for item in space.items}
    sides = ["judged" if item in judged else "counted" for item in keys]
    out = BytesIO()
    pq.write_table(pa.table({"item_id": list(keys), "key": list(keys.values()), "split": sides}), out)
    return out.getvalue()

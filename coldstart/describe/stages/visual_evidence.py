"""describe.grounds: how far a picture can be the ground of a claim such as "blue", by attribute, learnt from the items
whose record says what they are.

A claim that no text makes may still be seen. For each visual attribute of the pipeline file, the vectors of the spaces
before this stage are turned into probabilities of its values, and the lowest probability is looked for that is right as
often as `precision` asks. Items that a fit of the space itself has learnt from are left out: they would look too good;
and so are those by which a writer is judged.
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
"""Items of a space that are looked at."""
FOLDS = 5
NEAR = 0.98
"""Cosine from which pictures are taken for copies, which fall into one fold."""
GROWN = 2
"""A fit is made anew without being asked for, once there are so many times the items that it had."""


class Settings(Section):
    """What a picture is asked, and how sure the answer must be."""

    spaces: tuple[str, ...] | None = None
    """Spaces of pictures before this stage; by default all."""
    judge: Literal["auto", "words", "probe"] = "auto"
    """`words` likens pictures to the values in words, in spaces that hold both; `probe` learns from the items
    themselves what a value looks like; `auto` takes the one that finds more grounds at the same precision."""
    template: str = "a photo of {}"
    """Text with one `{}`, where a value goes."""
    precision: float = Field(default=0.9, gt=0, lt=1)
    """Share of the claims with a picture as their ground that should be right."""
    min_items: int = Field(default=50, ge=10)
    """Items that must state an attribute; with fewer, no picture is a ground of it."""
    seed: int = 0
    """Of the parts that judge each other."""

    @field_validator("template")
    @classmethod
    def _one_place(cls, template: str) -> str:
        if template.count("{}") != 1:
            raise ValueError("give a text with one {}, such as 'a photo of {}'")
        return template


def build(name: str, settings: Settings, pipeline: Pipeline) -> GroundsStage:
    """The stage over the pipeline's spaces of pictures.

    Raises:
        ColdstartError: a space is none of pictures that stands before it.
    """
    earlier = pipeline.earlier(name)
    pictures = [spec.name for spec in earlier if spec.kind == "embed" and spec.settings.input == "image"]
    for space in settings.spaces or ():
        if space not in pictures:
            raise ColdstartError(
                f"{name}.spaces: no space of pictures {space!r} stands before it{suggestion(space, pictures)}: there is "
                f"{', '.join(pictures) or 'none'}"
            )
    chosen = [space for space in pictures if settings.spaces is None or space in settings.spaces]
    return GroundsStage(name, settings, pipeline, chosen)


@dataclass(frozen=True)
class _Inputs:
    """Items of a fit, and what each is asked."""

    items: FitInputs
    questions: Sequence[VisualAttribute]
    fresh: Mapping[str, frozenset[str]]
    titles: Mapping[str, str]


class GroundsStage:
    """Fit stage; see `coldstart.core.stage.FitStage`. Its artifact is read by `coldstart.describe.visual_evidence.load_visual_evidence`."""

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
        """The embed stages that judge, by name.

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

    # -- where items are

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        return expected_or_waiting(store, lambda store: self._inputs(store).items)

    def present(self, store: Store) -> dict[str, str]:
        """Keys of the items that the last fit had."""
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
                since = [f"{news} items came or changed since, and count once it is fitted anew"] if news else []
                return 0, [*self._notes(load_visual_evidence(made.folder)), *since]
        spaces = [space for name in self._spaces if (space := self._space(store, inputs, name)) is not None]
        with progress.meter(self.name, len(inputs.questions) * len(spaces)) as meter:
            grounds = fit_visual_evidence(
                inputs.questions,
                spaces,
                judge=self._settings.judge,
                template=self._settings.template,
                precision=self._settings.precision,
                min_items=self._settings.min_items,
                meter=lambda: meter.advance(1, 0, 0.0),
            )
        judges = {name: [classifier_json(judge) for judge in one.judges] for name, one in grounds.asked.items()}
        report = {"items": len(keys), "judges": judges, "reasons": dict(grounds.reasons)}
        names = names_file(store.read(ITEMS, ["creator", "category"]).to_pylist())
        files = {ITEMS_FILE: _items_file(keys, spaces), NAMES_FILE: names, **grounds.files()}
        self._fits.save(store, [sorted(keys.items())], files, report)
        return len(keys), self._notes(grounds)

    def _space(self, store: Store, inputs: _Inputs, name: str) -> SpacePictures | None:
        """Items of a space whose encoder has not learnt from them or from their titles, and that no writer is judged
        by; None where there is none."""
        from coldstart.describe.finetune.dataset import split_groups
        from coldstart.metrics.splits import split

        learnt = self._learnt(store, name)
        said = {inputs.titles.get(item) for item in learnt} - {"", None}
        held = self._held_out(store)
        items = [
            item
            for item in inputs.items.ready
            if item in inputs.fresh[name] and item not in learnt | held and inputs.titles[item] not in said
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

    def _learnt(self, store: Store, space: str) -> frozenset[str]:
        """Items that the encoder of a space was fitted on."""
        encoder = self._spaces[space].settings.encoder
        for spec in self._pipeline.of_kind("align.text_image"):
            made = store.artifacts.newest(spec.name) if encoder in encoders_of(spec.name) else None
            if made is not None:
                return frozenset(item for item, (_, side) in read_fit_items(made).items() if side == "train")
        return frozenset()

    def _held_out(self, store: Store) -> frozenset[str]:
        """Items by which writers are judged: what is learnt of them here would make their grounds look too good."""
        fits = [store.artifacts.newest(spec.name) for spec in self._pipeline.of_kind("finetune.describe")]
        sides = [read_fit_items(made) for made in fits if made is not None]
        return frozenset(item for own in sides for item, (_, side) in own.items() if side == "test")

    def _notes(self, grounds: VisualEvidence) -> list[str]:
        if not grounds.asked:
            return ["no visual attribute stands in `attributes:`: nothing to ask pictures for"]
        if not self._spaces:
            return [f"{_NO_WORDS if self._names else _NO_SPACE}: visual claims need words as their ground"]
        notes = []
        for name, one in grounds.asked.items():
            if not one.judges:
                notes.append(f"{name}: no picture is a ground of it: {grounds.reasons[name]}")
                continue
            best = one.judges[0]
            worth = best.scores
            assert best.threshold is not None, "the others were left out"
            said = f"{name}: by {best.kind} in {best.space}, from {best.threshold:.2f}; on {worth.items} items "
            if worth.precision is not None and worth.precision_interval is not None:
                low, high = worth.precision_interval
                said += f"{worth.precision:.2f} [{low:.2f}, {high:.2f}] of such claims are right, "
            notes.append(f"{said}{worth.coverage:.0%} of true ones have this ground")
        return notes


_APART = 2_000_003
"""Keeps draws apart from those of other fits: parts drawn alike would all lie in what one of them left aside."""
_NO_SPACE = "no space of pictures stands before it"
_NO_WORDS = "no space with words and pictures"


def _numbers(parts: Mapping[str, NDArray[np.int64]], items: int) -> NDArray[np.int64]:
    """The number of the part of each item, int64 [items]."""
    found = np.zeros(items, np.int64)
    for number, places in enumerate(parts.values()):
        found[places] = number
    return found


def _items_file(keys: Mapping[str, str], spaces: Sequence[SpacePictures]) -> bytes:
    """As `coldstart.store.fits` reads it: `judged` where a judge was fitted on the item, else `counted`."""
    judged = {item for space in spaces for item in space.items}
    sides = ["judged" if item in judged else "counted" for item in keys]
    out = BytesIO()
    pq.write_table(pa.table({"item_id": list(keys), "key": list(keys.values()), "split": sides}), out)
    return out.getvalue()

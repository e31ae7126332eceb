"""label: the class of an item, out of some given ones, by its vectors; null where that is not sure.

Items whose category is one of the classes are not labelled: they calibrate the scores. A score becomes a probability by
them, and the threshold is the lowest that is as precise on them as `min_precision`. An item under it, or more like a
text for no class, gets no label. For scores and calibration see `coldstart.embed.class_scores`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field

from coldstart.core import class_file
from coldstart.core.class_file import Classes
from coldstart.core.keys import chain, digest, stage_key
from coldstart.core.pipeline import Pipeline, Section, StageSpec
from coldstart.core.progress import Progress
from coldstart.core.settings import suggestion
from coldstart.core.stage import LedgerRow, Reject, Row
from coldstart.embed.class_scores import ClassScorer, KnownClasses, LabelFit, text_spaces
from coldstart.embed.spaces import vectors_of
from coldstart.embed.zero_shot import TEMPERATURE, Calibration, LabelTargets, predict
from coldstart.errors import ColdstartError, NotFitted
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState

_COMMIT_ROWS = 8192
SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("row_key", pa.string()),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("margin", pa.float32()),
        ("best", pa.string()),
        ("second", pa.string()),
    ]
)
"""`best` is what the item is most like, a class or a text for none of them, and `score` how likely; `label` is `best`
where that is sure, else null; `second` comes next, by `margin` less likely."""


def _auto(value: Any) -> Any:
    return None if value == "auto" else value


class Settings(Section):
    """Settings of the classes, and of the precision that labels need."""

    classes: str = Field(min_length=1)
    """Classes and their prompts: a .yaml, a .csv, or one class a line; `package:sample/classes.yaml` is one."""
    spaces: tuple[str, ...] | None = None
    """Embed stages before this one whose vectors are compared with the classes; by default all whose encoder reads
    words into the same space."""
    templates: tuple[str, ...] | None = None
    """Texts with one `{}`, where a prompt goes, instead of the file's; their vectors are averaged."""
    only_missing: bool = True
    """Label only items that have no category of their own."""
    threshold: Annotated[Annotated[float, Field(gt=0, le=1)] | None, BeforeValidator(_auto)] = None
    """Score that a label needs; `auto` is the lowest that reaches `min_precision` on items that have a category."""
    min_precision: float = Field(default=0.9, gt=0, le=1)
    """Share of the labels that should be right."""
    temperature: float = Field(default=TEMPERATURE, gt=0)
    """Divisor of cosines where fewer than 30 items have a category among the classes; 0.01 suits a CLIP."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> LabelStage:
    """Build the stage, its classes read.

    Raises:
        ColdstartError: the classes file or a template has faults, or a space is none that stands before it.
    """
    classes = class_file.load(Path(settings.classes))
    if settings.templates is not None:
        faults = class_file.template_faults(settings.templates)
        if faults or not settings.templates:
            raise ColdstartError(f"{name}.templates: {'; '.join(faults) or 'give at least one'}")
        classes = Classes(classes.names, classes.prompts, classes.unknown, tuple(dict.fromkeys(settings.templates)))
    embeds = {spec.name: spec for spec in pipeline.earlier(name) if spec.kind == "embed"}
    for space in settings.spaces or ():
        if space not in embeds:
            raise ColdstartError(
                f"{name}.spaces: no space {space!r} stands before it{suggestion(space, embeds)}: there is "
                f"{', '.join(embeds) or 'none'}"
            )
    return LabelStage(name, settings, pipeline, classes, embeds)


@dataclass(frozen=True)
class _Inputs:
    """Inputs of labels.

    Attributes:
        takes: item -> the keys of its input rows, empty while these are pending; `verdicts`: on every other.
        known: items that scores are calibrated on, and the vectors of all.
        strange: category that is no class -> how many items have it.
    """

    takes: Mapping[str, str]
    verdicts: Mapping[str, LedgerRow]
    known: KnownClasses
    strange: Counter[str]


class LabelStage:
    """Catalog stage that labels; see `coldstart.core.stage.CatalogStage`."""

    kind = "label"
    version = 1

    def __init__(
        self, name: str, settings: Settings, pipeline: Pipeline, classes: Classes, embeds: Mapping[str, StageSpec]
    ) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self._settings = settings
        self._pipeline = pipeline
        self._classes = classes
        self._embeds = embeds
        with suppress(NotFitted):  # the fit stands before it
            _ = self._scorer

    @cached_property
    def _scorer(self) -> ClassScorer:
        """Scorer of the classes in the spaces that hold words too.

        Raises:
            NotFitted: the encoder of a space is not fitted yet.
            ColdstartError: no space holds words too, or one of the settings does not.
        """
        chosen = self._settings
        spaces = text_spaces(self.name, chosen.spaces, self._embeds, self._pipeline)
        passports = {space: asdict(stage.passport) for space, stage in spaces.items()}
        key = stage_key(self.kind, self.version, {"classes": self._classes.digest, "spaces": passports})
        targets = LabelTargets(chosen.min_precision, chosen.threshold, chosen.temperature)
        return ClassScorer(self.name, key, self._classes, spaces, targets)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its rows rest on besides other rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self._scorer.key}

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Return the keys of the items with a label, and verdicts on the others."""
        try:
            inputs = self._inputs(store, PipelineState(store, self._pipeline, self._scorer.spaces))
        except NotFitted:
            return dict.fromkeys(store.keys(ITEMS), ""), {}
        fit = self._scorer.fitted(store, inputs.known)
        keys = self._keys(inputs, fit)
        unsure = {row["item_id"]: row for row in self._rows(store, "label IS NULL") if self._holds(row, keys)}
        verdicts = {**inputs.verdicts, **{item: self._unknown(row, fit) for item, row in unsure.items()}}
        return {item: key for item, key in keys.items() if item not in unsure}, verdicts

    def present(self, store: Store) -> dict[str, str]:
        """Return the keys of the stored rows."""
        return store.keys(self.table)

    def labels(self, store: Store) -> dict[str, tuple[str, float]]:
        """Read the label of each item and its score, to two decimals; of rows that are fresh."""
        keys, _ = self.expected(store)
        rows = self._rows(store, "label IS NOT NULL")
        return {row["item_id"]: (row["label"], round(row["score"], 2)) for row in rows if self._holds(row, keys)}

    @property
    def classes(self) -> Classes:
        """Classes that items are labelled by."""
        return self._classes

    def measure(self, store: Store, pipeline_state: PipelineState) -> tuple[LabelFit, Mapping[str, int]]:
        """Measure labels on the items whose class is known, by the last fit where it is current; stores nothing.

        Returns the calibration with its quality, and item -> number of its class.

        Raises:
            NotFitted: the encoder of a space is not fitted yet.
        """
        known = self._inputs(store, pipeline_state).known
        found = self._scorer.fitted(store, known)
        if found is None:
            found = self._scorer.measure(store, pipeline_state, known, self._scorer.class_vectors(store))
        return found, known.truth

    def _rows(self, store: Store, where: str) -> list[Row]:
        rows: list[Row] = store.read(self.table, where=where).to_pylist() if store.has(self.table) else []
        return rows

    def _holds(self, row: Row, keys: Mapping[str, str]) -> bool:
        return bool(keys.get(row["item_id"]) == row["row_key"])

    def _keys(self, inputs: _Inputs, fit: LabelFit | None) -> dict[str, str]:
        if fit is None:  # pending: equal to no key that was written
            return dict.fromkeys(inputs.takes, "")
        numbers = digest(fit.calibration.to_plain(list(self._scorer.spaces)))
        return {item: made and chain(self._scorer.key, f"{numbers}\n{made}") for item, made in inputs.takes.items()}

    def _inputs(self, store: Store, pipeline_state: PipelineState) -> _Inputs:
        states = {space: pipeline_state.of(space) for space in self._scorer.spaces}
        blocked = pipeline_state.blocked(self.name)
        numbers = {class_file.plain(name): number for number, name in enumerate(self._classes.names)}
        made: dict[str, dict[str, str]] = {}
        takes: dict[str, str] = {}
        verdicts: dict[str, LedgerRow] = {}
        truth: dict[str, int] = {}
        strange: Counter[str] = Counter()
        items = store.read(ITEMS, ["item_id", "category"])
        for item, category in zip(items["item_id"].to_pylist(), items["category"].to_pylist(), strict=True):
            if item in blocked:
                verdicts[item] = self._verdict(item, blocked[item])
                continue
            made[item] = {space: state.expected[item] for space, state in states.items() if item in state.fresh}
            number = numbers.get(class_file.plain(category)) if category else None
            if number is not None and made[item]:
                truth[item] = number
            elif category and number is None:
                strange[category] += 1
            if category and self._settings.only_missing:
                verdicts[item] = self._verdict(item, Reject("has_category", category, "filtered"))
            elif made[item] or not all(item in state.settled for state in states.values()):
                takes[item] = "\n".join(f"{space} {key}" for space, key in sorted(made[item].items()))
            else:
                why = "; ".join(f"{space}: {state.settled[item].reason}" for space, state in states.items())
                verdicts[item] = self._verdict(item, Reject("no_vector", why, "filtered"))
        return _Inputs(takes, verdicts, self._scorer.known(truth, made), strange)

    def _verdict(self, item: str, why: Reject) -> LedgerRow:
        return LedgerRow(self.name, item, chain(self._scorer.key, str(why)), why.state, why.reason, why.detail)

    def _unknown(self, row: Row, fit: LabelFit | None) -> LedgerRow:
        text = f"most like {row['best']}, {row['score']:.2f}, then {row['second']}"
        if row["best"] not in self._classes.names:
            text += "; the first is none of the classes"
        elif fit is not None:
            needed = fit.calibration.threshold
            text += "; no score is precise enough" if needed is None else f"; a label needs {needed:.2f}"
        return LedgerRow(self.name, row["item_id"], row["row_key"], "filtered", "unknown_class", text)

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Calibrate where the labelled items changed, then label what is stale, and commit as it goes."""
        try:
            scorer = self._scorer
            pipeline_state = PipelineState(store, self._pipeline, scorer.spaces)
            inputs = self._inputs(store, pipeline_state)
        except NotFitted as waiting:
            return 0, [str(waiting)]
        fit = scorer.fitted(store, inputs.known) or scorer.fit(store, pipeline_state, inputs.known)
        keys = {item: key for item, key in self._keys(inputs, fit).items() if key}
        present = self.present(store)
        gone = present.keys() - keys.keys()
        store.delete(self.table, gone)
        todo = [item for item, key in keys.items() if present.get(item) != key]
        if todo:
            self._label(store, todo, keys, inputs.known.vector_keys, fit.calibration, progress)
        return len(todo) + len(gone), self._notes(store, inputs, fit)

    def _label(
        self,
        store: Store,
        items: Sequence[str],
        keys: Mapping[str, str],
        made: Mapping[str, Mapping[str, str]],
        calibration: Calibration,
        progress: Progress,
    ) -> None:
        classes = self._scorer.class_vectors(store)
        vectors = {space: vectors_of(store, stage, items) for space, stage in self._scorer.spaces.items()}
        names = np.array([*self._classes.names, *self._classes.unknown], object)
        with progress.meter(self.name, len(items)) as meter:
            for start in range(0, len(items), _COMMIT_ROWS):
                part = items[start : start + _COMMIT_ROWS]
                cosines = [one[start : start + len(part)] @ classes[space].T for space, one in vectors.items()]
                present = np.array([[space in made[item] for item in part] for space in vectors])
                predicted = predict(calibration.logits(cosines, present))
                unsure = ~predicted.accepted(len(self._classes.names), calibration.threshold)
                best = names[predicted.best]
                columns = [
                    pa.array(part, pa.string()),
                    pa.array([keys[item] for item in part], pa.string()),
                    pa.array(best, pa.string(), mask=unsure),
                    pa.array(predicted.score, pa.float32()),
                    pa.array(predicted.margin, pa.float32()),
                    pa.array(best, pa.string()),
                    pa.array(names[predicted.second], pa.string()),
                ]
                store.merge(self.table, pa.Table.from_arrays(columns, schema=SCHEMA))
                meter.advance(len(part), 0, 0.0)

    def _notes(self, store: Store, inputs: _Inputs, fit: LabelFit) -> list[str]:
        labels = (
            store.read(self.table, ["label"])["label"] if store.has(self.table) else pa.chunked_array([pa.array([])])
        )
        known = len(labels) - labels.null_count
        notes = [
            f"{known} of {len(labels)} items got a label, {labels.null_count} stay unknown",
            fit.note(len(inputs.known.truth)),
        ]
        if inputs.strange:
            first = ", ".join(
                f"{name!r} {count}{suggestion(name, self._classes.names)}"
                for name, count in inputs.strange.most_common(5)
            )
            notes.append(f"{inputs.strange.total()} items have a category that is no class: {first}")
        return notes

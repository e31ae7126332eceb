"""Fit, save and load classifiers of visual attributes, and find the attribute values that pictures support.

    evidence = load_visual_evidence(pipeline.fitted("describe.grounds"))
    seen = evidence.seen_values({"aligned": vectors}, len(vectors))

An attribute of one name has the values of all categories that have it. `seen` has only values that reach the threshold
of their attribute. Knows no tables.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.core.attributes import Attribute, Attributes, recorded_values
from coldstart.describe.visual_classifiers import (
    Classifier,
    HeldOutScores,
    LabelledItems,
    probe_classifier,
    smoothed_shares,
    zero_shot_classifier,
)
from coldstart.embed.zero_shot import Flags, Numbers, Vectors, ensemble

MIN_ITEMS_PER_VALUE = 3
"""Least items that state a value of an open attribute for the value to count."""


@dataclass(frozen=True)
class VisualAttribute:
    """Visual attribute with its values and the records that state it.

    Attributes:
        values: all possible ones; words: of each, value and aliases.
        truth: item -> number of the recorded value, -1 for another one.
    """

    name: str
    values: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    truth: Mapping[str, int]

    @property
    def shares(self) -> Vectors:
        """Share of each value, float32 [V]."""
        known = [number for number in self.truth.values() if number >= 0]
        return smoothed_shares(np.bincount(np.array(known, np.int64), minlength=len(self.values)))


@dataclass(frozen=True)
class SpacePictures:
    """Picture vectors of items in one space.

    Attributes:
        passport: digest of the encoder's passport.
        items: those that the encoder was not fitted on; vectors: of them, unit float32 [N, D].
        folds, halves: as of `LabelledItems`, for the same items.
        encode: texts -> unit vectors in the same space; None where it holds no texts.
    """

    name: str
    passport: str
    items: Sequence[str]
    vectors: Vectors
    folds: Numbers
    halves: Flags
    encode: Callable[[Sequence[str]], Vectors] | None


def stated_values(attributes: Attributes, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[str, bool]]]:
    """Collect recorded values: visual attribute -> item -> value, and True where its category lists the value.

    Args:
        rows: items, with `item_id`, `category`, `creator`, `tags` and `attributes`.
    """
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    ready: dict[str | None, tuple[dict[str, Attribute], dict[str, Attribute]]] = {}
    for row in rows:
        category = row["category"]
        if category not in ready:
            visual = {name: one for name, one in attributes.of(category).items() if one.visual}
            ready[category] = visual, {name: one.model_copy(update={"values": ()}) for name, one in visual.items()}
        visual, anything = ready[category]
        for name, value in recorded_values(row, anything).items():
            listed = visual[name].canonical(value)
            found.setdefault(name, {})[row["item_id"]] = (value if listed is None else listed, listed is not None)
    return found


def visual_attributes(
    attributes: Attributes, recorded: Mapping[str, Mapping[str, tuple[str, bool]]]
) -> Iterator[VisualAttribute]:
    """Yield the visual attributes of all categories, in the order of the file; `recorded`: see `stated_values`."""
    same: dict[str, list[Attribute]] = {}
    for named in attributes.root.values():
        for name, one in named.items():
            if one.visual:
                same.setdefault(name, []).append(one)
    for name, ones in same.items():
        own = recorded.get(name, {})
        seen: Counter[str] = Counter(value for value, listed in own.values() if listed)
        often: Counter[str] = Counter()
        for value, count in seen.items():
            often[value.casefold()] += count
        closed = [value for one in ones for value in one.values]
        open_ = [value for value, _ in seen.most_common() if often[value.casefold()] >= MIN_ITEMS_PER_VALUE]
        values: dict[str, str] = {}
        for value in (*closed, *(open_ if any(not one.values for one in ones) else ())):
            values.setdefault(value.casefold(), value)
        numbers = {folded: number for number, folded in enumerate(values)}
        words = tuple(
            tuple(dict.fromkeys([value, *(word for one in ones for word in one.words_of(value)[1:])]))
            for value in values.values()
        )
        true = {item: numbers.get(value.casefold(), -1) if listed else -1 for item, (value, listed) in own.items()}
        yield VisualAttribute(name, tuple(values.values()), words, true)


def fit_visual_evidence(
    attributes: Sequence[VisualAttribute],
    spaces: Sequence[SpacePictures],
    *,
    judge: str,
    template: str,
    precision: float,
    min_items: int,
    meter: Callable[[], None] = lambda: None,
) -> VisualEvidence:
    """Fit classifiers that reach the precision, of each attribute those of highest coverage first.

    Args:
        judge: `words`, `probe` or `auto` for both.
        template: text with one `{}`, for the words of a value.
        min_items: items of a space that must state the attribute.
        meter: called after each attribute of each space.
    """
    found, reasons = {}, {}
    for attribute in attributes:
        classifiers: list[Classifier] = []
        most = 0
        for space in spaces:
            places = [place for place, item in enumerate(space.items) if item in attribute.truth]
            most = max(most, len(places))
            if len(places) >= min_items and len(attribute.values) > 1:
                classifiers += _fit_space(attribute, space, np.array(places, np.int64), judge, template, precision)
            meter()
        classifiers = [one for one in classifiers if one.threshold is not None and one.scores.coverage]
        classifiers.sort(key=lambda one: -one.scores.coverage)
        if not classifiers:
            reasons[attribute.name] = _why(attribute, most, min_items, precision)
        found[attribute.name] = AttributeClassifiers(attribute.values, tuple(classifiers))
    return VisualEvidence(found, {space.name: space.passport for space in spaces}, reasons)


def _fit_space(
    attribute: VisualAttribute, space: SpacePictures, places: Numbers, judge: str, template: str, precision: float
) -> Iterator[Classifier]:
    true = np.array([attribute.truth[space.items[place]] for place in places], np.int64)
    items = LabelledItems(true, space.folds[places], space.halves[places], attribute.shares)
    vectors = space.vectors[places]
    if len(np.unique(items.folds)) < 2 or len(np.unique(items.halves)) < 2:
        return  # all items are copies of each other
    if judge != "probe" and space.encode is not None:
        texts = [(template.replace("{}", word), number) for number, own in enumerate(attribute.words) for word in own]
        owners = np.array([number for _, number in texts], np.int64)
        words = ensemble(space.encode([text for text, _ in texts]), owners, len(attribute.values))
        yield zero_shot_classifier(space.name, vectors, words, items, precision)
    if judge != "words":
        yield probe_classifier(space.name, vectors, items, precision)


def _why(attribute: VisualAttribute, most: int, min_items: int, precision: float) -> str:
    if len(attribute.values) < 2:
        return f"it has {len(attribute.values)} values to tell apart"
    if most < min_items:
        return f"{most} items with a picture state it, {min_items} are needed"
    return f"on {most} items no probability is right as often as {precision:g}"


EVIDENCE_FILE = "grounds.json"


SeenValues = dict[str, dict[str, float]]
"""Attribute -> value -> probability that a picture shows it."""


@dataclass(frozen=True)
class AttributeClassifiers:
    """Values of one attribute and its classifiers, the best first; none where pictures cannot support it."""

    values: tuple[str, ...]
    classifiers: tuple[Classifier, ...]


@dataclass(frozen=True)
class VisualEvidence:
    """Fitted classifiers of all visual attributes.

    Attributes:
        attributes: visual attribute -> its classifiers; the first one whose space has an item classifies it.
        passports: space -> digest of the passport of its vectors.
        reasons: visual attribute that pictures cannot support -> reason in words.
    """

    attributes: Mapping[str, AttributeClassifiers]
    passports: Mapping[str, str]
    reasons: Mapping[str, str]

    @property
    def spaces(self) -> list[str]:
        """Spaces of the classifiers."""
        return sorted({judge.space for one in self.attributes.values() for judge in one.classifiers})

    def seen_values(self, vectors: Mapping[str, Vectors], items: int) -> list[SeenValues]:
        """Find the values that the pictures of many items support, in their order.

        Args:
            vectors: space -> float32 [items, D], zero where an item has none.
        """
        found: list[SeenValues] = [{} for _ in range(items)]
        for name, one in self.attributes.items():
            open_ = np.ones(items, np.bool_)
            for judge in one.classifiers:
                if judge.space not in vectors or judge.threshold is None:
                    continue
                own = vectors[judge.space]
                places = np.flatnonzero(open_ & own.any(axis=1))
                open_[places] = False
                likely = judge.probabilities(own[places])
                for row, column in np.argwhere(likely >= np.float32(judge.threshold)).tolist():
                    found[places[row]].setdefault(name, {})[one.values[column]] = float(likely[row, column])
        return found

    def files(self) -> dict[str, bytes]:
        """Return the files of `load_visual_evidence`: path -> content."""
        files: dict[str, bytes] = {}
        asked: dict[str, Any] = {}
        for name, one in self.attributes.items():
            judges = []
            for judge in one.classifiers:
                path = f"judge-{len(files)}.npy"
                files[path] = _saved(np.concatenate([judge.weights, judge.offsets[:, None]], axis=1))
                judges.append({**classifier_json(judge), "file": path})
            asked[name] = {"values": list(one.values), "judges": judges}
        about = {"attributes": asked, "passports": dict(self.passports), "reasons": dict(self.reasons)}
        return {EVIDENCE_FILE: json.dumps(about, ensure_ascii=False, indent=1).encode(), **files}


def classifier_json(judge: Classifier) -> dict[str, Any]:
    """Return a classifier as JSON values, without its weights."""
    return {"space": judge.space, "kind": judge.kind, "threshold": judge.threshold, "worth": asdict(judge.scores)}


def load_visual_evidence(folder: Path) -> VisualEvidence:
    """Load `VisualEvidence.files` from a folder, such as `Artifact.folder`."""
    about = json.loads((folder / EVIDENCE_FILE).read_text("utf-8"))
    asked = {}
    for name, one in about["attributes"].items():
        classifiers = []
        for judge in one["judges"]:
            numbers = np.load(folder / judge["file"], allow_pickle=False)
            worth = dict(judge["worth"])
            interval = worth.pop("precision_interval")
            known = HeldOutScores(**worth, precision_interval=None if interval is None else tuple(interval))
            classifiers.append(
                Classifier(judge["space"], judge["kind"], numbers[:, :-1], numbers[:, -1], judge["threshold"], known)
            )
        asked[name] = AttributeClassifiers(tuple(one["values"]), tuple(classifiers))
    return VisualEvidence(asked, about["passports"], about["reasons"])


def _saved(numbers: Vectors) -> bytes:
    buffer = BytesIO()
    np.save(buffer, numbers, allow_pickle=False)
    return buffer.getvalue()

"""Judges of visual attributes, fitted on items whose record states them. Makes no row.

An attribute of one name is one question, whatever category asks it: its values are those of all of them.

What a picture can be the ground of: judges of visual attributes, as `describe.grounds` fitted and kept them.

    grounds = load(pipeline.fitted("describe.grounds"))
    seen = grounds.seen({"aligned": row["aligned"]["vector"]})

Only what may be a ground is in `seen`: what reaches the threshold of its attribute.
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
from numpy.typing import NDArray

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
"""Items that must state a value of an attribute without a list for it to be one."""


@dataclass(frozen=True)
class VisualAttribute:
    """One visual attribute.

    Attributes:
        values: all that it may be; words: of each, all that stands for it, itself first.
        truth: item -> the number of the value that its record states, -1 for another one.
    """

    name: str
    values: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    truth: Mapping[str, int]

    @property
    def shares(self) -> Vectors:
        """How frequent each value is, float32 [V]."""
        known = [number for number in self.truth.values() if number >= 0]
        return smoothed_shares(np.bincount(np.array(known, np.int64), minlength=len(self.values)))


@dataclass(frozen=True)
class SpacePictures:
    """Pictures of items, by one encoder.

    Attributes:
        passport: its digest.
        items: those that the encoder has not learnt from; vectors: of them, unit float32 [N, D].
        folds, halves: as of `Judged`, for the same items.
        encode: texts -> unit vectors in the same space; None where it reads no words.
    """

    name: str
    passport: str
    items: Sequence[str]
    vectors: Vectors
    folds: Numbers
    halves: Flags
    encode: Callable[[Sequence[str]], Vectors] | None


def stated_values(attributes: Attributes, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[str, bool]]]:
    """Visual attribute -> item -> the value that its record states, and whether that is one of its category's list.

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
    attributes: Attributes, told: Mapping[str, Mapping[str, tuple[str, bool]]]
) -> Iterator[VisualAttribute]:
    """The visual attributes of all categories, in the order in which they are first written; `told`: see `stated`."""
    same: dict[str, list[Attribute]] = {}
    for named in attributes.root.values():
        for name, one in named.items():
            if one.visual:
                same.setdefault(name, []).append(one)
    for name, ones in same.items():
        own = told.get(name, {})
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
    asked: Sequence[VisualAttribute],
    spaces: Sequence[SpacePictures],
    *,
    judge: str,
    template: str,
    precision: float,
    min_items: int,
    meter: Callable[[], None] = lambda: None,
) -> VisualEvidence:
    """The judges that reach the precision, of each attribute by how many true claims they would find the ground of.

    Args:
        judge: `words`, `probe` or `auto` for both.
        template: text with one `{}`, where the words of a value go.
        min_items: items of a space that must state the attribute.
        meter: called after each attribute of each space.
    """
    found, reasons = {}, {}
    for question in asked:
        judges: list[Classifier] = []
        most = 0
        for space in spaces:
            places = [place for place, item in enumerate(space.items) if item in question.truth]
            most = max(most, len(places))
            if len(places) >= min_items and len(question.values) > 1:
                judges += _judges(question, space, np.array(places, np.int64), judge, template, precision)
            meter()
        judges = [one for one in judges if one.threshold is not None and one.scores.coverage]
        judges.sort(key=lambda one: -one.scores.coverage)
        if not judges:
            reasons[question.name] = _why(question, most, min_items, precision)
        found[question.name] = AttributeClassifiers(question.values, tuple(judges))
    return VisualEvidence(found, {space.name: space.passport for space in spaces}, reasons)


def _judges(
    question: VisualAttribute, space: SpacePictures, places: Numbers, judge: str, template: str, precision: float
) -> Iterator[Classifier]:
    true = np.array([question.truth[space.items[place]] for place in places], np.int64)
    judged = LabelledItems(true, space.folds[places], space.halves[places], question.shares)
    vectors = space.vectors[places]
    if len(np.unique(judged.folds)) < 2 or len(np.unique(judged.halves)) < 2:
        return  # all of them are copies of each other
    if judge != "probe" and space.encode is not None:
        texts = [(template.replace("{}", word), number) for number, own in enumerate(question.words) for word in own]
        owners = np.array([number for _, number in texts], np.int64)
        words = ensemble(space.encode([text for text, _ in texts]), owners, len(question.values))
        yield zero_shot_classifier(space.name, vectors, words, judged, precision)
    if judge != "words":
        yield probe_classifier(space.name, vectors, judged, precision)


def _why(question: VisualAttribute, most: int, min_items: int, precision: float) -> str:
    if len(question.values) < 2:
        return f"it has {len(question.values)} values to tell apart"
    if most < min_items:
        return f"{most} items with a picture state it, {min_items} are needed"
    return f"on {most} items no probability is right as often as {precision:g}"


EVIDENCE_FILE = "grounds.json"


SeenValues = dict[str, dict[str, float]]
"""Attribute -> value -> probability that the picture shows it."""


@dataclass(frozen=True)
class AttributeClassifiers:
    """One attribute: its values, and who judges it, the best first; none where no picture can be its ground."""

    values: tuple[str, ...]
    judges: tuple[Classifier, ...]


@dataclass(frozen=True)
class VisualEvidence:
    """What was fitted.

    Attributes:
        asked: visual attribute -> its judges. An item is judged by the first whose space has it.
        passports: space -> digest of the passport of the vectors that its judges take.
        reasons: visual attribute that no picture can be the ground of -> why, in words.
    """

    asked: Mapping[str, AttributeClassifiers]
    passports: Mapping[str, str]
    reasons: Mapping[str, str]

    @property
    def spaces(self) -> list[str]:
        """The spaces whose vectors are asked for."""
        return sorted({judge.space for one in self.asked.values() for judge in one.judges})

    def seen(self, vectors: Mapping[str, NDArray[Any] | Sequence[float] | None]) -> SeenValues:
        """What the pictures of one item are a ground of.

        Args:
            vectors: space -> its vector, unit float [D]; None or left out where it has none.
        """
        given = {space: np.asarray(one, np.float32)[None] for space, one in vectors.items() if one is not None}
        return self.seen_values(given, 1)[0]

    def seen_values(self, vectors: Mapping[str, Vectors], items: int) -> list[SeenValues]:
        """The same for many items, in their order.

        Args:
            vectors: space -> float32 [items, D], zero where an item has none.
        """
        found: list[SeenValues] = [{} for _ in range(items)]
        for name, one in self.asked.items():
            open_ = np.ones(items, np.bool_)
            for judge in one.judges:
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
        """Path -> content: all that `load` needs."""
        files: dict[str, bytes] = {}
        asked: dict[str, Any] = {}
        for name, one in self.asked.items():
            judges = []
            for judge in one.judges:
                path = f"judge-{len(files)}.npy"
                files[path] = _saved(np.concatenate([judge.weights, judge.offsets[:, None]], axis=1))
                judges.append({**classifier_json(judge), "file": path})
            asked[name] = {"values": list(one.values), "judges": judges}
        about = {"attributes": asked, "passports": dict(self.passports), "reasons": dict(self.reasons)}
        return {EVIDENCE_FILE: json.dumps(about, ensure_ascii=False, indent=1).encode(), **files}


def classifier_json(judge: Classifier) -> dict[str, Any]:
    """A judge as JSON gives it, without its weights."""
    return {"space": judge.space, "kind": judge.kind, "threshold": judge.threshold, "worth": asdict(judge.scores)}


def load_visual_evidence(folder: Path) -> VisualEvidence:
    """What `Grounds.files` left in a folder, such as `Artifact.folder`."""
    about = json.loads((folder / EVIDENCE_FILE).read_text("utf-8"))
    asked = {}
    for name, one in about["attributes"].items():
        judges = []
        for judge in one["judges"]:
            numbers = np.load(folder / judge["file"], allow_pickle=False)
            worth = dict(judge["worth"])
            interval = worth.pop("precision_interval")
            known = HeldOutScores(**worth, precision_interval=None if interval is None else tuple(interval))
            judges.append(
                Classifier(judge["space"], judge["kind"], numbers[:, :-1], numbers[:, -1], judge["threshold"], known)
            )
        asked[name] = AttributeClassifiers(tuple(one["values"]), tuple(judges))
    return VisualEvidence(asked, about["passports"], about["reasons"])


def _saved(numbers: Vectors) -> bytes:
    buffer = BytesIO()
    np.save(buffer, numbers, allow_pickle=False)
    return buffer.getvalue()

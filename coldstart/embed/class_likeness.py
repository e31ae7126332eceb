"""How like items are to classes in words: the spaces where that can be told, the vectors of the classes there, and how
far the likeness can be trusted, learnt from items whose class is known. Makes no row.

Class vectors and calibration are one artifact, of the name of the stage that labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np

from coldstart.core.class_file import Classes
from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.embed.spaces import reads_category, vectors_of, without_category
from coldstart.embed.zero_shot import (
    ENOUGH,
    Calibration,
    LabelledScores,
    LabelTargets,
    Quality,
    Vectors,
    calibrate,
    ensemble,
)
from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.store.freshness import Standing, build

MOST = 2000
"""Labelled items that are looked at: more would not change a handful of numbers."""

_ALIGNED = (
    "take an aligned encoder, such as starter-clip or open_clip (`coldstart embed --space clip --encoder starter-clip`)"
)


def text_spaces(
    name: str, wanted: tuple[str, ...] | None, embeds: Mapping[str, StageSpec], pipeline: Pipeline
) -> dict[str, Any]:
    """Embed stages whose vectors can be likened to words, built, by name.

    Args:
        name: the stage that asks; wanted: the spaces that its settings name, None for all that will do.
        embeds: the embed stages before it.

    Raises:
        NotFitted: the encoder of one is not fitted yet.
        ColdstartError: there is none, or one is wanted whose encoder keeps pictures and words apart.
    """
    found = {}
    for space in wanted or embeds:
        stage: Any = build(embeds[space], pipeline)
        if embeds_text(stage):
            found[space] = stage
        elif wanted is not None:
            raise ColdstartError(
                f"{name}.spaces: {stage.encoder.name} of {space!r} reads no words into the space of its "
                f"pictures, so that they cannot be likened to classes: {_ALIGNED}"
            )
    if not found:
        raise ColdstartError(
            f"{name}: no space before it holds both words and what items look like or say "
            f"(there: {', '.join(embeds) or 'none'}): {_ALIGNED}"
        )
    return found


def embeds_text(stage: Any) -> bool:
    """Whether the encoder of an embed stage brings words into its space."""
    return "text" in stage.encoder.modalities and bool(stage.encoder.passport("text") == stage.passport)


@dataclass(frozen=True)
class KnownClasses:
    """Items whose class is known, which scores are calibrated on.

    Attributes:
        truth: item -> the number of its class.
        made: item -> space -> key of its vector there; of other items too.
        key: of all that the calibration is made from.
    """

    truth: Mapping[str, int]
    made: Mapping[str, Mapping[str, str]]
    key: str


@dataclass(frozen=True)
class LabelFit:
    """How scores are made, and how good that is, as far as it is known."""

    calibration: Calibration
    quality: Quality | None

    def note(self, labelled: int) -> str:
        """It in words; `labelled`: items whose class is known."""
        needed = self.calibration.threshold
        if self.quality is None:
            return (
                f"not calibrated: {labelled} items have a category among the classes, {ENOUGH} are needed; a "
                f"label needs a score of {needed:g}, which says little of how many are right"
            )
        most = "no score is enough for a label" if needed is None else f"a label needs a score of {needed:.2f}"
        return (
            f"calibrated on {self.quality.labelled} items that have a category; {most}; each half judged by "
            f"the other: {self.quality}"
        )


@dataclass(frozen=True)
class ClassScorer:
    """Classes likened to the items of some spaces.

    Attributes:
        name: of the stage that labels; key: of it, its classes and its spaces.
        spaces: embed stages by name, as `worded_spaces` gives them.
    """

    name: str
    key: str
    classes: Classes
    spaces: Mapping[str, Any]
    wanted: LabelTargets

    def known(self, truth: Mapping[str, int], made: Mapping[str, Mapping[str, str]]) -> KnownClasses:
        """`MOST` of the items whose class is known at the most, always the same."""
        chosen = {item: truth[item] for item in sorted(truth, key=hash_order)[:MOST]}
        rests_on = [[item, number, made[item]] for item, number in chosen.items()]
        return KnownClasses(chosen, made, digest([self.key, asdict(self.wanted), rests_on]))

    def fitted(self, store: Store, known: KnownClasses) -> LabelFit | None:
        """What was fitted on just these items, if it was."""
        found = store.artifacts.newest(self.name)
        if found is None or found.key != known.key:
            return None
        quality = found.report["quality"]
        calibration = Calibration.from_plain(found.report["calibration"], list(self.spaces))
        return LabelFit(calibration, None if quality is None else Quality(**quality))

    def fit(self, store: Store, standing: Standing, known: KnownClasses) -> LabelFit:
        """Calibrate on items whose class is known, as they are without their category, and keep that."""
        classes = self.class_vectors(store)
        items = list(known.truth) if len(known.truth) >= ENOUGH else []
        cosines, present = [], []
        for space, stage in self.spaces.items():
            having = [item for item in items if space in known.made[item]]
            vectors = vectors_of(store, stage, items)
            if having and reads_category(stage, standing):  # on vectors that say the category, any score looks right
                blind = without_category(store, standing, stage, having)
                none = np.zeros(stage.passport.dim, np.float32)
                vectors = np.array([blind.get(item, none) for item in items])
                having = list(blind)
            cosines.append(vectors @ classes[space].T)
            present.append(np.isin(items, having))
        labelled = LabelledScores(
            tuple(cosines),
            np.array(present, np.bool_).reshape(len(cosines), len(items)),
            np.array([known.truth[item] for item in items], np.int64),
            np.array([hash_order(item)[-1] & 1 for item in items], np.bool_),
            len(self.classes.names),
        )
        calibration, quality = calibrate(labelled.take(np.flatnonzero(labelled.present.any(axis=0))), self.wanted)
        report = {
            "calibration": calibration.to_plain(list(self.spaces)),
            "quality": None if quality is None else asdict(quality),
            "classes": self.key,
        }
        files = {f"{space}.npy": _saved(vectors) for space, vectors in classes.items()}
        store.artifacts.save(self.name, known.key, files, report)
        return LabelFit(calibration, quality)

    def class_vectors(self, store: Store) -> dict[str, Vectors]:
        """Of each space, float32 [C, D]: the classes, then the texts for what is none of them; kept with the fit."""
        kept = store.artifacts.newest(self.name)
        if kept is not None and kept.report["classes"] == self.key:
            files = kept.files()
            return {space: np.load(BytesIO(files[f"{space}.npy"]), allow_pickle=False) for space in self.spaces}
        texts, owners = self.classes.texts()
        numbers = np.array(owners, np.int64)
        return {
            space: ensemble(stage.encoder.encode_queries(texts), numbers, int(numbers.max()) + 1)
            for space, stage in self.spaces.items()
        }


def hash_order(item: str) -> bytes:
    """What orders and parts items by nothing that has to do with what they are."""
    return sha256(item.encode("utf-8", "surrogatepass")).digest()


def _saved(vectors: Vectors) -> bytes:
    buffer = BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()

"""Class scores of items: the spaces that hold words too, vectors of the classes there, and their calibration.

Scores are calibrated on items whose class is known. Class vectors and calibration are one artifact, of the name of the
stage that labels. Makes no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
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
from coldstart.store.freshness import PipelineState, build

MOST = 2000
"""Most labelled items of a calibration: more would not change a handful of numbers."""

_ALIGNED = (
    "take an aligned encoder, such as starter-clip or open_clip (`coldstart embed --space clip --encoder starter-clip`)"
)


def text_spaces(
    name: str, requested: tuple[str, ...] | None, embeds: Mapping[str, StageSpec], pipeline: Pipeline
) -> dict[str, Any]:
    """Build the embed stages whose encoders bring words into the same space, by name.

    Args:
        name: of the stage; requested: the spaces that its settings name, None for all that fit.
        embeds: the embed stages before it.

    Raises:
        NotFitted: the encoder of one is not fitted yet.
        ColdstartError: there is none, or the encoder of a requested one keeps pictures and words apart.
    """
    found = {}
    for space in requested or embeds:
        stage: Any = build(embeds[space], pipeline)
        if embeds_text(stage):
            found[space] = stage
        elif requested is not None:
            raise ColdstartError(
                f"{name}.spaces: {stage.encoder.name} of {space!r} reads no words into the space of its "
                f"pictures, so that they cannot be compared with classes: {_ALIGNED}"
            )
    if not found:
        raise ColdstartError(
            f"{name}: no space before it holds both words and pictures or texts of items "
            f"(there: {', '.join(embeds) or 'none'}): {_ALIGNED}"
        )
    return found


def embeds_text(stage: Any) -> bool:
    """Tell whether the encoder of an embed stage brings words into its space."""
    return "text" in stage.encoder.modalities and bool(stage.encoder.passport("text") == stage.passport)


@dataclass(frozen=True)
class KnownClasses:
    """Items whose class is known, by which scores are calibrated.

    Attributes:
        truth: item -> the number of its class.
        vector_keys: item -> space -> key of its vector in it; of other items too.
        key: of all inputs of the calibration.
    """

    truth: Mapping[str, int]
    vector_keys: Mapping[str, Mapping[str, str]]
    key: str


@dataclass(frozen=True)
class LabelFit:
    """Calibration of scores and its quality, as far as that is known."""

    calibration: Calibration
    quality: Quality | None

    def note(self, labelled: int) -> str:
        """Describe the fit in words; `labelled`: items whose class is known."""
        needed = self.calibration.threshold
        if self.quality is None:
            return (
                f"not calibrated: {labelled} items have a category among the classes, {ENOUGH} are needed; a "
                f"label needs a score of {needed:g}, which does not tell how many are right"
            )
        most = "no score is enough for a label" if needed is None else f"a label needs a score of {needed:.2f}"
        return (
            f"calibrated on {self.quality.labelled} items that have a category; {most}; each half evaluated by "
            f"the other: {self.quality}"
        )


@dataclass(frozen=True)
class ClassScorer:
    """Scores of classes for the items of some spaces.

    Attributes:
        name: of the stage that labels; key: of it, its classes and its spaces.
        spaces: embed stages by name, as `text_spaces` gives them.
    """

    name: str
    key: str
    classes: Classes
    spaces: Mapping[str, Any]
    targets: LabelTargets

    def known(self, truth: Mapping[str, int], vector_keys: Mapping[str, Mapping[str, str]]) -> KnownClasses:
        """Choose at most `MOST` of the items whose class is known, always the same."""
        chosen = {item: truth[item] for item in sorted(truth, key=hash_order)[:MOST]}
        rests_on = [[item, number, vector_keys[item]] for item, number in chosen.items()]
        return KnownClasses(chosen, vector_keys, digest([self.key, asdict(self.targets), rests_on]))

    def fitted(self, store: Store, known: KnownClasses) -> LabelFit | None:
        """Load the fit on just these items, if there is one."""
        found = store.artifacts.newest(self.name)
        if found is None or found.key != known.key:
            return None
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # the report may be a stranger's
            quality = found.report["quality"]
            calibration = Calibration.from_plain(found.report["calibration"], list(self.spaces))
            return LabelFit(calibration, None if quality is None else Quality(**quality))
        return None

    def fit(self, store: Store, pipeline_state: PipelineState, known: KnownClasses) -> LabelFit:
        """Calibrate as `measure` does, and store the result."""
        classes = self.class_vectors(store)
        found = self.measure(store, pipeline_state, known, classes)
        report = {
            "calibration": found.calibration.to_plain(list(self.spaces)),
            "quality": None if found.quality is None else asdict(found.quality),
            "classes": self.key,
        }
        files = {f"{space}.npy": _saved(vectors) for space, vectors in classes.items()}
        store.artifacts.save(self.name, known.key, files, report)
        return found

    def measure(
        self, store: Store, pipeline_state: PipelineState, known: KnownClasses, classes: Mapping[str, Vectors]
    ) -> LabelFit:
        """Calibrate on items whose class is known, as they are without their category; stores nothing.

        Args:
            classes: as `class_vectors` gives them.
        """
        items = list(known.truth) if len(known.truth) >= ENOUGH else []
        cosines, present = [], []
        for space, stage in self.spaces.items():
            having = [item for item in items if space in known.vector_keys[item]]
            vectors = vectors_of(store, stage, items)
            if having and reads_category(stage, pipeline_state):  # else any score seems right
                without = without_category(store, pipeline_state, stage, having)
                none = np.zeros(stage.passport.dim, np.float32)
                vectors = np.array([without.get(item, none) for item in items])
                having = list(without)
            cosines.append(vectors @ classes[space].T)
            present.append(np.isin(items, having))
        labelled = LabelledScores(
            tuple(cosines),
            np.array(present, np.bool_).reshape(len(cosines), len(items)),
            np.array([known.truth[item] for item in items], np.int64),
            np.array([hash_order(item)[-1] & 1 for item in items], np.bool_),
            len(self.classes.names),
        )
        calibration, quality = calibrate(labelled.take(np.flatnonzero(labelled.present.any(axis=0))), self.targets)
        return LabelFit(calibration, quality)

    def class_vectors(self, store: Store) -> dict[str, Vectors]:
        """Load or encode the vectors of classes in each space: float32 [C, D].

        The classes come first, then the texts for no class. They are stored with the fit, which may be of a stranger:
        they are encoded anew where the stored ones are no such vectors.
        """
        stored = store.artifacts.newest(self.name)
        texts, owners = self.classes.texts()
        numbers = np.array(owners, np.int64)
        count = int(numbers.max()) + 1
        if stored is not None and stored.report.get("classes") == self.key:
            files = stored.files()
            with suppress(EOFError, KeyError, MemoryError, ValueError):
                found = {space: np.load(BytesIO(files[f"{space}.npy"]), allow_pickle=False) for space in self.spaces}
                if all(_are_vectors(found[space], count, stage.passport.dim) for space, stage in self.spaces.items()):
                    return found
        return {
            space: ensemble(stage.encoder.encode_queries(texts), numbers, count) for space, stage in self.spaces.items()
        }


def hash_order(item: str) -> bytes:
    """Return a sort key by which items are ordered and halved, independent of their content."""
    return sha256(item.encode("utf-8", "surrogatepass")).digest()


def _are_vectors(found: Any, count: int, dim: int) -> bool:
    return bool(found.shape == (count, dim) and found.dtype.kind == "f" and np.isfinite(found).all())


def _saved(vectors: Vectors) -> bytes:
    buffer = BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()

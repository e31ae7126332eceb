"""Encoders under a fit of alignment (of pictures, of words), and the result of a fit before it is saved.

Loads no weights by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart import encoders
from coldstart.align.dataset import Features
from coldstart.core.pipeline import Engine
from coldstart.core.scratch import scratch_folder
from coldstart.encoders import Encoder
from coldstart.encoders._heads_file import Tower
from coldstart.errors import ColdstartError
from coldstart.store.artifacts import read_files

if TYPE_CHECKING:
    from coldstart.align.head_math import Pairs
    from coldstart.align.regression import ClassNames
    from coldstart.encoders._heads import AlignedHeads


BEFORE = "before"
"""Folder of an artifact that holds the heads from which the fit started, where they meant something."""


class PairEncoders:
    """Encoders of pictures and of words; their weights are not loaded.

    Args:
        stage: name of the fit stage, for messages.
        image: the embed stage of the pictures.
        text: the encoder of words; None: that of the pictures if it reads words into their space, else `starter`.
    """

    def __init__(self, stage: str, image: Any, text: str | None, engine: Engine) -> None:
        self._stage = stage
        self._image = image
        self._requested = text
        self._engine = engine

    @cached_property
    def _name(self) -> str:
        name: str = self._image.settings.encoder
        if self._requested is not None:
            return self._requested
        if name.startswith("align:"):  # it stands for a fit of its own
            return "starter"
        encoder = self._image.encoder
        one_space = "text" in encoder.modalities and encoder.passport("text") == self._image.passport
        return name if one_space else "starter"

    @cached_property
    def text(self) -> Encoder:
        """The encoder of words.

        Raises:
            ColdstartError: it takes none.
        """
        encoder = self.load(self._name)
        if "text" not in encoder.modalities:
            raise ColdstartError(f"{self._stage}.text={self._name!r}: {encoder.name} takes no text")
        return encoder

    def load(self, name: str, **options: Any) -> Encoder:
        """Load an encoder with the device, number format and permissions of these."""
        return encoders.load(
            name,
            device=self._engine.device,
            dtype=self._engine.dtype,
            allow_random_weights=self._image.settings.allow_random_weights,
            **options,
        )

    @cached_property
    def towers(self) -> dict[str, Tower]:
        """Both encoders as heads name them."""
        return {
            "image": Tower(self._image.settings.encoder, asdict(self._image.passport)),
            "text": Tower(self._name, asdict(self.text.passport("text"))),
        }

    def start(self, requested: str) -> AlignedHeads | None:
        """Load the heads from which a fit starts, as `coldstart.encoders._heads.starting_heads` does."""
        from coldstart.encoders._heads import starting_heads

        return starting_heads(requested, self.towers, f"{self._stage}.start")

    def classes(self) -> ClassNames | None:
        """Read the classes that the encoder of pictures was trained on; None where they are not known."""
        if self.towers["image"].encoder not in ("starter", "starter:levels"):
            return None
        from coldstart.align.regression import ClassNames
        from coldstart.encoders._imagenet import class_words, classifier

        names = self.text.encode_documents([name for name, _ in class_words()])
        return ClassNames(names, classifier()[0].numpy())


@dataclass(frozen=True)
class FitResult:
    """Fitted heads with their measures and files.

    Attributes:
        aligned: encoders and heads as they are now; before: as they were, None where that meant nothing.
        recall: recall@10 on the test part, `after` (None where nothing was held out) and perhaps `before`.
        about: settings and epochs of the training; report: further entries of the artifact's report.
        scratch: checkpoints of the fit, to be removed once it is saved.
        files: further files, by their path in the artifact.
    """

    aligned: AlignedHeads
    before: AlignedHeads | None
    recall: Mapping[str, float | None]
    about: Mapping[str, Any]
    report: Mapping[str, Any]
    scratch: Path
    files: Mapping[str, bytes] = field(default_factory=dict)

    def all_files(self, about: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the files of the artifact; `about` goes into that of the heads."""
        files = {**self.files, **_files(replace(self.aligned, about=about))}
        if self.before is not None:
            files |= {f"{BEFORE}/{path}": data for path, data in _files(self.before).items()}
        return files


def pairs_of(features: Features, weights: Mapping[str, float]) -> Pairs:
    """Convert features to pairs for training and evaluation; `weights`: of a text by its view."""
    import numpy as np

    from coldstart.align.head_math import Pairs

    return Pairs(
        features.images,
        features.image_items,
        features.texts,
        features.text_items,
        np.array([weights[view] for view in features.text_views], np.float32),
        features.groups,
    )


def _files(aligned: AlignedHeads) -> dict[str, bytes]:
    with scratch_folder("fit") as folder:
        aligned.save(folder)
        return read_files(folder)

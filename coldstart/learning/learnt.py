"""What a fit hands back, before it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.learning.features import Features

if TYPE_CHECKING:
    from coldstart.heads import Aligned
    from coldstart.training.pairs import Pairs

BEFORE = "before"
"""Folder of an artifact that holds the heads from which the fit started, where they meant something."""


@dataclass(frozen=True)
class Learnt:
    """One fit.

    Attributes:
        aligned: encoders and heads as they are now; before: as they were, None where that meant nothing.
        recall: recall@10 on the test part, `after` (None where nothing was held out) and perhaps `before`.
        about: what a person should know of the training; report: what the artifact's report says besides.
        scratch: what a killed fit would have gone on from, to be removed once this one is kept.
        files: further files, by their path in the artifact.
    """

    aligned: Aligned
    before: Aligned | None
    recall: Mapping[str, float | None]
    about: Mapping[str, Any]
    report: Mapping[str, Any]
    scratch: Path
    files: Mapping[str, bytes] = field(default_factory=dict)

    def all_files(self, about: Mapping[str, Any]) -> dict[str, bytes]:
        """The files of the artifact; `about` goes into that of the heads."""
        files = {**self.files, **_files(replace(self.aligned, about=about))}
        if self.before is not None:
            files |= {f"{BEFORE}/{path}": data for path, data in _files(self.before).items()}
        return files


def pairs_of(features: Features, weights: Mapping[str, float]) -> Pairs:
    """Features as what is trained on and asked; `weights`: of a text by its view."""
    import numpy as np

    from coldstart.training.pairs import Pairs

    return Pairs(
        features.images,
        features.image_items,
        features.texts,
        features.text_items,
        np.array([weights[view] for view in features.text_views], np.float32),
        features.groups,
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _files(aligned: Aligned) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        aligned.save(Path(folder))
        return read_files(Path(folder))

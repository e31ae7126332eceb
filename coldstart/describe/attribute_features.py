"""Map vectors of pictures to features that linear scores of attribute values are fitted on.

A wide space is linear enough; a narrow one, and all spaces together, get random Fourier features of a Gaussian kernel
(Rahimi & Recht 2007). Knows no attributes, no encoders and no tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coldstart.embed.zero_shot import Vectors

NARROW = 512
"""Widest space that gets random Fourier features; wider ones are linear enough, and their weights stay small."""
FOURIER = 1024
"""Random frequencies, each a cosine and a sine."""
JOINT_FOURIER, JOINT_DIRECTIONS, JOINT_SHARE = 2048, 128, 0.3
"""Of all spaces together: most random frequencies (no more than items), principal directions of a wide space, and the
squared distance in the kernel's exponent of two typical items in one space (LOG.md compares others)."""


@dataclass(frozen=True)
class SpaceFeatures:
    """Map of a space's vectors float32 [N, D] to features of mean squared length one, float32 [N, F].

    Attributes:
        mean, deviation: float32 [D]; frequencies: float32 [D, FOURIER] or None for a wide space.
    """

    mean: Vectors
    deviation: Vectors
    frequencies: Vectors | None

    @classmethod
    def of(cls, vectors: Vectors) -> SpaceFeatures:
        """Fit the map to vectors float32 [N, D], none of them zero."""
        if vectors.shape[1] > NARROW:
            mean, deviation = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64)
            deviation[deviation < 1e-9] = 1.0
            return cls(mean.astype(np.float32), deviation.astype(np.float32), None)
        draws = np.random.default_rng(0)
        pairs = draws.integers(0, len(vectors), (2, 4096))
        apart = np.square(vectors[pairs[0]] - vectors[pairs[1]]).sum(axis=1)
        width = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
        frequencies = draws.normal(0, np.sqrt(2 / width), (vectors.shape[1], FOURIER)).astype(np.float32)
        none = np.zeros(vectors.shape[1], np.float32)
        return cls(none, none + 1, frequencies)

    def standardised(self, vectors: Vectors) -> Vectors:
        """Return vectors less the mean, by the deviation."""
        rows: Vectors = ((vectors - self.mean) / self.deviation).astype(np.float32)
        return rows

    def __call__(self, vectors: Vectors) -> Vectors:
        rows = self.standardised(vectors)
        if self.frequencies is None:
            return rows / np.float32(np.sqrt(rows.shape[1]))
        return _waves(rows @ self.frequencies)


@dataclass(frozen=True)
class JointFeatures:
    """Map of vectors of several spaces to features of one Gaussian kernel over all of them.

    A colour counts otherwise on another form: sums of scores of two spaces cannot say that, one kernel can.

    Attributes:
        spaces: names, in the order of the rows of `frequencies`.
        directions: of a wide space, float32 [D, JOINT_DIRECTIONS].
        frequencies: float32 [K, C], C at most JOINT_FOURIER, the width of each space in it.
    """

    spaces: tuple[str, ...]
    directions: Mapping[str, Vectors]
    frequencies: Vectors

    @property
    def name(self) -> str:
        """Name of the witness; no space has such a one."""
        return "+".join(self.spaces)

    @classmethod
    def of(cls, features: Mapping[str, SpaceFeatures], vectors: Mapping[str, Vectors]) -> JointFeatures | None:
        """Fit the map to items with a vector in every space; None for one space, or where no item has all.

        Args:
            vectors: space -> float32 [N, D], zero where an item has none.
        """
        from scipy.linalg import eigh

        names = tuple(sorted(features))
        has = np.all([vectors[name].any(axis=1) for name in names], axis=0) if len(names) > 1 else np.zeros(0, np.bool_)
        if not has.any():
            return None
        draws = np.random.default_rng(0)
        count = min(JOINT_FOURIER, int(has.sum()))
        pairs = draws.integers(0, int(has.sum()), (2, 4096))
        directions, parts = {}, []
        for name in names:
            rows = features[name].standardised(vectors[name][has])
            if rows.shape[1] > NARROW:
                last = [rows.shape[1] - JOINT_DIRECTIONS, rows.shape[1] - 1]
                directions[name] = eigh(rows.T @ rows, subset_by_index=last, check_finite=False)[1]
                rows = rows @ directions[name]
            apart = np.square(rows[pairs[0]] - rows[pairs[1]]).sum(axis=1)
            width = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
            parts.append(draws.normal(0, np.sqrt(2 * JOINT_SHARE / width), (rows.shape[1], count)))
        return cls(names, directions, np.concatenate(parts).astype(np.float32))

    def __call__(self, features: Mapping[str, SpaceFeatures], vectors: Mapping[str, Vectors]) -> Vectors:
        """Return the features float32 [N, 2 C], zero where an item lacks a vector of a space."""
        rows = []
        for name in self.spaces:
            own = features[name].standardised(vectors[name])
            rows.append(own @ self.directions[name] if name in self.directions else own)
        has = np.all([vectors[name].any(axis=1) for name in self.spaces], axis=0)
        found: Vectors = _waves(np.concatenate(rows, axis=1) @ self.frequencies) * has[:, None]
        return found


def _waves(phases: Vectors) -> Vectors:
    """Return cosines and sines of phases float32 [N, F], of mean squared length one: float32 [N, 2 F]."""
    waves = np.concatenate([np.cos(phases), np.sin(phases)], axis=1) / np.float32(np.sqrt(phases.shape[1]))
    return np.asarray(waves, np.float32)

"""Ridge regression with confidence, over plain numbers or random waves of them; in blocks, so that rows may be many.

Ridge: Hoerl & Kennard, Technometrics 1970. Random waves, whose products come close to those of a Gaussian kernel:
Rahimi & Recht, Random Features for Large-Scale Kernel Machines, NIPS 2007.

Item-to-item models in closed form: a new item's weights for each warm item of a history, linear in its content.

The weights of a new item are P f, with f its features and P [I, F]; a user's score is the sum of them over the history.
So the score is (h P) · f, and no matrix of items by items is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Arrays, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


_ROWS = 8192  # lifted at a time


@dataclass(frozen=True)
class FourierFeatures:
    """sqrt(2 / K) cos(x frequencies + phases): the product of two such rows is about exp(-gamma |x - y|²).

    Attributes:
        frequencies: float32 [F, K]; phases: float32 [K].
    """

    frequencies: Vectors
    phases: Vectors

    def __call__(self, features: Vectors) -> Vectors:
        """float32 [N, F] -> float32 [N, K]."""
        raised = features @ self.frequencies
        raised += self.phases
        np.cos(raised, out=raised)
        raised *= np.float32((2 / len(self.phases)) ** 0.5)
        return raised


def draw_fourier_features(features: int, count: int, gamma: float, seed: int) -> FourierFeatures:
    """`count` waves for rows of `features` numbers."""
    rng = np.random.default_rng(seed)
    frequencies = rng.normal(scale=(2 * gamma) ** 0.5, size=(features, count)).astype(np.float32)
    return FourierFeatures(frequencies, rng.uniform(0, 2 * np.pi, count).astype(np.float32))


@dataclass(frozen=True)
class Linear:
    """x -> lift(x) weights + shift, where lift(x) is x, with its waves behind if there are any.

    Attributes:
        weights: float32 [F (+ K), D]; shift: float32 [D].
    """

    weights: Vectors
    shift: Vectors
    waves: FourierFeatures | None = None

    def __call__(self, features: Vectors) -> Vectors:
        """float32 [N, F] -> float32 [N, D]."""
        out = np.empty((len(features), len(self.shift)), np.float32)
        for start in range(0, len(features), _ROWS):
            out[start : start + _ROWS] = _expanded(features[start : start + _ROWS], self.waves) @ self.weights
        out += self.shift
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `restore_linear` needs."""
        found: dict[str, NDArray[Any]] = {"linear.weights": self.weights, "linear.shift": self.shift}
        if self.waves is not None:
            found |= {"linear.frequencies": self.waves.frequencies, "linear.phases": self.waves.phases}
        return found


def restore_linear(arrays: Arrays) -> Linear:
    """From `Linear.arrays`."""
    waves = None
    if "linear.phases" in arrays:
        waves = FourierFeatures(arrays["linear.frequencies"], arrays["linear.phases"])
    return Linear(arrays["linear.weights"], arrays["linear.shift"], waves)


def fit_linear(
    features: Vectors,
    targets: NDArray[np.floating[Any]],
    confidence: NDArray[np.floating[Any]],
    penalty: float,
    waves: FourierFeatures | None = None,
) -> Linear:
    """The weights W and shift s of least sum_i c_i |t_i - lift(x_i) W - s|² + penalty |W|²; the shift is free.

    Args:
        features: float32 [N, F]; targets: [N, D].
        confidence: [N], 0 or more; rows of 0 are not read.
        penalty: above 0.
    """
    rows = np.flatnonzero(confidence > 0)
    weights = np.asarray(confidence, np.float64)[rows]
    share = weights / weights.sum()
    width = features.shape[1] + (0 if waves is None else len(waves.phases))

    def blocks() -> Iterator[tuple[slice, Vectors]]:
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            yield part, _expanded(features[rows[part]], waves)

    mean = np.zeros(width)
    for part, lifted in blocks():  # products in float32, sums of blocks in float64
        mean += share[part].astype(np.float32) @ lifted
    goal = np.asarray(targets, np.float64)[rows]
    goal_mean = share @ goal
    gram, cross = np.zeros((width, width)), np.zeros((width, goal.shape[1]))
    middle = mean.astype(np.float32)
    for part, lifted in blocks():
        root = np.sqrt(weights[part, None])
        centred = lifted - middle
        centred *= root.astype(np.float32)
        gram += centred.T @ centred
        cross += centred.T @ ((goal[part] - goal_mean) * root).astype(np.float32)
    gram[np.diag_indices(width)] += penalty
    found = _solve(gram, cross)
    return Linear(found.astype(np.float32), (goal_mean - mean @ found).astype(np.float32), waves)


def _solve(gram: NDArray[np.float64], cross: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import cho_factor, cho_solve

    found: NDArray[np.float64] = cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), cross)
    return found


def _expanded(features: Vectors, waves: FourierFeatures | None) -> Vectors:
    return features if waves is None else np.concatenate([features, waves(features)], axis=1)


MAX_ITEMS = 30_000
"""Of which a matrix of items by items is held, 3.4 GiB in float32, and factored: a minute for 10,000 of them on two
cores, and by the cube from there on."""


_EXACT = 8_000  # up to so many items in float64


_COLUMNS = 1024  # of the matrix at a time


@dataclass(frozen=True)
class ItemToItem:
    """See `coldstart.recommend.model.Mapper`.

    Attributes:
        content: float32 [F, D]; history: float32 [I, D]: P is history times the transpose of content.
    """

    content: Vectors
    history: Vectors

    def items(self, features: Vectors) -> Vectors:
        return np.asarray(features @ self.content, np.float32)

    def users(self, histories: csr_matrix) -> Vectors:
        return np.asarray(histories @ self.history, np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"columns.content": self.content, "columns.history": self.history}


def restore_item_to_item(arrays: Arrays) -> ItemToItem:
    """From `Columns.arrays`."""
    return ItemToItem(arrays["columns.content"], arrays["columns.history"])


def reduce_rank(weights: NDArray[np.floating[Any]], matrix: csr_matrix, dim: int) -> ItemToItem:
    """P [I, F] with at most `dim` numbers a vector: those that hold most of training users' scores; all if F <= dim.

    They are the right singular vectors of matrix @ P.
    """
    wide = weights.astype(np.float64)
    if wide.shape[1] <= dim:
        return ItemToItem(np.eye(wide.shape[1], dtype=np.float32), wide.astype(np.float32))
    scores = matrix @ wide
    _, directions = np.linalg.eigh(scores.T @ scores)
    chosen = directions[:, ::-1][:, :dim]
    return ItemToItem(np.ascontiguousarray(chosen, np.float32), (wide @ chosen).astype(np.float32))


def cooccurrence(name: str, matrix: csr_matrix, max_items: int) -> NDArray[np.floating[Any]]:
    """R'R [I, I]: how many users each two items share; float64 for few items, float32 for many.

    Raises:
        ColdstartError: there are more than `max_items`.
    """
    count = matrix.shape[1]
    if count > max_items:
        raise ColdstartError(
            f"{name}: {count:,} items that somebody liked need a matrix of {count**2 * 4 / 2**30:.1f} GiB, and "
            f"max_items is {max_items:,}: raise it if there is memory for two such, or take ridge, which has none"
        )
    found = np.empty((count, count), np.float64 if count <= _EXACT else np.float32)
    rows, columns = matrix.T.tocsr(), matrix.tocsc()
    for start in range(0, count, _COLUMNS):
        part = slice(start, start + _COLUMNS)
        found[:, part] = (rows @ columns[:, part]).toarray()
    return found

"""Fit linear models of item content in blocks of rows: ridge regression, and item-to-item models in closed form.

Ridge with confidence weights (Hoerl & Kennard, Technometrics 1970), optionally over random Fourier features, whose
products approximate a Gaussian kernel (Rahimi & Recht, NIPS 2007). Item-to-item: the weights of a new item are P f, f
its features and P [I, F]; a user's score is their sum over the history, (h P) . f, so that no matrix of items by items
is stored.
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

_ROWS = 8192  # expanded at a time
MAX_ITEMS = 30_000
"""Most items of an item-to-item model: their matrix takes 3.4 GiB in float32. Factoring takes a minute for 10,000 items
on two cores, and grows by the cube."""
_EXACT = 8_000  # most items whose matrix is float64
_COLUMNS = 1024  # of the matrix at a time


@dataclass(frozen=True)
class FourierFeatures:
    """Random Fourier features sqrt(2 / K) cos(x frequencies + phases); products approximate exp(-gamma |x - y|²).

    Attributes:
        frequencies: float32 [F, K]; phases: float32 [K].
    """

    frequencies: Vectors
    phases: Vectors

    def __call__(self, features: Vectors) -> Vectors:
        """Expand features, float32 [N, F] -> float32 [N, K]."""
        raised = features @ self.frequencies
        raised += self.phases
        np.cos(raised, out=raised)
        raised *= np.float32((2 / len(self.phases)) ** 0.5)
        return raised


def draw_fourier_features(features: int, count: int, gamma: float, seed: int) -> FourierFeatures:
    """Draw `count` random Fourier features for rows of width `features`."""
    rng = np.random.default_rng(seed)
    frequencies = rng.normal(scale=(2 * gamma) ** 0.5, size=(features, count)).astype(np.float32)
    return FourierFeatures(frequencies, rng.uniform(0, 2 * np.pi, count).astype(np.float32))


@dataclass(frozen=True)
class Linear:
    """Linear model x -> expand(x) weights + shift; expand(x) is x followed by its Fourier features, if any.

    Attributes:
        weights: float32 [F (+ K), D]; shift: float32 [D].
    """

    weights: Vectors
    shift: Vectors
    fourier: FourierFeatures | None = None

    def __call__(self, features: Vectors) -> Vectors:
        """Predict targets, float32 [N, F] -> float32 [N, D]."""
        out = np.empty((len(features), len(self.shift)), np.float32)
        for start in range(0, len(features), _ROWS):
            out[start : start + _ROWS] = _expanded(features[start : start + _ROWS], self.fourier) @ self.weights
        out += self.shift
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore_linear` reads."""
        found: dict[str, NDArray[Any]] = {"linear.weights": self.weights, "linear.shift": self.shift}
        if self.fourier is not None:
            found |= {"linear.frequencies": self.fourier.frequencies, "linear.phases": self.fourier.phases}
        return found


def restore_linear(arrays: Arrays) -> Linear:
    """Restore a linear model from `Linear.arrays`."""
    fourier = None
    if "linear.phases" in arrays:
        fourier = FourierFeatures(arrays["linear.frequencies"], arrays["linear.phases"])
    return Linear(arrays["linear.weights"], arrays["linear.shift"], fourier)


def fit_linear(
    features: Vectors,
    targets: NDArray[np.floating[Any]],
    confidence: NDArray[np.floating[Any]],
    penalty: float,
    fourier: FourierFeatures | None = None,
) -> Linear:
    """Fit weights W and shift s that minimise sum_i c_i |t_i - expand(x_i) W - s|² + penalty |W|²; s is free.

    Args:
        features: float32 [N, F]; targets: [N, D].
        confidence: [N], 0 or more; rows of 0 are not read.
        penalty: above 0.
    """
    rows = np.flatnonzero(confidence > 0)
    weights = np.asarray(confidence, np.float64)[rows]
    share = weights / weights.sum()
    width = features.shape[1] + (0 if fourier is None else len(fourier.phases))

    def blocks() -> Iterator[tuple[slice, Vectors]]:
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            yield part, _expanded(features[rows[part]], fourier)

    mean = np.zeros(width)
    for part, expanded in blocks():  # products in float32, sums of blocks in float64
        mean += share[part].astype(np.float32) @ expanded
    goal = np.asarray(targets, np.float64)[rows]
    goal_mean = share @ goal
    gram, cross = np.zeros((width, width)), np.zeros((width, goal.shape[1]))
    middle = mean.astype(np.float32)
    for part, expanded in blocks():
        root = np.sqrt(weights[part, None])
        centred = expanded - middle
        centred *= root.astype(np.float32)
        gram += centred.T @ centred
        cross += centred.T @ ((goal[part] - goal_mean) * root).astype(np.float32)
    gram[np.diag_indices(width)] += penalty
    found = _solve(gram, cross)
    return Linear(found.astype(np.float32), (goal_mean - mean @ found).astype(np.float32), fourier)


def _solve(gram: NDArray[np.float64], cross: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import cho_factor, cho_solve

    found: NDArray[np.float64] = cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), cross)
    return found


def _expanded(features: Vectors, fourier: FourierFeatures | None) -> Vectors:
    return features if fourier is None else np.concatenate([features, fourier(features)], axis=1)


@dataclass(frozen=True)
class ItemToItem:
    """Item-to-item mapper; see `coldstart.recommend.model.Mapper`.

    Attributes:
        content: float32 [F, D]; history: float32 [I, D]; P is history @ content.T.
    """

    content: Vectors
    history: Vectors

    def items(self, features: Vectors) -> Vectors:
        """Map content to item vectors; see `Mapper.items`."""
        return np.asarray(features @ self.content, np.float32)

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        return np.asarray(histories @ self.history, np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore` reads."""
        return {"columns.content": self.content, "columns.history": self.history}


def restore_item_to_item(arrays: Arrays) -> ItemToItem:
    """Restore an item-to-item model from `ItemToItem.arrays`."""
    return ItemToItem(arrays["columns.content"], arrays["columns.history"])


def reduce_rank(weights: NDArray[np.floating[Any]], matrix: csr_matrix, dim: int) -> ItemToItem:
    """Reduce P [I, F] to the `dim` directions that hold most of training users' scores; all if F <= dim.

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
    """Count the users that each two items share, R'R [I, I]; float64 for few items, float32 for many.

    Raises:
        ColdstartError: there are more than `max_items`.
    """
    count = matrix.shape[1]
    if count > max_items:
        raise ColdstartError(
            f"{name}: {count:,} items with a like need a matrix of {count**2 * 4 / 2**30:.1f} GiB, and "
            f"max_items is {max_items:,}: raise it if there is memory for two such, or use ridge, which needs none"
        )
    found = np.empty((count, count), np.float64 if count <= _EXACT else np.float32)
    rows, columns = matrix.T.tocsr(), matrix.tocsc()
    for start in range(0, count, _COLUMNS):
        part = slice(start, start + _COLUMNS)
        found[:, part] = (rows @ columns[:, part]).toarray()
    return found

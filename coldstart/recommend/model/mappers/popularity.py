"""How popular an item will be, judged by its content: one number an item, the same for every user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Arrays, Problem, Vectors, trainable_items
from coldstart.recommend.model.linear import Linear, draw_fourier_features, fit_linear, restore_linear

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Popularity:
    """See `coldstart.recommend.model.Mapper`. Every user's vector is 1, also of an empty history: all score alike."""

    linear: Linear

    def items(self, features: Vectors) -> Vectors:
        """Predicted log(1 + users), float32 [N, 1]."""
        return self.linear(features)

    def users(self, histories: csr_matrix) -> Vectors:
        some = np.diff(histories.indptr) > 0
        found: Vectors = some.astype(np.float32)[:, None]
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        return self.linear.arrays()


def fit(problem: Problem, *, seed: int = 0, penalty: float = 10.0, kernel: int = 0, gamma: float = 1.0) -> Popularity:
    """Ridge regression of log(1 + users) on the content of the items that somebody liked.

    Args:
        penalty, kernel, gamma: as of `coldstart.recommend.model.mappers.ridge`.

    Raises:
        ColdstartError: there is no such item, or a setting is out of range.
    """
    if not (penalty > 0 and kernel >= 0 and gamma > 0):
        raise ColdstartError(
            f"popularity: penalty {penalty:g} and gamma {gamma:g} have to be above 0, and kernel {kernel} not under it"
        )
    users = trainable_items("popularity", problem)
    waves = draw_fourier_features(problem.features.shape[1], kernel, gamma, seed) if kernel else None
    targets = np.log1p(users)[:, None]
    return Popularity(fit_linear(problem.features, targets, (users > 0).astype(np.float64), penalty, waves))


def restore(arrays: Arrays) -> Popularity:
    """From `Popularity.arrays`."""
    return Popularity(restore_linear(arrays))

"""Predict the popularity of an item from its content: one number an item, the same for every user."""

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
    """Fitted popularity; see `coldstart.recommend.model.Mapper`. A user's vector is 1, or 0 for an empty history."""

    linear: Linear

    def items(self, features: Vectors) -> Vectors:
        """Predict log(1 + users), float32 [N, 1]."""
        return self.linear(features)

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        some = np.diff(histories.indptr) > 0
        found: Vectors = some.astype(np.float32)[:, None]
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore` reads."""
        return self.linear.arrays()


def fit(problem: Problem, *, seed: int = 0, penalty: float = 10.0, kernel: int = 0, gamma: float = 1.0) -> Popularity:
    """Fit a ridge regression of log(1 + users) on the content of the items with a like.

    Args:
        penalty, kernel, gamma: as in `coldstart.recommend.model.mappers.ridge`.

    Raises:
        ColdstartError: there is no such item, or a setting is out of range.
    """
    if not (penalty > 0 and kernel >= 0 and gamma > 0):
        raise ColdstartError(
            f"popularity: penalty {penalty:g} and gamma {gamma:g} have to be above 0, and kernel {kernel} not under it"
        )
    users = trainable_items("popularity", problem)
    fourier = draw_fourier_features(problem.features.shape[1], kernel, gamma, seed) if kernel else None
    targets = np.log1p(users)[:, None]
    return Popularity(fit_linear(problem.features, targets, (users > 0).astype(np.float64), penalty, fourier))


def restore(arrays: Arrays) -> Popularity:
    """Restore a mapper from its arrays."""
    return Popularity(restore_linear(arrays))

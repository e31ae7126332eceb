"""An item's behaviour vector as the mean of those of the warm items whose content is nearest to its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.recommend.model import Arrays, Problem, Vectors, trainable_items
from coldstart.recommend.model.factors import ALPHA, REGULARIZATION, FoldIn, fit_fold_in, restore_fold_in

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_SCORES = 1 << 25  # in memory at a time: 128 MiB


@dataclass(frozen=True)
class Nearest:
    """See `coldstart.recommend.model.Mapper`.

    Attributes:
        content: unit vectors of the warm items, float32 [W, F]; vectors: of their behaviour, float32 [W, D].
    """

    content: Vectors
    vectors: Vectors
    k: int
    temperature: float
    folding: FoldIn

    def items(self, features: Vectors) -> Vectors:
        """Where nothing is known of an item, the mean of all warm ones."""
        import torch

        found = np.empty((len(features), self.vectors.shape[1]), np.float32)
        content, vectors = torch.from_numpy(self.content), torch.from_numpy(self.vectors)
        step = max(1, _SCORES // len(self.content))
        for start in range(0, len(features), step):
            rows = torch.from_numpy(unit(features[start : start + step]))
            cosines, places = torch.topk(rows @ content.T, min(self.k, len(content)), dim=1)
            shares = torch.softmax(cosines / self.temperature, dim=1)
            found[start : start + step] = torch.einsum("nk,nkd->nd", shares, vectors[places]).numpy()
        found[~np.any(features != 0, axis=1)] = self.vectors.mean(axis=0)
        return found

    def users(self, histories: csr_matrix) -> Vectors:
        return self.folding.users(histories)

    def arrays(self) -> dict[str, NDArray[Any]]:
        settings = np.array([self.k, self.temperature], np.float64)
        found = self.folding.arrays()
        found |= {"knn.content": self.content, "knn.vectors": self.vectors, "knn.settings": settings}
        return found


def fit(
    problem: Problem,
    *,
    seed: int = 0,
    k: int = 20,
    temperature: float = 0.1,
    alpha: float = ALPHA,
    regularization: float = REGULARIZATION,
) -> Nearest:
    """Keep what is known of the items that somebody liked.

    Args:
        seed: nothing is drawn.
        k: how many of the nearest count, by softmax(cosine / temperature).
        alpha, regularization: of the step that gives new users their vectors, where the teacher is ALS.

    Raises:
        ColdstartError: there is no such item, or a setting is out of range.
    """
    if not (k >= 1 and temperature > 0):
        raise ColdstartError(f"knn: k {k} has to be at least 1, and temperature {temperature:g} above 0")
    warm = trainable_items("knn", problem) > 0
    folding = fit_fold_in(problem.teacher, problem.matrix, alpha=alpha, regularization=regularization)
    return Nearest(unit(problem.features[warm]), problem.teacher.items[warm], k, temperature, folding)


def restore(arrays: Arrays) -> Nearest:
    """From `Nearest.arrays`."""
    k, temperature = arrays["knn.settings"]
    folding = restore_fold_in(arrays)
    return Nearest(arrays["knn.content"], arrays["knn.vectors"], int(k), float(temperature), folding)

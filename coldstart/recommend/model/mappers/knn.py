"""Map an item to the mean behaviour vector of the warm items whose content is nearest to its own."""

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
    """Fitted nearest neighbours; see `coldstart.recommend.model.Mapper`.

    Attributes:
        content: unit vectors of the warm items, float32 [W, F]; vectors: their behaviour vectors, float32 [W, D].
    """

    content: Vectors
    vectors: Vectors
    k: int
    temperature: float
    fold_in: FoldIn

    def items(self, features: Vectors) -> Vectors:
        """Map content to item vectors; an item without content gets the mean of all warm ones."""
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
        """Map histories to user vectors; see `Mapper.users`."""
        return self.fold_in.users(histories)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore` reads."""
        settings = np.array([self.k, self.temperature], np.float64)
        found = self.fold_in.arrays()
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
    """Store content and behaviour of the items with a like.

    Args:
        seed: unused; nothing is drawn.
        k: number of neighbours, weighted by softmax(cosine / temperature).
        alpha, regularization: of the fold-in of users, where the teacher is ALS.

    Raises:
        ColdstartError: there is no such item, or a setting is out of range.
    """
    if not (k >= 1 and temperature > 0):
        raise ColdstartError(f"knn: k {k} has to be at least 1, and temperature {temperature:g} above 0")
    warm = trainable_items("knn", problem) > 0
    fold_in = fit_fold_in(problem.teacher, problem.matrix, alpha=alpha, regularization=regularization)
    return Nearest(unit(problem.features[warm]), problem.teacher.items[warm], k, temperature, fold_in)


def restore(arrays: Arrays) -> Nearest:
    """Restore a mapper from its arrays."""
    k, temperature = arrays["knn.settings"]
    fold_in = restore_fold_in(arrays)
    return Nearest(arrays["knn.content"], arrays["knn.vectors"], int(k), float(temperature), fold_in)

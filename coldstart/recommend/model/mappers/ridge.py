"""Fit weighted ridge regression from content onto behaviour vectors, in closed form.

The targets are a teacher's item vectors, or the columns of the matrix of likes through its truncated SVD. With random
Fourier features (`kernel`) the map is a smooth nonlinear function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Arrays, Problem, Vectors, confidence, trainable_items
from coldstart.recommend.model.factors import ALPHA, REGULARIZATION, FoldIn, fit_fold_in, pure_svd, restore_fold_in
from coldstart.recommend.model.linear import Linear, draw_fourier_features, fit_linear, restore_linear

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Ridge:
    """Fitted ridge; see `coldstart.recommend.model.Mapper`."""

    linear: Linear
    fold_in: FoldIn

    def items(self, features: Vectors) -> Vectors:
        """Map content to item vectors; see `Mapper.items`."""
        return self.linear(features)

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        return self.fold_in.users(histories)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore` reads."""
        return self.linear.arrays() | self.fold_in.arrays()


def fit(
    problem: Problem,
    *,
    seed: int = 0,
    target: Literal["teacher", "users"] = "teacher",
    dim: int = 128,
    penalty: float = 10.0,
    kappa: float = 1.0,
    kernel: int = 0,
    gamma: float = 1.0,
    alpha: float = ALPHA,
    regularization: float = REGULARIZATION,
) -> Ridge:
    """Fit on the items with a like and with content.

    Args:
        target: `teacher`: vectors of `problem.teacher`; `users`: those of the matrix's own SVD to `dim` dimensions,
            which is one ridge regression for each user at once, as far as `dim` dimensions hold the matrix.
        penalty: ridge penalty of the weights.
        kappa: an item with n likes weighs n / (n + kappa); 0: equal weights.
        kernel: number of random Fourier features of a Gaussian kernel beside the features, 0: none; `gamma`: of that
            kernel, exp(-gamma |x - y|²).
        alpha, regularization: of the fold-in of users, where the teacher is ALS.

    Raises:
        ColdstartError: there is no such item, or a setting is out of range.
    """
    if target not in ("teacher", "users"):
        raise ColdstartError(f"ridge: no target {target!r}: choose teacher or users")
    if not (penalty > 0 and kappa >= 0 and kernel >= 0 and gamma > 0):
        raise ColdstartError(
            f"ridge: penalty {penalty:g} and gamma {gamma:g} have to be above 0, kappa {kappa:g} and kernel {kernel} "
            "not under it"
        )
    teacher = problem.teacher if target == "teacher" else pure_svd(problem.matrix, dim=dim, seed=seed)
    fourier = draw_fourier_features(problem.features.shape[1], kernel, gamma, seed) if kernel else None
    counted = confidence(trainable_items("ridge", problem), kappa)
    linear = fit_linear(problem.features, teacher.items, counted, penalty, fourier)
    if target == "users":
        fold_in = FoldIn(teacher.items, als=None)
    else:
        fold_in = fit_fold_in(teacher, problem.matrix, alpha=alpha, regularization=regularization)
    return Ridge(linear, fold_in)


def restore(arrays: Arrays) -> Ridge:
    """Restore a mapper from its arrays."""
    return Ridge(restore_linear(arrays), restore_fold_in(arrays))

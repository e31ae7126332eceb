"""An item's behaviour vector as a linear function of its content, by weighted ridge regression in closed form.

Onto a teacher's item vectors, or straight onto who liked what: the columns of the matrix, through its truncated SVD.
With `kernel` waves, a smooth function of any shape in place of a linear one.
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
    """See `coldstart.recommend.model.Mapper`."""

    linear: Linear
    folding: FoldIn

    def items(self, features: Vectors) -> Vectors:
        return self.linear(features)

    def users(self, histories: csr_matrix) -> Vectors:
        return self.folding.users(histories)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return self.linear.arrays() | self.folding.arrays()


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
    """Fit on the items that somebody liked and of which something is known.

    Args:
        target: `teacher`: vectors of `problem.teacher`; `users`: those of the matrix's own SVD to `dim` numbers, with
            which this is one ridge regression for each user at once, as far as `dim` numbers hold the matrix.
        penalty: on the squares of the weights.
        kappa: an item that n users liked counts n / (n + kappa); 0: all alike.
        kernel: how many random waves of a Gaussian kernel stand beside the features, 0: none; `gamma`: of that kernel,
            exp(-gamma |x - y|²).
        alpha, regularization: of the step that gives new users their vectors, where the teacher is ALS.

    Raises:
        ColdstartError: there is no such item, or a setting is out of range.
    """
    if target not in ("teacher", "users"):
        raise ColdstartError(f"ridge: target {target!r}: there is teacher, users")
    if not (penalty > 0 and kappa >= 0 and kernel >= 0 and gamma > 0):
        raise ColdstartError(
            f"ridge: penalty {penalty:g} and gamma {gamma:g} have to be above 0, kappa {kappa:g} and kernel {kernel} "
            "not under it"
        )
    teacher = problem.teacher if target == "teacher" else pure_svd(problem.matrix, dim=dim, seed=seed)
    waves = draw_fourier_features(problem.features.shape[1], kernel, gamma, seed) if kernel else None
    counted = confidence(trainable_items("ridge", problem), kappa)
    linear = fit_linear(problem.features, teacher.items, counted, penalty, waves)
    if target == "users":
        folding = FoldIn(teacher.items, als=None)
    else:
        folding = fit_fold_in(teacher, problem.matrix, alpha=alpha, regularization=regularization)
    return Ridge(linear, folding)


def restore(arrays: Arrays) -> Ridge:
    """From `Ridge.arrays`."""
    return Ridge(restore_linear(arrays), restore_fold_in(arrays))

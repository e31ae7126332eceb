"""Fit kernel ridge regression from content onto users' likes and exposures, with smoothed users.

One regression for each user at once, Y = K (K + penalty)^-1 (likes + exposure * met), every user's column divided by
the root of their number of likes, so that busy users do not dominate (kernel ridge regression: Saunders, Gammerman &
Vovk, ICML 1998). Predictions are smoothed by a ridge of users on users, G (G + smoothing)^-1 with G the products of the
same columns, in its `dim` widest directions; then a share of all users' mean prediction is added to each user's own,
which restores popularity. The kernel is Gaussian over the features; items do not count by their users. Exact up to
`landmarks` items; with more, a random subset carries the kernel (subset of regressors: Smola & Schölkopf, ICML 2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError
from coldstart.recommend.model import Arrays, Problem, Vectors, trainable_items
from coldstart.recommend.model.factors import pure_svd

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_ROWS = 4096  # of a kernel at a time
_JITTER = 1e-6  # of the landmarks' own kernel, whose diagonal is 1


@dataclass(frozen=True)
class Kernel:
    """Fitted kernel ridge; see `coldstart.recommend.model.Mapper`.

    Attributes:
        landmarks: float32 [M, F]: content of the landmark items.
        gamma: of exp(-gamma |x - y|²).
        weights: float32 [M, D]; shift: float32 [D], the vector of an item without content.
        history: float32 [I, D]: its sum over the likes, divided by the root of their number, is a user's vector.
        common: float32 [D]: added to every user's vector.
    """

    landmarks: Vectors
    gamma: float
    weights: Vectors
    shift: Vectors
    history: Vectors
    common: Vectors

    def items(self, features: Vectors) -> Vectors:
        """Map content to item vectors; see `Mapper.items`."""
        found = np.empty((len(features), len(self.shift)), np.float32)
        for start in range(0, len(features), _ROWS):
            part = slice(start, start + _ROWS)
            found[part] = gaussian_kernel(features[part], self.landmarks, self.gamma) @ self.weights
        found += self.shift
        return found

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        return _users(histories, self.history, self.common)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore` reads."""
        found: dict[str, NDArray[Any]] = {"kernel.gamma": np.float64(self.gamma).reshape(1)}
        for name in ("landmarks", "weights", "shift", "history", "common"):
            found[f"kernel.{name}"] = getattr(self, name)
        return found


def fit(
    problem: Problem,
    *,
    seed: int = 0,
    dim: int = 128,
    gamma: float = 0.5,
    penalty: float = 0.5,
    exposure: float = 0.5,
    smoothing: float = 5.0,
    popularity: float = 0.3,
    landmarks: int = 8000,
) -> Kernel:
    """Fit on the items with content and an interaction, liked or not.

    Args:
        dim: directions of users.
        gamma: width of the kernel: exp(-gamma) for two items at the mean distance, so that it has no unit.
        penalty: added to the kernel's diagonal, which is 1.
        exposure: target of an item that a user met, beside 1 for a like.
        smoothing: ridge penalty of users on users; products of two users' columns are at most about 1.
        popularity: share of the mean over all users that is added to each user.
        landmarks: most items of an exact kernel, which takes twice their square of float64.

    Raises:
        ColdstartError: there is no such item, or a setting is out of range.
    """
    low = [name for name, value in (("gamma", gamma), ("penalty", penalty)) if not value > 0]
    low += [name for name, value in (("dim", dim), ("landmarks", landmarks)) if value < 1]
    low += [
        name
        for name, value in (("exposure", exposure), ("smoothing", smoothing), ("popularity", popularity))
        if not value >= 0
    ]
    if low:
        raise ColdstartError(
            f"kernel: {', '.join(low)} out of range: gamma and penalty have to be above 0, dim and landmarks at least "
            "1, exposure, smoothing and popularity not under 0"
        )
    trainable_items("kernel", problem)
    people = fit_user_targets(
        problem, dim=dim, exposure=exposure, smoothing=smoothing, popularity=popularity, seed=seed
    )
    return fit_items(people, problem.features, gamma=gamma, penalty=penalty, landmarks=landmarks, seed=seed)


@dataclass(frozen=True)
class UserTargets:
    """Users and targets of items from the matrix alone, without content.

    Attributes:
        targets: float64 [I, D]: target of each item's vector; met: bool [I]: items with an interaction.
        history, common: as in `Kernel`.
    """

    targets: NDArray[np.float64]
    met: NDArray[np.bool_]
    history: Vectors
    common: Vectors

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors; see `Mapper.users`."""
        return _users(histories, self.history, self.common)


def fit_user_targets(
    problem: Problem,
    *,
    dim: int = 128,
    exposure: float = 0.5,
    smoothing: float = 5.0,
    popularity: float = 0.3,
    seed: int = 0,
) -> UserTargets:
    """Fit the part that needs no content: user vectors and targets of items."""
    likes = _scaled_rows(problem.matrix, problem.matrix)
    directions = pure_svd(likes, dim=dim, seed=seed)  # users are U S, items V
    values = np.linalg.norm(directions.users.astype(np.float64), axis=0)
    kept = values > 0
    users = directions.users[:, kept] / values[kept]
    history = np.asarray(directions.items[:, kept] * (values[kept] / (values[kept] ** 2 + smoothing)), np.float32)
    seen = likes + exposure * _scaled_rows(problem.exposed, problem.matrix)
    met = np.bincount(problem.exposed.indices, minlength=problem.exposed.shape[1]) > 0
    some = np.asarray(problem.matrix.sum(axis=1)).ravel() > 0
    common = popularity * _users(problem.matrix[some], history, np.zeros(history.shape[1], np.float32)).mean(axis=0)
    return UserTargets(np.asarray(seen.T.tocsr() @ users, np.float64), met, history, common.astype(np.float32))


def fit_items(
    people: UserTargets,
    features: Vectors,
    *,
    gamma: float = 0.5,
    penalty: float = 0.5,
    landmarks: int = 8000,
    seed: int = 0,
) -> Kernel:
    """Fit the regression from content, float32 [I, F], onto the targets."""
    places = np.flatnonzero(people.met & np.any(features != 0, axis=1))
    known = np.ascontiguousarray(features[places], np.float32)
    targets = people.targets[places]
    shift = targets.mean(axis=0)
    own = gamma / max(_mean_distance(known), 1e-12)
    marks, weights = _solve(known, targets - shift, own, penalty, landmarks, seed)
    return Kernel(marks, own, weights.astype(np.float32), shift.astype(np.float32), people.history, people.common)


def restore(arrays: Arrays) -> Kernel:
    """Restore a mapper from its arrays."""
    return Kernel(
        arrays["kernel.landmarks"],
        float(arrays["kernel.gamma"][0]),
        arrays["kernel.weights"],
        arrays["kernel.shift"],
        arrays["kernel.history"],
        arrays["kernel.common"],
    )


def gaussian_kernel(left: Vectors, right: Vectors, gamma: float) -> Vectors:
    """Compute exp(-gamma |x - y|²), float32 [N, F], [M, F] -> float32 [N, M]; 0 where either row is all zero."""
    near = left @ right.T
    near *= 2
    near -= np.square(left).sum(axis=1)[:, None]
    near -= np.square(right).sum(axis=1)
    np.minimum(near, 0, out=near)
    near *= np.float32(gamma)
    np.exp(near, out=near)
    near[~np.any(left != 0, axis=1)] = 0
    near[:, ~np.any(right != 0, axis=1)] = 0
    return near


def _solve(
    features: Vectors, targets: NDArray[np.float64], gamma: float, penalty: float, most: int, seed: int
) -> tuple[Vectors, NDArray[np.float64]]:
    """Solve for landmarks float32 [M, F] and their weights float64 [M, D]."""
    from scipy.linalg import cho_factor, cho_solve

    if len(features) <= most:
        left = gaussian_kernel(features, features, gamma).astype(np.float64)
        left[np.diag_indices_from(left)] += penalty
        return features, cho_solve(cho_factor(left, overwrite_a=True, check_finite=False), targets)
    drawn = np.sort(np.random.default_rng(seed).choice(len(features), most, replace=False))
    marks = features[drawn]
    left = penalty * gaussian_kernel(marks, marks, gamma).astype(np.float64)
    left[np.diag_indices_from(left)] += penalty * _JITTER
    right = np.zeros((most, targets.shape[1]))
    for start in range(0, len(features), _ROWS):
        part = slice(start, start + _ROWS)
        block = gaussian_kernel(features[part], marks, gamma)
        left += block.T @ block
        right += block.T @ targets[part]
    return marks, cho_solve(cho_factor(left, overwrite_a=True, check_finite=False), right)


def _scaled_rows(rows: csr_matrix, liked: csr_matrix) -> csr_matrix:
    """Divide each row by the root of the sum of the same row of `liked`; zero where that is."""
    from scipy.sparse import diags_array

    sums = np.asarray(liked.sum(axis=1), np.float64).ravel()
    return (diags_array(_inverse_roots(sums)) @ rows).tocsr()


def _users(histories: csr_matrix, history: Vectors, common: Vectors) -> Vectors:
    sums = np.asarray(histories.sum(axis=1), np.float64).ravel()
    found = np.asarray(histories @ history, np.float32) * _inverse_roots(sums)[:, None].astype(np.float32)
    found[sums > 0] += common
    return found


def _inverse_roots(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1.0, np.sqrt(np.maximum(sums, 0)), out=np.zeros(len(sums)), where=sums > 0)


def _mean_distance(features: Vectors) -> float:
    """Compute the mean of |x - y|² over all pairs of rows."""
    rows = features.astype(np.float64) if len(features) < 100_000 else features
    spread = float(np.square(rows).sum(axis=1).mean() - np.square(rows.mean(axis=0)).sum())
    return 2 * max(spread, 0.0)

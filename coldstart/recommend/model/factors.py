"""Fit collaborative filtering teachers: vectors of users and items from the matrix of likes alone.

Alternating least squares for implicit feedback (Hu, Koren & Volinsky, ICDM 2008) and BPR (Rendle et al., UAI 2009)
through the package `implicit`, PureSVD (Cremonesi, Koren & Turrin, RecSys 2010) through scipy. On CPUs alone, so that
every machine fits the same teacher.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.errors import ColdstartError, NothingToLearn
from coldstart.recommend.model import Arrays, Teacher, Vectors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

TEACHERS = ("als", "bpr", "pure_svd")
ALPHA = 20.0
REGULARIZATION = 0.05
_NUMBERS = 1 << 25  # float32 in memory at a time of one step of `als_fold_in`: 128 MiB
_ROWS = 50_000  # training rows, about, on which `fit_fold_in` fits the linear map
_SAMPLE = 1000  # rows on which it compares


def fit_teacher(name: str, matrix: csr_matrix, *, dim: int = 64, seed: int = 0, **settings: Any) -> Teacher:
    """Fit a teacher by its name, one of `TEACHERS`.

    Raises:
        ColdstartError: there is no such teacher.
        NothingToLearn: the matrix has no entry.
    """
    if name not in TEACHERS:
        raise ColdstartError(f"no teacher {name!r}: choose among {', '.join(TEACHERS)}")
    found: Teacher = {"als": als, "bpr": bpr, "pure_svd": pure_svd}[name](matrix, dim=dim, seed=seed, **settings)
    return found


def als(
    matrix: csr_matrix,
    *,
    dim: int = 64,
    alpha: float = ALPHA,
    regularization: float = REGULARIZATION,
    iterations: int = 15,
    seed: int = 0,
) -> Teacher:
    """Fit ALS: target 1 with confidence `alpha` times the entry for a like, else 0 with confidence 1.

    Users are solved exactly at the end, so that they equal `als_fold_in` of the rows of `matrix`.

    Args:
        matrix: csr [U, I], above 0 where a user liked an item.
        regularization: added to the diagonal of every user's and item's normal equations.
    """
    from implicit.cpu.als import AlternatingLeastSquares

    _check(matrix)
    with _one_blas_thread():
        model = AlternatingLeastSquares(
            factors=dim,
            alpha=alpha,
            regularization=regularization,
            iterations=iterations,
            num_threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
            random_state=seed,
        )
        model.fit(matrix, show_progress=False)
    items = _zero_untrained(model.item_factors, _liked(matrix))
    return Teacher(als_fold_in(items, matrix, alpha, regularization), items)


def bpr(
    matrix: csr_matrix,
    *,
    dim: int = 64,
    learning_rate: float = 0.05,
    regularization: float = 0.01,
    iterations: int = 100,
    seed: int = 0,
) -> Teacher:
    """Fit BPR: liked items score above items drawn at random.

    The last entry of an item is its bias, and of a user 1. On one thread: several update the same factors without
    order, and no two runs would be equal.
    """
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    _check(matrix)
    with _one_blas_thread():
        model = BayesianPersonalizedRanking(
            factors=dim - 1,
            learning_rate=learning_rate,
            regularization=regularization,
            iterations=iterations,
            num_threads=1,
            random_state=seed,
        )
        model.fit(matrix, show_progress=False)
    users = _zero_untrained(model.user_factors, np.diff(matrix.indptr) > 0)
    return Teacher(users, _zero_untrained(model.item_factors, _liked(matrix)))


def pure_svd(matrix: csr_matrix, *, dim: int = 64, seed: int = 0) -> Teacher:
    """Fit PureSVD, the truncated SVD U S V' of the matrix: users are U S = matrix @ V, and items V.

    With fewer rows, columns or ranks than `dim`, the other dimensions are 0.
    """
    from scipy.sparse.linalg import svds

    _check(matrix)
    smaller = min(matrix.shape)
    if dim < smaller:
        start = np.random.default_rng(seed).standard_normal(smaller)
        _, values, rows = svds(matrix.astype(np.float64), k=dim, v0=start)
    else:  # svds cannot find all of them
        _, values, rows = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
    order = np.argsort(-values)
    rows = rows[order][values[order] > 1e-6 * values.max()]
    rows *= np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])[:, None]  # fixes the arbitrary sign
    items = np.zeros((matrix.shape[1], dim), np.float32)
    items[:, : len(rows)] = rows.T
    return Teacher(np.asarray(matrix @ items, np.float32), items)


def als_fold_in(
    items: Vectors,
    histories: csr_matrix,
    alpha: float = ALPHA,
    regularization: float = REGULARIZATION,
) -> Vectors:
    """Fold users into ALS: for each row the exact solution of (Y'Y + Y'(C - 1)Y + regularization) x = Y'C p.

    Args:
        items: Y, float32 [I, D].
        histories: csr [B, I]; confidence of an entry is `alpha` times its value.

    Returns:
        float32 [B, D]; zero where a history is empty.
    """
    import torch

    count, dim = histories.shape[0], items.shape[1]
    found = np.zeros((count, dim), np.float32)
    known = torch.from_numpy(np.ascontiguousarray(items, np.float32))
    base = known.double().T @ known.double() + regularization * torch.eye(dim, dtype=torch.float64)
    for rows, longest in _length_blocks(histories, dim):
        starts, lengths = histories.indptr[rows], histories.indptr[rows + 1] - histories.indptr[rows]
        steps = np.arange(longest)
        inside = steps < lengths[:, None]
        entries = np.where(inside, starts[:, None] + steps, 0)
        confidence = torch.from_numpy(np.where(inside, alpha * histories.data[entries], 0).astype(np.float32))
        own = known[torch.from_numpy(np.where(inside, histories.indices[entries], 0).astype(np.int64))]
        extra = (confidence - torch.from_numpy(inside).float()).unsqueeze(2) * own
        left = base + torch.bmm(extra.transpose(1, 2), own).double()
        right = torch.bmm(own.transpose(1, 2), confidence.unsqueeze(2)).double()
        found[rows] = torch.linalg.solve(left, right).squeeze(2).float().numpy()
    return found


def _length_blocks(histories: csr_matrix, dim: int) -> Iterator[tuple[NDArray[np.intp], int]]:
    """Split rows with an entry into blocks of similar length, each with its longest, within `_NUMBERS` when padded."""
    lengths = np.diff(histories.indptr)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    end = len(order)
    while end:
        longest = int(lengths[order[end - 1]])
        start = max(0, end - max(1, _NUMBERS // (dim * (2 * longest + 3 * dim))))
        # a block of one length and of its half at most, so that little of it is padding
        start = max(start, int(np.searchsorted(lengths[order[:end]], longest // 2)))
        start = min(start, end - 1)
        yield order[start:end], longest
        end = start


class FoldIn:
    """Fold-in of histories into a teacher's user space: by the ALS step, or by one linear map."""

    def __init__(self, items: Vectors, *, als: tuple[float, float] | None) -> None:
        """Hold the fold-in.

        Args:
            items: float32 [I, D]: the teacher's items for ALS, else the vectors summed over a history.
            als: alpha and regularization, or None.
        """
        self._items, self._als = items, als

    def users(self, histories: csr_matrix) -> Vectors:
        """Map histories to user vectors, csr [B, I] -> float32 [B, D]; zero for an empty history."""
        if self._als is not None:
            return als_fold_in(self._items, histories, *self._als)
        return np.asarray(histories @ self._items, np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore_fold_in` reads."""
        step = () if self._als is None else self._als
        return {"folding.items": self._items, "folding.als": np.asarray(step, np.float64)}


def fit_fold_in(
    teacher: Teacher, matrix: csr_matrix, *, alpha: float = ALPHA, regularization: float = REGULARIZATION
) -> FoldIn:
    """Fit the fold-in that comes closest to the teacher's users for the rows of `matrix`.

    It is the ALS step where the teacher is `als` with the same `alpha` and `regularization` (then it is exact), and
    `matrix @ items` times the best linear map for others (which is exact for `pure_svd`).
    """
    full = np.flatnonzero(np.diff(matrix.indptr))
    rows = full[:: max(1, len(full) // _ROWS)]
    sample = rows[:: max(1, len(rows) // _SAMPLE)]
    stepped = FoldIn(teacher.items, als=(alpha, regularization))
    sums = np.asarray(matrix[rows] @ teacher.items, np.float64)
    users = np.asarray(teacher.users[rows], np.float64)
    gram = sums.T @ sums
    jitter = 1e-9 * np.trace(gram) / len(gram) + np.finfo(np.float64).tiny
    change = np.linalg.solve(gram + jitter * np.eye(len(gram)), sums.T @ users)
    linear = FoldIn((teacher.items @ change).astype(np.float32), als=None)
    errors = [np.square(way.users(matrix[sample]) - teacher.users[sample]).sum() for way in (stepped, linear)]
    return stepped if errors[0] <= errors[1] else linear


def restore_fold_in(arrays: Arrays) -> FoldIn:
    """Restore a fold-in from `FoldIn.arrays`."""
    step = arrays["folding.als"]
    return FoldIn(arrays["folding.items"], als=(float(step[0]), float(step[1])) if len(step) else None)


def _one_blas_thread() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread: `implicit` has threads of its own, and two pools are ten times slower."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return threadpool_limits(1, "blas")  # type: ignore[no-any-return]


def _check(matrix: csr_matrix) -> None:
    if matrix.nnz == 0:
        raise NothingToLearn(f"{matrix.shape[0]} users like none of {matrix.shape[1]} items: there is nothing to fit")


def _liked(matrix: csr_matrix) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.bincount(matrix.indices, minlength=matrix.shape[1]) > 0
    return found


def _zero_untrained(vectors: Vectors, chosen: NDArray[np.bool_]) -> Vectors:
    """Set untrained vectors, which hold random start values, to zero."""
    return np.where(chosen[:, None], vectors, np.float32(0)).astype(np.float32)

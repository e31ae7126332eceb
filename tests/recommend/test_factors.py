import numpy as np
import pytest
from behaviour_world import world
from scipy.sparse import csr_matrix, vstack
from scipy.sparse import random as random_matrix

from coldstart.errors import ColdstartError
from coldstart.recommend.model import factors
from coldstart.recommend.model.factors import (
    FoldIn,
    als,
    als_fold_in,
    bpr,
    fit_fold_in,
    fit_teacher,
    pure_svd,
    restore_fold_in,
)


def _matrix(users: int = 40, items: int = 30, seed: int = 0) -> csr_matrix:
    found = random_matrix(users, items, 0.2, format="csr", dtype=np.float32, random_state=seed)
    found.data[:] = np.random.default_rng(seed).integers(1, 4, found.nnz)
    return found


def _solved(vectors: np.ndarray, matrix: csr_matrix, alpha: float, regularization: float) -> np.ndarray:
    """One exact ALS step by its normal equations, row by row, in float64 (Hu, Koren & Volinsky 2008, equation 4)."""
    dense, known = matrix.toarray().astype(np.float64), vectors.astype(np.float64)
    found = np.zeros((len(dense), known.shape[1]))
    for row, values in enumerate(dense):
        confidence = np.where(values > 0, alpha * values, 1.0)
        left = known.T @ (confidence[:, None] * known) + regularization * np.eye(known.shape[1])
        if values.any():
            found[row] = np.linalg.solve(left, known.T @ (confidence * (values > 0)))
    return found


def _loss(users: np.ndarray, items: np.ndarray, matrix: csr_matrix, alpha: float, regularization: float) -> float:
    dense = matrix.toarray().astype(np.float64)
    confidence = np.where(dense > 0, alpha * dense, 1.0)
    wrong = (confidence * ((dense > 0) - users.astype(np.float64) @ items.T) ** 2).sum()
    return float(wrong + regularization * ((users**2).sum() + (items**2).sum()))


@pytest.mark.slow
def test_als_comes_to_the_loss_of_a_dense_solve() -> None:
    matrix = _matrix()
    found = als(matrix, dim=6, alpha=3.0, regularization=0.5, iterations=60)
    items = np.random.default_rng(0).random((30, 6)) * 0.01
    for _ in range(60):
        users = _solved(items, matrix, 3.0, 0.5)
        items = _solved(users, matrix.T.tocsr(), 3.0, 0.5)
    reference = _loss(_solved(items, matrix, 3.0, 0.5), items, matrix, 3.0, 0.5)
    assert _loss(found.users, found.items, matrix, 3.0, 0.5) == pytest.approx(reference, rel=0.02)


@pytest.mark.slow
def test_als_falls_with_every_iteration_and_repeats_itself() -> None:
    matrix = _matrix()
    losses = []
    for iterations in (1, 2, 4, 8):
        found = als(matrix, dim=6, iterations=iterations, seed=1)
        losses.append(_loss(found.users, found.items, matrix, 20.0, 0.05))
    assert losses == sorted(losses, reverse=True)
    again = als(matrix, dim=6, iterations=8, seed=1)
    assert np.array_equal(again.items, found.items) and np.array_equal(again.users, found.users)
    assert not np.array_equal(als(matrix, dim=6, iterations=8, seed=2).items, found.items)


def test_als_fits_its_items_to_users_as_its_settings_say() -> None:
    """The items that it gives solve the item step of `implicit` itself."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    matrix = _matrix()
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=5, alpha=7.0, regularization=0.3, iterations=4, random_state=3, num_threads=1
        )
        model.fit(matrix, show_progress=False)
    found = als(matrix, dim=5, alpha=7.0, regularization=0.3, iterations=4, seed=3)
    np.testing.assert_allclose(found.items, model.item_factors, rtol=1e-4, atol=1e-5)


def test_fold_in_is_the_exact_step() -> None:
    matrix = vstack([_matrix(), csr_matrix((2, 30), dtype=np.float32)]).tocsr()
    items = np.random.default_rng(5).normal(size=(30, 7)).astype(np.float32)
    found = als_fold_in(items, matrix, 4.0, 0.2)
    np.testing.assert_allclose(found, _solved(items, matrix, 4.0, 0.2), atol=1e-5)
    assert not found[40:].any()


def test_fold_in_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, items = _matrix(), np.random.default_rng(5).normal(size=(30, 7)).astype(np.float32)
    whole = als_fold_in(items, matrix)
    monkeypatch.setattr(factors, "_NUMBERS", 500)
    np.testing.assert_allclose(als_fold_in(items, matrix), whole, atol=1e-6)


def test_users_of_als_are_the_fold_in_of_their_rows() -> None:
    matrix = _matrix()
    found = als(matrix, dim=6)
    assert np.array_equal(als_fold_in(found.items, matrix), found.users)


def test_vectors_are_zero_without_likes() -> None:
    matrix = csr_matrix(np.pad(_matrix().toarray(), ((0, 1), (0, 1))))
    for name in factors.TEACHERS:
        found = fit_teacher(name, matrix, dim=5)
        assert found.users.shape == (41, 5) and found.items.shape == (31, 5)
        assert found.users.dtype == found.items.dtype == np.float32
        assert not found.users[-1].any() and not found.items[-1].any()


def test_bpr_ranks_what_was_liked_above_the_rest_and_repeats_itself() -> None:
    made = world().interactions.matrix()
    found = bpr(made, dim=16)
    scores, liked = found.users @ found.items.T, made.toarray() > 0
    above = np.mean([(row[own][:, None] > row[~own]).mean() for row, own in zip(scores, liked, strict=True)])
    assert above > 0.9
    assert (found.users[:, -1] == 1).all()
    assert np.array_equal(bpr(made, dim=16).items, found.items)


@pytest.mark.parametrize("dim", [5, 60])
def test_pure_svd_is_the_best_approximation_of_its_rank(dim: int) -> None:
    matrix = _matrix()
    found = pure_svd(matrix, dim=dim)
    left, values, right = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
    best = (left[:, :dim] * values[:dim]) @ right[:dim]
    np.testing.assert_allclose(found.users @ found.items.T, best, atol=1e-4)
    np.testing.assert_allclose(matrix @ found.items, found.users, atol=1e-5)


@pytest.mark.parametrize(("name", "within"), [("als", 1e-6), ("pure_svd", 1e-4), ("bpr", 0.5)])
def test_a_folding_gives_training_rows_what_they_were_trained_with(name: str, within: float) -> None:
    made = world().interactions.matrix()
    teacher = fit_teacher(name, made, dim=8)
    folding = fit_fold_in(teacher, made)
    error = np.linalg.norm(folding.users(made) - teacher.users) / np.linalg.norm(teacher.users)
    assert error < within
    again = restore_fold_in(folding.arrays())
    assert np.array_equal(again.users(made), folding.users(made))
    assert (len(folding.arrays()["folding.als"]) == 2) == (name == "als")
    assert not FoldIn(teacher.items, als=None).users(csr_matrix((1, made.shape[1]), dtype=np.float32)).any()


def test_what_cannot_be_taught_is_refused() -> None:
    with pytest.raises(ColdstartError) as caught:
        fit_teacher("als", csr_matrix((3, 4), dtype=np.float32))
    assert str(caught.value) == "3 users like none of 4 items: there is nothing to fit"
    with pytest.raises(ColdstartError) as caught:
        fit_teacher("word2vec", _matrix())
    assert str(caught.value) == "no teacher 'word2vec': choose among als, bpr, pure_svd"

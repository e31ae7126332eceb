import numpy as np
import pytest
from held_out_items import HeldOut, held_out, recall_at_10, recall_by_chance
from scipy.sparse import csr_matrix
from sklearn.kernel_ridge import KernelRidge

from coldstart.errors import ColdstartError
from coldstart.recommend import model
from coldstart.recommend.model import Problem
from coldstart.recommend.model.mappers import kernel


def _with_exposure(of: HeldOut) -> Problem:
    """The problem with a few more items that each user met and did not like."""
    liked = of.problem.matrix.toarray()
    met = np.maximum(liked, np.random.default_rng(5).random(liked.shape) < 0.1)
    one = of.problem
    return Problem(one.matrix, one.features, one.teacher, one.categories, csr_matrix(met.astype(np.float32)))


@pytest.mark.slow
def test_it_is_scikit_learn_s_kernel_ridge_for_each_user_with_users_evened_out_and_their_mean_added() -> None:
    of = held_out(users=40)
    problem = _with_exposure(of)
    found = kernel.fit(
        problem, dim=40, gamma=0.7, penalty=0.3, exposure=0.5, smoothing=2.0, popularity=0.25, landmarks=1000
    )
    liked, met = problem.matrix.toarray().astype(np.float64), problem.exposed.toarray()
    rows = problem.features.astype(np.float64)
    pairs = np.square(rows[:, None] - rows[None]).sum(axis=2)
    own = met.any(axis=0)
    sizes = np.sqrt(liked.sum(axis=1, keepdims=True))
    columns = ((liked + 0.5 * met) / sizes).T[own]
    mean = columns.mean(axis=0)
    reference = KernelRidge(alpha=0.3, kernel="rbf", gamma=0.7 / pairs[np.ix_(own, own)].mean())
    predicted = mean + reference.fit(rows[own], columns - mean).predict(of.features.astype(np.float64))
    gram = (liked / sizes) @ (liked / sizes).T
    smooth = predicted @ np.linalg.solve(gram + 2.0 * np.eye(len(gram)), gram)
    expected = smooth + 0.25 * smooth.mean(axis=1, keepdims=True)
    scores = found.items(of.features) @ found.users(problem.matrix).T
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_it_finds_new_items_for_users_far_better_than_chance() -> None:
    of = held_out()
    found, chance = recall_at_10("kernel", of), recall_by_chance(of)
    assert found.low > 1.5 * chance.high


def test_a_part_of_the_items_carries_the_kernel_nearly_as_well_as_all() -> None:
    of = held_out()
    exact = kernel.fit(of.problem)
    scores = [mapper.items(of.features) @ mapper.users(of.problem.matrix).T for mapper in (exact, _part(of, 90))]
    assert len(exact.landmarks) > 110
    assert np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1] > 0.95
    again = _part(of, 90)
    assert len(again.landmarks) == 90
    assert np.array_equal(again.items(of.features), _part(of, 90).items(of.features))


def _part(of: HeldOut, landmarks: int) -> kernel.Kernel:
    return kernel.fit(of.problem, landmarks=landmarks)


@pytest.mark.slow
def test_landmarks_are_fitted_on_all_items() -> None:
    """Against the normal equations of the same weights, solved directly."""
    of = held_out(items=60)
    found = kernel.fit(of.problem, landmarks=20, penalty=0.4)
    exact = kernel.fit(of.problem, landmarks=60, penalty=0.4)
    near, among = (
        kernel.gaussian_kernel(left, found.landmarks, found.gamma).astype(np.float64)
        for left in (of.problem.features, found.landmarks)
    )
    full = kernel.gaussian_kernel(of.problem.features, of.problem.features, exact.gamma).astype(np.float64)
    targets = full @ exact.weights + 0.4 * exact.weights
    expected = np.linalg.solve(near.T @ near + 0.4 * among + 4e-7 * np.eye(20), near.T @ targets)
    np.testing.assert_allclose(found.weights, expected, atol=1e-3)


@pytest.mark.slow
def test_what_nothing_is_known_of_gets_the_mean_item_and_an_empty_history_gets_nothing() -> None:
    of = held_out()
    found = kernel.fit(of.problem)
    nothing = np.zeros((2, of.features.shape[1]), np.float32)
    assert np.array_equal(found.items(nothing), np.stack([found.shift, found.shift]))
    assert not found.users(csr_matrix((2, of.problem.matrix.shape[1]), dtype=np.float32)).any()


@pytest.mark.slow
def test_it_is_restored_bit_by_bit() -> None:
    of = held_out()
    found = model.fit("kernel", of.problem)
    again = model.restore("kernel", found.arrays())
    assert np.array_equal(again.items(of.features), found.items(of.features))
    assert np.array_equal(again.users(of.problem.matrix), found.users(of.problem.matrix))


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ColdstartError) as caught:
        kernel.fit(held_out().problem, penalty=0, smoothing=-1)
    assert str(caught.value) == (
        "kernel: penalty, smoothing out of range: gamma and penalty have to be above 0, dim and landmarks at least 1, "
        "exposure, smoothing and popularity not under 0"
    )


def test_a_problem_without_trainable_items_is_refused() -> None:
    problem = held_out().problem
    bare = Problem(
        problem.matrix, np.zeros_like(problem.features), problem.teacher, problem.categories, problem.exposed
    )
    with pytest.raises(ColdstartError) as caught:
        kernel.fit(bare)
    assert str(caught.value) == (
        "kernel: of 120 items none has both a vector of its content and a user who liked it: embed the items of the "
        "interactions"
    )

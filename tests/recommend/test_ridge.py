import numpy as np
import pytest
from held_out_items import held_out, recall_at_10, recall_by_chance
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge

from coldstart.errors import ColdstartError
from coldstart.recommend import model
from coldstart.recommend.model import Problem
from coldstart.recommend.model.mappers import ridge


@pytest.mark.slow
def test_it_is_the_ridge_of_scikit_learn_onto_the_teacher() -> None:
    of = held_out()
    found = ridge.fit(of.problem, penalty=3.0, kappa=10.0)
    users = of.problem.matrix.getnnz(axis=0)
    reference = Ridge(alpha=3.0).fit(
        of.problem.features[users > 0], of.problem.teacher.items[users > 0], (users / (users + 10))[users > 0]
    )
    np.testing.assert_allclose(found.items(of.features), reference.predict(of.features), atol=1e-5)


@pytest.mark.slow
def test_onto_users_it_is_one_ridge_regression_for_each() -> None:
    of = held_out(users=30)
    found = ridge.fit(of.problem, target="users", dim=30, penalty=3.0, kappa=10.0)
    users = of.problem.matrix.getnnz(axis=0)
    warm = users > 0
    columns = of.problem.matrix.toarray().T[warm]
    reference = Ridge(alpha=3.0).fit(of.problem.features[warm], columns, (users / (users + 10))[warm])
    scores = found.items(of.features) @ found.users(of.problem.matrix).T
    np.testing.assert_allclose(scores, reference.predict(of.features), atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"target": "users"}, {"kernel": 500, "penalty": 1.0}])
def test_it_finds_new_items_for_users_far_better_than_chance(settings: dict[str, object]) -> None:
    of = held_out()
    found, chance = recall_at_10("ridge", of, settings), recall_by_chance(of)
    assert found.low > 1.5 * chance.high


def test_users_of_training_rows_are_the_teacher_s() -> None:
    of = held_out()
    found = ridge.fit(of.problem)
    assert np.array_equal(found.users(of.problem.matrix), of.problem.teacher.users)
    assert not found.users(csr_matrix((2, of.problem.matrix.shape[1]), dtype=np.float32)).any()


@pytest.mark.parametrize("settings", [{}, {"target": "users"}, {"kernel": 20}])
def test_it_is_restored_bit_by_bit(settings: dict[str, object]) -> None:
    of = held_out()
    found = model.fit("ridge", of.problem, **settings)
    again = model.restore("ridge", found.arrays())
    assert np.array_equal(again.items(of.features), found.items(of.features))
    assert np.array_equal(again.users(of.problem.matrix), found.users(of.problem.matrix))


def test_a_setting_out_of_range_is_named() -> None:
    problem = held_out().problem
    with pytest.raises(ColdstartError) as caught:
        ridge.fit(problem, target="items")  # type: ignore[arg-type]
    assert str(caught.value) == "ridge: no target 'items': choose teacher or users"
    with pytest.raises(ColdstartError) as caught:
        ridge.fit(problem, penalty=0.0, kappa=-1.0)
    assert str(caught.value) == ("ridge: penalty 0 and gamma 1 have to be above 0, kappa -1 and kernel 0 not under it")


def test_without_an_item_with_content_and_a_user_the_fit_is_refused() -> None:
    given = held_out().problem
    problem = Problem(given.matrix, np.zeros_like(given.features), given.teacher, given.categories, given.exposed)
    with pytest.raises(ColdstartError) as caught:
        ridge.fit(problem)
    assert str(caught.value) == (
        "ridge: of 120 items none has both a vector of its content and a user who liked it: embed the items of the "
        "interactions"
    )

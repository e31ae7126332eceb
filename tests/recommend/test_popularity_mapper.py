import numpy as np
import pytest
from held_out_items import held_out
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from coldstart.errors import ColdstartError
from coldstart.recommend import model
from coldstart.recommend.model import Problem, Teacher
from coldstart.recommend.model.mappers import popularity


@pytest.mark.slow
def test_it_is_the_ridge_of_scikit_learn_onto_the_logarithm_of_users() -> None:
    of = held_out()
    users = of.problem.matrix.getnnz(axis=0)
    reference = Ridge(alpha=2.0).fit(of.problem.features[users > 0], np.log1p(users[users > 0]))
    found = popularity.fit(of.problem, penalty=2.0)
    np.testing.assert_allclose(found.items(of.features)[:, 0], reference.predict(of.features), atol=1e-5)


@pytest.mark.slow
def test_every_user_scores_alike() -> None:
    found = popularity.fit(held_out().problem)
    histories = csr_matrix(np.array([[1, 0, 2], [0, 1, 0], [0, 0, 0]], np.float32))
    assert found.users(histories).tolist() == [[1.0], [1.0], [0.0]]


def test_it_predicts_popular_new_items_where_content_does() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 20)).astype(np.float32)
    liked = (rng.random((200, 500)) < 1 / (1 + np.exp(3 - features @ rng.normal(size=20)))).astype(np.float32)
    matrix = csr_matrix(liked[:, :400])
    nothing = Teacher(np.zeros((200, 1), np.float32), np.zeros((400, 1), np.float32))
    found = popularity.fit(Problem(matrix, features[:400], nothing, (None,) * 400, matrix))
    assert spearmanr(found.items(features[400:])[:, 0], liked[:, 400:].sum(axis=0)).statistic > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"kernel": 30}])
def test_it_is_restored_bit_by_bit(settings: dict[str, int]) -> None:
    of = held_out()
    found = model.fit("popularity", of.problem, **settings)
    again = model.restore("popularity", found.arrays())
    assert np.array_equal(again.items(of.features), found.items(of.features))


def test_a_setting_out_of_range_is_named() -> None:
    with pytest.raises(ColdstartError) as caught:
        popularity.fit(held_out().problem, penalty=-1.0)
    assert str(caught.value) == "popularity: penalty -1 and gamma 1 have to be above 0, and kernel 0 not under it"

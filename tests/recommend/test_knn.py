import numpy as np
import pytest
from held_out_items import held_out, recall_at_10, recall_by_chance

from coldstart.errors import ColdstartError
from coldstart.recommend import model
from coldstart.recommend.model.mappers import knn


@pytest.mark.slow
@pytest.mark.parametrize("block", [None, 500])
def test_it_is_the_softmax_mean_over_the_nearest(block: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference goes item by item over scikit-learn's exact neighbours."""
    from sklearn.neighbors import NearestNeighbors

    if block:
        monkeypatch.setattr(knn, "_SCORES", block)
    of = held_out()
    found = knn.fit(of.problem, k=7, temperature=0.2).items(of.features)
    warm = of.problem.matrix.getnnz(axis=0) > 0
    content, vectors = of.problem.features[warm], of.problem.teacher.items[warm]
    far, places = (
        NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(content).kneighbors(of.features)
    )
    for row, (distances, near) in enumerate(zip(far, places, strict=True)):
        weights = np.exp((1 - distances) / 0.2)
        np.testing.assert_allclose(found[row], weights / weights.sum() @ vectors[near], atol=1e-5)


@pytest.mark.slow
def test_it_finds_new_items_for_users_far_better_than_chance() -> None:
    of = held_out()
    assert recall_at_10("knn", of).low > 1.5 * recall_by_chance(of).high


@pytest.mark.slow
def test_an_item_of_which_nothing_is_known_is_the_mean_of_all() -> None:
    of = held_out()
    found = knn.fit(of.problem, k=10_000)
    warm = of.problem.matrix.getnnz(axis=0) > 0
    blank = found.items(np.zeros((1, of.features.shape[1]), np.float32))
    np.testing.assert_allclose(blank[0], of.problem.teacher.items[warm].mean(axis=0), atol=1e-6)


@pytest.mark.slow
def test_it_is_restored_bit_by_bit() -> None:
    of = held_out()
    found = model.fit("knn", of.problem, k=3)
    again = model.restore("knn", found.arrays())
    assert np.array_equal(again.items(of.features), found.items(of.features))
    assert np.array_equal(again.users(of.problem.matrix), of.problem.teacher.users)


@pytest.mark.slow
def test_a_setting_out_of_range_is_named() -> None:
    with pytest.raises(ColdstartError) as caught:
        knn.fit(held_out().problem, k=0)
    assert str(caught.value) == "knn: k 0 has to be at least 1, and temperature 0.1 above 0"

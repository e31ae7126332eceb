import numpy as np
import pytest

from benchmarks import vector_data
from benchmarks.vectors_1m import recall, summary


def _on_sphere(dimension: int, rows: int) -> vector_data.Vectors:
    """Unit vectors of a sphere of `dimension` that lies in 40 numbers."""
    vectors = np.zeros((rows, 40), np.float32)
    vectors[:, : dimension + 1] = np.random.default_rng(0).standard_normal((rows, dimension + 1))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@pytest.mark.parametrize("dimension", [2, 5])
def test_the_dimension_of_a_sphere_is_found(dimension: int) -> None:
    assert vector_data.likeness(_on_sphere(dimension, 3000), 1000)["local_dimension"] == pytest.approx(
        dimension, rel=0.1
    )


def test_near_ones_are_in_order_and_leave_out_the_vector_itself() -> None:
    vectors = _on_sphere(3, 50)
    places, cosines = vector_data.near(vectors, 4)
    expected = vectors @ vectors.T - 2 * np.eye(50)
    np.testing.assert_array_equal(places, np.argsort(-expected, axis=1)[:, :4])
    np.testing.assert_allclose(cosines, -np.sort(-expected, axis=1)[:, :4], atol=1e-6)


def test_made_vectors_lie_around_the_real_one_that_they_name() -> None:
    real = _on_sphere(8, 400)
    made, seeds = vector_data.Maker(real, noise=0.0).draw(500, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    to_seed = (made * real[seeds]).sum(axis=1)
    assert np.median(to_seed) > np.quantile(made @ real.T, 0.95)
    assert to_seed.min() > 0


def test_made_vectors_leave_the_flat_of_mixtures_by_the_noise_alone() -> None:
    real = _on_sphere(8, 400)
    for noise, apart in ((0.0, 0.0), (1.0, 0.0)):  # noise keeps to the directions that real vectors have
        made, _ = vector_data.Maker(real, noise=noise).draw(100, np.random.default_rng(0))
        assert np.abs(made[:, 9:]).max() == pytest.approx(apart, abs=1e-5)


def test_the_same_draw_gives_the_same_vectors() -> None:
    maker = vector_data.Maker(_on_sphere(5, 100))
    first, again = (maker.draw(10, np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_recall_is_the_share_of_true_rows_found() -> None:
    truth = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert recall([[4, 3, 2, 1], [8, 7, 6, 5]], truth) == 1
    assert recall([[1, 2, 9, 10], [5, -1, -1, -1]], truth) == 3 / 8


def test_times_are_over_all_rounds() -> None:
    one = {
        "single_s": [0.001, 0.003],
        "filtered_s": [0.01],
        "batch_query_s": 0.5,
        "recall": 1.0,
        "recall_filtered": 0.9,
    }
    two = {"single_s": [0.002], "filtered_s": [0.02], "batch_query_s": 0.5, "recall": 0.9, "recall_filtered": 0.9}
    found = summary([one, two])
    assert found["p50_ms"] == pytest.approx(2)
    assert found["p50_ms_filtered"] == pytest.approx(15)
    assert found["batch_per_s"] == pytest.approx(2)
    assert found["recall"] == pytest.approx(0.95)

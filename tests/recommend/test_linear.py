import numpy as np
import pytest
from sklearn.linear_model import Ridge

from coldstart.recommend.model import linear
from coldstart.recommend.model.linear import draw_fourier_features, fit_linear, restore_linear


def _data(rows: int = 300, width: int = 12, targets: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(rows, width)) + 0.5).astype(np.float32)
    goals = features @ rng.normal(size=(width, targets)) + rng.normal(size=(rows, targets)) + 2
    return features, goals.astype(np.float32), rng.random(rows)


def test_it_is_the_ridge_of_scikit_learn_with_sample_weights() -> None:
    features, goals, confidence = _data()
    for penalty in (0.1, 10.0, 1000.0):
        found = fit_linear(features, goals, confidence, penalty)
        reference = Ridge(alpha=penalty, solver="cholesky").fit(
            features.astype(np.float64), goals, sample_weight=confidence
        )
        np.testing.assert_allclose(found(features), reference.predict(features), atol=1e-5)
        np.testing.assert_allclose(found.weights, reference.coef_.T, atol=1e-5)


def test_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, goals, confidence = _data()
    whole = fit_linear(features, goals, confidence, 1.0)
    monkeypatch.setattr(linear, "_ROWS", 17)
    np.testing.assert_allclose(fit_linear(features, goals, confidence, 1.0).weights, whole.weights, atol=1e-5)


def test_rows_without_confidence_are_not_read() -> None:
    features, goals, confidence = _data()
    confidence[::3] = 0
    found = fit_linear(features, goals, confidence, 1.0)
    features[::3], goals[::3] = np.nan, np.nan
    again = fit_linear(features, goals, confidence, 1.0)
    assert np.array_equal(found.weights, again.weights) and np.array_equal(found.shift, again.shift)


def test_products_of_fourier_features_are_near_the_gaussian_kernel() -> None:
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    lifted = draw_fourier_features(6, 20_000, 0.3, seed=1)(features)
    apart = np.square(features[:, None] - features[None]).sum(axis=2)
    assert np.abs(lifted @ lifted.T - np.exp(-0.3 * apart)).max() < 0.05


@pytest.mark.slow
def test_fourier_features_come_near_to_exact_kernel_ridge() -> None:
    """The kernel is x·y + exp(-gamma |x - y|²); the reference solves it over all pairs, with weights and a shift."""
    features, goals, confidence = _data(rows=200, width=4)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    goals[:, 0] = np.sin(4 * features[:, 0] * features[:, 1])
    gamma, penalty = 1.0, 0.5

    def fitted(count: int) -> np.ndarray:
        return fit_linear(features, goals, confidence, penalty, draw_fourier_features(4, count, gamma, seed=2))(
            features
        )

    wide = features.astype(np.float64)
    kernel = wide @ wide.T + np.exp(-gamma * np.square(wide[:, None] - wide[None]).sum(axis=2))
    share = confidence / confidence.sum()
    centring = np.eye(len(wide)) - np.outer(np.ones(len(wide)), share)
    centred, mean = centring @ kernel @ centring.T, share @ goals
    dual = np.linalg.solve(centred + penalty * np.diag(1 / confidence), goals - mean)
    exact = centred @ dual + mean
    few, many = (np.linalg.norm(fitted(count) - exact) / np.linalg.norm(exact) for count in (250, 4000))
    assert many < 0.01 and many < few / 2
    plain = fit_linear(features, goals, confidence, penalty)(features)
    assert np.square(exact - goals)[:, 0].mean() < 0.7 * np.square(plain - goals)[:, 0].mean()


def test_it_is_restored_bit_by_bit() -> None:
    features, goals, confidence = _data()
    for fourier in (None, draw_fourier_features(12, 50, 1.0, seed=0)):
        found = fit_linear(features, goals, confidence, 1.0, fourier)
        assert np.array_equal(restore_linear(found.arrays())(features), found(features))

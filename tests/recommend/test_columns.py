"""FEASE and MARec against direct dense solves with each new item among the others."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from held_out_items import HeldOut, held_out, recall_at_10, recall_by_chance
from scipy.sparse import csr_matrix

from coldstart.errors import ColdstartError
from coldstart.recommend import model
from coldstart.recommend.model import linear

NAMES = ("fease", "marec")


def _fease(users: np.ndarray, features: np.ndarray, beta: float, penalty: float) -> np.ndarray:
    """I - G^-1 / diag(G^-1), over all items; FEASE as its paper has it."""
    inverse = np.linalg.inv(users.T @ users + beta * features @ features.T + penalty * np.eye(len(features)))
    return np.eye(len(features)) - inverse / np.diag(inverse)


def _marec(users: np.ndarray, features: np.ndarray, beta: float, penalty: float) -> np.ndarray:
    """P (X'X + X'X~ D) less P diag(gamma), over all items; MARec over EASE as its authors' code has it."""
    counts = users.sum(axis=0)
    bar = max(np.percentile(counts[counts > 0], 10), 1)
    alike = features @ features.T
    np.fill_diagonal(alike, 0)
    drawn = users.T @ (beta * users @ alike) @ np.diag(np.clip(bar - counts, 0, None) / bar)
    inverse = np.linalg.inv(users.T @ users + penalty * np.eye(len(features)) + drawn)
    free = inverse @ (users.T @ users + drawn)
    return free - inverse @ np.diag(np.diag(free) / np.diag(inverse))


SOLVES: dict[str, Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]] = {"fease": _fease, "marec": _marec}


def _with_new(of: HeldOut, place: int) -> tuple[np.ndarray, np.ndarray]:
    users = of.problem.matrix.toarray().astype(np.float64)
    warm = users.any(axis=0)
    new = np.zeros((len(users), 1))
    features = np.concatenate([of.problem.features[warm], of.features[[place]]]).astype(np.float64)
    return np.concatenate([users[:, warm], new], axis=1), features


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_new_item_s_column_is_that_of_the_larger_inverse(
    name: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exact:
        monkeypatch.setattr(linear, "_EXACT", 0)
    monkeypatch.setattr(linear, "_COLUMNS", 50)
    of = held_out()
    found = model.fit(name, of.problem, beta=3.0, penalty=20.0)
    scores = found.users(of.problem.matrix) @ found.items(of.features).T
    for place in range(5):
        users, features = _with_new(of, place)
        weights = SOLVES[name](users, features, 3.0, 20.0)
        np.testing.assert_allclose(scores[:, place], (users @ weights)[:, -1], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_finds_new_items_for_users_far_better_than_chance(name: str) -> None:
    of = held_out()
    assert recall_at_10(name, of).low > 1.5 * recall_by_chance(of).high


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_fewer_numbers_hold_most_of_the_training_users_scores(name: str) -> None:
    of = held_out()
    whole, short = model.fit(name, of.problem), model.fit(name, of.problem, dim=16)
    full = whole.users(of.problem.matrix).astype(np.float64)
    assert short.items(of.features).shape == (40, 16) and short.users(of.problem.matrix).shape == (120, 16)
    left, values, right = np.linalg.svd(full, full_matrices=False)
    best = (left[:, :16] * values[:16]) @ right[:16] @ of.features.T
    np.testing.assert_allclose(short.users(of.problem.matrix) @ short.items(of.features).T, best, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_is_restored_bit_by_bit(name: str) -> None:
    of = held_out()
    found = model.fit(name, of.problem, dim=20)
    again = model.restore(name, found.arrays())
    assert np.array_equal(again.items(of.features), found.items(of.features))
    assert np.array_equal(again.users(of.problem.matrix), found.users(of.problem.matrix))
    assert not again.users(csr_matrix((1, 120), dtype=np.float32)).any()


@pytest.mark.parametrize("name", NAMES)
def test_items_without_likes_change_nothing(name: str) -> None:
    of = held_out()
    features = np.concatenate([of.problem.features, of.features])
    matrix = csr_matrix((of.problem.matrix.data, of.problem.matrix.indices, of.problem.matrix.indptr), shape=(120, 160))
    wide = replace(of.problem, matrix=matrix, features=features)
    found, before = model.fit(name, wide), model.fit(name, of.problem)
    np.testing.assert_allclose(found.items(of.features), before.items(of.features), atol=1e-5)
    np.testing.assert_allclose(found.users(matrix), before.users(of.problem.matrix), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_too_many_items_are_refused(name: str) -> None:
    of = held_out()
    with pytest.raises(ColdstartError) as caught:
        model.fit(name, of.problem, max_items=100)
    assert str(caught.value) == (
        f"{name}: 118 items with a like need a matrix of 0.0 GiB, and max_items is 100: raise it if there is "
        "memory for two such, or use ridge, which needs none"
    )


def test_a_setting_out_of_range_is_named() -> None:
    problem = held_out().problem
    with pytest.raises(ColdstartError) as caught:
        model.fit("fease", problem, beta=0.0)
    assert str(caught.value) == "fease: beta 0, penalty 3000 and dim 512 have to be above 0"
    with pytest.raises(ColdstartError) as caught:
        model.fit("marec", problem, percentile=101.0)
    assert str(caught.value) == (
        "marec: beta 1, penalty 300 and dim 512 have to be above 0, and percentile 101 from 0 to 100"
    )

"""A tower before training, through its arrays, and its dropout."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coldstart.recommend.model.towers import Tower, principal_directions, random_dropout, restore_tower, torch_generator


@pytest.mark.parametrize("hidden", [(), (7,), (9, 5)])
def test_it_starts_as_its_linear_way(hidden: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    rows, straight = rng.normal(size=(20, 6)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)
    tower = Tower(6, hidden, 4, norm=False)
    tower.set_linear(straight)
    np.testing.assert_allclose(tower.vectors(rows), rows @ straight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("hidden", "norm"), [((), True), ((7,), False), ((9, 5), True)])
def test_it_comes_back_from_its_arrays(hidden: tuple[int, ...], norm: bool) -> None:
    tower = Tower(6, hidden, 4, norm=norm)
    for weight in tower.parameters():
        torch.nn.init.normal_(weight)
    rows = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    again = restore_tower({**tower.arrays("it."), "else": rows}, "it.")
    np.testing.assert_array_equal(again.vectors(rows), tower.vectors(rows))
    assert tower.vectors(rows[:0]).shape == (0, 4)


def test_main_directions_keep_most_of_the_length() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 8)) @ np.diag([5, 4, 3, 1, 1, 1, 1, 1])
    found = principal_directions(rows.astype(np.float32), 3)
    directions = np.linalg.svd(rows)[2][:3]
    np.testing.assert_allclose(np.abs(directions @ found), np.eye(3), atol=1e-4)
    assert not principal_directions(rows.astype(np.float32), 10)[:, 8:].any()


def test_what_is_dropped_is_set_by_the_seed_and_the_mean_stays() -> None:
    ones = torch.ones(200, 100)
    drops = [random_dropout(0.25, torch_generator(seed)) for seed in (0, 0, 1)]
    found = [drop(ones) for drop in drops if drop is not None]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert float(found[0].mean()) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(np.unique(found[0].numpy()), [0, 4 / 3], rtol=1e-6)
    assert random_dropout(0, torch_generator(0)) is None

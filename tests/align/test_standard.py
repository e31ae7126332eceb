"""Heads over standardised vectors and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coldstart.align.head_math import Standardisation, to_plain_inputs, to_standardised_inputs
from coldstart.encoders._heads import Heads, HeadShape


@pytest.fixture
def vectors() -> np.ndarray:
    random = np.random.default_rng(0)
    drawn = random.normal(size=(500, 24)) * np.linspace(0.01, 3, 24) + np.linspace(-1, 1, 24)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def test_standardised_numbers_have_no_mean_and_one_deviation(vectors: np.ndarray) -> None:
    rows = np.arange(0, 500, 2)
    standard = Standardisation.of(vectors, rows)
    made = standard.apply(torch.from_numpy(vectors[rows])).numpy()
    np.testing.assert_allclose(made.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(made.std(axis=0) * 24**0.5, 1, atol=1e-3)
    assert abs(Standardisation.of(vectors, np.arange(500)).mean - standard.mean).max() > 0  # of the chosen rows alone


@pytest.mark.parametrize("hidden", [0, 16])
def test_heads_give_the_same_over_either_and_come_back(vectors: np.ndarray, hidden: int) -> None:
    standards = Standardisation.of(vectors, np.arange(500)), Standardisation.of(vectors[:, :16], np.arange(500))
    torch.manual_seed(0)
    heads = Heads(HeadShape(24, 8, hidden), HeadShape(16, 8, hidden, "softmax"))
    over = to_standardised_inputs(heads, *standards)
    sides = ((heads.image, over.image, vectors), (heads.text, over.text, vectors[:, :16]))
    for (plain, moved, given), standard in zip(sides, standards, strict=True):
        x = torch.from_numpy(np.ascontiguousarray(given))
        torch.testing.assert_close(moved(standard.apply(x)), plain(x), atol=1e-5, rtol=1e-4)
    back = to_plain_inputs(over, *standards)
    for name, weight in heads.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], weight, atol=1e-5, rtol=1e-4)


def test_a_number_that_never_varies_is_not_blown_up() -> None:
    flat = np.zeros((10, 4), np.float32)
    flat[:, 0] = 1
    flat[:5, 1] = 0.5
    made = Standardisation.of(flat, np.arange(10)).apply(torch.from_numpy(flat))
    assert torch.isfinite(made).all()
    assert (made[:, [0, 2, 3]] == 0).all()
    assert torch.isfinite(Standardisation.of(flat[:, 2:], np.arange(10)).apply(torch.zeros(2, 2))).all()

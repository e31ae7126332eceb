"""Vectors of length one: against numpy's own norm, and what has no direction."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.core.vectors import unit


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_have_length_one_and_keep_their_dtype_and_direction(dtype: type) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 5, 16)).astype(dtype)
    found = unit(rows)
    assert found.dtype == dtype and found.shape == rows.shape
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float64), axis=-1), 1, atol=4 * np.finfo(dtype).eps)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    assert np.array_equal(found, rows / lengths)


def test_zeros_stay_zeros_and_nan_spreads_over_its_own_row_alone() -> None:
    found = unit(np.array([[0, 0], [3, 4], [np.nan, 1]], np.float32))
    assert found[:2].tolist() == [[0, 0], [np.float32(0.6), np.float32(0.8)]]
    assert np.isnan(found[2]).all()


def test_a_length_of_nearly_nothing_is_still_brought_to_one() -> None:
    assert unit(np.array([3e-15, 4e-15])).tolist() == pytest.approx([0.6, 0.8])

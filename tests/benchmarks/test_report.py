"""Ratios, their intervals, and which goals are met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.limits import copy_rate, disk_rate, gemm_rate, gemm_seconds
from benchmarks.report import Row, against, interval, met, ratio, table


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio([2.0, 8.0, 3.0], [1.0, 2.0, 1.0]) == ("3.00", "2.00 to 4.00")


def test_five_rounds_have_an_interval_of_their_median() -> None:
    row = against("peer", "a over b", "five", [3.0, 3.1, 3.2, 3.3, 9.0], [1.0] * 5, "at least 3")
    assert row.spread == "3.00 to 9.00; median 3.00 to 9.00 (95 %)"
    assert (row.against, row.rounds) == ("peer", (3.0, 3.1, 3.2, 3.3, 9.0))


def test_the_interval_of_a_median_follows_the_binomial() -> None:
    """Order statistics bound a median with known probability (Conover, 3.2): of 25 values, the 8th and 18th hold it
    with 95.7 %, and the bootstrap of as many comes within a place of them."""
    values = np.sort(np.random.default_rng(3).normal(10, 1, 25))
    low, high = interval(list(values))
    assert values[6] <= low <= values[8]
    assert values[16] <= high <= values[18]
    assert interval(list(values)) == (low, high)


@pytest.mark.parametrize(
    ("figure", "goal", "expected"),
    [
        ("3.10", "at least 3", True),
        ("0.80", "≥ 0.9", False),
        ("0.10", "at most 0.15", True),
        ("1,048", "at most 900 (peak)", False),
        ("3.1", "recall at least 0.95", None),
        ("not run", "at least 3", None),
        ("4.1", "seconds", None),
        ("1.1", "", None),
    ],
)
def test_goals_that_are_comparisons_are_judged(figure: str, goal: str, expected: bool | None) -> None:
    assert met(Row("claim", "setting", figure, "", goal)) is expected


def test_the_table_says_what_is_met() -> None:
    rows = [Row("a", "b", "3.10", "3.00 to 3.20", "at least 3"), Row("c", "d", "0.10", "", "at least 1")]
    assert table(rows) == (
        "| claim | setting | figure | interval | goal | met |\n"
        "|---|---|---|---|---|---|\n"
        "| a | b | 3.10 | 3.00 to 3.20 | at least 3 | yes |\n"
        "| c | d | 0.10 |  | at least 1 | **no** |"
    )


def test_limits_are_rates(tmp_path: Path) -> None:
    shapes, device = [(2, 8, 16, 32)], torch.device("cpu")
    assert gemm_seconds(shapes, torch.float32, device) > 0
    assert gemm_rate(shapes, torch.float32, device) > 0
    assert copy_rate(1 << 20) > 0
    assert all(rate > 0 for rate in disk_rate(tmp_path, 1 << 23))
    assert list(tmp_path.iterdir()) == []

"""ALDI's losses against a loop."""

from __future__ import annotations

import math

import pytest
import torch

from coldstart.recommend.model.towers import aldi_loss


def test_the_loss_is_the_formula_of_its_docstring() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6).double(), torch.randn(2, 6).double()
    counts = torch.tensor([0.0, 1, 3, 10, 100, 2]).double()
    expected = 0.0
    for ours, theirs, count in zip(student.T.tolist(), teacher.T.tolist(), counts.tolist(), strict=True):
        gap, goal = ours[0] - ours[1], 1 / (1 + math.exp(theirs[1] - theirs[0]))
        chance = 1 / (1 + math.exp(-gap))
        apart = (abs(theirs[0] - ours[0]) + abs(theirs[1] - ours[1])) / 2
        order = -goal * math.log(chance) - (1 - goal) * math.log(1 - chance)
        expected += (-math.log(chance) + math.tanh(0.2 * count) * (0.3 * apart + 0.7 * order)) / 6
    found = aldi_loss(
        (student[0], student[1]), (teacher[0], teacher[1]), counts, rating=0.3, ranking=0.7, steepness=0.2
    )
    assert float(found) == pytest.approx(expected, abs=1e-9)

"""What a student who knows content alone learns of a teacher who knows behaviour: the losses of ALDI. Tensors in."""

from __future__ import annotations

import torch
from torch.nn import functional


def aldi_loss(
    student: tuple[torch.Tensor, torch.Tensor],
    teacher: tuple[torch.Tensor, torch.Tensor],
    counts: torch.Tensor,
    *,
    rating: float = 0.1,
    ranking: float = 1.0,
    steepness: float = 0.1,
) -> torch.Tensor:
    """Losses after Huang et al., "Aligning Distillation For Cold-Start Item Recommendation", SIGIR 2023.

    With s+ and s- the scores of a liked and another item by student (S) and teacher (T), and w = tanh(steepness n+) for
    the n+ users of the liked item, since a teacher knows little of an item with few, the mean over B triples of

        -log sigmoid(s+_S - s-_S)  +  w rating (|s+_T - s+_S| + |s-_T - s-_S|) / 2
                                   +  w ranking BCE(s+_S - s-_S, sigmoid(s+_T - s-_T))

    Args:
        student, teacher: scores of the liked and of the other item, each [B]; counts: n+, [B].

    Returns:
        A number.
    """
    gap = student[0] - student[1]
    weight = torch.tanh(steepness * counts)
    apart = ((teacher[0] - student[0]).abs() + (teacher[1] - student[1]).abs()) / 2
    goal = torch.sigmoid(teacher[0] - teacher[1])
    order = functional.binary_cross_entropy_with_logits(gap, goal, reduction="none")
    return (-functional.logsigmoid(gap) + weight * (rating * apart + ranking * order)).mean()

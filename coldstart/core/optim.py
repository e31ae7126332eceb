"""Optimise with AdamW: decay towards given weights, and state in plain tensors.

torch's own optimisers import its compiler at their first step, which takes longer than training small heads does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


class AdamW:
    """Adam (Kingma & Ba 2015, algorithm 1) with decoupled decay (Loshchilov & Hutter 2019, algorithm 2).

    Attributes:
        steps: taken so far.
        mean, square: running means of each weight's gradient and of its square.
    """

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        goals: Mapping[str, torch.Tensor | None],
        decay: float,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        """`goals`: to what decay pulls a weight, None for zero; weights that are not named there do not decay."""
        self._weights, self._goals, self._decay, self._betas = dict(weights), dict(goals), decay, betas
        self.steps = 0
        self.mean = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.square = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Decay, move each weight against its gradient, and clear the gradient; weights without one stay."""
        self.steps += 1
        first, second = self._betas
        mean_share, square_share = 1 - first**self.steps, 1 - second**self.steps
        for name, weight in self._weights.items():
            if weight.grad is None:
                continue
            if name in self._goals:
                goal = self._goals[name]
                weight.lerp_(torch.zeros_like(weight) if goal is None else goal, lr * self._decay)
            mean, square = self.mean[name], self.square[name]
            mean.lerp_(weight.grad, 1 - first)
            square.mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
            weight.addcdiv_(mean, (square / square_share).sqrt_().add_(1e-8), value=-lr / mean_share)
            weight.grad = None

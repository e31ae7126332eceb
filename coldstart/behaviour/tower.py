"""A tower: a small network from the numbers of an item or a user to its vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coldstart.behaviour import Arrays, Vectors

Drop = Callable[[torch.Tensor], torch.Tensor]

_ROWS = 8192  # at a time, outside of training


class Tower(nn.Module):
    """Layers with GELU between and, beside them, one linear way, both added; then LayerNorm where `norm` is set.

    The layers' last weights start at zero, so that an untrained tower is its linear way.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], dim: int, *, norm: bool = True) -> None:
        super().__init__()
        widths = [inputs, *hidden, dim]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.straight = nn.Linear(inputs, dim, bias=False)
        self.norm = nn.LayerNorm(dim) if norm else None
        for weight in (self.layers[-1].weight, self.layers[-1].bias):
            nn.init.zeros_(weight)  # type: ignore[arg-type]

    def forward(self, rows: torch.Tensor, drop: Drop | None = None) -> torch.Tensor:
        """float [B, inputs], of about unit length, -> [B, dim]; `drop` blanks out numbers of rows and hidden layers."""
        rows = rows * rows.shape[1] ** 0.5
        rows = drop(rows) if drop else rows
        found = rows
        for layer in self.layers[:-1]:
            found = functional.gelu(layer(found))
            found = drop(found) if drop else found
        added: torch.Tensor = self.layers[-1](found) + self.straight(rows)
        if self.norm is not None:
            added = self.norm(added)
        return added

    @torch.no_grad()
    def start_at(self, straight: Vectors) -> None:
        """Let the tower give `rows @ straight`, float [inputs, dim], before it is trained."""
        weights = straight.T / straight.shape[0] ** 0.5
        self.straight.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights, np.float32)))

    @torch.no_grad()
    def vectors(self, rows: Vectors) -> Vectors:
        """Of many rows, float32 [N, inputs] -> float32 [N, dim], in blocks."""
        device = self.straight.weight.device
        blocks = [
            self(torch.from_numpy(np.ascontiguousarray(rows[start : start + _ROWS], np.float32)).to(device))
            .cpu()
            .numpy()
            for start in range(0, len(rows), _ROWS)
        ]
        return np.concatenate(blocks) if blocks else np.empty((0, self.straight.out_features), np.float32)

    def arrays(self, prefix: str = "") -> dict[str, Vectors]:
        """All weights by name, float32."""
        return {prefix + name: weight.detach().cpu().numpy().copy() for name, weight in self.state_dict().items()}


def restore_tower(arrays: Arrays, prefix: str = "") -> Tower:
    """A tower from its arrays, on the CPU."""
    own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    count = sum(name.startswith("layers.") and name.endswith(".weight") for name in own)
    shapes = [own[f"layers.{place}.weight"].shape for place in range(count)]
    tower = Tower(shapes[0][1], [shape[0] for shape in shapes[:-1]], shapes[-1][0], norm="norm.weight" in own)
    tower.load_state_dict({name: torch.from_numpy(np.array(value, np.float32)) for name, value in own.items()})
    return tower.requires_grad_(False).eval()


def main_directions(rows: Vectors, dim: int) -> Vectors:
    """The `dim` directions in which rows [N, F] are longest (not centred), float32 [F, dim]; zeros where F is less."""
    gram = rows.astype(np.float64).T @ rows
    _, vectors = np.linalg.eigh(gram)
    found = np.zeros((rows.shape[1], dim), np.float32)
    best = vectors[:, ::-1][:, :dim]
    found[:, : best.shape[1]] = best
    return found


def dropper(share: float, generator: torch.Generator) -> Drop | None:
    """Blanks out this share of all numbers and makes the others greater by as much; drawn on the CPU."""
    if not share:
        return None

    def drop(values: torch.Tensor) -> torch.Tensor:
        kept = torch.rand(values.shape, generator=generator) >= share
        return values * kept.to(values.device) / (1 - share)

    return drop


def seeded(seed: int) -> torch.Generator:
    """A source of random numbers of its own, on the CPU."""
    return torch.Generator().manual_seed(seed)

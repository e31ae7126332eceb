"""Contrastive batches larger than memory: gradient caching (Gao et al. 2021, section 3). Knows no models and no data.

Vectors of the whole batch are computed piece by piece without keeping what a backward pass needs; the loss is taken on
them and its gradient kept; then each piece is computed again, from the same random state, and sent its part of the
gradient. The result is that of one pass over the whole batch. A batch of one piece is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Encode = Callable[[slice], torch.Tensor]
"""Rows of the batch -> their unit vectors, float32 [len(rows), D]."""


@dataclass
class _Piece:
    side: int
    rows: slice
    random: list[torch.Tensor]
    vectors: torch.Tensor


class Cached:
    """The vectors of one batch of one process.

    Args:
        sides: what computes each side (image, text) of the batch.
        count: rows of the batch; `micro_batch`: rows in memory at a time.
        device: where they are computed; its random state is kept, and that of the CPU.

    Attributes:
        vectors: float32 [count, D] of each side, without history; none where there are no rows.
    """

    def __init__(self, sides: Sequence[Encode], count: int, micro_batch: int, device: torch.device) -> None:
        self._sides = sides
        self._device = device
        self._whole = count <= micro_batch
        self._pieces: list[_Piece] = []
        for side, encode in enumerate(sides):
            for start in range(0, count, micro_batch):
                rows = slice(start, min(count, start + micro_batch))
                random = random_state(device)
                with torch.set_grad_enabled(self._whole):
                    self._pieces.append(_Piece(side, rows, random, encode(rows)))
        self.vectors = [
            torch.cat([piece.vectors.detach() for piece in self._pieces if piece.side == side])
            for side in range(len(sides))
            if count
        ]

    def backward(self, gradients: Sequence[torch.Tensor]) -> None:
        """Add to the gradients of all parameters, given those of `vectors`."""
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            for piece in self._pieces:
                vectors = piece.vectors
                if not self._whole:
                    set_random_state(piece.random, self._device)
                    vectors = self._sides[piece.side](piece.rows)
                torch.autograd.backward(vectors, gradients[piece.side][piece.rows])


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Of the CPU, and of a CUDA device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(state: Sequence[torch.Tensor], device: torch.device) -> None:
    """Go back to what `random_state` gave."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)

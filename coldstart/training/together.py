"""Processes that train together, through accelerate; one alone needs none of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Together:
    """This process among those that train.

    Attributes:
        rank: its number from 0; size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """[N, …] of every process one after the other, [size * N, …]; N must be the same for all. No gradient flows."""
        if self.size == 1:
            return rows
        from accelerate.utils import gather

        gathered: torch.Tensor = gather(rows.contiguous())
        return gathered

    def gather_objects(self, things: list[Any]) -> list[Any]:
        """The lists of all processes, joined."""
        if self.size == 1:
            return things
        from accelerate.utils import gather_object

        joined: list[Any] = gather_object(things)
        return joined

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over processes."""
        if self.size == 1:
            return tensor
        from accelerate.utils import reduce

        total: torch.Tensor = reduce(tensor, reduction="sum")
        return total

    def all(self, good: bool, device: torch.device) -> bool:
        """Whether it holds in every process."""
        return int(self.sum(torch.tensor([int(good)], device=device)).item()) == self.size

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def join(device: str) -> tuple[Together, torch.device]:
    """Join the processes that `accelerate launch` started: CUDA with nccl, one device each, or the CPU with gloo."""
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    return Together(state.process_index, state.num_processes), torch.device("cpu") if device == "cpu" else state.device

"""Batches of one stage, as large as its budget and the device's memory allow."""

from __future__ import annotations

from typing import Any

from coldstart.stage import MapStage, Reject, Row, Work

_MOST_VERDICTS = 2000

Result = tuple[Work, Row | Reject, float]
"""The work, the row that was made of it or the verdict on it, its cost."""


class Batcher:
    """Gathers prepared items up to the stage's budget and computes them, in halves when memory runs out."""

    def __init__(self, stage: MapStage) -> None:
        self._stage = stage
        self.budget = stage.batch_cost
        self._samples: list[tuple[Work, Any, float]] = []
        self._verdicts: list[Result] = []
        self._cost = 0.0
        self._taken = 0
        self._taken_cost = 0.0

    @property
    def mean_cost(self) -> float:
        return self._taken_cost / self._taken if self._taken else 1.0

    @property
    def full(self) -> bool:
        return self._cost >= self.budget or len(self._verdicts) >= _MOST_VERDICTS

    def take(self, work: Work, data: Any, cost: float) -> None:
        if isinstance(data, Reject):
            self._verdicts.append((work, data, 0.0))
            return
        self._samples.append((work, data, cost))
        self._cost += cost
        self._taken += 1
        self._taken_cost += cost

    def compute(self) -> list[Result]:
        samples, verdicts = self._samples, self._verdicts
        self._samples, self._verdicts, self._cost = [], [], 0.0
        results = self._compute([data for _, data, _ in samples], [cost for _, _, cost in samples])
        made = [(work, result, cost) for (work, _, cost), result in zip(samples, results, strict=True)]
        return verdicts + made

    def _compute(self, batch: list[Any], costs: list[float]) -> list[Row | Reject]:
        if not batch:
            return []
        try:
            results = self._stage.compute(batch)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            shortage = str(error).partition("\n")[0]
        else:
            if len(results) != len(batch):
                raise ValueError(f"stage {self._stage.name!r} gave {len(results)} results for {len(batch)} samples")
            return results
        # outside `except`, so that the failed attempt's tensors are free before the next one
        if len(batch) == 1:
            return [Reject("out_of_memory", shortage)]
        half = len(batch) // 2
        self.budget = min(self.budget, max(sum(costs[:half]), 1.0))
        return self._compute(batch[:half], costs[:half]) + self._compute(batch[half:], costs[half:])


def _is_out_of_memory(error: Exception) -> bool:
    """By name, so that the engine needs no torch: its CUDA error, and the message of its CPU allocator."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )

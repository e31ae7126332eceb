"""What a stage is. Knows nothing of engines, tables or the command line.

A **map** stage makes one row an item: `prepare` runs on a CPU worker for one item and may turn it away with `Reject`;
`compute` runs on the device for one batch. Stages are built from a name and a dict of settings alone, so that any
engine can ship them to another process or machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Row = dict[str, Any]
State = Literal["failed", "filtered", "duplicate"]


class Reject(Exception):  # noqa: N818  (a verdict on one item, not a fault of the program)
    """Turn one item away, with the reason that its ledger row will carry.

    Args:
        reason: snake_case word that tests and filters rely on, such as `too_many_pixels`.
        detail: the value and the limit, for a person.
        state: `failed`, `filtered` or `duplicate`.
    """

    def __init__(self, reason: str, detail: str = "", state: State = "failed") -> None:
        super().__init__(reason, detail, state)  # all three as args: the exception crosses process borders
        self.reason = reason
        self.detail = detail
        self.state = state

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True)
class Sample:
    """One prepared item.

    Attributes:
        item_id: the item.
        row_key: the key its result will carry.
        data: what `compute` needs; must pickle.
        cost: size in the stage's own unit (images, tokens); batches are filled up to a budget of it.
    """

    item_id: str
    row_key: str
    data: Any
    cost: float = 1.0


Prepare = Callable[[Row], tuple[Any, float]]


class MapStage(Protocol):
    """One loaded stage.

    Attributes:
        name: the stage instance, as the pipeline file names it.
        version: raised by hand when the code's results change.
        table: the workspace table its rows go to.
        metadata: string pairs stored with that table (a space's passport).
        schema: `pyarrow.Schema` of the rows that `compute` returns, without `item_id` and `row_key`.
        batch_cost: the budget of `Sample.cost` for one batch.
    """

    name: str
    version: int
    table: str
    metadata: Mapping[str, str]
    schema: Any
    batch_cost: float

    def fingerprint(self) -> Mapping[str, Any]:
        """Everything besides the rows read that changes results; JSON-serialisable. Loads no weights."""

    def preparer(self) -> Prepare:
        """A picklable function: item row -> (data, cost). Importing it must not import torch.

        It raises `Reject` for an item that cannot be used.
        """

    def compute(self, batch: Sequence[Any]) -> list[Row | Reject]:
        """Prepared data in; as many results out, in the same order. Loads the model on first use."""

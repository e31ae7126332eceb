"""Item-to-item models in closed form: a new item's weights for each warm item of a history, linear in its content.

The weights of a new item are P f, with f its features and P [I, F]; a user's score is the sum of them over the history.
So the score is (h P) · f, and no matrix of items by items is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour import Arrays, Vectors
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_ITEMS = 30_000
"""Of which a matrix of items by items is held, 3.4 GiB in float32, and factored: a minute for 10,000 of them on two
cores, and by the cube from there on."""

_EXACT = 8_000  # up to so many items in float64
_COLUMNS = 1024  # of the matrix at a time


@dataclass(frozen=True)
class Columns:
    """See `coldstart.behaviour.Mapper`.

    Attributes:
        content: float32 [F, D]; history: float32 [I, D]: P is history times the transpose of content.
    """

    content: Vectors
    history: Vectors

    def items(self, features: Vectors) -> Vectors:
        return np.asarray(features @ self.content, np.float32)

    def users(self, histories: csr_matrix) -> Vectors:
        return np.asarray(histories @ self.history, np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"columns.content": self.content, "columns.history": self.history}


def restore_columns(arrays: Arrays) -> Columns:
    """From `Columns.arrays`."""
    return Columns(arrays["columns.content"], arrays["columns.history"])


def reduced(weights: NDArray[np.floating[Any]], matrix: csr_matrix, dim: int) -> Columns:
    """P [I, F] with at most `dim` numbers a vector: those that hold most of training users' scores; all if F <= dim.

    They are the right singular vectors of matrix @ P.
    """
    wide = weights.astype(np.float64)
    if wide.shape[1] <= dim:
        return Columns(np.eye(wide.shape[1], dtype=np.float32), wide.astype(np.float32))
    scores = matrix @ wide
    _, directions = np.linalg.eigh(scores.T @ scores)
    chosen = directions[:, ::-1][:, :dim]
    return Columns(np.ascontiguousarray(chosen, np.float32), (wide @ chosen).astype(np.float32))


def together(name: str, matrix: csr_matrix, max_items: int) -> NDArray[np.floating[Any]]:
    """R'R [I, I]: how many users each two items share; float64 for few items, float32 for many.

    Raises:
        ColdstartError: there are more than `max_items`.
    """
    count = matrix.shape[1]
    if count > max_items:
        raise ColdstartError(
            f"{name}: {count:,} items that somebody liked need a matrix of {count**2 * 4 / 2**30:.1f} GiB, and "
            f"max_items is {max_items:,}: raise it if there is memory for two such, or take ridge, which has none"
        )
    found = np.empty((count, count), np.float64 if count <= _EXACT else np.float32)
    rows, columns = matrix.T.tocsr(), matrix.tocsc()
    for start in range(0, count, _COLUMNS):
        part = slice(start, start + _COLUMNS)
        found[:, part] = (rows @ columns[:, part]).toarray()
    return found

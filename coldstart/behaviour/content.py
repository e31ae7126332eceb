"""What is known of items before anybody has met them: their vectors in every space, and their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour.labels import Statements, read_statements

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Content:
    """N items.

    Attributes:
        item_ids: without repetition.
        blocks: space -> vectors float32 [N, D]; a row of zeros where an item has none there.
        records: the items' own rows, as manifests have them (`title`, `category`, `tags`, `attributes`, …).
    """

    item_ids: tuple[str, ...]
    blocks: Mapping[str, Vectors]
    records: tuple[Mapping[str, Any], ...]

    def __len__(self) -> int:
        return len(self.item_ids)

    def take(self, places: Sequence[int] | NDArray[np.intp]) -> Content:
        """Those items, in that order."""
        chosen = np.asarray(places, np.intp)
        return Content(
            tuple(self.item_ids[place] for place in chosen),
            {name: block[chosen] for name, block in self.blocks.items()},
            tuple(self.records[place] for place in chosen),
        )

    @cached_property
    def said(self) -> Statements:
        """What the records say; they are read once."""
        return read_statements(self.records)

    def present(self, space: str) -> NDArray[np.bool_]:
        """Which items have a vector there, bool [N]."""
        found: NDArray[np.bool_] = np.any(self.blocks[space] != 0, axis=1)
        return found

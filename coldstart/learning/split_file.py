"""The items that a fit had, kept with it: their keys, and the part of the split that each fell on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

if TYPE_CHECKING:
    from coldstart.workspace.artifacts import Artifact

ITEMS_FILE = "items.parquet"


def items_file(
    item_ids: Sequence[str], keys: Sequence[str], groups: NDArray[np.int64], parts: Mapping[str, NDArray[np.int64]]
) -> bytes:
    """The content of the file; `parts`: places of items by the part of the split."""
    sides = np.empty(len(item_ids), dtype="<U5")
    for name, places in parts.items():
        sides[places] = name
    columns = {"item_id": item_ids, "key": keys, "split": sides.tolist(), "group": groups}
    out = BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def items_of(made: Artifact) -> dict[str, tuple[str, str]]:
    """item -> its key and its part of the split, of what was fitted."""
    rows = pq.read_table(made.folder / ITEMS_FILE, columns=["item_id", "key", "split"])
    items, keys, sides = (column.to_pylist() for column in rows.columns)
    return {item: (key, side) for item, key, side in zip(items, keys, sides, strict=True)}

"""A split as a folder: `rows.parquet`, `items.parquet`, `users.parquet`, and `split.json` with its digest.

Whoever repeats an evaluation reads the same split; one that was changed since is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from coldstart.errors import ColdstartError
from coldstart.evaluation.recommend.splits import Split
from coldstart.interactions import Interactions

SPLIT_FILE = "split.json"
_PART = {-1: "out", 0: "train", 1: "valid", 2: "test"}
_SIDE = {-1: "out", 0: "warm", 1: "cold_valid", 2: "cold_test", 3: "cold"}


def write(split: Split, folder: Path) -> str:
    """Write a split into a folder, made where missing; gives its digest.

    Raises:
        OSError: it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    rows = split.interactions

    def named(places: np.ndarray, names: tuple[str, ...] | list[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(names, pa.string()))

    columns = {
        "user_id": named(rows.users, rows.user_ids),
        "item_id": named(rows.items, rows.item_ids),
        "time": pa.array(rows.times),
        "weight": pa.array(rows.weights),
        "part": named(split.row_part + 1, list(_PART.values())),
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    side = named(split.item_side + 1, list(_SIDE.values()))
    pq.write_table(pa.table({"item_id": pa.array(rows.item_ids, pa.string()), "side": side}), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": pa.array(rows.user_ids, pa.string())}), folder / "users.parquet")
    digest = split.digest()
    about = {"kind": split.kind, "digest": digest, "settings": dict(split.settings), "counts": split.counts()}
    (folder / SPLIT_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return digest


def read(folder: Path) -> Split:
    """The split of a folder.

    Raises:
        ColdstartError: there is none, it cannot be read, or it is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / SPLIT_FILE
    if not path.is_file():
        raise ColdstartError(f"there is no split in {folder}: {SPLIT_FILE} is missing")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        user_ids = pq.read_table(folder / "users.parquet")["user_id"].to_pylist()
        items = pq.read_table(folder / "items.parquet")
        rows = pq.read_table(folder / "rows.parquet")
        item_ids = items["item_id"].to_pylist()
        interactions = Interactions(
            tuple(user_ids),
            tuple(item_ids),
            _places(rows["user_id"], user_ids).astype(np.int32),
            _places(rows["item_id"], item_ids).astype(np.int32),
            rows["time"].to_numpy(),
            rows["weight"].to_numpy(),
        )
        row_part = (_places(rows["part"], list(_PART.values())) - 1).astype(np.int8)
        side = (_places(items["side"], list(_SIDE.values())) - 1).astype(np.int8)
        split = Split(about["kind"], interactions, row_part, side, about["settings"])
        written = str(about["digest"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ColdstartError(f"the split in {folder} cannot be read: {error}") from error
    if split.digest() != written:
        raise ColdstartError(
            f"the split in {folder} was changed since it was written: its digest is {split.digest()}, and "
            f"{SPLIT_FILE} says {written}; write it anew"
        )
    return split


def _places(column: object, names: list[str]) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column, value_set=pa.array(names, pa.string()))
    if found.null_count:
        raise ValueError("a row names what is not listed")
    return np.asarray(found.to_numpy(zero_copy_only=False) if isinstance(found, pa.ChunkedArray) else found)

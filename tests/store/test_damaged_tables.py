"""What a table of ours must hold: `check` takes good rows for good, and foreign columns or values are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from coldstart.core.keys import digest
from coldstart.store import Store, check

SPACE = "stage.clip-0123456789ab"
DIM = 8


def found(store: Store) -> list[tuple[str, str]]:
    return [(damage.table, damage.what) for damage in check.find_damage(Store(store.uri))]


def add(store: Store, table: str, rows: pa.Table) -> None:
    """Write rows as a fragment of their own, which LanceDB itself would change or refuse."""
    lance.write_dataset(rows, str(Path(store.uri) / f"{table}.lance"), mode="append")


def space_rows(names: list[str], vectors: list[Any]) -> pa.Table:
    stored = pa.array(vectors, pa.list_(pa.float32(), DIM))
    return pa.table({"item_id": names, "row_key": [digest(name) for name in names], "vector": stored})


def test_a_batch_in_which_no_item_has_a_vector_is_no_damage(tmp_path: Path) -> None:
    store = Store(tmp_path / "w", create=True)
    unit = [1.0, *[0.0] * (DIM - 1)]
    with store.lock():
        add(store, SPACE, space_rows(["a", "b"], [unit, unit]))
        add(store, SPACE, space_rows(["new"], [None]))  # a fragment of its own, without any vector
        assert check.find_damage(store) == []
        assert check.repair(store) == []
        assert sorted(store.keys(SPACE)) == ["a", "b", "new"]
        add(store, SPACE, space_rows(["faulty", "none"], [[2.0, *[0.0] * (DIM - 1)], None]))
        assert [damage.what for damage in check.repair(store)] == ["1 rows have a faulty vector"]
    assert sorted(store.keys(SPACE)) == ["a", "b", "new", "none"]


def test_a_fault_of_a_check_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "w", create=True)
    add(store, SPACE, space_rows(["a"], [None]))

    def fails(*_: Any) -> np.ndarray[Any, Any]:
        raise ValueError("a fault of the program")

    monkeypatch.setattr(check._Rows, "_faulty", fails)
    with pytest.raises(ValueError, match="a fault of the program"):
        check.find_damage(store)

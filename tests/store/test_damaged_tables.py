"""What a table of ours must hold: `check` takes good rows for good, and foreign columns or values are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from coldstart.core.item_fields import DEEPEST, read_attributes
from coldstart.core.keys import digest
from coldstart.store import ITEMS, Store, check
from coldstart.store.fit_stage import SavedFits

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


def nested(depth: int) -> str:
    return '{"a": ' * depth + "1" + "}" * depth


@pytest.mark.parametrize("text", ["x", "[1]", "null", "5", nested(DEEPEST + 1), nested(3000), "[" * 100_000])
def test_attributes_that_are_no_json_object_are_none_and_check_lists_the_row(text: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "w", create=True)
    names = ["bad", "good", "without"]
    rows = {"item_id": names, "row_key": [digest(name) for name in names], "attributes": [text, '{"a": [1]}', None]}
    store.merge(ITEMS, pa.table(rows))
    kept = store.read(ITEMS).sort_by("item_id")["attributes"].to_pylist()
    assert [read_attributes(one) for one in kept] == [{}, {"a": [1]}, {}]
    assert found(store) == [(ITEMS, "1 rows have attributes that are no JSON object")]


def test_attributes_of_a_deep_manifest_are_read() -> None:
    assert read_attributes(nested(DEEPEST)) == json.loads(nested(DEEPEST))


@pytest.mark.parametrize("report", [{}, {"a": 1}, {"key": "k"}, {"key": "other", "summary": "s"}])
def test_a_fit_with_another_report_counts_as_none(report: dict[str, Any], tmp_path: Path) -> None:
    fits = SavedFits("align", lambda: "k", entry="key", reads=lambda fit: fit.report["summary"])
    store = Store(tmp_path / "w", create=True)
    store.artifacts.save("align", "of a stranger", {"a": b"1"}, report)
    assert fits.newest(store) is None
    assert fits.present(store) == {}
    store.artifacts.save("align", "own", {"a": b"2"}, {"key": "k", "summary": "s"})
    newest = fits.newest(store)
    assert newest is not None
    assert newest.key == "own"

"""Folders of datasets: what is read of them, and that their files lead nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldstart.core import trust
from coldstart.errors import ColdstartError
from coldstart.ingest.dataset_folder import dataset_tables, open_any, open_tables
from coldstart.ingest.parquet_table import class_names
from coldstart.ingest.sources import find_tables


def arrow(path: Path, **columns: list[object]) -> Path:
    table = pa.table(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def test_names_in_a_state_file_lead_to_no_other_folder(tmp_path: Path) -> None:
    arrow(tmp_path / "secret.arrow", id=["x"])
    folder = tmp_path / "data"
    arrow(folder / "data-00000-of-00001.arrow", id=["a"])
    names = ["../secret.arrow", str(tmp_path / "secret.arrow"), "data-00000-of-00001.arrow", 3]
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state), "utf-8")
    assert dataset_tables(folder) == [folder / "data-00000-of-00001.arrow"]
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["..", "../..", "train"]}), "utf-8")
    assert dataset_tables(folder) == []


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, '{"_data_files": 3}'])
def test_a_state_file_at_fault_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text, "utf-8")
    assert dataset_tables(tmp_path) == []


def test_splits_are_told_by_names_of_files(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        pq.write_table(pa.table({"id": [name[:2]]}), tmp_path / f"{name}.parquet")
    table = open_tables(dataset_tables(tmp_path), tmp_path)
    assert list(table.rows()) == [(1, {"id": "te", "split": "test"}), (2, {"id": "tr", "split": "train"})]


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"info": {"features": {"y": {"names": ["a", "b"], "_type": "ClassLabel"}}}}, {"y": ["a", "b"]}),
        ({"info": {"features": {"y": {"names": [1], "_type": "ClassLabel"}}}}, {}),
        ({"info": {"features": {"y": {"_type": "ClassLabel"}}}}, {}),
        ({"info": [3]}, {}),
        ([], {}),
    ],
)
def test_names_of_classes_come_from_the_schema(metadata: object, names: object) -> None:
    schema = pa.schema([("y", pa.int64())], metadata={b"huggingface": json.dumps(metadata).encode()})
    assert class_names(schema) == names


def test_a_damaged_arrow_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    path.write_bytes(b"nothing of this is Arrow")
    with pytest.raises(ColdstartError, match="is not a readable Arrow file"):
        open_any(path)


def test_a_folder_with_several_tables_and_media_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.jpg"):
        (tmp_path / name).write_text("sku,name\n1,x\n", "utf-8")
    with pytest.raises(ColdstartError, match="has 2 tables beside its media"):
        find_tables(tmp_path)
    (tmp_path / "products.csv").write_text("sku,name\n1,x\n", "utf-8")
    assert find_tables(tmp_path) == [tmp_path / "products.csv"]


def test_the_folder_of_pictures_counts_only_when_given() -> None:
    settings = {"stages": {"ingest": {"map": {"title": "Name"}, "columns": ["Name"], "media_folder": "/home/x"}}}
    assert trust.places(settings) == [("ingest.media_folder", "/home/x")]

"""Files of rows: the end of the name is the format, whatever writes them."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import catalogue

from coldstart.errors import ColdstartError
from coldstart.recommend.batch import read_user_ids
from coldstart.recommend.table_files import SUFFIXES, table_writer

ROWS = [
    {"user_id": 'o\'brien, "u"\t1', "rank": 1, "score": 0.3, "cold": True, "reason": "müde\nzeile"},
    {"user_id": "u2", "rank": 2, "score": None, "cold": False, "reason": None},
]
TYPES = {"user_id": pa.string(), "rank": pa.int32(), "score": pa.float32(), "cold": pa.bool_(), "reason": pa.string()}
SCHEMA = pa.schema(list(TYPES.items()))


def write(path: Path, blocks: list[list[dict[str, Any]]]) -> Path:
    with table_writer(path, SCHEMA) as writer:
        for block in blocks:
            writer.write_table(pa.Table.from_pylist(block, SCHEMA))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, by a reader that is not ours."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
        return [{**row, "score": row["score"] and round(row["score"], 6)} for row in rows]
    if path.suffix in (".json", ".jsonl"):
        text = path.read_text("utf-8")
        rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        return list(rows)
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ","))
    return [
        {
            "user_id": row["user_id"],
            "rank": int(row["rank"]),
            "score": float(row["score"]) if row["score"] else None,
            "cold": row["cold"] == "true",
            "reason": row["reason"] or None,
        }
        for row in rows
    ]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".CSV"])
def test_rows_come_back(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"rows{suffix}", [ROWS[:1], [], ROWS[1:]])
    assert read(path.rename(path.with_suffix(suffix.lower()))) == ROWS
    assert read(write(tmp_path / f"none{suffix.lower()}", [])) == []


def test_another_end_is_refused_before_the_work(tmp_path: Path) -> None:
    for name in ("lists.xlsx", "lists"):
        with pytest.raises(ColdstartError) as error:
            write(tmp_path / name, [])
        ends = ".csv, .tsv, .jsonl, .json or .parquet"
        assert str(error.value) == f"--out {tmp_path / name}: give a name that ends in {ends}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_complete_does_not_appear(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(KeyError), table_writer(tmp_path / f"rows{suffix}", SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(ROWS, SCHEMA))
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    missing = tmp_path / "no" / f"rows{suffix}"
    with pytest.raises(ColdstartError, match=rf"^cannot write {missing}: .*; name another file with --out$"):
        write(missing, [ROWS])


@pytest.mark.slow
def test_pages_and_folders_are_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    page = "the page is HTML: give a name that ends in .html"
    for arguments, message in (
        (("show", "x", "--out", "card.pdf"), f"--out card.pdf: {page}"),
        (("evaluate", "align", "--out", "a.csv"), f"--out a.csv: {page}"),
        (("evaluate", "describe", "--out", "a.json"), f"--out a.json: {page}"),
        (("evaluate", "recommend", "--out", tmp_path / "file"), f"--out {tmp_path / 'file'} is a file: name a folder"),
        (("evaluate", "stages", "--out", tmp_path / "file"), f"--out {tmp_path / 'file'} is a file: name a folder"),
        (("demo", "--out", tmp_path / "file"), f"--out {tmp_path / 'file'} is a file: name a folder"),
    ):
        done = catalogue.coldstart(*arguments)
        assert (done.returncode, done.stderr) == (1, f"error: {message}\n")


@pytest.mark.parametrize("name", ["u.txt", "u.csv", "u.jsonl", "u.json", "u.parquet", "u.csv.gz"])
def test_users_are_read_as_those_of_interactions(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    ids = [101.0, None, 102.0]
    if name == "u.parquet":
        pq.write_table(pa.table({"user_id": ids, "age": [1, 2, 3]}), path)
    elif "json" in name:
        lines = [json.dumps({"user_id": one}) for one in ids]
        path.write_text("\n".join(lines) if name == "u.jsonl" else f"[{','.join(lines)}]", "utf-8")
    else:
        text = "101.0\nNULL\n102.0\n"
        text = text if name == "u.txt" else "user_id;age\n" + text.replace("\n", ";1\n")
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert read_user_ids(path) == ["101", "102"]


def test_a_user_id_that_lost_its_digits_is_named(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user_id\nu1\n4.00638E+12\n", "utf-8")
    with pytest.raises(ColdstartError) as error:
        read_user_ids(path)
    assert str(error.value) == (
        f"{path} has no ids of users (row 2: no id: it is too long, or has lost its last digits): give a column user_id"
    )


def test_a_user_that_is_no_unicode_is_named(tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    path.write_text('"u1"\n"half \\ud83d"\n', "utf-8")
    with pytest.raises(ColdstartError) as error:
        read_user_ids(path)
    assert str(error.value) == f"{path}: 'half \\ud83d' is no Unicode text: give it in UTF-8"

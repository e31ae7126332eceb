"""Files of tables: formats by name, gzip, JSON lines and arrays, and the limits for files of strangers."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from coldstart.errors import ColdstartError
from coldstart.ingest import files, json_table
from coldstart.ingest.files import TableFile, read_lines, table_file
from coldstart.ingest.json_table import read_json_rows


def made(path: Path, content: bytes) -> TableFile:
    path.write_bytes(content)
    return table_file(path)


def fault(file: TableFile) -> str:
    with pytest.raises(ColdstartError) as caught:
        list(read_json_rows(file))
    return str(caught.value)


ROWS: list[Any] = [{"a": "x" * 40, "b": [number, {"c": "]},{"}]} for number in range(40)]


@pytest.mark.parametrize("read_bytes", [1, 7, 2**20])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_object_by_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_table, "READ_BYTES", read_bytes)
    rows = [*ROWS, 12345, "text", None]
    file = made(tmp_path / "a.json", ("\ufeff \n" + json.dumps(rows, indent=indent) + "\n").encode())
    assert list(read_json_rows(file)) == [
        *enumerate(ROWS, start=1),
        (41, "not a JSON object but int"),
        (42, "not a JSON object but str"),
        (43, "not a JSON object but NoneType"),
    ]


def test_a_json_file_may_hold_lines(tmp_path: Path) -> None:
    file = made(tmp_path / "a.json", b'{"a": 1}\n\n{"a": 2}\n')
    assert list(read_json_rows(file)) == [(1, {"a": 1}), (3, {"a": 2})]
    assert list(read_json_rows(made(tmp_path / "a.json", b" [ ] "))) == []


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 3}', '{"b": {"c": 1}, "a": 1, "a": 3}'])
def test_a_key_that_stands_twice_is_a_fault(tmp_path: Path, text: str) -> None:
    for name, content in (("a.jsonl", text), ("a.json", f"[{text}]")):
        assert list(read_json_rows(made(tmp_path / name, content.encode()))) == [(1, "key 'a' stands twice")]
    inside = b'{"b": {"c": 1, "c": 2}}'
    assert list(read_json_rows(made(tmp_path / "a.jsonl", inside))) == [(1, {"b": {"c": 2}})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1}, {"a": ', "is no whole JSON array: it breaks off after object 1"),
        (b'[{"a": 1}, {"a": "', "is no whole JSON array: it breaks off after object 1"),
        (b'[{"a": 1}', "is no whole JSON array: no comma after object 1"),
        (b'[{"a": 1} {"a": 2}]', "is no whole JSON array: no comma after object 1"),
        (b'[{"a": 1}, ]', "is no whole JSON array: it breaks off after object 1"),
        (b'[{"a": "\xff"}]', "is not UTF-8 after object 0: save it as UTF-8"),
        (b'[{"a": 1},' + b"[" * 200_000, "is no whole JSON array: it breaks off after object 1"),
    ],
)
def test_a_broken_array_says_where_it_breaks(tmp_path: Path, content: bytes, message: str) -> None:
    file = made(tmp_path / "a.json", content)
    assert fault(file).startswith(f"{file.path} {message}")


@pytest.mark.parametrize("read_bytes", [3, 2**20])
def test_a_broken_object_of_an_array_costs_that_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    monkeypatch.setattr(json_table, "READ_BYTES", read_bytes)
    deep = "[" * 5000 + "]" * 5000
    bad = ['{"a": tru}', '{"b": [1, "]", {"c" 2}], "d": "\\"}"}', f'{{"a": {deep}}}', f'{{"a": {"9" * 5000}}}', "nope"]
    file = made(tmp_path / "a.json", f'[{{"a": 1}}, {", ".join(bad)}, {{"a": 2}}]'.encode())
    rows = list(read_json_rows(file))
    assert [rows[0], rows[-1]] == [(1, {"a": 1}), (7, {"a": 2})]
    assert [text for _, text in rows[1:-1]] == [
        "not JSON: Expecting value",
        "not JSON: Expecting ':' delimiter",
        "JSON that cannot be read: nested too deep",
        "JSON that cannot be read: "
        "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits",
        "not JSON: Expecting value",
    ]


def test_long_lines_and_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(json_table, "READ_BYTES", 100)
    monkeypatch.setattr(json_table, "MAX_LINE_BYTES", 1000)
    file = made(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": "' + b"x" * 1000 + b'"}\n')
    assert fault(file) == f"{file.path} line 2 is longer than 1000 bytes: shorten it"
    file = made(tmp_path / "a.json", b'[{"a": 1}, {"a": "' + b"x" * 5000 + b'"}]')
    assert fault(file) == f"{file.path}: object 2 is broken, or longer than 1000 bytes"


def test_a_gzip_bomb_costs_little_memory_and_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 2**16)
    monkeypatch.setattr(files, "READ_BYTES", 2**14)
    bomb = gzip.compress(b"{" + b" " * 2**25, 1)
    tracemalloc.start()
    file = made(tmp_path / "a.jsonl.gz", bomb)
    assert fault(file) == f"{file.path} line 1 is longer than 65536 bytes: shorten it"
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
    monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", 2**19)
    path = tmp_path / "b.csv.gz"
    with pytest.raises(ColdstartError) as caught:
        list(read_lines(made(path, gzip.compress(b"1\n" * 2**19))))
    assert str(caught.value) == f"{path} unpacks to more than 524288 bytes: unpack and split it"

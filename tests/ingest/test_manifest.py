"""Manifest readers: every row with its line, every fault with its place."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldstart.core.items import Item
from coldstart.errors import ColdstartError
from coldstart.ingest.files import KNOWN
from coldstart.ingest.manifest import Manifest, ManifestEntry


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def rows(path: Path, names: dict[str, str] | None = None) -> list[tuple[int, Any]]:
    """Line and fields, or line and fault."""
    return [(entry.line, entry.fault or entry.fields) for entry in Manifest(path, names).entries()]


def refusal(path: Path, names: dict[str, str] | None = None) -> str:
    with pytest.raises(ColdstartError) as caught:
        list(Manifest(path, names).entries())
    return str(caught.value)


def test_jsonl_rows_and_faults_carry_their_lines(write: Any) -> None:
    path = write(
        "m.jsonl",
        b'\xef\xbb\xbf{"item_id": "a"}\r\n'
        b"\n"
        b'{"item_id": 1\n'
        b"[1]\n"
        b'"x"\n'
        b"\xff\n"
        b"null\n" + b"[" * 200_000 + b"\n" + b'{"price": ' + b"9" * 5000 + b"}\n" + '{"item_id": "b\u2028c"}'.encode(),
    )
    assert rows(path) == [
        (1, {"item_id": "a"}),
        (3, "not JSON: Expecting ',' delimiter at column 14"),
        (4, "not a JSON object but list"),
        (5, "not a JSON object but str"),
        (6, "not UTF-8 at byte 0: save the file as UTF-8"),
        (7, "not a JSON object but NoneType"),
        (
            8,
            "JSON that cannot be read: nested too deep",
        ),
        (
            9,
            "JSON that cannot be read: "
            "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits",
        ),
        (10, {"item_id": "b\u2028c"}),
    ]


@pytest.mark.parametrize("name", ["m.jsonl", "m.ndjson", "m.csv"])
def test_a_manifest_without_rows_is_refused(write: Any, name: str) -> None:
    for content in (b"", b"\n\n", b"\xef\xbb\xbf"):
        path = write(name, content)
        assert refusal(path) == f"manifest {path} has no rows: give one item a row"


def test_a_csv_with_a_header_alone_is_refused(write: Any) -> None:
    path = write("m.csv", "item_id,title\n")
    assert refusal(path) == f"manifest {path} has no rows: give one item a row"


@pytest.mark.parametrize(
    ("name", "text"), [("m.jsonl", '{"item_id": "ä", "title": "b"}'), ("m.txt", "item_id\ttitle\nä\tb")]
)
def test_utf16_is_read(write: Any, name: str, text: str) -> None:
    for encoding in ("utf-16", "utf-8-sig"):
        path = write(name, text.encode(encoding))
        assert [fields for _, fields in rows(path)] == [{"item_id": "ä", "title": "b"}]


def test_a_broken_utf16_costs_its_row(write: Any) -> None:
    path = write("m.csv", "item_id,title\na,b\nc,d".encode("utf-16") + b"\x00")
    assert [entry.fault for entry in Manifest(path).entries()] == ["", "not UTF-8 in title: save the file as UTF-8"]


def test_csv_lines_are_those_where_rows_begin(write: Any) -> None:
    path = write(
        "m.csv",
        b"\xef\xbb\xbfitem_id, title \r\n"
        b'1,"two\r\nlines, ""quoted"""\r\n'
        b"2,x\r\n"
        b"\r\n"
        b"3,y,z\r\n"
        b"4\r\n"
        b"5,\xe9\r\n"
        b'6,"a"b\r\n'
        b"7," + b"x" * 200_000 + b"\r\n"
        b'8,"never closed\r\n9,z\r\n',
    )
    assert rows(path) == [
        (2, {"item_id": "1", "title": 'two\r\nlines, "quoted"'}),
        (4, {"item_id": "2", "title": "x"}),
        (6, "3 columns where the header has 2"),
        (7, {"item_id": "4", "title": ""}),
        (8, "not UTF-8 in title: save the file as UTF-8"),
        (9, "not CSV: ',' expected after '\"'"),
        (10, "not CSV: field larger than field limit (131072)"),
        (11, "not CSV: unexpected end of data"),
    ]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"item_id,title,title", "column 'title' stands twice: rename one"),
        (b"item_id,titl\xff", "column 2 is not UTF-8: save the file as UTF-8"),
        (b'"item_id;title"', "one column 'item_id;title': take the quotes off its lines"),
        (
            b"item_id,pirce",
            "unknown column 'pirce': did you mean 'price'? Rename it, or set `map: {price: pirce}` of the stage "
            "ingest, or use `coldstart import`",
        ),
        (
            b"sku,colour",
            "no column item_id: it has sku, colour; use `coldstart import`, rename one, or set "
            "`map: {item_id: COLUMN}` of the stage ingest",
        ),
        (b'"item_id"x,title', "not CSV: ',' expected after '\"'"),
    ],
)
def test_a_faulty_csv_header_is_refused(write: Any, header: bytes, fault: str) -> None:
    path = write("m.csv", header + b"\n1,2\n")
    assert refusal(path) == f"header of {path}: {fault}"


def test_csv_ids_that_look_like_numbers_stay_as_written(write: Any) -> None:
    path = write("m.csv", "item_id\n007\n1e3\n")
    assert [Item.parse(entry.fields).item_id for entry in Manifest(path).entries()] == ["007", "1e3"]


def test_parquet_rows_become_items(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    paris = ZoneInfo("Europe/Paris")
    table = pa.table(
        {
            "item_id": [1, 2],
            "title": pa.array(["soap", None]).dictionary_encode(),
            "created_at": pa.array([1_700_000_000_000_000_001, None], pa.timestamp("ns", "Europe/Paris")),
            "price": pa.array([Decimal("1.50"), None]),
            "tags": [["a", None], None],
            "media": [[{"uri": "a.jpg", "role": None}, {"uri": "b.bin", "role": "video"}], None],
            "attributes": pa.array([[("colour", "red")], None], pa.map_(pa.string(), pa.string())),
        }
    )
    pq.write_table(table, path)
    first, second = Manifest(path).entries()
    assert (first.line, second.line) == (1, 2)
    assert first.fields["created_at"] == datetime(2023, 11, 14, 23, 13, 20, tzinfo=paris)
    item = Item.parse(first.fields)
    assert item.row() == {
        "item_id": "1",
        "kind": "video",
        "title": "soap",
        "description": None,
        "category": None,
        "tags": ["a"],
        "creator": None,
        "created_at": datetime(2023, 11, 14, 23, 13, 20, tzinfo=paris),
        "price": 1.5,
        "attributes": '{"colour": "red"}',
    }
    assert [(entry.uri, entry.role) for entry in item.media] == [("a.jpg", "image"), ("b.bin", "video")]
    assert Item.parse(second.fields) == Item.parse({"item_id": "2"})


def test_parquet_attributes_of_any_type_are_kept_as_json(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    attributes = [{"day": date(2020, 1, 1), "money": Decimal("2.5"), "raw": b"\xff", "nan": float("nan")}]
    pq.write_table(pa.table({"item_id": ["a"], "attributes": attributes}), path)
    (entry,) = Manifest(path).entries()
    assert Item.parse(entry.fields).row()["attributes"] == (
        '{"day": "2020-01-01", "money": "2.5", "nan": null, "raw": "_w=="}'
    )


def test_parquet_that_is_none_is_refused(write: Any, tmp_path: Path) -> None:
    path = write("m.parquet", b"hello")
    assert refusal(path) == (
        f"{path} is not a readable Parquet file: "
        "Parquet file size is 5 bytes, smaller than the minimum file footer (8 bytes)"
    )
    pq.write_table(pa.table({"item_id": pa.array([], pa.string())}), path)
    assert refusal(path) == f"manifest {path} has no rows: give one item a row"
    pq.write_table(pa.table({"item_id": [str(number) for number in range(100)]}), path)
    whole = path.read_bytes()
    path.write_bytes(b"PAR1" + bytes(60) + whole[64:])
    assert refusal(path).startswith(f"{path} is not a readable Parquet file: ")


def test_what_is_no_manifest_is_refused(write: Any, tmp_path: Path) -> None:
    known = f"give {KNOWN} or a folder of media, or of a dataset"
    assert refusal(tmp_path / "none.csv") == f"no manifest at {tmp_path / 'none.csv'}: {known}"
    assert refusal(tmp_path) == (
        f"no image or video file in {tmp_path}: give a folder of media, or a manifest of their paths"
    )
    path = write("m.xlsx", "x")
    assert refusal(path) == f"{path}: not a readable workbook: Cannot detect file format"
    path = write("manifest", "x")
    assert refusal(path) == f"unknown format 'manifest' of {path}: give {KNOWN}"


def test_map_renames_and_keeps_the_rest_as_attributes(write: Any) -> None:
    path = write(
        "m.csv",
        'sku,name,colour,item_id,attributes,description\n1,soap,red,zz,"{""x"": 1}",\n2,,,,"no json",words\n',
    )
    assert rows(path, {"item_id": "sku", "title": "name"}) == [
        (
            2,
            {
                "item_id": "1",
                "title": "soap",
                "attributes": {"x": 1, "colour": "red", "item_id": "zz"},
                "description": "",
            },
        ),
        (3, {"item_id": "2", "title": "", "attributes": "no json", "description": "words"}),
    ]
    assert rows(path, {"item_id": "sku", "title": "sku", "creator": "description"})[1] == (
        3,
        {"item_id": "2", "title": "2", "creator": "words", "attributes": "no json"},
    )


def test_map_leaves_faults_alone(write: Any) -> None:
    path = write("m.jsonl", '{\n{"sku": "1"}\n')
    assert list(Manifest(path, {"item_id": "sku"}).entries()) == [
        ManifestEntry(1, fault="not JSON: Expecting property name enclosed in double quotes at column 2"),
        ManifestEntry(2, {"item_id": "1"}),
    ]


def test_map_of_an_unknown_column_is_refused_before_the_first_row_of_a_table(write: Any) -> None:
    path = write("m.csv", "sku,name\n1,soap\n")
    entries = Manifest(path, {"item_id": "sku", "title": "nam"}).entries()
    with pytest.raises(ColdstartError) as caught:
        next(entries)
    assert str(caught.value) == unknown_columns(path)
    path = write("m.jsonl", '{"sku": "1"}\n{"sku": "2", "name": "soap"}\n')
    assert len(rows(path, {"item_id": "sku", "title": "name"})) == 2
    assert refusal(path, {"item_id": "sku", "title": "nam"}) == unknown_columns(path)


def unknown_columns(path: Path) -> str:
    return (
        f"ingest.map names columns that no row of {path} has: nam; it has name, sku; mend ingest.map, or let "
        "`coldstart import` recognise the columns"
    )


def test_map_to_an_unknown_field_is_refused(write: Any) -> None:
    path = write("m.csv", "sku\n1\n")
    assert refusal(path, {"titel": "sku"}) == "map: unknown field 'titel': did you mean 'title'?"
    assert refusal(path, {"xyz": "sku"}) == (
        "map: unknown field 'xyz': it may be one of attributes, audio, category, created_at, creator, description, "
        "image, images, item_id, kind, media, price, tags, title, video, videos"
    )


@pytest.mark.parametrize(
    ("name", "mark"), [("m.csv", ","), ("m.csv", ";"), ("m.csv", "|"), ("m.csv", "\t"), ("m.tsv", "\t"), ("m.txt", ";")]
)
def test_the_delimiter_is_the_one_of_the_header(write: Any, name: str, mark: str) -> None:
    path = write(name, f'item_id{mark}"title, long; or not"{mark}price\n1{mark}"a,;b"{mark}12.50\n')
    assert rows(path, {"title": "title, long; or not"}) == [(2, {"item_id": "1", "title": "a,;b", "price": "12.50"})]


def test_columns_of_no_field_become_attributes(write: Any) -> None:
    expected = {"item_id": "1", "title": "soap", "attributes": {"colour": "red", "sku": "x"}}
    path = write("m.csv", "item_id,title,colour,sku,size\n1,soap,red,x,\n")
    assert rows(path) == [(2, expected)]
    path = write("m.jsonl", '{"item_id": "1", "title": "soap", "colour": "red", "sku": "x", "size": null}')
    assert rows(path) == [(1, expected)]
    path = write("m.json", '[{"item_id": "1", "title": "soap", "attributes": {"sku": "x"}, "colour": "red"}]')
    assert rows(path)[0][1]["attributes"] == {"sku": "x", "colour": "red"}


def test_a_mistyped_name_is_no_attribute(write: Any) -> None:
    path = write("m.jsonl", '{"item_id": "1", "pirce": "3"}\n{"item_id": "2", "tag": "a", "tags": ["b"]}\n')
    assert rows(path) == [
        (1, {"item_id": "1", "pirce": "3"}),
        (2, {"item_id": "2", "tags": ["b"], "attributes": {"tag": "a"}}),
    ]


def test_a_parquet_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=["item_id", "title", "title"]), path)
    assert refusal(path) == f"header of {path}: column 'title' stands twice: rename one"


@pytest.mark.parametrize(
    ("photo", "role"),
    [
        ({"bytes": b"x", "path": "x.jpg"}, "image"),
        (b"x", "image"),
        ("photos/1.JPG", "image"),
        ("https://x.example/1.mp4?size=2", "video"),
    ],
)
def test_a_column_of_media_is_no_attribute(write: Any, tmp_path: Path, photo: Any, role: str) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"item_id": ["a"], "thing": [photo]}), path)
    assert refusal(path) == (
        f"header of {path}: column 'thing' holds media: set `map: {{{role}: thing}}` of the stage ingest, "
        "or use `coldstart import`, or take it out"
    )
    if isinstance(photo, str):
        assert rows(write("m.jsonl", json.dumps({"item_id": "a", "thing": photo})))[0][1]["thing"] == photo
        row = {"item_id": "a", "image": "y.jpg", "photo": photo}
        assert rows(write("m.jsonl", json.dumps(row)))[0][1]["attributes"] == {"photo": photo}


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_ids_that_are_all_whole_floats_lose_their_decimals(write: Any, tmp_path: Path, name: str) -> None:
    for given, kept in ((["101.0", "102.0", ""], ["101", "102", ""]), (["101.0", "7"], ["101.0", "7"])):
        path = tmp_path / name
        if name == "m.parquet":
            pq.write_table(pa.table({"item_id": given}), path)
        else:
            lines = [f'{{"item_id": "{one}"}}' if name == "m.jsonl" else f'"{one}"' for one in given]
            write(name, "\n".join([*(["item_id"] if name == "m.csv" else []), *lines]))
        assert [fields["item_id"] for _, fields in rows(path)] == kept


def test_a_manifest_is_found_under_the_other_form_of_its_name(write: Any, tmp_path: Path) -> None:
    write("cafe\u0301.csv", "item_id\n1\n")
    assert rows(tmp_path / "caf\u00e9.csv") == [(2, {"item_id": "1"})]

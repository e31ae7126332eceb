"""Tables as shops have them: whatever the spelling, the encoding and the packing, the same rows by rows and blocks."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldstart.errors import ColdstartError
from coldstart.ingest import csv_table, encodings
from coldstart.ingest.csv_dialect import find_dialect
from coldstart.ingest.table import Table
from coldstart.ingest.tables import open_table


def opened(folder: Path, name: str, content: bytes | str) -> Table:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_table(path)


def cells(table: Table) -> list[list[Any]]:
    """Cells of the rows, as rows() gives them; what blocks() gives has to be the same."""
    rows = [found for _, found in table.rows() if isinstance(found, dict)]
    found = [[row.get(column) for column in table.columns] for row in rows]
    blocks = list(table.blocks(table.columns)) if table.columns else []
    for place, column in enumerate(table.columns):
        values = [value for block in blocks for value in block.columns[column].to_pylist()]
        texts = [value.decode() if isinstance(value, bytes) else value for value in values]
        plain = [None if row[place] is None else str(row[place]) for row in found]
        assert [None if text is None else str(text) for text in texts] == plain or isinstance(found[0][place], list)
    return found


def fault(folder: Path, name: str, content: bytes | str) -> str:
    with pytest.raises(ColdstartError) as caught:
        list(opened(folder, name, content).rows())
    return str(caught.value).replace(str(folder / name), "FILE")


TWO = [["A1", "Mug", "12,90"], ["A2", "Bowl", "8,50"]]
SKU = ["sku", "name", "price"]

ODD: dict[str, tuple[str, list[str], list[list[str]]]] = {
    "commas": ('sku,name,price\nA1,Mug,"12,90"\nA2,Bowl,"8,50"\n', SKU, TWO),
    "semicolons": ("sku;name;price\nA1;Mug;12,90\nA2;Bowl;8,50\n", SKU, TWO),
    "tabs": ("sku\tname\tprice\nA1\tMug\t12,90\nA2\tBowl\t8,50\n", SKU, TWO),
    "bars": ("sku|name|price\nA1|Mug|12,90\nA2|Bowl|8,50\n", SKU, TWO),
    "stated": ("sep=;\r\nsku;name;price\r\nA1;Mug;12,90\r\nA2;Bowl;8,50\r\n", SKU, TWO),
    "blank-lines": ("\n\n\nsku;name;price\n\nA1;Mug;12,90\n\nA2;Bowl;8,50\n\n", SKU, TWO),
    "title": ("Product export 2024\n\nsku;name;price\nA1;Mug;12,90\nA2;Bowl;8,50\n", SKU, TWO),
    "title-with-commas": ("Export, 12.3.2024\nsku;name;price\nA1;Mug;12,90\nA2;Bowl;8,50\n", SKU, TWO),
    "padded-title": ("Products;;\n;;\nsku;name;price\nA1;Mug;12,90\nA2;Bowl;8,50\n", SKU, TWO),
    "delimiters-at-the-end": ("sku;name;price;\nA1;Mug;12,90;\nA2;Bowl;8,50;\n", SKU, TWO),
    "delimiters-behind-rows": ("sku;name;price\nA1;Mug;12,90;;\nA2;Bowl;8,50;\n", SKU, TWO),
    "old-mac": ("sku;name;price\rA1;Mug;12,90\rA2;Bowl;8,50\r", SKU, TWO),
    "all-quoted": ('"sku";"name";"price"\n"A1";"Mug";"12,90"\n"A2";"Bowl";"8,50"\n', SKU, TWO),
    "spaces-in-header": (" sku ; name;price\nA1;Mug;12,90\nA2;Bowl;8,50\n", SKU, TWO),
    "unknown-names": ("foo;bar\nx;1,5\ny;2,5\n", ["foo", "bar"], [["x", "1,5"], ["y", "2,5"]]),
    "doubled-quotes": ('sku,name\nA1,"3"" Mug, ""big"""\n', ["sku", "name"], [["A1", '3" Mug, "big"']]),
    "backslashes": (r'sku,name' + "\n" + r'A1,"3\" Mug, \"big\""' + "\n", ["sku", "name"], [["A1", '3" Mug, "big"']]),
    "lines-in-cells": ('sku,name\nA1,"M\n\nw; x"\nA2,B\n', ["sku", "name"], [["A1", "M\n\nw; x"], ["A2", "B"]]),
    "short-rows": ("sku,name,price\nA1\nA2,B\nA3,C,3\n", SKU, [["A1", "", ""], ["A2", "B", ""], ["A3", "C", "3"]]),
    "inches": ('sku\tname\nA1\t"24 inch\nA2\tB\n', ["sku", "name"], [["A1", '"24 inch'], ["A2", "B"]]),
    "other-breaks": ("sku,name\nA1,x\u2028y\x0bz\x85\n", ["sku", "name"], [["A1", "x\u2028y\x0bz\x85"]]),
    "one-column": ("sku\nA1\nA2\n", ["sku"], [["A1"], ["A2"]]),
    "same-names": ("sku,price,price\nA1,2,3\n", ["sku", "price", "price (2)"], [["A1", "2", "3"]]),
    "no-name": (",sku\n0,A1\n", ["column 1", "sku"], [["0", "A1"]]),
    "images": ("sku,images\nA1,a|b|c\nA2,d|e|f\n", ["sku", "images"], [["A1", "a|b|c"], ["A2", "d|e|f"]]),
    "commas-in-texts": ("id;title\n1;x, y, big\n2;a, b, c", ["id", "title"], [["1", "x, y, big"], ["2", "a, b, c"]]),
    "zeros": ("sku;name\n007;x\n1e3;y\n", ["sku", "name"], [["007", "x"], ["1e3", "y"]]),
    "japanese": ("商品コード,価格\nK1,1200\n", ["商品コード", "価格"], [["K1", "1200"]]),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_spellings_give_the_rows(tmp_path: Path, name: str) -> None:
    text, columns, rows = ODD[name]
    table = opened(tmp_path, "t.csv", text)
    assert (table.columns, cells(table)) == (columns, rows)
    assert not table.doubts


def test_notes_tell_what_was_decided(tmp_path: Path) -> None:
    text = "Export 2024\nsku;name;price;price\nA1;M\xfcg;1;2\n".encode("cp1252")
    table = opened(tmp_path, "t.csv", text)
    assert table.notes == [
        "not UTF-8: read as Windows-1252 (Western), such as 'Müg'",
        "its columns are parted by semicolons",
        "its header stands below 'Export 2024'",
        "columns that stand twice: price; the second is called `price (2)`",
    ]
    assert table.doubled == {"price"}
    table = opened(tmp_path, "n.csv", "1;2,5;3\n4;5,5;6\n")
    assert table.doubts == [
        "its first row '1, 2,5, 3' is taken for the names of its columns: put names above it if it is an item"
    ]


ENCODED = [
    ("cp1252", "Schüssel, groß, weiß", "Gießkanne grün"),
    ("cp1252", "Théière en fonte émaillée", "Sac à main brodé"),
    ("cp1252", "Röd kopp för kaffe", "Skål i trä från Åland"),
    ("mac-roman", "Schüssel, groß, weiß", "Théière émaillée"),
    ("cp1250", "Łóżko dziecięce z szufladą", "Żółta świeca zapachowa"),
    ("cp1251", "Красная кружка для чая", "Детская кровать"),
    ("cp932", "赤いマグカップ", "木製の椅子 オーク材"),
    ("gb18030", "红色马克杯", "橡木椅子 高80厘米"),
    ("utf-16", "Schüssel Łóżko 赤い", "Жёлтая"),
    ("utf-16-le", "Schale", "Becher"),
    ("utf-8-sig", "Schüssel", "Łóżko"),
]


@pytest.mark.parametrize(("encoding", "first", "second"), ENCODED)
def test_other_encodings_are_read(tmp_path: Path, encoding: str, first: str, second: str) -> None:
    text = f'sku;name;price\nA1;"{first}";12,90\nA2;"{second}";8\n'
    table = opened(tmp_path, "t.csv", text.encode(encoding))
    assert cells(table) == [["A1", first, "12,90"], ["A2", second, "8"]]
    lines = json.dumps({"sku": "007", "name": first}, ensure_ascii=False) + "\n"
    assert cells(opened(tmp_path, "t.jsonl", (lines * 2).encode(encoding))) == [["007", first]] * 2


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_the_encoding_of_json_in_one_long_line_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr(encodings, "_READ_BYTES", 1001)
    monkeypatch.setattr(encodings, "_LONG_LINE", 500)
    rows = [{"sku": str(number), "name": "Größe für Öl"} for number in range(500)]
    table = opened(tmp_path, "a.json", json.dumps(rows, ensure_ascii=False).encode(encoding))
    assert [row for _, row in table.rows()] == rows
    assert [note[:9] for note in table.notes] == ([] if encoding == "utf-8" else ["not UTF-8"])


@pytest.mark.parametrize("shift", range(3))
def test_the_beginning_of_a_file_may_end_inside_a_letter(tmp_path: Path, shift: int) -> None:
    rows = [{"name": "x" * shift + "赤いマグカップ" * 5000}]
    for name in ("a.json", "a", "a.csv"):
        table = opened(tmp_path, name, json.dumps(rows, ensure_ascii=False))
        assert (table.kind, cells(table)) == ("json", [[rows[0]["name"]]])


def test_broken_rows_of_utf8_do_not_change_the_encoding(tmp_path: Path) -> None:
    table = opened(tmp_path, "t.csv", "sku,name\nA1,Größe\n".encode() + b"A2,M\xfcg\nA3,gr\xf6\xdfer\nA4,ok\n")
    assert list(table.rows()) == [
        (2, {"sku": "A1", "name": "Größe"}),
        (3, "not UTF-8 in name: save the file as UTF-8"),
        (4, "not UTF-8 in name: save the file as UTF-8"),
        (5, {"sku": "A4", "name": "ok"}),
    ]
    assert (table.notes, table.doubts) == ([], [])


def test_texts_that_were_converted_twice_are_doubtful(tmp_path: Path) -> None:
    wrong = "Größe für Öl".encode().decode("cp1252", "replace")
    table = opened(tmp_path, "t.csv", f"sku,name\nA1,{'Größe'.encode().decode('cp1252')}\n")
    assert wrong and table.doubts == [
        "its texts look as if they were converted twice: 'GrÃ¶ÃŸe' for 'Größe'; export it again as UTF-8"
    ]


def test_rows_with_more_cells_are_told_by_line(tmp_path: Path) -> None:
    table = opened(tmp_path, "t.csv", "sku,name\nA1,x\nA2,y,z\nA3\nA4,v\n")
    assert [found for _, found in table.rows() if isinstance(found, str)] == ["3 columns where the header has 2"]
    (block,) = table.blocks(["sku", "name"])
    assert block.rows.tolist() == [1, 3, 4]
    assert block.columns["name"].to_pylist() == [b"x", b"", b"v"]
    assert block.broken == [(2, "3 columns where the header has 2")]


def test_filled_rows_keep_their_places_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_BLOCK_BYTES", 2048)
    lines = [f"{row};x" if row % 7 else str(row) for row in range(1, 2001)]
    table = opened(tmp_path, "t.csv", "\n".join(["Title", "sku;name", *lines]))
    blocks = list(table.blocks(["name", "sku"]))
    assert len(blocks) > 3
    assert np.concatenate([block.rows for block in blocks]).tolist() == list(range(1, 2001))
    names, skus = ([value for block in blocks for value in block.columns[one].to_pylist()] for one in ("name", "sku"))
    found = list(zip(skus, names, strict=True))
    assert found == [(str(row).encode(), b"x" if row % 7 else b"") for row in range(1, 2001)]


# -- packed


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return packed.getvalue()


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_packed_tables_are_read(tmp_path: Path) -> None:
    plain = b"sku;name\nA1;x\n"
    table = opened(
        tmp_path, "a.zip", zipped(products_csv=plain, readme_txt=b"hello", **{"__MACOSX__._products_csv": b"x"})
    )
    assert (table.kind, cells(table)) == ("csv", [["A1", "x"]])
    assert table.notes[0] == "read products.csv, without 1 other files in the zip"
    packed = parquet(sku=["007"], n=[1])
    for name, content in (
        ("a.parquet.gz", gzip.compress(packed)),
        ("a.zip", zipped(a_parquet=packed)),
        ("a.parquet", packed),
    ):
        assert cells(opened(tmp_path, name, content)) == [["007", 1]]
    assert cells(opened(tmp_path, "a.csv", gzip.compress(plain))) == [["A1", "x"]]
    assert cells(opened(tmp_path, "a.csv.gz", plain)) == [["A1", "x"]]


def test_zips_without_one_table_are_refused(tmp_path: Path) -> None:
    assert fault(tmp_path, "a.zip", zipped(a_csv=b"x", b_csv=b"y")).startswith("FILE holds 2 tables: a.csv, b.csv; ")
    assert fault(tmp_path, "a.zip", zipped(a_jpg=b"x")).startswith("FILE holds no table: a.jpg; ")
    assert fault(tmp_path, "a.zip", zipped(a_csv=b"sku\nA")[:-30]).startswith("FILE is not a whole zip file: ")
    assert fault(tmp_path, "a.csv.gz", gzip.compress(gzip.compress(b"sku\nA"))) == "FILE is packed twice: unpack it"


# -- the content decides


@pytest.mark.parametrize(
    ("name", "content", "kind", "note"),
    [
        ("a.xls", b"<table><tr><th>sku<th>name<tr><td>007<td>M&amp;x", "html", "its name says xls, but it is HTML"),
        ("a.xls", b"sku\tname\n007\tM&x\n", "tsv", "its name says xls, but it is text with delimiters"),
        ("a.txt", b'{"sku": "007", "name": "M&x"}\n', "jsonl", "its name says txt, but it is JSON lines"),
        ("a.csv", b'[{"sku": "007", "name": "M&x"}]', "json", "its name says csv, but it is JSON"),
        ("a.json", b"sku;name\n007;M&x\n", "csv", "its name says json, but it is text with delimiters"),
        ("a.csv", parquet(sku=["007"], name=["M&x"]), "parquet", "its name says csv, but it is Parquet"),
        ("export", b"sku,name\n007,M&x\n", "csv", ""),
    ],
)  # fmt: skip
def test_the_content_decides_where_the_name_says_otherwise(
    tmp_path: Path, name: str, content: bytes, kind: str, note: str
) -> None:
    table = opened(tmp_path, name, content)
    assert (table.kind, cells(table)) == (kind, [["007", "M&x"]])
    assert table.notes[:1] == ([note] if note else [])


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    assert fault(tmp_path, "a.csv", b"%PDF-1.7 x").startswith("FILE is a PDF: give ")
    assert fault(tmp_path, "a.csv", b"SQLite format 3\0").startswith("FILE is an SQLite database: give ")
    assert fault(tmp_path, "a.csv", bytes(range(32)) * 9).startswith("FILE is neither text nor a table: give ")
    assert fault(tmp_path, "a", b"just words\n").startswith("unknown format 'a' of FILE: give ")
    assert fault(tmp_path, "a.html", b"<html><p>Hello</html>").startswith("FILE is a web page without a table: ")


# -- JSON


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{"total": 1, "ids": [1], "products": [{"a": 1}, {"a": 2}], "shops": [{"a": 3}]}', [[1], [2]]),
        ('{"things": [{"a": 1}], "next": {"b": []}}', [[1]]),
        ('{"data": {"shop": {}, "products": {"total": 2, "nodes": [{"a": 1}, {"a": 2}]}}, "ok": true}', [[1], [2]]),
        ('{"data": {"products": {"edges": [{"cursor": "x", "node": {"a": 1}}, {"node": {"a": 2}}]}}}', [[1], [2]]),
        ('{"errors": {"list": [{"b": 1}]}, "data": {"items": [{"a": 1}, {"a": 2}]}}', [[1], [2]]),
        ('{"a.b": [{"a": 1}], "a": {"b": [{"a": 3}]}}', [[1]]),
        ('{\n  "a": 5\n}\n', [[5]]),
        ('{"a": 1}\n{"a": 2}\n', [[1], [2]]),
    ],
)
def test_one_object_may_hold_the_list(tmp_path: Path, text: str, rows: list[list[int]]) -> None:
    assert cells(opened(tmp_path, "a.json", text)) == rows


def test_an_object_with_lists_of_several_names_is_refused(tmp_path: Path) -> None:
    assert fault(tmp_path, "a.json", '{"a": [{"x": 1}], "b": [{"y": 1}]}') == (
        "FILE holds several lists: 'a' (1), 'b' (1); give a file with the list of items alone"
    )
    assert fault(tmp_path, "a.json", '{"d": {"a": [{"x": 1}]}, "e": {"b": [{"y": 1}]}}') == (
        "FILE holds several lists: 'd.a' (1), 'e.b' (1); give a file with the list of items alone"
    )
    assert cells(opened(tmp_path, "a.json", '{"sku": "7", "media": [{"uri": "x"}]}')) == [["7", [{"uri": "x"}]]]


# -- workbooks


def workbook(**sheets: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book["Sheet"])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def test_a_workbook_is_read_by_its_first_sheet_with_rows(tmp_path: Path) -> None:
    rows = [
        ["Products of 2024"],
        [],
        ["sku", "price", "added", "at", "n"],
        ["007", 12.9, date(2024, 1, 5), datetime(2024, 1, 5, 12, 30), 3.0],
        [8, None, None, None, True],
    ]
    table = opened(tmp_path, "a.xlsx", workbook(Cover=[["Hello"]], Products=rows, Old=rows))
    assert table.columns == ["sku", "price", "added", "at", "n"]
    assert list(table.rows()) == [
        (4, {"sku": "007", "price": 12.9, "added": date(2024, 1, 5), "at": datetime(2024, 1, 5, 12, 30), "n": 3}),
        (5, {"sku": 8, "price": None, "added": None, "at": None, "n": True}),
    ]
    assert table.notes == [
        "read the sheet 'Products', not 'Cover', 'Old'",
        "its header stands below 'Products of 2024'",
    ]
    (block,) = table.blocks(["sku", "at"])
    assert block.columns["sku"].to_pylist() == ["007", "8"]
    assert block.columns["at"].to_pylist() == ["2024-01-05T12:30:00", None]


def test_a_cover_of_two_columns_is_not_the_table(tmp_path: Path) -> None:
    cover, small = [["Export", "of the shop"], ["Date", "2024"]], [["sku", "name"], ["1", "Mug"]]
    large = [["sku", "name", "price"], ["1", "Mug", 2], ["2", "Bowl", 3]]
    assert opened(tmp_path, "a.xlsx", workbook(Info=cover, Products=large)).columns == ["sku", "name", "price"]
    assert opened(tmp_path, "b.xlsx", workbook(Products=small, Legend=cover)).columns == ["sku", "name"]
    assert opened(tmp_path, "c.xlsx", workbook(Products=large, More=[*large, *large])).notes == [
        "read the sheet 'Products', not 'More'"
    ]
    long = [["sku", "name"], *([str(number), "Mug"] for number in range(40))]
    assert opened(tmp_path, "d.xlsx", workbook(Products=long, More=[*large, *large * 20])).columns == ["sku", "name"]


def test_merged_cells_stand_in_each_row_that_they_span(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in ([], [], ["", "Kind", "sku"], ["", "Mugs", "1"], ["", None, "2"], ["", "Bowls", "3"], ["", None, "4"]):
        sheet.append(row)
    for cells_ in ("B4:B5", "B6:B7", "A1:C1"):
        sheet.merge_cells(cells_)
    book.save(tmp_path / "a.xlsx")
    table = opened(tmp_path, "a.xlsx", (tmp_path / "a.xlsx").read_bytes())
    assert [tuple(row.values())[-2:] for _, row in table.rows()] == [
        ("Mugs", "1"),
        ("Mugs", "2"),
        ("Bowls", "3"),
        ("Bowls", "4"),
    ]


def test_a_damaged_workbook_is_refused(tmp_path: Path) -> None:
    assert fault(tmp_path, "a.xlsx", b"nothing") == "FILE: not a readable workbook: Cannot detect file format"


def test_an_open_document_sheet_is_read(tmp_path: Path) -> None:
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    row = "<table:table-row>" + "".join(
        '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>' for _ in range(2)
    )
    content = (
        f"<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name='P'>"
        f"{row.format('sku', 'name')}</table:table-row>{row.format('007', 'Mug')}</table:table-row>"
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    manifest = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        '<manifest:file-entry manifest:full-path="/" '
        'manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/></manifest:manifest>'
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", manifest)
    table = opened(tmp_path, "a.ods", packed.getvalue())
    assert (table.kind, cells(table)) == ("ods", [["007", "Mug"]])


# -- feeds


RSS = """<?xml version="1.0"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop</title>
<item><g:id>007</g:id><title>Mug &amp; plate</title><g:title>Mug &amp; plate</g:title>
<description><![CDATA[<p>Nice</p>]]></description><g:additional_image_link>2.jpg</g:additional_image_link>
<g:additional_image_link>3.jpg</g:additional_image_link><g:price>12.90 EUR</g:price>
<g:shipping><g:country>DE</g:country><g:price>4 EUR</g:price></g:shipping>
<g:shipping><g:country>AT</g:country><g:price>9 EUR</g:price></g:shipping>
<g:product_detail><g:attribute_name>Material</g:attribute_name><g:attribute_value>Clay</g:attribute_value>
</g:product_detail></item>
<item><g:id>8</g:id><title>Bowl</title><g:additional_image_link>9.jpg</g:additional_image_link><g:price/></item>
</channel></rss>"""


def test_a_feed_is_read_entry_by_entry(tmp_path: Path) -> None:
    table = opened(tmp_path, "feed.xml", RSS)
    assert table.kind == "rss"
    assert [row for _, row in table.rows()] == [
        {
            "id": "007",
            "title": "Mug & plate",
            "description": "<p>Nice</p>",
            "additional_image_link": ["2.jpg", "3.jpg"],
            "price": "12.90 EUR",
            "shipping": [{"country": "DE", "price": "4 EUR"}, {"country": "AT", "price": "9 EUR"}],
            "product_detail": [{"attribute_name": "Material", "attribute_value": "Clay"}],
        },
        {"id": "8", "title": "Bowl", "additional_image_link": ["9.jpg"], "price": ""},
    ]


def test_atom_feeds_and_feeds_of_other_encodings_are_read(tmp_path: Path) -> None:
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>S</title><entry>'
        '<g:id>1</g:id><title>Größe</title><link href="a"/><link rel="self" href="b"/><category term="Mugs"/>'
        '<content type="xhtml"><div>Hello <b>you</b></div></content></entry></feed>'
    )
    (row,) = [row for _, row in opened(tmp_path, "a.atom", atom).rows()]
    assert row == {
        "id": "1",
        "title": "Größe",
        "link": "a",
        "link self": "b",
        "category": "Mugs",
        "content": "Hello you",
    }
    latin = ('<?xml version="1.0" encoding="iso-8859-1"?>' + atom).encode("latin-1")
    assert [row for _, row in opened(tmp_path, "b.xml", latin).rows()] == [row]


@pytest.mark.parametrize(
    ("content", "title", "note"),
    [
        (
            "<title>Größe</title>".encode("cp1252"),
            "Größe",
            "not UTF-8: read as Windows-1252 (Western), such as 'Größe'",
        ),
        ('<?xml version="1.0" encoding="Shift_JIS"?><title>赤い</title>'.encode("cp932"), "赤い", ""),
        (
            '<?xml version="1.0" encoding="UTF-16"?><title>赤い</title>'.encode("utf-16"),
            "赤い",
            "read as UTF-16, by its mark",
        ),
        ("\ufeff<title>赤い</title>".encode(), "赤い", ""),
        (b"<title>A&nbsp;b\x0b&eacute;&amp;&#233;</title>", "A\xa0b é&é", ""),
    ],
)
def test_feeds_that_are_not_quite_xml_are_read(tmp_path: Path, content: bytes, title: str, note: str) -> None:
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    head, tail = ("<rss><item><id>1</id>", "</item></rss>")
    text = content.decode("utf-16") if wide else content.decode("latin-1")
    place = text.index("<title>")
    whole = text[:place] + head + text[place:] + tail
    table = opened(tmp_path, "a.xml", whole.encode("utf-16" if wide else "latin-1"))
    assert [row for _, row in table.rows()] == [{"id": "1", "title": title}]
    assert table.notes == ([note] if note else [])


def test_a_damaged_letter_of_a_feed_costs_its_entry(tmp_path: Path) -> None:
    item = "<item><id>{}</id><title>Größe</title></item>"
    text = f"<rss>{item.format(1)}\n{item.format(2)}\n{item.format(3)}</rss>".encode()
    table = opened(tmp_path, "a.xml", text.replace("2</id><title>Größe".encode(), b"2</id><title>Gr\xf6e"))
    assert [found for _, found in table.rows()] == [
        {"id": "1", "title": "Größe"},
        "not UTF-8 in title: save the file as UTF-8",
        {"id": "3", "title": "Größe"},
    ]


def test_other_xml_is_refused_with_the_names_in_it(tmp_path: Path) -> None:
    assert fault(tmp_path, "a.xml", "<catalog><product><name>x</name></product><product/></catalog>") == (
        "FILE is XML of <catalog>, no product feed; it repeats <product> (2 times): give RSS, Atom, CSV or JSON"
    )
    old = '<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"></Workbook>'
    assert fault(tmp_path, "a.xls", old) == "FILE is a workbook of Excel 2003 in XML: save it as .xlsx"
    broken = fault(tmp_path, "a.xml", RSS[:-100])
    assert broken.startswith("FILE is no whole XML after entry 1: ")


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.text(alphabet='ab,;"\\ é\n', max_size=6), min_size=3, max_size=3), min_size=1, max_size=6
    ),
    delimiter=st.sampled_from(",;\t|"),
)
def test_the_delimiter_of_a_quoted_table_is_found(rows: list[list[str]], delimiter: str) -> None:
    lines = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [SKU, *rows]]
    found = find_dialect("\n".join(lines) + "\n")
    assert (found.delimiter, found.header) == (delimiter, SKU)

"""Tables of strangers: entities, bombs, endless rows and depths end in one clear message and little memory."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import openpyxl
import pytest

from coldstart.errors import ColdstartError
from coldstart.ingest import feed_xml, files, html_table, spreadsheet
from coldstart.ingest.tables import open_table


def fault(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ColdstartError) as caught:
        list(open_table(path).rows())
    return str(caught.value).replace(str(path), "FILE")


def workbook(sheet: bytes) -> bytes:
    """Make a workbook whose sheet holds the given rows of XML."""
    book = openpyxl.Workbook()
    book.active.append(["sku", "name"])  # type: ignore[union-attr]
    plain, packed = io.BytesIO(), io.BytesIO()
    book.save(plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "xl/worksheets/sheet1.xml":
                content = content[: content.index(b"<sheetData>") + 11] + sheet + b"</sheetData></worksheet>"
            target.writestr(name, content)
    return packed.getvalue()


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "lol">'
    + b"".join(b'<!ENTITY %c "%s">' % (97 + n, b"&%c;" % (96 + n) * 10) for n in range(1, 10))
    + b"]><rss><channel><item><title>&j;</title></item></channel></rss>"
)


def test_entities_of_feeds_are_not_expanded(tmp_path: Path) -> None:
    assert fault(tmp_path / "a.xml", LAUGHS) == "FILE declares entities (EntitiesForbidden): save it without"
    outside = b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><item><t>&x;</t></item></rss>'
    assert fault(tmp_path / "b.xml", outside) == "FILE declares entities (EntitiesForbidden): save it without"


def test_endless_entries_and_depths_of_feeds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = b"<rss><item>" + b"<a>" * 100_000
    assert fault(tmp_path / "a.xml", deep) == "FILE: after entry 0 comes one nested too deep"
    monkeypatch.setattr(feed_xml, "MAX_ENTRY_BYTES", 2**20)
    long = b"<rss><item><id>1</id></item><item><title>" + b"x" * 2**22
    assert fault(tmp_path / "b.xml", long) == "FILE: after entry 1 comes one of more than 1048576 bytes"
    tag = b"<rss><item " + b"x" * 2**22
    assert fault(tmp_path / "c.xml", tag) == "FILE: after entry 0 comes one of more than 1048576 bytes"


def test_a_workbook_whose_cells_lie_far_apart_costs_no_memory(tmp_path: Path) -> None:
    far = b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    assert fault(tmp_path / "a.xlsx", workbook(far)) == (
        "FILE cannot be read: its cells lie too far apart, or it is too large; save the sheet as CSV"
    )


def test_bombs_of_zips_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "MAX_WORKBOOK_BYTES", 2**20)
    message = fault(tmp_path / "a.xlsx", workbook(b" " * 2**22))
    assert message.startswith("FILE unpacks to 4") and message.endswith(" bytes: save the sheet as CSV")
    monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", 2**20)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"sku,name\n" + b"1,2\n" * 2**20)
    assert (
        fault(tmp_path / "a.zip", packed.getvalue()) == "FILE unpacks to more than 1048576 bytes: unpack and split it"
    )
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(files._MOST_MEMBERS + 1):
            archive.writestr(f"{number}.csv", b"")
    assert fault(tmp_path / "b.zip", packed.getvalue()).startswith("FILE holds 10001 files: ")


def test_very_many_columns_are_refused(tmp_path: Path) -> None:
    names = ",".join(f"c{number}" for number in range(200_000)).encode()
    message = "FILE has 200000 columns: give a table with at most 10000, an item a row"
    assert fault(tmp_path / "a.csv", names + b"\n1\n") == message
    assert fault(tmp_path / "a.html", b"<table><tr>" + b"<td>x" * 20_000 + b"</table>").startswith(
        "FILE has 20000 columns"
    )


def test_deep_json_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": ' + "[" * 100_000 + "\n")
    assert [found for _, found in open_table(path).rows()] == [
        {"a": 1},
        "JSON that cannot be read: nested too deep",
    ]
    path = tmp_path / "b.json"
    path.write_text('{"a": ' * 100_000)
    assert [found for _, found in open_table(path).rows()] == ["JSON that cannot be read: nested too deep"]


def test_a_page_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_table, "MAX_PAGE_BYTES", 1000)
    assert fault(tmp_path / "a.html", b"<table>" + b" " * 2000) == (
        "FILE is a page of more than 1000 bytes: save its table as CSV"
    )


def test_a_large_feed_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<rss><channel>" + "<item><id>1</id><title>mug</title></item>" * 4000 + "</channel></rss>")
    table = open_table(path)
    tracemalloc.start()
    assert sum(1 for _ in table.rows()) == 4000
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_names_of_columns_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"../../etc": "x", "__class__": "y", "'; DROP TABLE": "z"}) + "\n")
    assert open_table(path).columns == ["../../etc", "__class__", "'; DROP TABLE"]

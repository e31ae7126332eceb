"""Read the largest table of a web page, as some shops export under the name of a workbook. Knows no columns."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from coldstart.errors import ColdstartError
from coldstart.ingest.encodings import find_encoding
from coldstart.ingest.files import TableFile, open_bytes
from coldstart.ingest.grid import grid_table
from coldstart.ingest.table import Table

MAX_PAGE_BYTES = 2**26
"""Bytes of a page, which is held in memory."""


def open_html(file: TableFile) -> Table:
    """Open the table of a page that has most rows.

    Raises:
        ColdstartError: there is none, or the page is too large.
    """
    from selectolax.lexbor import LexborHTMLParser

    with open_bytes(file) as stream:
        content = stream.read(MAX_PAGE_BYTES + 1)
    if len(content) > MAX_PAGE_BYTES:
        raise ColdstartError(f"{file.path} is a page of more than {MAX_PAGE_BYTES} bytes: save its table as CSV")
    encoding = find_encoding(io.BytesIO(content))
    page = LexborHTMLParser(encoding.decode(content))
    tables = [(len(table.css("tr")), table) for table in page.css("table")]
    if not tables:
        raise ColdstartError(f"{file.path} is a web page without a table: give the file that it links to")
    _, table = max(tables, key=lambda one: one[0])

    def rows() -> Iterator[tuple[int, Sequence[Any]]]:
        for number, row in enumerate(table.css("tr"), start=1):
            yield number, [" ".join((cell.text() or "").split()) for cell in row.css("td, th")]

    notes = [
        note for note in (encoding.note, f"read one of its {len(tables)} tables" if len(tables) > 1 else "") if note
    ]
    return grid_table(file, rows, notes, [encoding.doubt] if encoding.doubt else [])

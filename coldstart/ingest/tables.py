"""Open tables of any format; the readers of formats are modules beside this one, loaded where they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coldstart.ingest.files import SHEETS, TableFile, table_file
from coldstart.ingest.table import Table


def open_table(path: Path) -> Table:
    """Open a table.

    Raises:
        ColdstartError: it is none, or it is damaged.
        OSError: it cannot be opened.
    """
    file = table_file(path)
    return _opener(file.kind)(file)


def _opener(kind: str) -> Callable[[TableFile], Table]:
    if kind in ("jsonl", "json"):
        from coldstart.ingest.json_table import open_json

        return open_json
    if kind == "parquet":
        from coldstart.ingest.parquet_table import open_parquet

        return open_parquet
    if kind in SHEETS:
        from coldstart.ingest.spreadsheet import open_sheet

        return open_sheet
    if kind == "html":
        from coldstart.ingest.html_table import open_html

        return open_html
    if kind == "xml":
        from coldstart.ingest.feed_xml import open_feed

        return open_feed
    from coldstart.ingest.csv_table import open_csv

    return open_csv

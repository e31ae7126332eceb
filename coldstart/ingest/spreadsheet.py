"""Read the sheets of Excel and OpenDocument workbooks. Knows no columns.

Workbooks come from strangers, and a few bytes may ask for more memory than there is: each is read in a process of its
own, whose memory has a limit.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Any, BinaryIO

from coldstart.errors import ColdstartError
from coldstart.ingest import sheet_process
from coldstart.ingest.files import TableFile, open_whole
from coldstart.ingest.grid import grid_table
from coldstart.ingest.table import Table

MAX_WORKBOOK_BYTES = 4 * 2**30
"""Bytes that the parts of a workbook may unpack to together."""

_STYLES_BYTES = 2**24
_ZEROS = re.compile(rb'formatCode="(0{2,})"')
_TIMES: dict[str, Any] = {"date": date.fromisoformat, "datetime": datetime.fromisoformat}


def open_sheet(file: TableFile) -> Table:
    """Open the first visible sheet of a workbook that has a table.

    Raises:
        ColdstartError: it is damaged, locked or too large.
    """
    parts = _parts(file)
    opening = next(parts)
    sheets, name = opening["sheets"], opening["sheet"]
    others = [one for one in sheets if one != name]
    notes = [f"read the sheet {name!r}, not {', '.join(map(repr, others[:5]))}"] if others and name else []
    first: list[Iterator[Any]] = [parts]

    def rows() -> Iterator[tuple[int, Sequence[Any]]]:
        own = first.pop() if first else islice(_parts(file), 1, None)
        number = 0
        for part in own:
            for cells in part:
                number += 1
                yield number, [_value(cell) for cell in cells]

    return grid_table(file, rows, notes, _lost_zeros(file))


def _parts(file: TableFile) -> Iterator[Any]:
    """Read what the process of a workbook writes.

    Raises:
        ColdstartError: it cannot read the workbook.
    """
    with open_whole(file, MAX_WORKBOOK_BYTES) as source:
        _check_size(file, source)
        os.lseek(source.fileno(), 0, os.SEEK_SET)  # the process reads from the file, not from this buffer
        process = subprocess.Popen(
            [sys.executable, "-P", sheet_process.__file__],  # -P: nothing is imported from where the user stands
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            part = json.loads(line)
            if isinstance(part, dict) and "fault" in part:
                raise ColdstartError(f"{file.path}: {part['fault']}")
            yield part
        if process.wait():
            raise ColdstartError(
                f"{file.path} cannot be read: its cells lie too far apart, or it is too large; save the sheet as CSV"
            )
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _check_size(file: TableFile, source: BinaryIO) -> None:
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as packed:
        size = sum(member.file_size for member in packed.infolist())
    if size > MAX_WORKBOOK_BYTES:
        raise ColdstartError(f"{file.path} unpacks to {size} bytes: save the sheet as CSV")


def _lost_zeros(file: TableFile) -> list[str]:
    """Warn of formats that show zeros before numbers, which the numbers themselves do not have."""
    with open_whole(file, MAX_WORKBOOK_BYTES) as source:
        if file.kind != "xlsx" or not zipfile.is_zipfile(source):
            return []
        with zipfile.ZipFile(source) as packed:
            if "xl/styles.xml" not in packed.namelist():
                return []
            found = _ZEROS.search(packed.open("xl/styles.xml").read(_STYLES_BYTES))
    if found is None:
        return []
    shown = found[1].decode()
    return [f"numbers are shown as {shown}, but lose their leading zeros when read: format the column as text"]


def _value(cell: Any) -> Any:
    return _TIMES[cell[0]](cell[1]) if isinstance(cell, list) else cell

"""Make a table of rows of cells without a format of their own, as those of workbooks and web pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from coldstart.ingest.files import TableFile
from coldstart.ingest.header import find_header, header_fault, name_columns
from coldstart.ingest.table import Row, Table, blocks_of_rows

_PEEKED_ROWS = 100

Grid = Callable[[], Iterator[tuple[int, Sequence[Any]]]]
"""Reads the rows of a sheet: number of the row, and its cells; None or "" for an empty one."""


def grid_table(file: TableFile, read: Grid, notes: Sequence[str] = (), doubts: Sequence[str] = ()) -> Table:
    """Make a table of rows, the first of which that names columns is the header."""
    opened = _filled(read())
    peeked = list(islice(opened, _PEEKED_ROWS))
    rows = [[_text(cell) for cell in cells] for _, cells in peeked]
    again = [chain(peeked, opened)]  # the first reading goes on with what was opened

    def given() -> Iterator[Row]:
        return _rows(again.pop() if again else _filled(read()), place + 1, columns.names)

    if not rows:
        return Table(
            file.path, file.kind, [], rows=lambda: iter(()), blocks=lambda wanted: iter(()), notes=[*file.notes, *notes]
        )
    place, _ = find_header(rows)
    columns = name_columns(file.path, rows[place], rows[place + 1 :])
    above = [" ".join(cell for cell in cells if cell) for cells in rows[:place]]
    fault = header_fault([cell for cell in rows[place] if cell])
    return Table(
        file.path,
        file.kind,
        columns.shown,
        rows=given,
        blocks=lambda wanted: blocks_of_rows(given(), wanted),
        notes=[*file.notes, *notes, *([f"its header stands below {above[0][:60]!r}"] if above else []), *columns.notes],
        doubts=[*doubts, *([fault] if fault else [])],
        doubled=columns.doubled,
    )


def _filled(rows: Iterator[tuple[int, Sequence[Any]]]) -> Iterator[tuple[int, Sequence[Any]]]:
    return ((number, cells) for number, cells in rows if any(cell is not None and cell != "" for cell in cells))


def _rows(filled: Iterator[tuple[int, Sequence[Any]]], skipped: int, names: list[str]) -> Iterator[Row]:
    width = len(names)
    unnamed = [name for place, name in enumerate(names, start=1) if name == f"column {place}"]
    for number, cells in islice(filled, skipped, None):
        if any(cell is not None and cell != "" for cell in cells[width:]):
            yield number, f"{len(cells)} columns where the header has {width}"
            continue
        fields = dict(zip(names, [*cells, *[None] * (width - len(cells))], strict=False))
        for name in unnamed:
            if fields[name] in (None, ""):
                del fields[name]
        yield number, fields


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)

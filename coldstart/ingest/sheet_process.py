"""Read one sheet of a workbook in a process of its own, which a workbook that takes too much memory may end.

Run as a script with the workbook as its input; imports nothing of the package. Writes JSON lines: the names of the
sheets and the one that is read, then its rows.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

EXACT = 2**53
MOST_MEMORY = 4 * 2**30
_ROWS = 500
_COVER_COLUMNS, _COVER_ROWS = 3, 30


def main() -> None:
    """Write the rows of the first visible sheet that has some."""
    import python_calamine as calamine

    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    try:
        book = calamine.CalamineWorkbook.from_filelike(open(0, "rb"))  # noqa: SIM115  (until the process ends)
        names = [
            one.name
            for one in book.sheets_metadata
            if one.typ == calamine.SheetTypeEnum.WorkSheet and one.visible == calamine.SheetVisibleEnum.Visible
        ]
        name, sheet = _first_table(book, names)
        rows = [] if sheet is None else _spread(sheet)
        _write({"sheets": names, "sheet": name})
        part: list[list[Any]] = []
        for row in rows:
            part.append([_plain(cell) for cell in row])
            if len(part) == _ROWS:
                _write(part)
                part = []
        _write(part)
    except calamine.PasswordError:
        _write({"fault": "it is locked by a password: save it without one"})
    except (calamine.CalamineError, OSError, ValueError, TypeError) as error:
        _write({"fault": f"not a readable workbook: {error or type(error).__name__}"})
    except BrokenPipeError:  # nobody reads on
        return


def _first_table(book: Any, names: list[str]) -> tuple[str | None, Any]:
    """Find the first sheet with two columns and two rows, else the first with any cell.

    A short sheet of two columns before a larger one is a cover: it tells the date and the author of a table.
    """
    filled: tuple[str | None, Any] = (None, None)
    cover: tuple[str | None, Any] = (None, None)
    for name in names:
        sheet = book.get_sheet_by_name(name)
        if sheet.height > 1 and sheet.width > 1:
            if cover[0] is not None and (sheet.height <= cover[1].height or sheet.width <= cover[1].width):
                continue
            if sheet.width >= _COVER_COLUMNS or sheet.height >= _COVER_ROWS:
                return name, sheet
            cover = name, sheet
        elif sheet.height and filled[0] is None:
            filled = name, sheet
    return filled if cover[0] is None else cover


def _spread(sheet: Any) -> Iterator[list[Any]]:
    """Read the rows of a sheet; a cell that was merged with those below it stands in each of their rows."""
    first_column = sheet.start[1] if sheet.start else 0
    merged = sorted(
        (top, column - first_column, bottom)
        for (top, column), (bottom, _) in sheet.merged_cell_ranges or ()
        if bottom > top and column >= first_column
    )
    merged.reverse()
    open_cells: dict[int, tuple[int, Any]] = {}  # column -> last row, value
    for number, row in enumerate(sheet.iter_rows()):
        for column, (bottom, value) in list(open_cells.items()):
            if number > bottom:
                del open_cells[column]
            elif column < len(row) and row[column] == "":
                row[column] = value
        while merged and merged[-1][0] <= number:
            _, column, bottom = merged.pop()
            if column < len(row):
                open_cells[column] = bottom, row[column]
        yield row


def _plain(cell: Any) -> Any:
    """Convert a cell to JSON; a list stands for a time."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < EXACT else cell
    if isinstance(cell, datetime):
        return ["datetime", cell.isoformat()]
    if isinstance(cell, date):
        return ["date", cell.isoformat()]
    if isinstance(cell, time | timedelta):
        return str(cell)
    return None if cell == "" else cell


def _write(part: Any) -> None:
    sys.stdout.write(json.dumps(part, ensure_ascii=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogatepass")  # type: ignore[union-attr]
    main()

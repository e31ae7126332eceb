"""How commands print: tables and lines for people, JSON for programs. Knows nothing of what is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coldstart.errors import ColdstartError


def line(text: str) -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(f"{text}\n")


def as_json(value: Any) -> None:
    """One JSON document on stdout."""
    line(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def as_json_line(value: Any) -> None:
    """One JSON document on one line of stdout."""
    line(json.dumps(value, ensure_ascii=False, default=str))
    sys.stdout.flush()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """For a page or picture that a command writes: what keeps it from being written is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise ColdstartError(f"cannot write {path}: {error.strerror or error}; name another file with --out") from error


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; columns whose cells are all numbers are aligned to the right. Cells are plain text."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))] if cells else []
    grid = Table(header_style="bold")
    for index, column in enumerate(columns):
        right = bool(numeric) and numeric[index]
        grid.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # piped: wide enough not to wrap, and the same everywhere
    console.print(grid)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else _printable(str(value))


def _printable(text: str) -> str:
    """Text of items without what would steer the terminal; lines are kept."""
    return "".join(c if c.isprintable() or c in "\n\u200d" else " " for c in text)


def size(size_bytes: float | None) -> str:
    """Bytes as a person reads them."""
    if size_bytes is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:,.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

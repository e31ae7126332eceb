"""Find how a table in text is written: what separates its cells, how quotes in cells are escaped, where its header is.

Each spelling is tried on the first rows with Python's csv module; the one counts by which most rows have equally many
cells, with known names of columns at their head.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from coldstart.ingest.header import find_header

DELIMITERS = ",;\t|"

_ROWS = 100


@dataclass(frozen=True)
class Dialect:
    """Spelling of a table in text.

    Attributes:
        escaped: quotes inside a cell stand behind a backslash, not doubled.
        header: cells of the header, as written.
        first: row of the header among all rows but blank ones, from 0; those above it are titles.
        titles: the rows above it, as text.
        rows: some rows below it.
    """

    delimiter: str
    escaped: bool = False
    header: list[str] = field(default_factory=list)
    first: int = 0
    titles: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def find_dialect(text: str, usual: str = ",") -> Dialect:
    """Find the spelling of a table by its beginning.

    Args:
        text: the first lines, whole ones.
        usual: the delimiter where the table has one column.
    """
    stated = re.match(r"\ufeff?\"?sep=(.)\"?\r?\n", text, re.IGNORECASE)
    escapes = [False, True] if '\\"' in text else [False]
    best, score = Dialect(usual), -1.0
    for delimiter in [stated[1]] if stated else dict.fromkeys([usual, *DELIMITERS]):
        for escaped in escapes:
            rows = list(read_cells(text.splitlines(keepends=True), delimiter, escaped, _ROWS))
            first, own = find_header(rows, 1 if stated else 0)
            own -= 0.02 * escaped
            if own > score + 1e-9:
                score = own
                best = Dialect(
                    delimiter,
                    escaped,
                    rows[first] if rows else [],
                    first,
                    [delimiter.join(cells).strip() for cells in rows[1 if stated else 0 : first]],
                    rows[first + 1 :],
                )
    return best


def read_cells(lines: Sequence[str], delimiter: str, escaped: bool, most: int) -> Iterator[list[str]]:
    """Read the first rows leniently, without blank ones; what is no CSV ends them."""
    reader = csv.reader(lines, delimiter=delimiter, escapechar="\\" if escaped else None, doublequote=not escaped)
    try:
        for row in reader:
            if row:
                yield row
                most -= 1
                if not most:
                    return
    except csv.Error:
        return

"""Find how a table in text is written: what separates its cells, how quotes in cells are escaped, where its header is.

Each spelling is tried on the first rows with Python's csv module; the one counts by which most rows have equally many
cells, with known names of columns at their head.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from coldstart.ingest.header import find_header

DELIMITERS = ",;\t|"
DOUBLED, ESCAPED, PLAIN = "doubled", "escaped", "plain"

_ROWS = 100


@dataclass(frozen=True)
class Dialect:
    """Spelling of a table in text.

    Attributes:
        quotes: how a quote inside a cell in quotes is written: DOUBLED, or behind a backslash, ESCAPED; PLAIN where
            cells do not stand in quotes at all, and a quote is a letter as others.
        header: cells of the header, as written.
        first: row of the header among all rows but blank ones, from 0; those above it are titles.
        titles: the rows above it, as text.
        rows: some rows below it.
    """

    delimiter: str
    quotes: str = DOUBLED
    header: list[str] = field(default_factory=list)
    first: int = 0
    titles: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `csv.reader`."""
        return {
            "delimiter": self.delimiter,
            "escapechar": "\\" if self.quotes == ESCAPED else None,
            "doublequote": self.quotes == DOUBLED,
            "quoting": csv.QUOTE_NONE if self.quotes == PLAIN else csv.QUOTE_MINIMAL,
        }


def find_dialect(text: str, usual: str = ",") -> Dialect:
    """Find the spelling of a table by its beginning.

    Args:
        text: the first lines, whole ones.
        usual: the delimiter where the table has one column.
    """
    stated = re.match(r"\ufeff?\"?sep=(.)\"?\r?\n", text, re.IGNORECASE)
    ways = [DOUBLED, *([ESCAPED] if '\\"' in text else []), *([PLAIN] if '"' in text else [])]
    begin = 1 if stated else 0
    best, score = Dialect(usual), -1.0
    for delimiter in [stated[1]] if stated else dict.fromkeys([usual, *DELIMITERS]):
        for quotes in ways:
            found = Dialect(delimiter, quotes)
            rows = list(_read_cells(text, found))
            first, own = find_header(rows, begin)
            if quotes == PLAIN and not (_are_letters(rows) and '"' not in "".join(rows[first])):
                continue
            own += {DOUBLED: 0.0, ESCAPED: -0.02, PLAIN: 0.02}[quotes]  # where they do equally well
            if own > score + 1e-9:
                titles = [delimiter.join(cells).strip() for cells in rows[begin:first]]
                header = rows[first] if rows else []
                best, score = replace(found, header=header, first=first, titles=titles, rows=rows[first + 1 :]), own
    return best


def _read_cells(text: str, dialect: Dialect) -> Iterator[list[str]]:
    """Read the first rows leniently, without blank ones; what is no CSV ends them."""
    try:
        yield from islice(filter(None, csv.reader(io.StringIO(text, newline=""), **dialect.arguments())), _ROWS)
    except csv.Error:
        return


def _are_letters(rows: Sequence[Sequence[str]]) -> bool:
    """Return True where quotes begin cells and never end one, as those of inches do."""
    cells = [cell.strip() for row in rows for cell in row]
    return any(cell.startswith('"') for cell in cells) and not any(cell.endswith('"') for cell in cells)

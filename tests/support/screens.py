"""Tables that commands print, as cells; and the cells that a line takes on a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from rich.cells import cell_len

RULE = re.compile(r"─+(  ─+)*")


def tables(text: str) -> list[list[list[str]]]:
    """Each printed table: its header and its rows, as lists of cells."""
    lines, found = text.splitlines(), []
    for place, line in enumerate(lines):
        if place and RULE.fullmatch(line):
            spans = [(part.start(), part.end()) for part in re.finditer("─+", line)]
            found.append([list(_cells(row, spans)) for row in (lines[place - 1], *_rows(lines[place + 1 :], spans))])
    return found


def rows(text: str) -> list[list[str]]:
    """Rows of all tables, without their headers."""
    return [row for table in tables(text) for row in table[1:]]


def widest(text: str) -> int:
    """Cells that the longest line takes on a terminal."""
    return max(map(cell_len, text.splitlines()), default=0)


def _rows(lines: list[str], spans: list[tuple[int, int]]) -> Iterator[str]:
    """Lines that stand in the columns: between them are two spaces."""
    for line in lines:
        between = [line[before[1] : after[0]] for before, after in pairwise(spans)]
        if not line.strip() or any(gap.strip() for gap in between) or len(line) > spans[-1][1]:
            return
        yield line


def _cells(line: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    for start, end in spans:
        yield line[start:end].strip()

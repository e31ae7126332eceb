"""Find the row of a table that names its columns, and name them. Knows no formats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldstart.errors import ColdstartError
from coldstart.ingest.synonyms import known_names, normalise

MOST_COLUMNS = 10_000

_WITHIN = 10
_NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*")


@dataclass(frozen=True)
class Columns:
    """Columns of a table.

    Attributes:
        names: of all of them, each once: the second `price` is `price (2)`, one without a name `column 4`.
        shown: those that have a name or values; the others come from delimiters at the ends of lines.
        doubled: names that stand twice.
        notes: what was named anew.
    """

    names: list[str]
    shown: list[str]
    doubled: frozenset[str]
    notes: list[str]


def find_header(rows: Sequence[Sequence[str]], start: int = 0) -> tuple[int, float]:
    """Find the row of the header among the first rows, and how well the rows below it make a table with it."""
    filled = [len(_trimmed(row)) for row in rows]
    best, score = min(start, max(len(rows) - 1, 0)), 0.0
    for place in range(start, min(len(rows), start + _WITHIN)):
        header = _trimmed(rows[place])
        if len(header) < 2:
            continue
        below = [len(row) for row in rows[place + 1 :]]
        wide = Counter(below).most_common(1)[0][0] if below else len(rows[place])
        even = sum(width == wide for width in below) / len(below) if below else 0.5
        fits = len(rows[place]) == wide or len(header) >= max(filled[place + 1 :], default=0)
        known = sum(normalise(cell) in known_names() for cell in header) / len(header)
        words = sum(_is_name(cell) for cell in header) / len(header)
        own = even * (0.5 + 0.5 * fits) * (1 - 1 / (2 * min(len(header), 10))) * (0.3 + 0.7 * words) + 0.8 * known
        own -= 0.15 * min(place - start, 4)
        if any(len(_trimmed(row)) == 1 and normalise(row[0]) in known_names() for row in rows[start:place]):
            own -= 0.6  # that row rather is the header, of one column
        if own > score:
            best, score = place, own
    while best + 2 < len(rows) and _is_second_header(rows[best + 1]):  # names for people, then those for programs
        best += 1
    return best, score


def _is_second_header(row: Sequence[str]) -> bool:
    cells = [cell for cell in row if cell.strip()]
    return len(cells) > 2 and sum(normalise(cell) in known_names() for cell in cells) > 0.6 * len(cells)


def header_fault(cells: Sequence[str]) -> str:
    """Explain why a header may be a row of values, "" where it is none."""
    texts = [cell.strip() for cell in cells]
    if not any(_NUMBER.fullmatch(text) for text in texts) or any(normalise(text) in known_names() for text in texts):
        return ""
    row = ", ".join(texts)
    return f"its first row {row[:60]!r} is taken for the names of its columns: put names above it if it is an item"


def name_columns(path: Path, header: Sequence[str], sample: Sequence[Sequence[str]]) -> Columns:
    """Name the columns of a header.

    Args:
        sample: some rows below it.

    Raises:
        ColdstartError: there are too many.
    """
    check_columns(path, header)
    names, doubled = distinct_names([cell.strip() or f"column {place}" for place, cell in enumerate(header, start=1)])
    shown, notes = list[str](), list[str]()
    for place, name in enumerate(names):
        if header[place].strip() or any(len(cells) > place and cells[place].strip() for cells in sample):
            shown.append(name)
            if not header[place].strip():
                notes.append(f"column {place + 1} has no name: it is called `{name}`")
    if doubled:
        second = next(
            name for place, name in enumerate(names) if name != header[place].strip() and header[place].strip()
        )
        notes.append(f"columns that stand twice: {', '.join(sorted(doubled))}; the second is called `{second}`")
    return Columns(names, shown, doubled, notes)


def check_columns(path: Path, names: Collection[str]) -> None:
    """Refuse a table with more columns than any table of items has.

    Raises:
        ColdstartError: there are more than `MOST_COLUMNS`.
    """
    if len(names) > MOST_COLUMNS:
        raise ColdstartError(
            f"{path} has {len(names)} columns: give a table with at most {MOST_COLUMNS}, an item a row"
        )


def distinct_names(names: Sequence[str]) -> tuple[list[str], frozenset[str]]:
    """Number names that stand twice, `name` and `name (2)`, and tell which they are."""
    counts = Counter(names)
    found, met = dict[str, None](), Counter[str]()
    for name in names:
        met[name] += 1
        own = name if met[name] == 1 else f"{name} ({met[name]})"
        while own in found or (own != name and own in counts):
            met[name] += 1
            own = f"{name} ({met[name]})"
        found[own] = None
    return list(found), frozenset(name for name, count in counts.items() if count > 1)


def _trimmed(row: Sequence[str]) -> Sequence[str]:
    """Leave out the empty cells at the end."""
    stop = len(row)
    while stop and not row[stop - 1].strip():
        stop -= 1
    return row[:stop]


def _is_name(cell: str) -> bool:
    text = cell.strip()
    return 0 < len(text) <= 60 and not _NUMBER.fullmatch(text) and not re.search(r"[;\t|]|://", text)

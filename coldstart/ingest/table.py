"""Define an open table of any format: rows for manifests, blocks of columns for interactions.

Knows no meaning of columns, and no format; `coldstart.ingest.tables` opens them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.core.values import EXACT

BLOCK_ROWS, BLOCK_LINES = 500_000, 100_000

Row = tuple[int, dict[str, Any] | str]
"""Number of a row, and its cells by column; a text says why the row could not be read."""


@dataclass(frozen=True)
class RawBlock:
    """Rows of one block as the file has them.

    Attributes:
        columns: the requested ones, [N]: bytes of CSV, text of JSONL, any type of Parquet.
        rows: their numbers, int64 [N].
        broken: rows that could not be parsed: number and why.
    """

    columns: Mapping[str, pa.Array]
    rows: NDArray[np.int64]
    broken: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """An open table of a file.

    Attributes:
        kind: csv, tsv, jsonl, json, parquet, xlsx, xls, ods, html, rss or atom: what the file is, whatever its name.
        columns: their names, each once; of JSON and XML those of the first rows. Empty where there are no rows.
        rows: reads the rows in order. Of CSV and JSON lines their lines are counted, of other kinds the rows.
        blocks: reads the named columns of all rows, in blocks. Rows of CSV are counted without the header.
        notes: what was decided and is plain: encoding, delimiter, sheet.
        doubts: what was decided and may be wrong, each with an example and what to do.
        doubled: names that stood twice in the file; the second of `name` is `name (2)` in `columns`.
        same_columns: every row has all columns, as in CSV; in JSON a row may have some of them, or others.
        labels: column of class numbers -> names of the classes, as Hugging Face datasets state them.
    """

    path: Path
    kind: str
    columns: list[str]
    rows: Callable[[], Iterator[Row]]
    blocks: Callable[[list[str]], Iterator[RawBlock]]
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    doubled: frozenset[str] = frozenset()
    same_columns: bool = True
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)


def blocks_of_rows(rows: Iterator[Row], columns: Collection[str]) -> Iterator[RawBlock]:
    """Gather rows in blocks of text, or of truth values where a block has no others in a column; values that have no
    plain text, such as lists, are null."""
    for start in rows:
        values: dict[str, list[str | None]] = {name: [] for name in columns}
        truths: dict[str, list[bool | None]] = {name: [] for name in columns}
        numbers: list[int] = []
        broken: list[tuple[int, str]] = []
        for number, found in chain([start], islice(rows, BLOCK_LINES - 1)):
            if isinstance(found, str):
                broken.append((number, found))
                continue
            numbers.append(number)
            for name in columns:
                value = found.get(name)
                values[name].append(_text(value))
                truths[name].append(value if isinstance(value, bool) else None)
        try:
            arrays = {name: pa.array(column, pa.string()) for name, column in values.items()}
        except UnicodeEncodeError:
            good = _without_surrogates(values, numbers, broken)
            arrays = {name: pa.array([column[place] for place in good], pa.string()) for name, column in values.items()}
            truths = {name: [column[place] for place in good] for name, column in truths.items()}
            numbers = [numbers[place] for place in good]
        for name, given in truths.items():
            if any(value is not None for value in given) and not any(values[name]):
                arrays[name] = pa.array(given, pa.bool_())
        yield RawBlock(arrays, np.array(numbers, np.int64), broken)


def _without_surrogates(
    values: Mapping[str, list[str | None]], rows: list[int], broken: list[tuple[int, str]]
) -> list[int]:
    """List the places of rows whose texts are Unicode, and note the others as broken."""
    faults: dict[int, str] = {}
    for name, column in values.items():
        for place, text in enumerate(column):
            if text and not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
                faults.setdefault(place, f"{name!r} is no Unicode text: it holds a lone surrogate")
    broken += [(rows[place], fault) for place, fault in faults.items()]
    return [place for place in range(len(rows)) if place not in faults]


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT else str(value)

"""Read columns of CSV, TSV, JSONL and Parquet files, block by block, with row numbers. Knows no meaning of columns.

CSV and Parquet are parsed by Arrow; JSONL line by line, some 150,000 a second. Rows of CSV and Parquet are counted from
1 without the header and without blank lines; of JSONL the lines are counted.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coldstart.errors import ColdstartError

KNOWN = "a .csv, .tsv, .jsonl or .parquet file"

_HEADER_BYTES, _BLOCK_BYTES, _BLOCK_ROWS, _BLOCK_LINES = 1 << 20, 1 << 25, 500_000, 100_000


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


Reader = Callable[[list[str]], Iterator[RawBlock]]
"""Names of columns -> their rows."""


def _open_csv(path: Path, delimiter: str = ",") -> tuple[list[str], Reader]:
    with path.open("rb") as file:
        head = file.read(2)
    if head in (b"\xff\xfe", b"\xfe\xff"):
        raise ColdstartError(f"{path} is UTF-16: save it as UTF-8")
    broken: deque[tuple[int, str]] = deque()

    def note(row: Any) -> str:
        broken.append((row.number - 1, f"{row.actual_columns} columns where the header has {row.expected_columns}"))
        return "skip"

    reading = pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)  # in threads rows have no numbers
    parsing = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note)
    first = pa_csv.ReadOptions(block_size=_HEADER_BYTES, use_threads=False)
    with pa_csv.open_csv(path, first, parsing, pa_csv.ConvertOptions(check_utf8=False)) as opened:
        names = opened.schema.names

    def blocks(columns: list[str]) -> Iterator[RawBlock]:
        broken.clear()
        kinds = dict.fromkeys(columns, pa.binary())
        converting = pa_csv.ConvertOptions(include_columns=columns, column_types=kinds, strings_can_be_null=False)
        last = 0
        with pa_csv.open_csv(path, reading, parsing, converting) as batches:
            for batch in batches:
                stop = last + batch.num_rows
                own: list[tuple[int, str]] = []
                while broken and broken[0][0] <= stop + 1:
                    own.append(broken.popleft())
                    stop += 1
                rows = np.setdiff1d(np.arange(last + 1, stop + 1), [row for row, _ in own], assume_unique=True)
                yield RawBlock(dict(zip(columns, batch.columns, strict=True)), rows, own)
                last = stop
        yield RawBlock({name: pa.array([], pa.binary()) for name in columns}, np.empty(0, np.int64), list(broken))

    return names, blocks


def _open_tsv(path: Path) -> tuple[list[str], Reader]:
    return _open_csv(path, "\t")


def _open_parquet(path: Path) -> tuple[list[str], Reader]:
    names = pq.read_schema(path).names

    def blocks(columns: list[str]) -> Iterator[RawBlock]:
        last = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BLOCK_ROWS, columns=columns):
                rows = np.arange(last + 1, last + 1 + batch.num_rows)
                yield RawBlock({name: batch.column(name) for name in columns}, rows)
                last += batch.num_rows

    return names, blocks


def _open_jsonl(path: Path) -> tuple[list[str], Reader]:
    def objects() -> Generator[tuple[int, dict[str, Any] | str], None, None]:
        with path.open("rb") as file:
            for line, text in enumerate(file, start=1):
                if line == 1:
                    text = text.removeprefix(b"\xef\xbb\xbf")
                if text.strip():
                    yield line, _parsed(text)

    with closing(objects()) as lines:
        first = [found for _, found in islice(lines, 1000) if isinstance(found, dict)]
    if not first:
        raise ColdstartError(f"{path} has no JSON object in its first 1000 lines: give one interaction a line")

    def blocks(columns: list[str]) -> Iterator[RawBlock]:
        lines = objects()
        for start in lines:
            values: dict[str, list[str | None]] = {name: [] for name in columns}
            rows: list[int] = []
            broken: list[tuple[int, str]] = []
            for line, found in chain([start], islice(lines, _BLOCK_LINES - 1)):
                if isinstance(found, str):
                    broken.append((line, found))
                    continue
                rows.append(line)
                for name in columns:
                    values[name].append(_text(found.get(name)))
            arrays = {name: pa.array(column, pa.string()) for name, column in values.items()}
            yield RawBlock(arrays, np.array(rows, np.int64), broken)

    return list(dict.fromkeys(chain.from_iterable(first))), blocks


def _parsed(text: bytes) -> dict[str, Any] | str:
    """Parse the object of a line, or return why there is none."""
    try:
        found = json.loads(text.decode("utf-8").strip())
    except UnicodeDecodeError:
        return "not UTF-8"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or lists in lists
        return f"JSON that cannot be read: {str(error).partition(';')[0]}"
    return found if isinstance(found, dict) else f"not a JSON object but {type(found).__name__}"


def _text(value: Any) -> str | None:
    if isinstance(value, str):  # a lone surrogate is no text
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


FORMATS: dict[str, Callable[[Path], tuple[list[str], Reader]]] = {
    ".csv": _open_csv,
    ".tsv": _open_tsv,
    ".jsonl": _open_jsonl,
    ".ndjson": _open_jsonl,
    ".parquet": _open_parquet,
}
"""Suffix -> opens a file: names of its columns, and what reads them."""

"""Read Parquet files row by row and block by block. Knows no meaning of columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coldstart.errors import ColdstartError
from coldstart.ingest.files import TableFile, open_whole
from coldstart.ingest.header import check_columns, distinct_names
from coldstart.ingest.table import BLOCK_ROWS, RawBlock, Row, Table

_ROWS, _ROWS_OF_BYTES = 4096, 64
"""Rows read at once; fewer where they may hold whole pictures."""


def open_parquet(file: TableFile) -> Table:
    """Open a Parquet file."""
    try:
        with open_whole(file) as source:
            schema = pq.read_schema(source)
        names, doubled = distinct_names(schema.names)
    except (pa.ArrowException, OSError) as error:
        raise ColdstartError(f"{file.path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    check_columns(file.path, names)
    return Table(
        file.path,
        file.kind,
        names,
        rows=lambda: _rows(file, names),
        blocks=lambda columns: _blocks(file, names, columns),
        notes=[*file.notes],
        doubled=doubled,
        labels=class_names(schema),
    )


def _rows(file: TableFile, names: list[str]) -> Iterator[Row]:
    line, path = 0, file.path
    try:
        with open_whole(file) as source, pq.ParquetFile(source) as opened:
            schema = pa.schema([column.with_type(_to_microseconds(column.type)) for column in opened.schema_arrow])
            rows = _ROWS_OF_BYTES if any(_holds_bytes(column.type) for column in schema) else _ROWS
            for batch in opened.iter_batches(batch_size=rows):
                named = batch.cast(schema, safe=False).rename_columns(names)
                for fields in named.to_pylist(maps_as_pydicts="lossy"):
                    line += 1
                    yield line, fields
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        where = f" after row {line}" if line else ""
        raise ColdstartError(f"{path} is not a readable Parquet file{where}: {str(error).splitlines()[0]}") from error


def _blocks(file: TableFile, names: list[str], columns: list[str]) -> Iterator[RawBlock]:
    last = 0
    with open_whole(file) as source, pq.ParquetFile(source) as opened:
        own = opened.schema_arrow.names
        wanted = [own[names.index(column)] for column in columns]
        for batch in opened.iter_batches(BLOCK_ROWS, columns=wanted):
            rows = np.arange(last + 1, last + 1 + batch.num_rows)
            yield RawBlock({name: batch.column(name) for name in columns}, rows)
            last += batch.num_rows


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _to_microseconds(kind: pa.DataType) -> pa.DataType:
    """Reduce a type to microseconds: Python's times have no nanoseconds, and such a value would not leave Arrow."""
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else kind


def class_names(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Read the names of classes from the metadata that Hugging Face datasets add to a schema: column -> names."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {
            str(column): feature["names"]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        column: names
        for column, names in found.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }

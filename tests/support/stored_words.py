"""Search all that is stored below a folder for a word: raw bytes, and the values in them once they are decoded."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from lance.file import LanceFileReader


def texts(value: Any) -> Iterator[str]:
    """Every text in a value as it was read, with what stands in its bytes: Parquet, JSON or plain."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
        if value[:4] == b"PAR1":
            yield from texts(pq.read_table(io.BytesIO(value)).to_pylist())
        if value[:2] == b"\x1f\x8b":
            yield from texts(gzip.decompress(value))
        if value[:4] == b"PK\x03\x04":  # also an .npz
            with zipfile.ZipFile(io.BytesIO(value)) as packed:
                for name in packed.namelist():
                    yield name
                    yield from texts(packed.read(name))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def places_of(word: str, folder: Path) -> list[str]:
    """Files of a workspace in whose bytes, or in whose values once they are decoded, a word stands."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        read: list[Any] = [raw, str(path)]
        if path.suffix == ".lance":
            read += [batch.to_pydict() for batch in LanceFileReader(str(path)).read_all().to_batches()]
        elif path.suffix == ".arrow":
            read.append(pa.ipc.open_file(io.BytesIO(raw)).read_all().to_pydict())
        if any(word in text for value in read for text in texts(value)):
            found.append(str(path.relative_to(folder)))
    return found

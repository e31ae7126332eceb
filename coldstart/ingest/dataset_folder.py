"""Read folders of Hugging Face datasets: Parquet shards, `save_to_disk` (Arrow), `imagefolder` with a metadata file.

Files of a folder come from strangers: names in them lead to no other folder, and nothing in them is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from coldstart.core.items import SHORT_FORMS
from coldstart.errors import ColdstartError
from coldstart.ingest.parquet_table import class_names
from coldstart.ingest.table import Row, Table
from coldstart.ingest.tables import open_table

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_SHARD = re.compile(r"(?:(?P<split>[A-Za-z]\w*)-)?\d{3,6}-of-\d{3,6}\.(?:parquet|arrow)")
_SPLITS = frozenset(("train", "test", "validation", "valid", "val", "dev"))
_MOST_BYTES = 2**24
_PATHS = frozenset((*SHORT_FORMS, "file_name", "path"))


def dataset_tables(folder: Path) -> list[Path]:
    """List the tables of a dataset's folder; none for a folder of another kind, such as one of media."""
    splits = _json(folder / "dataset_dict.json").get("splits")
    if isinstance(splits, list):
        return [path for name in splits if isinstance(name, str) for path in _saved(folder / Path(name).name)]
    if found := _saved(folder):
        return found
    for place in (folder, folder / "data"):
        if shards := sorted(path for path in _files(place) if _SHARD.fullmatch(path.name)):
            return shards
    below = sorted(path for path in _children(folder) if path.is_dir() and path.name in _SPLITS)
    return [place / name for place in (folder, *below) for name in _METADATA if (place / name).is_file()]


def _saved(folder: Path) -> list[Path]:
    """List the Arrow files that `save_to_disk` wrote."""
    named = _json(folder / "state.json").get("_data_files")
    if not isinstance(named, list):
        return []
    names = [Path(str(entry.get("filename"))).name for entry in named if isinstance(entry, Mapping)]
    return [folder / name for name in names if (folder / name).is_file()]


def _json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _files(folder: Path) -> list[Path]:
    return [path for path in _children(folder) if path.is_file()]  # of the hub's cache they are links


def open_any(path: Path) -> Table:
    """Open a table of any kind, those of Arrow among them; raises `ColdstartError` as `open_table`."""
    return open_arrow(path) if path.suffix.lower() == ".arrow" else open_table(path)


def open_tables(paths: Sequence[Path], folder: Path) -> Table:
    """Open tables of one dataset as one; a column `split` is added where files or folders are named for one."""
    tables = [open_any(path) for path in paths]
    splits = [_split_of(path, folder) for path in paths]
    columns = list(dict.fromkeys(name for table in tables for name in table.columns))
    with_split = any(splits) and "split" not in columns

    def rows() -> Iterator[Row]:
        number = 0
        for table, split, path in zip(tables, splits, paths, strict=True):
            below = path.parent.relative_to(folder).as_posix()
            for _, found in table.rows():
                number += 1
                if isinstance(found, dict):
                    if below != "." and path.name in _METADATA:
                        found = {name: _below(name, value, below) for name, value in found.items()}
                    if with_split and split:
                        found = {**found, "split": split}
                yield number, found

    def blocks(columns: list[str]) -> Any:
        raise ColdstartError(f"{folder} is a dataset of items: interactions are read from single files")

    return Table(
        folder,
        tables[0].kind,
        [*columns, *(["split"] if with_split else [])],
        rows=rows,
        blocks=blocks,
        notes=[f"{len(tables)} tables: {', '.join(path.relative_to(folder).as_posix() for path in paths[:3])}"],
        doubts=[doubt for table in tables for doubt in table.doubts],
        same_columns=False,
        labels={name: names for table in tables for name, names in table.labels.items()},
    )


def _split_of(path: Path, folder: Path) -> str | None:
    found = _SHARD.fullmatch(path.name)
    if found and found["split"] in _SPLITS:
        return found["split"]
    return path.parent.name if path.parent != folder and path.parent.name in _SPLITS else None


def _below(name: str, value: Any, folder: str) -> Any:
    return f"{folder}/{value}" if name in _PATHS and isinstance(value, str) and "://" not in value else value


def open_arrow(path: Path) -> Table:
    """Open an Arrow file: a stream, as Hugging Face datasets write them, or a file of Feather."""
    try:
        schema = _reader(path).schema
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error

    def rows() -> Iterator[Row]:
        number = 0
        try:
            for batch in _batches(path):
                for start in range(0, batch.num_rows, 64):
                    for fields in batch.slice(start, 64).to_pylist(maps_as_pydicts="lossy"):
                        number += 1
                        yield number, fields
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise _damaged(path, error) from error

    def blocks(columns: list[str]) -> Any:
        raise ColdstartError(f"{path}: interactions are not read from Arrow files: save it as Parquet")

    return Table(path, "arrow", list(schema.names), rows=rows, blocks=blocks, labels=class_names(schema))


def _reader(path: Path) -> Any:
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    reader = _reader(path)
    if hasattr(reader, "num_record_batches"):
        for place in range(reader.num_record_batches):
            yield reader.get_batch(place)
    else:
        yield from reader


def _damaged(path: Path, error: Exception) -> ColdstartError:
    return ColdstartError(f"{path} is not a readable Arrow file: {str(error).splitlines()[0]}")

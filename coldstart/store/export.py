"""Export what is published, and the ledger, block by block: Parquet, JSONL, a Hugging Face dataset or a faiss index.

A file or folder appears at its name once it is whole. Copies that are linked to an original are items of their own;
their vectors are their original's and are left out, as a search leaves them out.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from coldstart.core.extras import missing_extra
from coldstart.core.items import CONTENT_FIELDS
from coldstart.core.progress import Progress
from coldstart.core.settings import suggestion
from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError, redact_urls
from coldstart.store import LEDGER, Store
from coldstart.store.ann import column_of
from coldstart.store.dataset_card import dataset_card, with_features
from coldstart.store.impressions import IMPRESSIONS
from coldstart.store.published import Published

KINDS = ("items", "vectors", "descriptions", "impressions", "ledger", "all")
FORMATS = ("parquet", "jsonl", "huggingface", "faiss")
RECORD = "export.yaml"
"""File of an exported folder that says what it holds; a folder without it is never replaced."""
FLAT_UP_TO = 100_000
"""Vectors up to which a faiss index is exact; above it is HNSW, which finds nearly all of the nearest, and sooner."""

_BLOCK = 4096
_SHARD_ROWS = 100_000
_HNSW_LINKS, _HNSW_EFFORT = 32, 200
_MEDIA = pa.list_(pa.struct([("role", pa.string()), ("uri", pa.string())]))
_DESCRIBED = ("summary", "claims", "label", "label_score", "spoken_language", "transcript", "screen_text")
_LEDGER_COLUMNS = ("stage", "item_id", "state", "reason", "detail", "at")


@dataclass(frozen=True)
class ExportRequest:
    """Request of an export; see `coldstart.api.take_away.TakeAwayMethods.export`."""

    what: str
    out: Path
    format: str = "parquet"
    where: str | None = None
    kind: str | None = None
    space: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Exported:
    """One exported file or folder, with its rows and bytes.

    Attributes:
        what: `items`, `vectors of SPACE`, `descriptions`, `impressions` or `ledger`.
        left_out: linked copies without a vector of their own.
    """

    what: str
    out: str
    rows: int
    size_bytes: int
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Part:
    """One table to write: its name, its blocks, its number of rows."""

    name: str
    schema: pa.Schema
    blocks: Callable[[], Iterator[pa.Table]]
    rows: int
    space: str | None = None
    passport: Mapping[str, Any] = field(default_factory=dict)
    left_out: int = 0

    @property
    def what(self) -> str:
        return self.name if self.space is None else f"vectors of {self.space}"


def export(
    store: Store, published: Callable[[], Published], request: ExportRequest, progress: Progress
) -> list[Exported]:
    """Write what a request names.

    Args:
        published: opens the catalog that is served.

    Raises:
        ColdstartError: a fault in the request, `out` exists or cannot be written, or there is nothing to export.
    """
    _check(request)
    is_folder = request.what == "all" or request.format in ("huggingface", "faiss")
    _check_place(request.out, is_folder, request.overwrite)
    if store.folder is not None and request.out.resolve().is_relative_to(store.folder.resolve()):
        raise ColdstartError(f"--out {request.out} lies in the workspace: name a place outside it")
    parts = _parts(store, published, request)
    about = {
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "coldstart": version("coldstart-multimodal"),
        "what": request.what,
        "format": request.format,
        "where": request.where,
        "kind": request.kind,
        "rows": {part.what: part.rows for part in parts},
        "passports": {part.space: part.passport for part in parts if part.space is not None},
    }
    if not is_folder:
        with _whole_file(request.out, request.overwrite) as draft:
            _write_file(draft, request.format, parts[0], progress)
        return [_exported(parts[0], request.out)]
    with _whole_folder(request.out, request.overwrite) as draft:
        places = _write_folder(draft, request.format, parts, progress, about)
        about["files"] = {name: size for name, size in _sizes(draft).items() if name != RECORD}
        (draft / RECORD).write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True), "utf-8")
    return [_exported(part, request.out / place) for part, place in zip(parts, places, strict=True)]


def _check(request: ExportRequest) -> None:
    for option, value, known in (("what", request.what, KINDS), ("--format", request.format, FORMATS)):
        if value not in known:
            raise ColdstartError(f"export {option} {value!r}{suggestion(value, known)}: give one of {', '.join(known)}")
    if request.format == "faiss" and request.what != "vectors":
        raise ColdstartError(
            f"export {request.what} --format faiss: an index holds vectors: `coldstart export vectors --format faiss`"
        )
    if request.what in ("impressions", "ledger") and (request.where or request.kind):
        own = "the ledger is" if request.what == "ledger" else "impressions are"
        raise ColdstartError(
            f"export {request.what}: --where and --kind choose among served items, and {own} of others"
        )
    if request.space is not None and request.what not in ("vectors", "all"):
        raise ColdstartError(f"export {request.what} --space {request.space}: only vectors are of a space")


# -- what is written


def _parts(store: Store, published: Callable[[], Published], request: ExportRequest) -> list[_Part]:
    if request.what == "ledger":
        return [_ledger(store)]
    if request.what == "impressions":
        return [_impressions(store)]
    catalog = published()
    if request.what == "items":
        return [_items(catalog, request)]
    if request.what == "descriptions":
        return [_descriptions(catalog, request)]
    spaces = _spaces(catalog, request)
    if request.what == "vectors":
        return [_vectors(catalog, space, request) for space in spaces]
    found = [_items(catalog, request), *(_vectors(catalog, space, request) for space in spaces)]
    described = _descriptions(catalog, request, required=False)
    whole = request.where is None and request.kind is None
    return [*found, *([described] if described.rows else []), *([_ledger(store)] if whole else [])]


def _spaces(catalog: Published, request: ExportRequest) -> list[str]:
    known = sorted(catalog.passports)
    if request.space is not None:
        if request.space not in known:
            raise ColdstartError(
                f"no space {request.space!r}{suggestion(request.space, known)}: the catalog has {', '.join(known)}"
            )
        return [request.space]
    if request.what == "vectors" and len(known) > 1:
        raise ColdstartError(f"export vectors: choose a space with --space: {', '.join(known)}")
    return known


def _items(catalog: Published, request: ExportRequest) -> _Part:
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            *((own.name, _MEDIA if own.name == "media" else own.type) for own in CONTENT_FIELDS),
        ]
    )
    return _part("items", catalog, request, schema, copies=True)


def _descriptions(catalog: Published, request: ExportRequest, required: bool = True) -> _Part:
    types = {own.name: own.type for own in catalog.schema}
    columns = [name for name in _DESCRIBED if name in types]
    schema = pa.schema([("item_id", pa.string()), ("title", pa.string()), *((name, types[name]) for name in columns)])
    filled = [f"{name} <> ''" for name in columns if pa.types.is_string(types[name])]
    some = " OR ".join(filled) or "false"
    part = _part("descriptions", catalog, request, schema, copies=True, extra=some)
    if required and not part.rows:
        raise ColdstartError(
            "export descriptions: no served item has a description, a label, speech or text on screen: run "
            "`coldstart describe` and `coldstart run`"
        )
    return part


def _vectors(catalog: Published, space: str, request: ExportRequest) -> _Part:
    column = column_of(space)
    schema = pa.schema([("item_id", pa.string()), ("vector", catalog.schema.field(column).type)])
    passport = json.loads(catalog.passports[space])
    schema = schema.with_metadata({"space": space, "passport": json.dumps(passport, ensure_ascii=False)})
    own = _part(f"vectors-{space}", catalog, request, schema, {"vector": column}, extra=f"{column} IS NOT NULL")
    every = _part("", catalog, request, schema, {"vector": column}, copies=True, extra=f"{column} IS NOT NULL")
    return _Part(own.name, schema, own.blocks, own.rows, space, passport, every.rows - own.rows)


def _part(
    name: str,
    catalog: Published,
    request: ExportRequest,
    schema: pa.Schema,
    columns: Mapping[str, str] | None = None,
    *,
    copies: bool = False,
    extra: str | None = None,
) -> _Part:
    """Build a part of the catalog: rows that meet the condition of the request and one more.

    Args:
        columns: column of the part -> that of the catalog, where its name differs.
    """
    condition = catalog.condition(where=request.where, kind=request.kind, copies=copies)
    where = " AND ".join(f"({one})" for one in (condition, extra) if one) or None
    source = {own: (columns or {}).get(own, own) for own in schema.names if own != "item_id"}

    def blocks() -> Iterator[pa.Table]:
        for batch in catalog.blocks(list(source.values()), where=where, rows=_BLOCK):
            rows = {"item_id": batch.column("item_id"), **{own: batch.column(of) for own, of in source.items()}}
            yield pa.table([rows[own.name].cast(own.type) for own in schema], schema=schema)

    return _Part(name, schema, blocks, catalog.count(where))


def _ledger(store: Store) -> _Part:
    schema = pa.schema([(name, pa.timestamp("us", "UTC") if name == "at" else pa.string()) for name in _LEDGER_COLUMNS])

    def blocks() -> Iterator[pa.Table]:
        for batch in store.batches(LEDGER, _LEDGER_COLUMNS):
            rows = [{**row, "detail": redact_urls(row["detail"] or "")} for row in batch.to_pylist()]
            yield pa.Table.from_pylist(rows, schema=schema)

    return _Part("ledger", schema, blocks, store.count(LEDGER))


def _impressions(store: Store) -> _Part:
    """Build the part of showings: a file that `coldstart ingest --impressions` reads again. It names users, and so is
    part of no other export.

    Raises:
        ColdstartError: there are none.
    """
    if not store.has(IMPRESSIONS):
        raise ColdstartError(
            f"workspace {store.uri} has no impressions: `coldstart ingest --impressions FILE` reads some"
        )
    held = store.read(IMPRESSIONS, where="false").schema
    schema = pa.schema([own for own in held if own.name != "row_key"])

    def blocks() -> Iterator[pa.Table]:
        for batch in store.batches(IMPRESSIONS, schema.names):
            yield pa.Table.from_batches([batch]).cast(schema)

    return _Part("impressions", schema, blocks, store.count(IMPRESSIONS))


# -- files


def _write_folder(
    folder: Path, format: str, parts: Sequence[_Part], progress: Progress, about: Mapping[str, Any]
) -> list[str]:
    """Write the files of a folder; returns the place of each part in it."""
    if format == "faiss":
        _write_faiss(folder, parts[0], progress)
        return ["index.faiss"]
    if format == "huggingface":
        places = ["data"] if len(parts) == 1 else [part.name for part in parts]
        for part, place in zip(parts, places, strict=True):
            _write_shards(folder / place, part, progress)
        tables = {part.name: (place, part.schema) for part, place in zip(parts, places, strict=True)}
        (folder / "README.md").write_text(dataset_card(tables, about), "utf-8")
        return places
    places = [f"{part.name}.{format}" for part in parts]
    for part, place in zip(parts, places, strict=True):
        _write_file(folder / place, format, part, progress)
    return places


def _write_file(path: Path, format: str, part: _Part, progress: Progress) -> None:
    with ExitStack() as opened:
        if format == "parquet":
            writer = opened.enter_context(pq.ParquetWriter(path, part.schema, use_dictionary=part.space is None))
            write: Callable[[pa.Table], Any] = writer.write_table
        else:
            file = opened.enter_context(path.open("w", encoding="utf-8"))
            write = lambda table: file.writelines(_json_lines(table))  # noqa: E731
        meter = opened.enter_context(progress.meter(f"export {part.what}", part.rows))
        for table in part.blocks():
            write(table)
            meter.advance(table.num_rows, 0, 0.0)


def _write_shards(folder: Path, part: _Part, progress: Progress) -> None:
    """Write Parquet files of `_SHARD_ROWS` rows, named as shards and with the features of a Hugging Face dataset."""
    folder.mkdir(parents=True)
    schema, count = with_features(part.schema), max(1, math.ceil(part.rows / _SHARD_ROWS))
    name = part.name.replace("-", "_")

    def shard(number: int) -> pq.ParquetWriter:
        path = folder / f"{name}-{number:05}-of-{count:05}.parquet"
        return opened.enter_context(pq.ParquetWriter(path, schema, use_dictionary=part.space is None))

    with progress.meter(f"export {part.what}", part.rows) as meter, ExitStack() as opened:
        writer, number, written = shard(0), 0, 0
        for table in part.blocks():
            table = table.replace_schema_metadata(schema.metadata)
            while table.num_rows:
                if written == _SHARD_ROWS:
                    opened.close()
                    number, written = number + 1, 0
                    writer = shard(number)
                rows = table.slice(0, _SHARD_ROWS - written)
                writer.write_table(rows)
                written += rows.num_rows
                table = table.slice(rows.num_rows)
                meter.advance(rows.num_rows, 0, 0.0)


def _write_faiss(folder: Path, part: _Part, progress: Progress) -> None:
    """Write an index over unit vectors, whose inner products are cosines, the ids by place, and the passport.

    Raises:
        ColdstartError: faiss is not installed.
    """
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise (missing_extra(error) or error) from None
    dim = part.schema.field("vector").type.list_size
    index: Any
    if part.rows <= FLAT_UP_TO:
        index = faiss.IndexFlatIP(dim)
    else:
        index = faiss.IndexHNSWFlat(dim, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = index.hnsw.efSearch = _HNSW_EFFORT
    ids_schema = pa.schema([("place", pa.int64()), ("item_id", pa.string())])
    with (
        pq.ParquetWriter(folder / "ids.parquet", ids_schema) as ids,
        progress.meter(f"export {part.what}", part.rows) as meter,
    ):
        for table in part.blocks():
            vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, dim)
            places = pa.array(np.arange(index.ntotal, index.ntotal + table.num_rows))
            index.add(np.ascontiguousarray(unit(vectors), np.float32))
            ids.write_table(pa.table([places, table["item_id"]], schema=ids_schema))
            meter.advance(table.num_rows, 0, 0.0)
    faiss.write_index(index, str(folder / "index.faiss"))
    about = {
        "space": part.space,
        "passport": part.passport,
        "index": type(index).__name__,
        "metric": "inner product of unit vectors, which is the cosine: bring queries to length 1",
        "rows": index.ntotal,
        "ids": "ids.parquet: the item at each place of the index",
    }
    (folder / "passport.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _json_lines(table: pa.Table) -> Iterator[str]:
    """Convert rows to lines of JSON: times in ISO 8601, attributes as objects, float32 with the digits that it has."""
    for place, own in enumerate(table.schema):
        table = table.set_column(place, own.name, _short_floats(table.column(place)))
    for row in table.to_pylist():
        present = {name: value for name, value in row.items() if value is not None}
        if "attributes" in present:
            present["attributes"] = json.loads(present["attributes"])
        yield json.dumps(present, ensure_ascii=False, default=lambda value: value.isoformat()) + "\n"


def _short_floats(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_float32(column.type):
        return column.cast(pa.string()).cast(pa.float64())
    if pa.types.is_fixed_size_list(column.type) and pa.types.is_float32(column.type.value_type):
        own = column.combine_chunks()
        return pa.FixedSizeListArray.from_arrays(_short_floats(own.flatten()), column.type.list_size)
    return column


# -- places


def _check_place(out: Path, is_folder: bool, overwrite: bool) -> None:
    """Check that a place can be written, before any work.

    Raises:
        ColdstartError: it exists and is not to be replaced, or cannot be.
    """
    if not out.exists() and not out.is_symlink():
        return
    if is_folder and out.is_dir() and not any(out.iterdir()):
        return
    if not overwrite:
        raise ColdstartError(f"--out {out} exists: name another, or replace it with --overwrite")
    if is_folder and not (out.is_dir() and not out.is_symlink() and (out / RECORD).is_file()):
        raise ColdstartError(f"--out {out} is no folder that `coldstart export` wrote, and stays: name another")
    if is_folder and (others := _other_files(out)):
        more = f" and {len(others) - 1:,} more" if others[1:] else ""
        raise ColdstartError(
            f"--out {out} holds {others[0]}{more}, which no export wrote or which was changed since, and stays: move "
            "that, or name another folder"
        )
    if not is_folder and not out.is_file():
        raise ColdstartError(f"--out {out} is no file: name a file")


def _other_files(out: Path) -> list[str]:
    """List the files of an exported folder that are not as the export wrote them."""
    try:
        record = yaml.safe_load((out / RECORD).read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        record = None
    written = record.get("files") if isinstance(record, Mapping) else None
    known = written if isinstance(written, Mapping) else {}
    return [name for name, size in _sizes(out).items() if name != RECORD and known.get(name) != size]


def _sizes(folder: Path) -> dict[str, int]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.lstat().st_size for path in paths}


@contextmanager
def _whole_file(out: Path, overwrite: bool) -> Iterator[Path]:
    with _written(out), tempfile.TemporaryDirectory(prefix=".coldstart-export-", dir=_parent(out)) as folder:
        draft = Path(folder, out.name)
        yield draft
        _check_place(out, False, overwrite)
        draft.replace(out)


@contextmanager
def _whole_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    with _written(out), tempfile.TemporaryDirectory(prefix=".coldstart-export-", dir=_parent(out)) as folder:
        draft = Path(folder, "draft")
        draft.mkdir()
        yield draft
        _check_place(out, True, overwrite)
        old = Path(folder, "old")
        if out.exists():
            out.rename(old)
        try:
            draft.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)  # else it would go with the folder of the draft
            raise


def _parent(out: Path) -> Path:
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    return out.absolute().parent


@contextmanager
def _written(out: Path) -> Iterator[None]:
    """Turn a fault of writing into an error that names the next step."""
    try:
        yield
    except OSError as error:
        raise ColdstartError(f"cannot write {out}: {error.strerror or error}; name another place with --out") from error


def _exported(part: _Part, place: Path) -> Exported:
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
    return Exported(part.what, str(place), part.rows, sum(one.stat().st_size for one in files), part.left_out)

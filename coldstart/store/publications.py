"""Read and store publications of the catalog: which version is served, with which spaces and indexes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import TypeAdapter

from coldstart.store import tables
from coldstart.store.ann import IndexReport, column_of

if TYPE_CHECKING:
    import lancedb

PUBLICATIONS = "publications"

SPACE_NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Names of spaces: SQL names their columns."""

PUBLICATIONS_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("version", pa.int64()),
        ("published_at", pa.timestamp("us", "UTC")),
        ("rows", pa.int64()),
        ("previous", pa.int64()),
        ("passports", pa.string()),
        ("indexes", pa.string()),
    ]
)


@dataclass(frozen=True)
class Publication:
    """Published version of the catalog.

    Attributes:
        number: counts from 1; its tag is `pub-000001`.
        version: table version under the tag.
        previous: number of the publication that was current before; None for the first.
        passports: space -> passport as JSON.
        indexes: one report a space.
    """

    number: int
    version: int
    published_at: datetime
    rows: int
    previous: int | None
    passports: Mapping[str, str]
    indexes: Sequence[IndexReport]

    @property
    def tag(self) -> str:
        return f"pub-{self.number:06d}"


def read_publications(db: lancedb.DBConnection) -> list[Publication]:
    """Read all stored publications, newest first."""
    table = tables.open_table(db, PUBLICATIONS)
    if table is None:
        return []
    with tables.reading(db, PUBLICATIONS):
        rows = table.to_arrow().sort_by([("number", "descending")]).to_pylist()
    found = []
    for row in rows:
        try:
            found.append(parse_publication(row))
        except (ValueError, RecursionError) as error:
            raise tables.damaged(db, PUBLICATIONS, f"publication {row.get('number')} cannot be read") from error
    return found


def record_publication(db: lancedb.DBConnection, publication: Publication) -> None:
    """Store a publication; one of the same number is replaced."""
    row = {
        **{name: getattr(publication, name) for name in PUBLICATIONS_SCHEMA.names},
        "passports": json.dumps(dict(publication.passports)),
        "indexes": json.dumps([asdict(report) for report in publication.indexes]),
    }
    table = tables.open_table(db, PUBLICATIONS)
    if table is None:
        table = db.create_table(PUBLICATIONS, schema=PUBLICATIONS_SCHEMA)
    merge = table.merge_insert("number").when_matched_update_all().when_not_matched_insert_all()
    merge.execute(pa.Table.from_pylist([row], schema=PUBLICATIONS_SCHEMA))


def forget_publications(db: lancedb.DBConnection, numbers: Iterable[int]) -> None:
    """Drop publications of these numbers."""
    if listed := ", ".join(map(str, numbers)):
        db.open_table(PUBLICATIONS).delete(f"number IN ({listed})")


def parse_publication(row: Mapping[str, Any]) -> Publication:
    """Read a publication from its row.

    Raises:
        ValueError, RecursionError: it is none.
    """
    try:
        stored = {"passports": json.loads(row["passports"]), "indexes": tuple(json.loads(row["indexes"]))}
        publication = _PUBLICATION.validate_python({**row, **stored})
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    for space, passport in publication.passports.items():
        if not SPACE_NAME.fullmatch(space) or not isinstance(json.loads(passport), dict):
            raise ValueError(f"{space!r} is no name of a space")  # it becomes part of SQL
    if not publication.passports.keys() <= {report.space for report in publication.indexes}:
        raise ValueError("it has spaces that no index is of")
    if min(publication.number, publication.version, publication.rows) < 0:
        raise ValueError("number, version and rows are no counts")
    return publication


def space_fault(publication: Publication, schema: pa.Schema) -> str | None:
    """Find a space of a publication that its version of the catalog has no vectors of."""
    for space in publication.passports:
        at = schema.get_field_index(column_of(space))
        if at < 0 or not pa.types.is_fixed_size_list(schema.field(at).type):
            return f"publication {publication.number} names a space {space!r}, of which the catalog has no vectors"
    return None


_PUBLICATION = TypeAdapter(Publication)
"""Reader of a row and the JSON in it, which may come from a stranger's workspace."""

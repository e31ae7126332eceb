"""Publications: which versions of the catalog were shown to readers, with the figures they were shown with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import lancedb
import pyarrow as pa

from coldstart.workspace.ann import Effort, IndexReport

TABLE = "publications"
SCHEMA = pa.schema(
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
    """One published version of the catalog.

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


def read(db: lancedb.DBConnection) -> list[Publication]:
    """All that are kept, newest first."""
    table = open_table(db, TABLE)
    rows = [] if table is None else table.to_arrow().sort_by([("number", "descending")]).to_pylist()
    return [_from_row(row) for row in rows]


def record(db: lancedb.DBConnection, publication: Publication) -> None:
    """Keep a publication; one of the same number is replaced."""
    row = {
        **{name: getattr(publication, name) for name in SCHEMA.names},
        "passports": json.dumps(dict(publication.passports)),
        "indexes": json.dumps([asdict(report) for report in publication.indexes]),
    }
    table = open_table(db, TABLE)
    if table is None:
        table = db.create_table(TABLE, schema=SCHEMA)
    merge = table.merge_insert("number").when_matched_update_all().when_not_matched_insert_all()
    merge.execute(pa.Table.from_pylist([row], schema=SCHEMA))


def forget(db: lancedb.DBConnection, numbers: Iterable[int]) -> None:
    """Drop publications of these numbers."""
    if listed := ", ".join(map(str, numbers)):
        db.open_table(TABLE).delete(f"number IN ({listed})")


def open_table(db: lancedb.DBConnection, name: str) -> Any:
    """The table at its newest version; None where it does not exist."""
    try:
        return db.open_table(name)
    except ValueError as error:
        if "was not found" not in str(error):
            raise
        return None


def _from_row(row: dict[str, Any]) -> Publication:
    reports = json.loads(row["indexes"])
    for report in reports:
        for name in ("effort", "effort_filtered"):
            report[name] = Effort(**report[name]) if report.get(name) else None
    indexes = tuple(IndexReport(**report) for report in reports)
    return Publication(**{**row, "passports": json.loads(row["passports"]), "indexes": indexes})

"""Plan and report the import of a catalogue: which column is which field, what is doubtful, what became of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coldstart.ingest.manifest import Manifest
from coldstart.ingest.recognise import check_given
from coldstart.ingest.recognition import Match, Recognition
from coldstart.ingest.shop_rows import Survey


@dataclass(frozen=True)
class SourcePlan:
    """Reading of one table, or of one folder of media, before anything is stored.

    Attributes:
        source: what the user named; `path`: the file or folder that is read.
        recognition: the fields of its columns; None for a folder of media.
        survey: facts of all rows; None for a folder of media.
        notes: what was decided about the file.
        doubts: what may be wrong: one line each, with the column, a count and an example where there are any.
        warnings: attributes that no new item can have.
        known: True if the workspace imported a table of the same columns before and its mapping is used again.
        changes: columns that came or went since.
        has_bytes: True if pictures are inside the table.
        hosts: web hosts of media that are not allowed -> how many media.
    """

    source: str
    path: Path
    recognition: Recognition | None = None
    survey: Survey | None = None
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    known: bool = False
    changes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    has_bytes: bool = False
    hosts: Mapping[str, int] = field(default_factory=dict)

    @property
    def matches(self) -> Sequence[Match]:
        """Fields and their columns."""
        return self.recognition.matches if self.recognition else ()

    def settings(self) -> dict[str, Any]:
        """Return the settings of the stage ingest by which the table is read."""
        if self.recognition is None:
            return {"map": {}, "clean": None, "id_from": [], "columns": []}
        return {
            "map": self.recognition.map(),
            "clean": True,
            "id_from": list(self.recognition.id_from),
            "columns": list(self.columns),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        recognition, survey = self.recognition, self.survey
        return {
            "source": self.source,
            "path": str(self.path),
            "fields": [
                {
                    "field": match.field,
                    "columns": list(match.columns),
                    "confidence": match.confidence,
                    "reason": match.reason,
                    "doubt": match.doubt or None,
                    "samples": list(match.samples),
                }
                for match in self.matches
            ],
            "id_from": list(recognition.id_from) if recognition else [],
            "attributes": filled_attributes(recognition, survey),
            "rows": survey.rows if survey else None,
            "notes": list(self.notes),
            "doubts": list(self.doubts),
            "warnings": list(self.warnings),
            "known": self.known,
            "changes": list(self.changes),
            "hosts_to_allow": dict(self.hosts),
        }


@dataclass
class SourceReport:
    """Counts of the import of one source.

    Attributes:
        rows: of the table; `joined`: into items of other rows; `items`: of the table that are in the workspace now.
        rejected: reason -> how many; `examples`: reason -> the first, with its place.
        doubts: what was doubtful in the values of rows, found while they were read.
        over_budget: True if more was rejected than the pipeline's `max_failed` allows.
    """

    plan: SourcePlan
    rows: int = 0
    items: int = 0
    joined: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    over_budget: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            **self.plan.to_dict(),
            "rows": self.rows,
            "items": self.items,
            "joined": self.joined,
            "rejected": dict(self.rejected),
            "examples": self.examples,
            "doubts": [*self.plan.doubts, *self.doubts],
        }


@dataclass
class CatalogueReport:
    """Counts of the import of a catalogue.

    Attributes:
        doubled: ids that two of the sources have; the later one counts.
        seconds: wall time; `dry_run`: True if nothing was stored.
    """

    sources: list[SourceReport]
    doubled: int = 0
    doubled_example: str = ""
    seconds: float = 0.0
    dry_run: bool = False

    @property
    def items(self) -> int:
        """Items of all sources."""
        return sum(source.items for source in self.sources)

    @property
    def rejected(self) -> int:
        """Rows of all sources that were rejected."""
        return sum(sum(source.rejected.values()) for source in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "sources": [source.to_dict() for source in self.sources],
            "items": self.items,
            "rejected": self.rejected,
            "doubled": self.doubled,
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 3),
        }


def filled_attributes(recognition: Recognition | None, survey: Survey | None) -> list[str]:
    """List the columns of no field that have a value in some row."""
    if recognition is None or survey is None:
        return []
    taken = {column for match in recognition.matches for column in match.columns}
    taken |= {column for pair in recognition.pairs for column in pair}
    return [column for column, count in survey.filled.items() if count and column not in taken]


def plan_table(
    source: str,
    path: Path,
    given: Mapping[str, Sequence[str]],
    stored: Mapping[str, Any],
    allowed: Sequence[str],
) -> SourcePlan:
    """Read a table's columns and rows, and plan its import.

    Args:
        given: our field -> columns, as the user states them.
        stored: settings of the stage ingest of the last import, which are used again for the same columns.
        allowed: web hosts that media may come from.

    Raises:
        ColdstartError: the table cannot be read, or `given` names no field or column.
    """
    table = Manifest(path, clean=False)
    if table.is_media_folder:
        return SourcePlan(source, path)
    columns = tuple(table.columns())
    given = {name: _parted(chosen, columns) for name, chosen in given.items()}
    check_given(given, columns)
    before = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in (stored.get("map") or {}).items()}
    known = (
        bool(stored.get("clean")) and not given and {column for one in before.values() for column in one} <= {*columns}
    )
    changes = []
    old = stored.get("columns") or ()
    if stored.get("clean") and (known or 2 * len({*old} & {*columns}) > len(old)):  # else it is another table
        changes += (
            [f"new column {name!r}: becomes an attribute" for name in columns if name not in old] if known else []
        )
        changes += [f"column {name!r} is missing" for name in old if name not in columns]
    if known:
        table = Manifest(path, stored["map"], clean=True, id_from=stored.get("id_from") or ())
    else:
        table.recognise(given)
    recognition = table.recognition
    assert recognition is not None
    survey = table.survey()
    doubts = [f"{match.field}: {match.doubt}" for match in recognition.matches if match.doubt and not known]
    hosts = {host: count for host, count in survey.hosts.items() if not _is_allowed(host, allowed)}
    return SourcePlan(
        source,
        path,
        recognition,
        survey,
        tuple(table.notes),
        (*doubts, *table.value_doubts()),
        tuple(table.warnings()),
        known,
        tuple(changes),
        columns,
        table.has_bytes(),
        hosts,
    )


def _parted(chosen: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Split names of columns at commas, where no column has such a name but all parts have."""
    found: list[str] = []
    for name in chosen:
        parts = [part.strip() for part in name.split(",")]
        found += parts if name not in columns and {*parts} <= {*columns} else [name]
    return tuple(found)


def _is_allowed(host: str, allowed: Sequence[str]) -> bool:
    return any(host.endswith(name[1:]) if name.startswith("*.") else host == name for name in allowed)

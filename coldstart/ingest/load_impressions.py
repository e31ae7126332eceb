"""Import a file of showings, or of later outcomes: good rows into one table, rejected rows into another, a report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.core.progress import Progress, SilentProgress
from coldstart.ingest.impression_file import ImpressionFile
from coldstart.ingest.load_interactions import (
    EXAMPLES,
    MAX_FAILED,
    REMOVED_USER,
    counted,
    first_rows,
    without_removed_users,
)
from coldstart.store import Store
from coldstart.store.impressions import REJECTED, ImpressionTable
from coldstart.store.interactions import RejectedRows, in_catalogue
from coldstart.store.tombstones import read_tombstones

Rows = tuple[pa.RecordBatch, NDArray[np.int64]]


@dataclass(frozen=True)
class ImpressionReport:
    """Counts of a file's rows: added + renewed + repeated + rejected = rows.

    Attributes:
        columns: our field -> the file's column; signals: outcome -> column; guessed: those recognised by name.
        time_unit: `s`, `ms`, `us`, `ns`, `iso` or a form such as `%d.%m.%Y`; None where the file has no times.
        later: the file had outcomes of stored showings, and none of its own.
        renewed: rows that gave a stored showing an outcome that it did not have; repeated: rows that added nothing.
        early: of the added and repeated rows, those whose outcome stands before its showing: it is kept apart.
        items: those that the good rows name; `unknown_items` of them, in `unknown_rows` rows, are not in the catalogue:
            they are kept, since such an item may come later.
        rejected: reason -> rows; examples: reason -> the first of them, (row number, value).
        total: showings of the table now.
        over_budget: more were rejected than allowed; the good rows are kept.
        notes: what was decided about the file, see `ImpressionFile`.
    """

    file: str
    columns: Mapping[str, str]
    signals: Mapping[str, str]
    guessed: Mapping[str, str]
    time_unit: str | None
    later: bool
    rows: int
    added: int
    renewed: int
    repeated: int
    early: int
    items: int
    unknown_items: int
    unknown_rows: int
    rejected: Mapping[str, int]
    examples: Mapping[str, list[tuple[int, str]]]
    total: int
    seconds: float
    over_budget: bool
    notes: Sequence[str] = ()

    @property
    def rejected_share(self) -> float:
        return sum(self.rejected.values()) / self.rows if self.rows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        return asdict(self)


def import_impressions(
    store: Store,
    path: Path,
    *,
    later: bool = False,
    columns: Mapping[str, str] | None = None,
    signals: Mapping[str, str] | None = None,
    time_unit: str = "auto",
    max_failed: float = MAX_FAILED,
    keep_rejected: bool = True,
    progress: Progress | None = None,
) -> ImpressionReport:
    """Import a file into the workspace; arguments as for `ImpressionFile`.

    Args:
        keep_rejected: store the rows that are rejected too, under the name of the file.

    Raises:
        ColdstartError: the file or its columns are at fault, or another process writes to the workspace; blocks that
            were read before stay, and the next reading goes on from there.
    """
    began = time.monotonic()
    file = ImpressionFile(
        path,
        now_us=int(time.time() * 1e6),
        later=later,
        columns=columns,
        signals=signals,
        time_unit=time_unit,
    )
    named = path.expanduser().resolve()
    table, turned_away = ImpressionTable(store), RejectedRows(store, REJECTED)
    rejected, met = Counter[str](), Counter[str]()
    examples: dict[str, list[tuple[int, str]]] = {}
    rows = 0

    def reject(these: pa.Table) -> None:
        if keep_rejected:
            turned_away.add(named, these)
        for reason, place, detail in first_rows(these):
            if len(examples.setdefault(reason, [])) < EXAMPLES:
                examples[reason].append((place, detail))
        rejected.update(counted(these["reason"]))

    def good() -> Iterator[Rows]:
        nonlocal rows
        removed = read_tombstones(store)
        for block in file:
            count = block.rows.num_rows + block.rejected.num_rows
            rows += count
            kept = pa.array(~removed.are_removed_users(block.rows.column("user_id")))
            batch, bad = without_removed_users(block.rows, block.rejected, removed)
            if of_removed := count - batch.num_rows - bad.num_rows:
                rejected[REMOVED_USER] += of_removed  # counted and stored nowhere, as for interactions
            reject(bad)
            met.update(counted(batch.column("item_id")))
            yield batch, block.numbers[kept.to_numpy(zero_copy_only=False)]
            meter.advance(count, counted(bad["reason"]), 0.0)

    with store.lock(), (progress or SilentProgress()).meter("impressions", None) as meter:
        if keep_rejected:
            turned_away.forget(named)
        done = (table.add_outcomes if later else table.append)(good(), reject)
    known = in_catalogue(store, pa.array(list(met), pa.string())).to_pylist()
    unknown = [count for count, there in zip(met.values(), known, strict=True) if not there]
    return ImpressionReport(
        file=str(named),
        columns=file.columns,
        signals=file.signals,
        guessed=file.guessed,
        time_unit=file.time_unit if "timestamp" in file.columns else None,
        later=later,
        rows=rows,
        added=done.added,
        renewed=done.renewed,
        repeated=done.repeated,
        early=done.early,
        items=len(met),
        unknown_items=len(unknown),
        unknown_rows=sum(unknown),
        rejected=dict(rejected.most_common()),
        examples=examples,
        total=table.count(),
        seconds=time.monotonic() - began,
        over_budget=sum(rejected.values()) - rejected[REMOVED_USER] > max_failed * rows,
        notes=(*file.notes, *_alike_note(done.alike)),
    )


def _alike_note(rows: int) -> list[str]:
    if not rows:
        return []
    return [
        f"rows that are as one before in user, item, time, surface and position: {rows:,}; without a request id "
        "each is an impression of its own"
    ]

"""Import a file of interactions: good rows into one table, rejected rows into another, and a report."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from coldstart.core.likes import Likes, find_likes
from coldstart.core.progress import Progress, SilentProgress
from coldstart.ingest.interaction_file import Block, InteractionFile
from coldstart.store import Store, history_build
from coldstart.store.interactions import REJECTED, InteractionTable, RejectedRows
from coldstart.store.tombstones import Tombstones, read_tombstones

REMOVED_USER = "removed_user"
"""Reason of rows that name a user who was removed from the workspace; they count for no budget."""
MAX_FAILED = 0.01
"""Share of rows that may be rejected before an import counts as failed."""
EXAMPLES = 3


@dataclass(frozen=True)
class InteractionReport:
    """Counts of a file's rows: added + renewed + repeated + rejected = rows.

    Attributes:
        columns: our field -> the file's column; `guessed`: those that were recognised by name.
        time_unit: `s`, `ms`, `us`, `ns`, `iso` or a form such as `%d.%m.%Y`; None where the file has no times.
        notes: what was decided about the file, see `InteractionFile`.
        rejected: reason -> rows; `examples`: reason -> the first of them, (row number, value).
        items: those that the good rows name; `unknown_items` of them, in `unknown_rows` rows, are not in the catalogue.
        total: rows of the table now; likes: those of them that count as likes, unless settings have a least weight.
        over_budget: more were rejected than allowed; the good rows are kept.
    """

    file: str
    columns: Mapping[str, str]
    guessed: Mapping[str, str]
    time_unit: str | None
    rows: int
    added: int
    renewed: int
    repeated: int
    rejected: Mapping[str, int]
    examples: Mapping[str, list[tuple[int, str]]]
    items: int
    unknown_items: int
    unknown_rows: int
    total: int
    likes: Likes
    seconds: float
    over_budget: bool
    notes: Sequence[str] = ()

    @property
    def rejected_share(self) -> float:
        return sum(self.rejected.values()) / self.rows if self.rows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        return asdict(self)


def import_interactions(
    store: Store,
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    event_weights: Mapping[str, float | None] | None = None,
    time_unit: str = "auto",
    max_failed: float = MAX_FAILED,
    keep_rejected: bool = True,
    progress: Progress | None = None,
) -> InteractionReport:
    """Import a file into the workspace; arguments as for `InteractionFile`.

    Args:
        keep_rejected: store the rows that are rejected too, under the name of the file.

    Raises:
        ColdstartError: the file or its columns are at fault, or another process writes to the workspace; blocks that
            were read before stay, and the next reading goes on from there.
    """
    began = time.monotonic()
    file = InteractionFile(
        path, now_us=int(time.time() * 1e6), columns=columns, event_weights=event_weights, time_unit=time_unit
    )
    named = path.expanduser().resolve()
    table, turned_away = InteractionTable(store), RejectedRows(store, REJECTED)
    rejected, met = Counter[str](), Counter[str]()
    examples: dict[str, list[tuple[int, str]]] = {}
    rows = 0

    def good(blocks: Iterator[Block]) -> Iterator[pa.RecordBatch]:
        nonlocal rows
        removed = read_tombstones(store)
        for given in blocks:
            block = Block(*without_removed_users(given.rows, given.rejected, removed))
            of_removed = given.rows.num_rows + given.rejected.num_rows - block.rows.num_rows - block.rejected.num_rows
            if of_removed:  # counted and stored nowhere: a row of the table of rejected ones would name the user
                rows += of_removed
                rejected[REMOVED_USER] += of_removed
                meter.advance(of_removed, {REMOVED_USER: of_removed}, 0.0)
            if keep_rejected:
                turned_away.add(named, block.rejected)
            refused = block.rejected.num_rows
            rows += block.rows.num_rows + refused
            for reason, place, detail in first_rows(block.rejected):
                if len(examples.setdefault(reason, [])) < EXAMPLES:
                    examples[reason].append((place, detail))
            rejected.update(counted(block.rejected["reason"]))
            met.update(counted(block.rows.column("item_id")))
            yield block.rows
            meter.advance(block.rows.num_rows + refused, counted(block.rejected["reason"]), 0.0)

    with store.lock(), (progress or SilentProgress()).meter("interactions", None) as meter:
        if keep_rejected:
            turned_away.forget(named)
        with history_build.follow(store) as history:
            done = table.append(good(iter(file)), history.add)
            history.closed |= done.renewed > 0  # the weights of rows that they hold are others now
    known = table.in_catalogue(pa.array(list(met), pa.string())).to_pylist()
    unknown = [count for count, there in zip(met.values(), known, strict=True) if not there]
    return InteractionReport(
        file=str(named),
        columns=file.columns,
        guessed=file.guessed,
        time_unit=file.time_unit if "timestamp" in file.columns else None,
        rows=rows,
        added=done.added,
        renewed=done.renewed,
        repeated=done.repeated,
        rejected=dict(rejected.most_common()),
        examples=examples,
        items=len(met),
        unknown_items=len(unknown),
        unknown_rows=sum(unknown),
        total=table.count(),
        likes=find_likes(table.weights()),
        seconds=time.monotonic() - began,
        over_budget=sum(rejected.values()) - rejected[REMOVED_USER] > max_failed * rows,
        notes=tuple(file.notes),
    )


def without_removed_users(
    rows: pa.RecordBatch, rejected: pa.Table, removed: Tombstones
) -> tuple[pa.RecordBatch, pa.Table]:
    """Leave out the rows of users that were removed from the workspace, and rejected ones whose value names one."""
    if not removed.users:
        return rows, rejected
    rows = rows.filter(pa.array(~removed.are_removed_users(rows.column("user_id"))))
    names = [re.split(r"[\s,;|\"']+", detail or "") for detail in rejected["detail"].to_pylist()]
    named = [any(removed.hashed(name) in removed.users for name in own) for own in names]
    return rows, rejected.filter(pa.array([not one for one in named], pa.bool_()))


def counted(values: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    counts = pc.value_counts(values)
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def first_rows(rejected: pa.Table) -> Iterator[tuple[str, int, str]]:
    """Pick reason, row and detail of the first rows of each reason."""
    for reason in pc.unique(rejected["reason"]).to_pylist():
        own = rejected.filter(pc.equal(rejected["reason"], reason)).slice(0, EXAMPLES)
        for row in own.to_pylist():
            yield reason, row["row"], row["detail"]

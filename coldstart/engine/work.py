"""What is to be done in one stage: the rows that are stale and in scope, with what they are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coldstart.freshness import Standing
from coldstart.stage import MapStage, Row, SourceStage, Work, is_map
from coldstart.workspace import ITEMS, Store

_READ_CHUNK = 2000


@dataclass(frozen=True)
class Scope:
    """Which of the rows that are stale a run does.

    Attributes:
        limit: at most so many a stage.
        retry: states (`failed`, …) whose verdicts are set aside.
        among: only these items; None for all.
        refit: let fit stages learn from rows that came or changed since they last did.
    """

    limit: int | None = None
    retry: frozenset[str] = frozenset()
    among: frozenset[str] | None = None
    refit: bool = False

    def choose(self, stale: Sequence[str]) -> Sequence[str]:
        """The part of `stale` that is in scope, in its order."""
        chosen = stale if self.among is None else [item for item in stale if item in self.among]
        return chosen[: self.limit]


@dataclass(frozen=True)
class Source:
    """Rows that a stage reads besides the items: the field they are put under, their table, and the items whose row
    there is fresh."""

    field: str
    table: str
    fresh: frozenset[str]


def stale_work(
    workspace: Store, expected: Mapping[str, str], stale: Sequence[str], sources: Sequence[Source] = ()
) -> Iterator[Work]:
    """Items of a map stage with their rows and those of the stages it reads, in chunks."""
    for start in range(0, len(stale), _READ_CHUNK):
        ids = stale[start : start + _READ_CHUNK]
        rows = _by_item(workspace, ITEMS, ids)
        for source in sources:
            found = _by_item(workspace, source.table, [item for item in ids if item in source.fresh])
            for item_id in ids:
                rows[item_id][source.field] = found.get(item_id)
        for item_id in ids:
            yield Work(item_id, expected[item_id], rows[item_id])


def _by_item(workspace: Store, table: str, ids: Sequence[str]) -> dict[str, Row]:
    return {row["item_id"]: row for row in workspace.read(table, ids=ids).to_pylist()} if ids else {}


def sources(stage: MapStage, standing: Standing) -> list[Source]:
    """The tables that a stage reads besides the items."""
    found = []
    for field_name, name in stage.reads.items():
        upstream = standing.stage(name)
        assert is_map(upstream)
        found.append(Source(field_name, upstream.table, standing.of(name).fresh))
    return found


class SourceWork:
    """The rows of a source that are not settled and in scope; iterate once.

    Attributes:
        recorded: the ledger rows of the stage, by item.
        pending: after the iteration, the items that are not settled and were left out.
    """

    def __init__(self, workspace: Store, stage: SourceStage, scope: Scope) -> None:
        self.recorded = workspace.verdicts(stage.name)
        self.pending: set[str] = set()
        self._present = workspace.keys(stage.table, stage.key_column)
        self._settled = {item: row.row_key for item, row in self.recorded.items() if row.state not in scope.retry}
        self._stage = stage
        self._scope = scope

    def __iter__(self) -> Iterator[Work]:
        given = 0
        for entry in self._stage.entries():
            if entry.key in (self._present.get(entry.item_id), self._settled.get(entry.item_id)):
                continue
            left_out = self._scope.among is not None and entry.item_id not in self._scope.among
            if left_out or (self._scope.limit is not None and given >= self._scope.limit):
                self.pending.add(entry.item_id)
                continue
            given += 1
            yield entry

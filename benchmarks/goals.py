"""Goals of all benchmarks in one table: of rows with the same goal in one benchmark, the one farthest from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report import Row, bounds, met, reached, value_of
from benchmarks.results import Kept, Record


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Attributes:
        name: the benchmark. `row`: the farthest from the goal of those that share it.
        of, missed: rows that share the goal, and those of them that miss it.
        record: that the row is of; `stale`: the code changed much since.
        newer: the row of a newer short form, where the figure is stale.
    """

    name: str
    row: Row
    of: int
    missed: int
    record: Record
    stale: bool = False
    newer: Row | None = None

    @property
    def met(self) -> bool:
        """Whether all rows reach the goal."""
        return not self.missed

    @property
    def reached(self) -> float | None:
        """How much of the goal the farthest row reaches, see `report.reached`."""
        return reached(self.row)


def goals(kept: Mapping[str, Kept]) -> list[Goal]:
    """List the goals that are comparisons, in the order of the benchmarks and their rows."""
    found = []
    for name, own in kept.items():
        newer = _by_goal(own.newer.rows) if own.newer else {}
        for bound, rows in _by_goal(own.record.rows).items():
            missed = sum(not met(row) for row in rows)
            beside = _farthest(newer.pop(bound)) if bound in newer else None
            found.append(Goal(name, _farthest(rows), len(rows), missed, own.record, own.stale, beside))
        for rows in newer.values():  # goals that the full record did not have yet
            assert own.newer
            found.append(Goal(name, _farthest(rows), len(rows), sum(not met(row) for row in rows), own.newer))
    return found


def goal_table(found: Sequence[Goal]) -> str:
    """Write the goals as Markdown."""
    lines = ["| claim | figure | goal | met | measured |", "|---|---|---|---|---|"]
    for goal in found:
        share = ""
        if goal.of > 1:
            share = f" (the farthest of {goal.of}" + (f", {goal.missed} missed)" if goal.missed else ")")
        measured = goal.record.date + ("" if goal.record.form == "full" else ", **short form**")
        if goal.stale:
            measured += ", **older code**"
        if goal.newer:
            measured += f"; newer short form {goal.newer.figure}"
        claim = f"[{goal.name}](#{goal.name}): {goal.row.claim}{share}"
        verdict = "yes" if goal.met else "**no**"
        lines.append(f"| {claim} | {goal.row.figure} | {goal.row.goal} | {verdict} | {measured} |")
    return "\n".join(lines)


def _by_goal(rows: Sequence[Row]) -> dict[tuple[float, float], list[Row]]:
    found: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        if met(row) is not None and (goal := bounds(row)):
            found.setdefault(goal, []).append(row)
    return found


def _farthest(rows: Sequence[Row]) -> Row:
    """Choose the row that misses its goal by most, else reaches it by least."""

    def distance(row: Row) -> tuple[bool, float]:
        share = reached(row)
        if share is None:  # a goal of 0: by the figure itself, larger is better from below, worse from above
            goal, value = bounds(row), value_of(row) or 0.0
            share = value if goal and goal[1] == math.inf else -value
        return bool(met(row)), share

    return min(rows, key=distance)

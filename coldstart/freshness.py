"""Which rows are fresh, which are stale, and which item ended where: the balance of a stage.

A row is fresh if and only if its key equals the one the pipeline would compute now. A ledger verdict holds for as long
as its key does. So every item of a stage is in exactly one state, and nothing but keys decides which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coldstart.keys import chain, stage_key
from coldstart.stage import LedgerRow, MapStage
from coldstart.workspace import ITEMS, Store


@dataclass(frozen=True)
class Balance:
    """Where the items of a stage are: fresh + failed + filtered + duplicate + pending = total."""

    fresh: int = 0
    failed: int = 0
    filtered: int = 0
    duplicate: int = 0
    pending: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.fresh + self.failed + self.filtered + self.duplicate + self.pending

    @property
    def failed_share(self) -> float:
        return self.failed / self.total if self.total else 0.0


def tally(fresh: int, verdicts: Iterable[LedgerRow], pending: int) -> Balance:
    """The balance of a stage with these rows, these verdicts and so much left to do."""
    verdicts = list(verdicts)
    states = Counter(row.state for row in verdicts)
    reasons = Counter(row.reason for row in verdicts)
    return Balance(
        fresh, states["failed"], states["filtered"], states["duplicate"], pending, dict(reasons.most_common())
    )


@dataclass(frozen=True)
class Assessment:
    """The state of every item of a stage.

    Attributes:
        expected: item -> the key its row should carry, in table order.
        fresh: items whose row carries it.
        settled: items turned away under it.
        stale: all others, in table order: the work to do.
    """

    expected: Mapping[str, str]
    fresh: frozenset[str]
    settled: Mapping[str, LedgerRow]
    stale: tuple[str, ...]

    @property
    def balance(self) -> Balance:
        return tally(len(self.fresh), self.settled.values(), len(self.stale))


def assess(expected: Mapping[str, str], present: Mapping[str, str], ledger: Mapping[str, LedgerRow]) -> Assessment:
    """Compare the keys that should be with the keys that are."""
    fresh = frozenset(item for item, key in expected.items() if present.get(item) == key)
    settled = {
        item: ledger[item]
        for item, key in expected.items()
        if item not in fresh and item in ledger and ledger[item].row_key == key
    }
    stale = tuple(item for item in expected if item not in fresh and item not in settled)
    return Assessment(expected, fresh, settled, stale)


def expected_keys(stage: MapStage, items: Mapping[str, str]) -> dict[str, str]:
    """Item -> key of its row of `stage`, from the keys of the item rows."""
    key = stage_key(stage.kind, stage.version, stage.fingerprint())
    return {item: chain(key, upstream) for item, upstream in items.items()}


def assess_map(workspace: Store, stage: MapStage, retry: Iterable[str] = ()) -> Assessment:
    """The state of every item of a map stage over the `items` table.

    Args:
        retry: states (`failed`, …) whose verdicts are set aside, so that their items count as stale.
    """
    again = set(retry)
    ledger = {item: row for item, row in workspace.verdicts(stage.name).items() if row.state not in again}
    return assess(expected_keys(stage, workspace.keys(ITEMS)), workspace.keys(stage.table, stage.key_column), ledger)

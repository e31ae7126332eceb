"""Measure the safety gate on items whose harm is known: false alarms on harmless ones, recall on unsafe ones.

What is known comes from the record (`adult: no`) or from a file of labels. Without unsafe items recall is unmeasured,
and said to be: a catalogue in which nothing is unsafe shows how often the gate errs, not what it misses.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.core.item_fields import read_attributes
from coldstart.errors import ColdstartError
from coldstart.metrics.intervals import wilson
from coldstart.store import ITEMS, Store

if TYPE_CHECKING:
    from coldstart.understand.stages.safety import SafetyStage

STATED = ("unsafe", "nsfw", "adult", "is_adult", "adult_content")
"""Attributes that state harm by yes or no; `safety: safe` or `unsafe` does as well."""
_YES, _NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})
_WORDS = {"safe": False, "unsafe": True, "harmless": False}
_MOST_LABELS = 2_000_000
_LISTED = 20


@dataclass(frozen=True)
class Share:
    """Closed items of those of one kind, with Wilson's 95 % interval; value and bounds are None for none."""

    closed: int
    n: int

    @property
    def value(self) -> float | None:
        return self.closed / self.n if self.n else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        return wilson(self.closed, self.n) if self.n else None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values."""
        low, high = self.bounds or (None, None)
        return {"closed": self.closed, "n": self.n, "value": self.value, "low": low, "high": high}


@dataclass(frozen=True)
class SafetyReport:
    """Measures of the gate.

    Attributes:
        picture_alarms: harmless items whose pictures were scored, and those that their pictures close.
        alarms: harmless items that have a row, and those that the gate closes by words or pictures.
        picture_recall, recall: the same of unsafe items; without any, recall is unmeasured.
        unlabelled: items of which no harm or harmlessness is known, and those that the gate closes.
        wrong: closed harmless items -> why, the first of them.
        policy: of the gate; classifier: of pictures, None where no picture is scored.
    """

    picture_alarms: Share
    alarms: Share
    picture_recall: Share
    recall: Share
    unlabelled: Share
    wrong: Mapping[str, str]
    policy: str
    classifier: str | None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values."""
        shares = {name: value.to_dict() for name, value in vars(self).items() if isinstance(value, Share)}
        return {**asdict(self), **shares, "wrong": dict(self.wrong)}


def closed_share(closed: Collection[str], items: Collection[str]) -> Share:
    """Count the items that are closed among some."""
    return Share(sum(item in closed for item in items), len(items))


def measure_safety(store: Store, stage: SafetyStage, unsafe: Mapping[str, bool]) -> SafetyReport:
    """Measure the gate by its stored rows under the thresholds in force.

    Args:
        unsafe: item -> whether it is unsafe, of the items of which it is known.

    Raises:
        ColdstartError: the stage has no rows yet.
    """
    found = stage.closings(store)
    if not found:
        raise ColdstartError(f"stage {stage.name} has no rows: `coldstart run --workspace {store.uri}` makes them")
    closed = {item for item, one in found.items() if one.closed}
    by_pictures = {item for item, one in found.items() if one.closed_by_pictures}
    known = {harm: [item for item in found if unsafe.get(item) is harm] for harm in (False, True)}
    scored = {harm: [item for item in items if found[item].has_pictures] for harm, items in known.items()}
    wrong = [item for item in known[False] if item in closed][:_LISTED]
    reasons = stage.blocked(store) if wrong else {}
    return SafetyReport(
        closed_share(by_pictures, scored[False]),
        closed_share(closed, known[False]),
        closed_share(by_pictures, scored[True]),
        closed_share(closed, known[True]),
        closed_share(closed, [item for item in found if item not in unsafe]),
        {item: reasons[item].detail for item in wrong},
        stage.policy_name,
        stage.classifier_name,
    )


def stated_harm(store: Store) -> dict[str, bool]:
    """Read of every item whether its record says that it is unsafe, where it says anything."""
    found: dict[str, bool] = {}
    for batch in store.batches(ITEMS, ["item_id", "attributes"]):
        for item, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if (harm := _stated(read_attributes(text))) is not None:
                found[item] = harm
    return found


def _stated(attributes: Mapping[str, Any]) -> bool | None:
    given = {name.casefold(): value for name, value in attributes.items()}
    for name in STATED:
        word = str(given.get(name, "")).strip().casefold()
        if word in _YES | _NO:
            return word in _YES
    return _WORDS.get(str(given.get("safety", "")).strip().casefold())


def read_harm_labels(path: Path) -> dict[str, bool]:
    """Read a file of labels: CSV or JSON Lines of `item_id` and `label`, which is `safe` or `unsafe`.

    Raises:
        ColdstartError: the file cannot be read, or a line is no label.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ColdstartError(f"cannot read labels {path}: {why}") from error
    try:
        rows = (
            [json.loads(line) for line in text.splitlines() if line.strip()] if text.lstrip().startswith("{") else None
        )
    except ValueError as error:
        raise ColdstartError(f"labels {path}: no JSON object in every line: {error}") from None
    lines = rows if rows is not None else list(csv.DictReader(text.splitlines()))
    if len(lines) > _MOST_LABELS:
        raise ColdstartError(f"labels {path}: {len(lines):,} lines, and {_MOST_LABELS:,} are read: give fewer")
    found: dict[str, bool] = {}
    for number, row in enumerate(lines, 1 if rows is not None else 2):
        item, label = (row.get("item_id"), row.get("label")) if isinstance(row, dict) else (None, None)
        word = str(label or "").strip().casefold()
        if not item or word not in _WORDS:
            raise ColdstartError(
                f"labels {path}, line {number}: give item_id and label, one of {', '.join(_WORDS)}: item_id={item!r}, "
                f"label={label!r}"
            )
        found[str(item)] = _WORDS[word]
    if not found:
        raise ColdstartError(f"labels {path} has no rows: give item_id,label and a line for each item")
    return found

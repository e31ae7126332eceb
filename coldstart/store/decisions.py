"""Keep what people decided on items, gate verdicts and claims: a row each, with reason, name and time.

A row is never changed but for its undoing. What a decision does is computed anew wherever items are read, so that it
holds in every later run: rejected items are blocked before all gates (`coldstart.store.freshness`), approved ones pass
a gate while the fields that it reads stay the same, and corrections are laid over the record of an item where it is
ingested. A later decision on the same subject takes the place of an earlier one, which is in force again once the later
one is undone.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa

from coldstart.core.item_fields import load_json
from coldstart.core.prices import parse_price
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.store.sql import equals

if TYPE_CHECKING:
    from coldstart.store import Store

DECISIONS = "decisions"
"""Table of decisions."""
Action = Literal["reject", "approve", "correct"]
ACTIONS: tuple[Action, ...] = get_args(Action)
ITEM = "item"
"""Subject of a rejected item; those of others are `stage:NAME`, `field:NAME` and `claim:NAME`."""
REJECTED_BY_REVIEW = "rejected_by_review"
"""Reason code of what a person rejected."""
TEXT_FIELDS = ("title", "description", "category", "creator")
FIELDS = (*TEXT_FIELDS, "tags", "price")
"""Fields of the record that a person may correct, besides `attributes.NAME`."""
ATTRIBUTE = "attributes."
"""Start of the name of a field that is one attribute."""
MAX_REASON = 2000
MAX_NAME = 200
MAX_FIELD = 1000
"""Characters of the name of a corrected field."""
MAX_VALUE = 100_000
"""Characters of a corrected value, as of a description that is taken in over HTTP."""

_SCHEMA = pa.schema(
    [
        ("decision_id", pa.string()),
        ("item_id", pa.string()),
        ("action", pa.string()),
        ("subject", pa.string()),
        ("value", pa.string()),
        ("before", pa.string()),
        ("reason", pa.string()),
        ("by", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("content_key", pa.string()),
        ("sets", pa.string()),
        ("undone_at", pa.timestamp("us", "UTC")),
        ("undone_by", pa.string()),
        ("undone_reason", pa.string()),
        ("seq", pa.int64()),
    ]
)
"""`value` and `before` are JSON in text."""


@dataclass(frozen=True)
class Decision:
    """Decision of a person on an item, the verdict of a gate, a field of the record, or a claim of the description.

    Attributes:
        action: `reject`, `approve` or `correct`.
        subject: `item`, `stage:NAME` of a gate, `field:NAME` of the record (`field:attributes.colour`), or
            `claim:NAME` of the description (`claim:colour`, `claim:summary`).
        value: of a correction the new value, of a claim its text; None for others and for a field that is emptied.
        before: value of the field when it was corrected.
        content_key: of an approval, the key of the fields that the gate reads.
        sets: field of the record that gets the value; empty where none does.
        in_force: it was not undone, and no later decision on its subject stands.
    """

    decision_id: str
    item_id: str
    action: Action
    subject: str
    value: Any
    before: Any
    reason: str
    by: str
    at: datetime
    content_key: str = ""
    sets: str = ""
    undone_at: datetime | None = None
    undone_by: str | None = None
    undone_reason: str | None = None
    in_force: bool = True
    seq: int = 0

    @property
    def stage(self) -> str | None:
        """Name of the gate that the item passes; None for other decisions."""
        return self.subject.removeprefix("stage:") if self.subject.startswith("stage:") else None

    @property
    def claim(self) -> str | None:
        """Name of the claim; None for other decisions."""
        return self.subject.removeprefix("claim:") if self.subject.startswith("claim:") else None

    @property
    def slot(self) -> tuple[str, str, Any]:
        """Place of which the last decision holds: several claims of one name have a place each."""
        return self.item_id, self.subject, json.dumps(self.value) if self.claim is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values, times in ISO 8601."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("content_key", "sets", "seq")}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in plain.items()}


@dataclass(frozen=True)
class Draft:
    """Decision that is to be recorded; its parts as of `Decision`."""

    item_id: str
    action: Action
    subject: str
    reason: str
    by: str
    value: Any = None
    before: Any = None
    content_key: str = ""
    sets: str = ""


@dataclass(frozen=True)
class DecisionLog:
    """Decisions of a workspace, or of some of its items, by rising sequence number."""

    rows: Sequence[Decision] = field(default_factory=tuple)

    @property
    def holding(self) -> list[Decision]:
        """Those that are in force."""
        return [one for one in self.rows if one.in_force]


def read_decisions(store: Store, item_id: str | None = None) -> DecisionLog:
    """Read the decisions on all items, or on one; rows that are none, as a stranger may have written, are left out."""
    if not store.has(DECISIONS):
        return DecisionLog()
    where = None if item_id is None else equals("item_id", item_id)
    found = [one for row in store.read(DECISIONS, where=where).to_pylist() if (one := _parse(row)) is not None]
    found.sort(key=lambda one: (one.seq, one.at, one.decision_id))
    last = {one.slot: one.decision_id for one in found if one.undone_at is None}
    return DecisionLog(tuple(replace(one, in_force=last.get(one.slot) == one.decision_id) for one in found))


def rejected_items(log: DecisionLog) -> dict[str, Reject]:
    """Return the verdict on each item that was rejected."""
    return {
        one.item_id: Reject(REJECTED_BY_REVIEW, f"by {one.by}: {one.reason}", "filtered")
        for one in log.holding
        if one.subject == ITEM
    }


def approvals(log: DecisionLog, stage: str) -> dict[str, str]:
    """Return the items that may pass a gate -> key of their fields at that time."""
    return {one.item_id: one.content_key for one in log.holding if one.stage == stage}


def _parse(row: Mapping[str, Any]) -> Decision | None:
    texts = [row.get(name) for name in ("decision_id", "item_id", "action", "subject", "reason", "by")]
    if not all(isinstance(text, str) and text for text in texts) or row["action"] not in ACTIONS:
        return None
    if not isinstance(row.get("at"), datetime) or not _fits(row["action"], row["subject"]):
        return None
    undone = row.get("undone_at")
    with suppress(TypeError, ValueError, RecursionError):
        value, before = (load_json(row.get(name) or "null") for name in ("value", "before"))
        sets = row.get("sets") or ""
        if row["subject"].startswith("claim:") and not isinstance(value, str):
            return None
        if row["subject"].startswith("field:") and row["subject"] != f"field:{sets}":
            return None
        if sets:
            value = check_value(sets, value)
        return Decision(
            row["decision_id"],
            row["item_id"],
            row["action"],
            row["subject"],
            value,
            before,
            row["reason"],
            row["by"],
            row["at"],
            content_key=row.get("content_key") or "",
            sets=sets,
            undone_at=undone if isinstance(undone, datetime) else None,
            undone_by=row.get("undone_by"),
            undone_reason=row.get("undone_reason"),
            seq=row.get("seq") or 0,
        )
    return None


def _fits(action: str, subject: str) -> bool:
    kind = subject.partition(":")[0]
    return kind in {"reject": (ITEM, "claim"), "approve": ("stage", "claim"), "correct": ("field",)}[action]


def check_value(name: str, value: Any) -> Any:
    """Return the value of a field of the record as it is stored; None empties the field.

    Raises:
        ValueError: there is no such field, or it cannot have this value.
    """
    if len(name) > MAX_FIELD:
        raise ValueError(f"{name[:80]!r} has {len(name):,} characters: a field has at most {MAX_FIELD:,}")
    try:
        written = json.dumps([name, value], ensure_ascii=False, allow_nan=False, default=str)
    except (ValueError, RecursionError):
        raise ValueError(f"{name} is no JSON value: {str(value)[:80]}") from None
    if len(written) > MAX_VALUE:
        raise ValueError(f"{name} has {len(written):,} characters: a corrected value has at most {MAX_VALUE:,}")
    try:
        written.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name!r} is no Unicode text: it holds half a character") from None
    if name in TEXT_FIELDS:
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} is a text, not {str(value)[:80]!r}")
        return value.strip()
    if name == "price":
        return _price(value)
    if name == "tags":
        if value is None:
            return []
        if not isinstance(value, list | tuple) or not all(isinstance(tag, str) and tag.strip() for tag in value):
            raise ValueError(f"tags are a list of texts, not {str(value)[:80]!r}")
        return [tag.strip() for tag in value]
    if not name.startswith(ATTRIBUTE) or not name.removeprefix(ATTRIBUTE).strip():
        raise ValueError(f"no field {name!r}")
    entries = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(one, str | int | float | bool) or one is None for one in entries):
        raise ValueError(f"{name} is a text, a number, true or false, or a list of them, not {str(value)[:80]!r}")
    return list(value) if isinstance(value, tuple) else value


def _price(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number, currency = parse_price(value)
        price = float("nan" if isinstance(number, bool) else number)
        if currency is None and 0 <= price < float("inf"):
            return price
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        f"price is a number from 0 on, such as 19.9, not {str(value)[:80]!r}: its currency is attributes.currency"
    )


def record(store: Store, drafts: Iterable[Draft]) -> list[Decision]:
    """Write decisions, in their order; the caller holds the lock.

    One that stands already, word for word, is not written again: a request that is repeated has one row.
    """
    log = read_decisions(store)
    standing = {_draft(one): one for one in log.holding}
    seq = store.next_in_sequence(DECISIONS)
    now = datetime.now(UTC)
    found: list[Decision] = []
    new: list[Decision] = []
    for draft in drafts:
        key = _draft(draft)
        if key not in standing:
            parts = {name: getattr(draft, name) for name in Draft.__dataclass_fields__}
            standing[key] = Decision(secrets.token_hex(8), **parts, at=now, seq=seq + len(new))
            new.append(standing[key])
        found.append(standing[key])
    if new:
        rows = [
            {
                **{name: getattr(one, name) for name in _SCHEMA.names},
                "value": _text(one.value),
                "before": _text(one.before),
            }
            for one in new
        ]
        store.append(DECISIONS, pa.Table.from_pylist(rows, schema=_SCHEMA))
    return found


def _draft(one: Draft | Decision) -> tuple[Any, ...]:
    value = json.dumps(one.value, sort_keys=True)
    return one.item_id, one.action, one.subject, value, one.reason, one.by, one.content_key


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def undo(store: Store, ids: Collection[str], *, reason: str, by: str) -> list[Decision]:
    """Mark decisions as undone, those that are not so yet; the caller holds the lock.

    Returns:
        the decisions as they are now, in the order of `ids`.

    Raises:
        ColdstartError: there is no decision of that id.
    """
    known = {one.decision_id: one for one in read_decisions(store).rows}
    for one in ids:
        if one not in known:
            raise ColdstartError(
                f"no decision {one!r} in workspace {store.uri}: `coldstart review log --workspace {store.uri}` lists "
                "them",
                kind="not_found",
            )
    now = datetime.now(UTC)
    open_ids = {one for one in ids if known[one].undone_at is None}
    rows = store.read(DECISIONS).to_pylist() if open_ids else []
    marked = {"undone_at": now, "undone_by": by, "undone_reason": reason}
    changed = [
        {**{name: row.get(name) for name in _SCHEMA.names}, **marked} for row in rows if row["decision_id"] in open_ids
    ]
    if changed:
        store.merge(DECISIONS, pa.Table.from_pylist(changed, schema=_SCHEMA), on=("decision_id",))
    now_known = {one.decision_id: one for one in read_decisions(store).rows}
    return [now_known[one] for one in dict.fromkeys(ids)]

"""Collect what waits for a person: items that failed, were filtered or are copies, and claims that the checks removed.

An item stands where it was turned away first: what later stages say of it follows from that. What was decided on is
left out, and so are removed claims with nothing to decide on, but in the queue of one item. Rows of the ledger and of
descriptions are read piece by piece, and of each group no more is kept than a page takes.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from coldstart.core import reasons
from coldstart.core.pipeline import Pipeline
from coldstart.core.sanitize import check_text
from coldstart.core.settings import suggestion
from coldstart.core.stage import GATES, Reject
from coldstart.errors import ColdstartError, NotFitted, redact_urls
from coldstart.store import ITEMS, LEDGER, Store
from coldstart.store.decisions import REJECTED_BY_REVIEW, read_decisions
from coldstart.store.freshness import PipelineState
from coldstart.store.sql import equals

State = Literal["filtered", "duplicate", "failed", "claim"]
STATES: tuple[State, ...] = get_args(State)
"""States in the order of the queue: first what a decision lets through, last what was removed of texts."""
MOST_PAGE = 500
"""Entries of one page."""
UNREAD = "text"
"""Claim of a whole answer that could not be read: there is nothing to serve of it."""
_FOLLOWS = frozenset(
    {"upstream_failed", "original_not_served", "no_fingerprint", "no_vector", "removed", REJECTED_BY_REVIEW}
)
"""Reasons that follow from what stands elsewhere."""
_OWN = frozenset({"nothing_grounded", "refused"})
"""Reasons for which a stage filters an item though it had something to read: its description is turned away."""
_OF_FORM = frozenset(
    {
        *("empty", "says_nothing", "too_short", "no_end", "cut_off", "not_json", "wrong_fields", "refusal", "markup"),
        *("loop", "overlong", "duplicate", "too_many", "lists_values", "title_again", "no_antecedent"),
    }
)
"""Reasons of removed claims that are no question of what is true: no person needs to decide on them."""
_SENTENCE_WORDS = 3
"""Words from which a removed sentence is one to decide on; models that know nothing write "Attribute summary."."""
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts that put no spaces between words."""


@dataclass(frozen=True)
class ReviewEntry:
    """Item, or claim of one, that waits for a decision.

    Attributes:
        state: `failed`, `filtered`, `duplicate`, or `claim`: removed from the description.
        stage: where it was turned away; reason: its code, words: the same in plain words, detail: value and limit.
        claim, value: name and text of a removed claim; None for items.
        original: item that it is a copy of; None for others.
        actions: decisions that apply.
    """

    item_id: str
    title: str | None
    kind: str | None
    state: State
    stage: str
    reason: str
    words: str
    detail: str
    claim: str | None = None
    value: str | None = None
    original: str | None = None
    actions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return {**asdict(self), "actions": list(self.actions)}


@dataclass(frozen=True)
class ReviewPage:
    """Page of the review queue.

    Attributes:
        counts: state -> all entries that the other conditions of the question leave.
        after: where the next page begins; None after the last one.
        notes: gates whose verdicts cannot be read now, and why; how many removed claims are not listed.
    """

    entries: Sequence[ReviewEntry]
    counts: Mapping[str, int]
    after: str | None = None
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return {
            "entries": [one.to_dict() for one in self.entries],
            "counts": dict(self.counts),
            "after": self.after,
            "notes": list(self.notes),
        }


_Place = tuple[int, int, str, int]
"""Number of the state, number of the stage, item, and place of a claim: the order of the queue."""


@dataclass(frozen=True)
class _Found:
    item_id: str
    state: State
    stage: str
    reason: str
    detail: str
    claim: str | None = None
    value: str | None = None


@dataclass
class _Page:
    """Entries after a place, no more of them than a page and one."""

    limit: int
    after: _Place | None
    wanted: Collection[str]
    counts: Counter[str] = field(default_factory=Counter)
    _heap: list[tuple[tuple[int, int, _Backwards, int], _Place, _Found]] = field(default_factory=list)

    def add(self, place: _Place, found: _Found) -> None:
        self.counts[found.state] += 1
        if found.state not in self.wanted or (self.after is not None and place <= self.after):
            return
        entry = ((-place[0], -place[1], _Backwards(place[2]), -place[3]), place, found)  # the last one lies on top
        if len(self._heap) <= self.limit:
            heapq.heappush(self._heap, entry)
        elif place < self._heap[0][1]:
            heapq.heapreplace(self._heap, entry)

    def entries(self) -> list[tuple[_Place, _Found]]:
        """Return the entries, in order."""
        return sorted(((place, found) for _, place, found in self._heap), key=lambda one: one[0])


@dataclass(frozen=True)
class _Backwards:
    """Text that is ordered backwards."""

    text: str

    def __lt__(self, other: _Backwards) -> bool:
        return self.text > other.text


def review_page(
    store: Store,
    pipeline: Pipeline,
    *,
    state: str | None = None,
    stage: str | None = None,
    reason: str | None = None,
    item_id: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> ReviewPage:
    """Collect a page of the review queue.

    Raises:
        ColdstartError: there is no such state, stage or item, or `limit` or `after` is none.
    """
    names = [spec.name for spec in pipeline.stages]
    if state is not None and state not in STATES:
        raise ColdstartError(f"review: no state {state!r}{suggestion(state, STATES)}: give one of {', '.join(STATES)}")
    if stage is not None and stage not in names:
        raise ColdstartError(
            f"review: no stage {stage!r}{suggestion(stage, names)}: the pipeline has {', '.join(names)}"
        )
    if not 1 <= limit <= MOST_PAGE:
        raise ColdstartError(f"review: limit={limit}: give 1 to {MOST_PAGE}", kind="usage")
    if item_id is not None:
        check_item(store, item_id)
    page = _Page(limit, None if after is None else _read_place(after), STATES if state is None else (state,))
    collect = _Collect(store, pipeline, item_id)
    for number, found in collect.found():
        if (stage is None or found.stage == stage) and (reason is None or found.reason == reason):
            page.add((STATES.index(found.state), names.index(found.stage), found.item_id, number), found)
    if collect.unlisted and "claim" in page.wanted:
        collect.notes.append(
            f"{collect.unlisted:,} removed claims say too little to decide on, such as single words, and are not "
            "listed: the queue of one item has them"
        )
    entries = page.entries()
    shown = entries[:limit]
    filled = _fill(store, pipeline, [found for _, found in shown])
    counts: dict[str, int] = {name: page.counts[name] for name in STATES}
    rest = json.dumps(shown[-1][0]) if len(entries) > limit else None
    return ReviewPage(filled, counts, rest, collect.notes)


def check_item(store: Store, item_id: str) -> None:
    """Check that the workspace has an item, or turned a row of that id away.

    Raises:
        ColdstartError: it has neither; a similar id is named.
    """
    check_text(item_id)
    known = store.has(ITEMS) and store.read(ITEMS, ["item_id"], ids=[item_id]).num_rows
    noted = store.has(LEDGER) and store.read(LEDGER, ["item_id"], ids=[item_id]).num_rows
    if not (known or noted):
        ids = store.keys(ITEMS) if store.has(ITEMS) else ()
        raise ColdstartError(
            f"no item {item_id!r} in workspace {store.uri}{suggestion(item_id, ids)}: list ids with `coldstart export "
            "items`",
            kind="not_found",
        )


def _read_place(text: str) -> _Place:
    try:
        state, stage, item, number = json.loads(text)
        if isinstance(item, str) and all(type(one) is int for one in (state, stage, number)):
            return state, stage, item, number
    except (TypeError, ValueError, RecursionError):
        pass
    raise ColdstartError(f"review: after={text[:80]!r} is no place in the queue: give `after` of the page before it")


class _Collect:
    """Reader of all that waits; `notes` are known once `found` has ended."""

    def __init__(self, store: Store, pipeline: Pipeline, item_id: str | None) -> None:
        self._store = store
        self._pipeline = pipeline
        self._state = PipelineState(store, pipeline)
        self._item_id = item_id
        self._claims = {
            (one.item_id, one.claim, one.value)
            for one in read_decisions(store, item_id).holding
            if one.claim is not None
        }
        self.notes: list[str] = []
        self.unlisted = 0

    def found(self) -> Iterator[tuple[int, _Found]]:
        """Yield what waits, in no order: the number of a claim, 0 for an item, and what was found."""
        gates = self._gates()
        blocked: dict[str, str] = {}
        for item in self._state.rejected():
            blocked[item] = ""
        for name, verdicts in gates.items():
            for item, why in verdicts.items():
                if item not in blocked:
                    blocked[item] = name
                    if self._item_id in (None, item):
                        yield 0, _Found(item, why.state, name, why.reason, why.detail)
        for one in self._ledger():
            if one.item_id not in blocked:
                yield 0, one
        yield from self._removed_claims(blocked)

    def _gates(self) -> dict[str, Mapping[str, Reject]]:
        found: dict[str, Mapping[str, Reject]] = {}
        for spec in self._pipeline.stages:
            if spec.kind not in GATES:
                continue
            try:
                found[spec.name] = self._state.blocked_by(spec.name)
            except (ColdstartError, NotFitted) as error:
                self.notes.append(f"{spec.name}: its verdicts cannot be read now: {error}")
        return found

    def _ledger(self) -> Iterator[_Found]:
        kinds = {spec.name: spec.kind for spec in self._pipeline.stages}
        columns = ["stage", "item_id", "state", "reason", "detail"]
        for row in _rows(self._store, LEDGER, columns, self._item_id):
            state, reason = row["state"], row["reason"]
            if row["stage"] not in kinds or state not in STATES or reason in _FOLLOWS:
                continue
            if state == "failed" or kinds[row["stage"]] == "ingest" or reason in _OWN:
                yield _Found(row["item_id"], state, row["stage"], reason, redact_urls(row["detail"] or ""))

    def _removed_claims(self, blocked: Collection[str]) -> Iterator[tuple[int, _Found]]:
        name = check_stage(self._pipeline)
        if name is None or not self._store.has(f"stage.{name}"):
            return
        for row in _rows(self._store, f"stage.{name}", ["item_id", "cut"], self._item_id):
            if row["item_id"] in blocked:
                continue
            for number, cut in enumerate(row["cut"] or ()):
                claim, value = cut["claim"], cut["value"]
                if cut["reason"] == REJECTED_BY_REVIEW or (row["item_id"], claim, value) in self._claims:
                    continue
                if self._item_id is None and not _can_be_judged(claim, value, cut["reason"]):
                    self.unlisted += 1
                    continue
                found = _Found(row["item_id"], "claim", name, cut["reason"], cut["detail"] or "", claim, value)
                yield number, found


def _can_be_judged(claim: str, value: str, reason: str) -> bool:
    """Return True for a value, or a sentence with content, that was removed for what it says."""
    if claim == UNREAD or reason in _OF_FORM:
        return False
    if claim != "summary":
        return True
    return max(len(value.split()), len(_UNSPACED.findall(value)) // 2) >= _SENTENCE_WORDS


def check_stage(pipeline: Pipeline) -> str | None:
    """Return the name of the last stage that checks descriptions; None where there is none."""
    names = [spec.name for spec in pipeline.of_kind("describe.check")]
    return names[-1] if names else None


def _rows(store: Store, table: str, columns: Sequence[str], item_id: str | None) -> Iterator[dict[str, Any]]:
    if item_id is not None:
        yield from store.read(table, columns, where=equals("item_id", item_id)).to_pylist() if store.has(table) else ()
        return
    for batch in store.batches(table, columns):
        yield from batch.to_pylist()


def _fill(store: Store, pipeline: Pipeline, found: Sequence[_Found]) -> list[ReviewEntry]:
    """Add titles, originals and the actions that apply."""
    ids = sorted({one.item_id for one in found})
    known: dict[str, dict[str, Any]] = {}
    if ids and store.has(ITEMS):
        rows = store.read(ITEMS, ["item_id", "title", "kind"], ids=ids).to_pylist()
        known = {row["item_id"]: row for row in rows}
    originals: dict[tuple[str, str], str] = {}
    for name in {one.stage for one in found if one.state == "duplicate"}:
        copies = [one.item_id for one in found if one.stage == name and one.state == "duplicate"]
        for row in store.read(f"stage.{name}", ["item_id", "duplicate_of"], ids=copies).to_pylist():
            originals[name, row["item_id"]] = row["duplicate_of"]
    gates = {spec.name for spec in pipeline.stages if spec.kind in GATES}
    return [
        ReviewEntry(
            one.item_id,
            known.get(one.item_id, {}).get("title"),
            known.get(one.item_id, {}).get("kind"),
            one.state,
            one.stage,
            one.reason,
            reasons.of_one(one.reason),
            _plain_detail(one),
            one.claim,
            one.value,
            originals.get((one.stage, one.item_id)),
            _actions(one, one.item_id in known, gates),
        )
        for one in found
    ]


def _plain_detail(found: _Found) -> str:
    if found.reason not in _OWN:
        return found.detail
    codes, rest = found.detail.split("; ", 1) if "; " in found.detail else ("", found.detail)
    if codes and all(one in reasons.CLAIMS for one in codes.split(", ")):  # as written by versions before
        rest = f"claims {', '.join(map(reasons.plain, codes.split(', ')))}; {rest}"
    elif codes:
        rest = found.detail
    return f"it is served, without a description: {rest}"


def _actions(found: _Found, known: bool, gates: Collection[str]) -> tuple[str, ...]:
    if not known:  # ingest could not read it: it may be left out for good
        return ("reject",)
    if found.claim is not None:
        return ("reject",) if found.claim == UNREAD else ("approve", "reject", "correct")
    return ("approve", "reject", "correct") if found.stage in gates else ("reject", "correct")

"""Check what a person decides against the workspace, record it, and bring it into effect for its items at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from coldstart.core.description import split_sentences
from coldstart.core.error_fields import error_fields
from coldstart.core.item_fields import read_attributes
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.sanitize import check_text, without_controls
from coldstart.core.settings import suggestion
from coldstart.core.stage import GATES
from coldstart.engine.arrivals import ArrivalsReport, Outcome, WarmEngine, run_arrivals
from coldstart.errors import ColdstartError, NotFitted
from coldstart.ingest.stage import StoredItems
from coldstart.review.queue import UNREAD, check_item, check_stage
from coldstart.store import ITEMS, Store, decisions
from coldstart.store.corrections import value_of
from coldstart.store.decisions import ACTIONS, ATTRIBUTE, FIELDS, ITEM, MAX_NAME, MAX_REASON, Decision, Draft
from coldstart.store.freshness import PipelineState

_PARTS = ("item_id", "action", "reason", "by", "stage", "claim", "field", "value")
_TAKES = {"reject": ("claim", "value"), "approve": ("stage", "claim", "value"), "correct": ("field", "value")}


class NotInEffect(ColdstartError):  # noqa: N818  (a state that the next run mends)
    """Decisions are recorded, and the stages of their items could not be done."""


@dataclass(frozen=True)
class DecisionReport:
    """Decision, and the state of its item once it is in effect.

    Attributes:
        outcome: None where the item has left the workspace.
        publication: tag of the publication that is served now; None where nothing is.
    """

    decision: Decision
    outcome: Outcome | None
    publication: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        outcome = None if self.outcome is None else asdict(self.outcome)
        return {"decision": self.decision.to_dict(), "outcome": outcome, "publication": self.publication}


@dataclass(frozen=True)
class DecisionPage:
    """Page of decisions, the newest first; `after`: where the next one begins, None after the last."""

    decisions: Sequence[Decision]
    after: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return {"decisions": [one.to_dict() for one in self.decisions], "after": self.after}


def list_decisions(
    store: Store, *, item_id: str | None = None, limit: int = 50, after: str | None = None
) -> DecisionPage:
    """List decisions, the newest first.

    Raises:
        ColdstartError: `after` is no decision of the workspace.
    """
    rows = list(reversed(decisions.read_decisions(store, item_id).rows))
    if after is not None:
        place = next((place for place, one in enumerate(rows) if one.decision_id == after), None)
        if place is None:
            raise ColdstartError(f"review: after={after[:80]!r} is no decision: give `after` of the page before it")
        rows = rows[place + 1 :]
    shown = rows[: max(1, limit)]
    return DecisionPage(shown, shown[-1].decision_id if len(rows) > len(shown) else None)


def count_decisions(store: Store, pipeline: Pipeline) -> dict[str, int]:
    """Count decisions: those in force by action, undone ones, and approvals that lapsed."""
    log = decisions.read_decisions(store)
    if not log.rows:
        return {}
    state = PipelineState(store, pipeline)
    known = {spec.name for spec in pipeline.stages}
    lapsed = 0
    for stage in {one.stage for one in log.holding if one.stage is not None}:
        given = decisions.approvals(log, stage)
        with suppress(ColdstartError, NotFitted):  # of a gate that cannot be built now nothing is known
            lapsed += len(given) - len(state.approved(stage, given)) if stage in known else len(given)
    found: Counter[str] = Counter(one.action for one in log.holding)
    undone = sum(one.undone_at is not None for one in log.rows)
    counts: dict[str, int] = {action: found[action] for action in ACTIONS}
    counts |= {"undone": undone, "lapsed": lapsed}
    counts["approve"] -= lapsed
    return counts


def make_drafts(store: Store, pipeline: Pipeline, rows: Iterable[Mapping[str, Any]]) -> list[Draft]:
    """Check decisions, each with the parts of `Workspace.decide`.

    Raises:
        ColdstartError: one does not fit the workspace; nothing of them is recorded.
    """
    state = PipelineState(store, pipeline)
    return [_Checker(store, pipeline, state, row).draft() for row in rows]


def checked_text(name: str, value: Any) -> str:
    """Check the reason of a decision, or the name of who decides; returns it on one line.

    Raises:
        ColdstartError: it is empty or too long.
    """
    text = " ".join(without_controls(value).split()) if isinstance(value, str) else ""
    most = MAX_REASON if name == "reason" else MAX_NAME
    if not text or len(text) > most:
        what = "why" if name == "reason" else "who decides"
        raise ColdstartError(f"review: {name}: say {what}, in 1 to {most:,} characters", kind="usage")
    check_text(text)
    return text


class _Checker:
    def __init__(self, store: Store, pipeline: Pipeline, state: PipelineState, row: Mapping[str, Any]) -> None:
        self._store = store
        self._pipeline = pipeline
        self._state = state
        for name in row:
            if name not in _PARTS:
                raise ColdstartError(f"review: a decision has no {name!r}{suggestion(str(name), _PARTS)}", kind="usage")
        self._row = {name: row.get(name) for name in _PARTS}

    def draft(self) -> Draft:
        """Check the decision."""
        action = self._row["action"]
        if action not in ACTIONS:
            raise ColdstartError(
                f"review: no action {action!r}{suggestion(str(action), ACTIONS)}: give one of {', '.join(ACTIONS)}",
                kind="usage",
            )
        reason, by = (checked_text(name, self._row[name]) for name in ("reason", "by"))
        for name in ("stage", "claim", "field"):
            if self._row[name] is not None and name not in _TAKES[action]:
                raise ColdstartError(f"review: {action} takes no {name}: it takes {' and '.join(_TAKES[action])}")
        item_id = self._row["item_id"]
        if not isinstance(item_id, str) or not item_id:
            raise ColdstartError(f"review: item_id={item_id!r} is no id of an item: give one", kind="usage")
        check_item(self._store, item_id)
        if action == "correct":
            return self._correct(item_id, reason, by)
        if self._row["claim"] is not None:
            return self._claim(item_id, reason, by)
        if self._row["value"] is not None:
            raise ColdstartError(f"review: {action} takes a value with claim alone: name the claim", kind="usage")
        if action == "reject":
            return Draft(item_id, "reject", ITEM, reason, by)
        return self._approve(item_id, reason, by)

    def _approve(self, item_id: str, reason: str, by: str) -> Draft:
        gates = [spec.name for spec in self._pipeline.stages if spec.kind in GATES]
        stage = self._row["stage"]
        if stage is None:
            raise ColdstartError(
                "review: approve takes the stage that keeps the item out, or a removed claim: give --stage, one of "
                f"{', '.join(gates) or 'none'}, or --claim",
                kind="usage",
            )
        if stage not in gates:
            known = [spec.name for spec in self._pipeline.stages]
            what = "keeps no items out" if stage in known else f"is no stage{suggestion(str(stage), gates)}"
            raise ColdstartError(
                f"review: {stage!r} {what}: those that do are {', '.join(gates) or 'none'}", kind="not_found"
            )
        # an approval that stands may be given again, as by a job that was broken off
        if item_id not in self._state.blocked_by(stage) and not self._state.approved(stage, [item_id]):
            raise ColdstartError(
                f"review: {stage} lets item {item_id!r} pass already: `coldstart review list --item {item_id}` shows "
                "what keeps it out",
                kind="input",
            )
        key = self._state.gate_keys(stage, [item_id])[item_id]
        return Draft(item_id, "approve", f"stage:{stage}", reason, by, content_key=key)

    def _correct(self, item_id: str, reason: str, by: str) -> Draft:
        rows = self._store.read(ITEMS, ids=[item_id]).to_pylist()
        if not rows:
            raise ColdstartError(
                f"review: item {item_id!r} has no record that could be corrected: mend its row in the manifest",
                kind="input",
            )
        name = self._row["field"]
        attributes = [f"{ATTRIBUTE}{one}" for one in read_attributes(rows[0].get("attributes"))]
        if not isinstance(name, str) or not (name in FIELDS or name.startswith(ATTRIBUTE)):
            likely = suggestion(str(name), [*FIELDS, *attributes])
            if f"{ATTRIBUTE}{name}" in [*attributes, "attributes.currency"]:
                likely = f" (did you mean {f'{ATTRIBUTE}{name}'!r}?)"
            raise ColdstartError(
                f"review: no field {name!r} can be corrected{likely}: give one of {', '.join(FIELDS)}, or "
                "attributes.NAME",
                kind="not_found",
            )
        try:
            value = decisions.check_value(name, self._row["value"])
        except (TypeError, ValueError, RecursionError) as error:
            raise ColdstartError(f"review: {error}", kind="input") from None
        if name in ("title", "description") and value is None and not rows[0].get("media"):
            other = "description" if name == "title" else "title"
            if not rows[0].get(other):
                raise ColdstartError(
                    f"review: item {item_id!r} has neither media nor {other}: {name} cannot be emptied"
                )
        return Draft(item_id, "correct", f"field:{name}", reason, by, value, value_of(rows[0], name), sets=name)

    def _claim(self, item_id: str, reason: str, by: str) -> Draft:
        action, name, value = self._row["action"], self._row["claim"], self._row["value"]
        stage = check_stage(self._pipeline)
        row = self._described(stage, item_id)
        kept = {(one["name"], one["value"]) for one in row.get("attributes") or ()}
        kept |= {("summary", one) for one in split_sentences(row.get("summary") or "") if one}
        kept |= {("keyword", one) for one in row.get("keywords") or ()}
        kept |= {("query", one) for one in row.get("queries") or ()}
        removed = {(one["claim"], one["value"]) for one in row.get("cut") or ()}
        log = decisions.read_decisions(self._store, item_id)
        decided = {(one.claim, one.value) for one in log.holding if one.claim is not None}
        known = {*kept, *removed, *decided}
        names = sorted({str(one) for one, _ in known})
        if name not in names:
            raise ColdstartError(
                f"review: the description of item {item_id!r} has no claim {name!r}{suggestion(str(name), names)}: "
                f"it has {', '.join(names) or 'none'}",
                kind="not_found",
            )
        values = [one for claim, one in sorted(known) if claim == name]
        if value is None and len(values) == 1:
            value = values[0]
        if value not in values:
            likely = suggestion(str(value), values)
            raise ColdstartError(
                f"review: no claim {name} of item {item_id!r} is {value!r}{likely}: give a value as it stands there: "
                f"{'; '.join(values[:5])}",
                kind="not_found",
            )
        if action == "reject":
            return Draft(item_id, "reject", f"claim:{name}", reason, by, value)
        if name == UNREAD:
            raise ColdstartError(
                "review: an answer that could not be read has nothing to approve: correct the record instead"
            )
        if (name, value) not in removed and (name, value) not in decided:
            raise ColdstartError(f"review: the claim {name} {value!r} of item {item_id!r} is served already")
        sets = self._record_field(name)
        before = None
        if sets:
            rows = self._store.read(ITEMS, ids=[item_id]).to_pylist()
            before = value_of(rows[0], sets) if rows else None
        return Draft(item_id, "approve", f"claim:{name}", reason, by, value, before, sets=sets)

    def _described(self, stage: str | None, item_id: str) -> dict[str, Any]:
        table = f"stage.{stage}"
        if stage is None or not self._store.has(table):
            raise ColdstartError(
                "review: no description was checked in this workspace: a pipeline with describe.check makes them",
                kind="not_ready",
            )
        rows = self._store.read(table, ids=[item_id]).to_pylist()
        return rows[0] if rows else {}

    def _record_field(self, claim: str) -> str:
        """Return the field of the record that states an attribute; empty for a claim of a text."""
        for named in self._pipeline.attributes.root.values():
            if claim in named:
                source = named[claim].source or f"{ATTRIBUTE}{claim}"
                return "" if source == "tags" else source  # one tag among others says nothing of the others
        return ""


def bring_into_effect(
    store: Store, pipeline: Pipeline, items: Sequence[str], warm: WarmEngine, progress: Progress
) -> ArrivalsReport:
    """Do the stages of some items again as was decided, and publish; the caller holds the lock.

    Raises:
        NotInEffect: a stage cannot be done.
    """
    spec = pipeline.of_kind("ingest")[0]
    source = StoredItems(spec.name, pipeline.source)
    try:
        return run_arrivals(store, pipeline, source, items, warm, progress)
    except ColdstartError as error:
        raise NotInEffect(
            f"the decision is recorded, and the next run brings it into effect: {error}",
            kind=error_fields(error)["kind"],
        ) from error

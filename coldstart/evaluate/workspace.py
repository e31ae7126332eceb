"""Evaluate every capability of a workspace, one after the other; a fault of one is a row and ends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from coldstart.core.keys import digest
from coldstart.core.settings import suggestion
from coldstart.errors import ColdstartError, NotFitted, machine_fault
from coldstart.evaluate import behaviour, fits, media, retrieval, safety
from coldstart.evaluate.capability import Capability, Context
from coldstart.evaluate.rows import VERDICTS, Row

CAPABILITIES: Mapping[str, Capability] = {
    one.name: one
    for one in (
        Capability("search", "Search", retrieval.search_rows, retrieval.search_seconds),
        Capability("match", "Products in videos", retrieval.match_rows, retrieval.match_seconds),
        Capability("align", "Alignment of pictures and texts", fits.align_rows, fits.align_seconds),
        Capability("labels", "Labels", media.label_rows, media.label_seconds),
        Capability("describe", "Descriptions", fits.describe_rows, fits.describe_seconds),
        Capability("recommend", "Recommendation of new items", behaviour.recommend_rows, behaviour.recommend_seconds),
        Capability("behaviour", "Fit of behaviour", behaviour.behaviour_rows, lambda context: 0.1),
        Capability("copies", "Near copies", media.copy_rows, media.copy_seconds),
        Capability("speech", "Speech", media.speech_rows, media.word_seconds),
        Capability("screen", "Text on screen", media.screen_rows, media.word_seconds),
        Capability("safety", "Safety", safety.safety_rows, safety.safety_seconds),
        Capability("index", "Index", retrieval.index_rows, retrieval.index_seconds),
    )
}
"""Name -> capability, in the order of the page."""


@dataclass(frozen=True)
class Done:
    """Work on one capability: its title, seconds of processor time, and what was estimated."""

    name: str
    title: str
    cpu_s: float
    estimated_s: float


@dataclass(frozen=True)
class EvaluationReport:
    """Evaluation of all capabilities.

    Attributes:
        workspace: its URI; items: number of items by kind; made_at: ISO 8601, in UTC.
        publication: tag of the catalog that is served, None where none is; published_at: of it.
        settings: digest of the settings in force; quick: samples were measured.
        rows: in the order of `CAPABILITIES`; done: one a capability.
        details: capability -> its whole report, of those with a page of their own; no part of `to_dict`.
    """

    workspace: str
    items: Mapping[str, int]
    made_at: str
    publication: str | None
    published_at: str | None
    settings: str
    quick: bool
    rows: Sequence[Row]
    done: Sequence[Done]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """Names of the capabilities that failed with an error."""
        return [row.capability for row in self.rows if row.verdict == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "rows": [row.to_dict() for row in self.rows],
            "capabilities": [asdict(one) for one in self.done],
            "verdicts": dict(VERDICTS),
        }


_PLAIN = ("workspace", "items", "made_at", "publication", "published_at", "settings", "quick")


def choose_capabilities(only: Iterable[str] | None, skip: Iterable[str]) -> list[Capability]:
    """Choose capabilities by name, in the order of `CAPABILITIES`.

    Raises:
        ColdstartError: there is no such capability, or none is left.
    """
    wanted, left = None if only is None else list(only), list(skip)
    for name in (*(wanted or ()), *left):
        if name not in CAPABILITIES:
            known = ", ".join(CAPABILITIES)
            raise ColdstartError(
                f"there is no capability {name!r}{suggestion(name, CAPABILITIES)}: choose among {known}"
            )
    chosen = [one for one in CAPABILITIES.values() if (wanted is None or one.name in wanted) and one.name not in left]
    if not chosen:
        raise ColdstartError("no capability is left to evaluate: name one with --only, or skip fewer")
    return chosen


def evaluate_capabilities(
    context: Context,
    chosen: Sequence[Capability],
    *,
    budget_s: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> EvaluationReport:
    """Evaluate some capabilities of a workspace.

    Args:
        budget_s: seconds of processor time in all: a capability whose estimate is above what is left is left out.
        say: called with the name of each capability before it is measured, with estimates.

    Raises:
        ColdstartError: the workspace has no items.
        MachineFault: the machine is at fault, as by a full disk.
    """
    if not context.kinds:
        context.published()  # says what to run
        raise ColdstartError(f"workspace {context.uri} has no items: `coldstart run PIPELINE --manifest FILE`")
    rows: list[Row] = []
    done: list[Done] = []
    spent = 0.0
    estimates = {one.name: _estimate(one, context) for one in chosen}
    for place, one in enumerate(chosen, start=1):
        began, estimated = _cpu_s(), estimates[one.name]
        left = sum(estimates[other.name] for other in chosen[place - 1 :])
        say(
            f"{place} of {len(chosen)}, {one.title}: about {estimated:.0f} s of processor time, {left:.0f} s to the end"
        )
        if budget_s is not None and estimated > max(0.0, budget_s - spent):
            why = f"it takes about {estimated:.0f} s, and {max(0.0, budget_s - spent):.0f} s of --budget are left"
            found: Sequence[Row] = [_without(one, "left_out", why, context)]
        else:
            found = _measured(one, context)
        took = _cpu_s() - began
        spent += took
        rows += found
        done.append(Done(one.name, one.title, round(took, 1), round(estimated, 1)))
    return _report(context, rows, done)


def _estimate(capability: Capability, context: Context) -> float:
    try:
        return capability.seconds(context)
    except ColdstartError:  # what is wrong is found again when it is measured, and stated there
        return 0.0


def _measured(capability: Capability, context: Context) -> Sequence[Row]:
    """Measure a capability; a fault is a row, but for one of the machine, which stops everything."""
    try:
        return capability.measure(context)
    except NotFitted as waits:
        return [_without(capability, "not_fitted", str(waits), context)]
    except Exception as error:  # of a library or our own: the other capabilities can be evaluated all the same
        if (fault := machine_fault(error)) is not None:
            raise fault from error
        why = str(error) if isinstance(error, ColdstartError) else f"{type(error).__name__}: {error}"
        return [_without(capability, "failed", why, context)]


def _without(capability: Capability, verdict: Any, why: str, context: Context) -> Row:
    command = context.command(f"evaluate all --only {capability.name}")
    return replace(Row(capability.name, capability.title), verdict=verdict, why=why[:1000], command=command)


def _cpu_s() -> float:
    """Read the processor time of this process and of those that it waited for, in seconds."""
    times = time.process_time()
    try:
        import resource
    except ImportError:  # Windows
        return times
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return times + children.ru_utime + children.ru_stime


def _report(context: Context, rows: Sequence[Row], done: Sequence[Done]) -> EvaluationReport:
    publication = None
    with suppress(ColdstartError):  # where nothing is published, recommendations can be evaluated all the same
        publication = context.published().publication
    return EvaluationReport(
        workspace=context.uri,
        items=context.kinds,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        publication=None if publication is None else publication.tag,
        published_at=None if publication is None else publication.published_at.isoformat(timespec="seconds"),
        settings=digest(context.store.pipeline() or {})[:12],
        quick=context.quick,
        rows=rows,
        done=done,
        details=context.details,
    )

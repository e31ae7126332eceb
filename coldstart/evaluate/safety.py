"""Rows of the safety gate: false alarms on items stated to be harmless, recall on those stated to be unsafe."""

from __future__ import annotations

from typing import Any

from coldstart.evaluate.capability import Context
from coldstart.evaluate.rows import Baseline, Row, exactly, judged
from coldstart.metrics.ranking import Interval
from coldstart.store import ITEMS
from coldstart.understand.safety_evaluation import Share, measure_safety, stated_harm

_ITEM_S = 2e-5  # of processor time to read one row

_UNMEASURED = (
    "recall is not measured: no item is stated to be unsafe; `coldstart evaluate safety --labels FILE` takes labels"
)


def safety_rows(context: Context) -> list[Row]:
    """Measure the gate by the records of the items: `adult: no`, `safety: unsafe`."""
    question = "Harmless items are not closed by the safety policy"
    command = context.command("evaluate safety --labels FILE")
    specs = context.pipeline.of_kind("understand.safety")
    if not specs:
        why = "the pipeline has no safety policy; a group `understand: {safety: {}}` does"
        return [Row("safety", question, why=why, command=context.command("run"))]
    stage: Any = context.state.stage(specs[-1].name)
    found = measure_safety(context.store, stage, stated_harm(context.store))
    method = f"by attributes such as adult: no; policy {found.policy}"
    if found.classifier:
        method += f", pictures by {found.classifier}"
    if not found.alarms.n and not found.recall.n:
        closed = f"{found.unlabelled.closed:,} of {found.unlabelled.n:,} items are closed"
        why = f"no record says whether its item is harmless; {closed}: `{command}` takes labels"
        return [Row("safety", question, why=why, command=command)]
    rows = []
    alarms = (
        (found.picture_alarms, "Of harmless items whose pictures were scored, their pictures close"),
        (found.alarms, "Of harmless items, words and pictures close"),
    )
    for share, statement in alarms:
        if share.n:
            rows.append(_row(share, question, statement, "false alarms", command, method))
    question = "Unsafe items are closed"
    recalls = (
        (found.picture_recall, "Of unsafe items whose pictures were scored, their pictures close"),
        (found.recall, "Of unsafe items, words and pictures close"),
    )
    for share, statement in recalls:
        if share.n:
            rows.append(_row(share, question, statement, "recall", command, method))
    if not found.recall.n:
        rows.append(Row("safety", question, measure="recall", why=_UNMEASURED, command=command, method=method))
    return rows


def _row(share: Share, question: str, statement: str, measure: str, command: str, method: str) -> Row:
    assert share.value is not None and share.bounds is not None
    alarms = measure == "false alarms"
    baseline = Baseline("closing every item" if alarms else "closing none", exactly(1.0 if alarms else 0.0))
    value = Interval(share.value, *share.bounds)
    return judged(
        Row(
            *("safety", question, statement, measure, share.n, "items", None, value, baseline),
            fewer_is_better=alarms,
            method=method,
            command=command,
        )
    )


def safety_seconds(context: Context) -> float:
    """Estimate the reading of rows."""
    return _ITEM_S * context.store.count(ITEMS)

"""How runs, balances and estimates are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from coldstart.cli import output

if TYPE_CHECKING:
    from coldstart.engine.estimate import Estimate
    from coldstart.engine.run import RunReport, StageReport


def run(report: RunReport) -> None:
    """What a run did: the balance of each stage, its notes, the time."""
    balance(report.stages, ran=True)
    for stage in report.stages:
        for note in stage.notes:
            output.line(f"{stage.stage}: {note}")
    upkeep = report.maintenance
    sizes = f"; disk {output.size(upkeep.bytes_before)} -> {output.size(upkeep.bytes_after)}" if upkeep else ""
    output.line(f"done in {output.duration(report.seconds)}{sizes}")


def balance(reports: Iterable[StageReport], ran: bool = False) -> None:
    """Where the items of each stage are, a row a stage; with `ran` what was done, and how fast."""
    rows: list[Sequence[Any]] = []
    for report in reports:
        items = report.balance
        reasons = ", ".join(f"{reason} {count}" for reason, count in items.reasons.items())
        row = [
            report.stage,
            items.total,
            items.fresh,
            items.failed,
            items.filtered,
            items.duplicate,
            items.pending,
        ]
        if ran:
            busy = report.ran.done + report.ran.lost
            rate = f"{busy / report.ran.seconds:,.1f}/s" if busy and report.ran.seconds else "-"
            waited = (
                f"{report.ran.wait_s / report.ran.seconds:.0%}"
                if busy and report.ran.seconds and report.ran.wait_s
                else "-"
            )
            row += [report.ran.done, rate, waited]
        rows.append([*row, reasons])
    columns = ["stage", "items", "fresh", "failed", "filtered", "duplicate", "pending"]
    output.table([*columns, *(["done now", "rate", "model waited"] if ran else []), "reasons"], rows)


def estimate(estimate: Estimate, json: bool) -> None:
    """What a run would take, a row a stage."""
    if json:
        output.as_json(estimate.to_dict())
        return
    rows = [
        [s.stage, s.rows, s.probed, s.lost, output.duration(s.seconds), output.size(s.bytes), s.bottleneck]
        for s in estimate.stages
    ]
    output.table(("stage", "rows to do", "probed", "lost", "time", "disk", "bottleneck"), rows)
    output.line("dry run: nothing was written")

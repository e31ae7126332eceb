"""How runs, balances and estimates are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from coldstart.cli import output

if TYPE_CHECKING:
    from coldstart.engine.estimated import Estimate, StageEstimate
    from coldstart.engine.kept import Comparison
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
    if report.estimated is not None:
        compared(report.estimated)


def compared(comparison: Comparison) -> None:
    """The dry run before it against what it took: the whole, and the stages that it was furthest off in seconds."""
    without = f" without {', '.join(comparison.left_out)}" if comparison.left_out else ""
    off = sorted(comparison.stages, key=lambda stage: -abs(stage.estimated_s - stage.took_s))[:3]
    stages = ", ".join(
        f"{stage.stage} {output.duration(stage.estimated_s)} for {output.duration(stage.took_s)}" for stage in off
    )
    output.line(
        f"estimated {output.duration(comparison.estimated_s)} for {output.duration(comparison.took_s)}{without}, "
        f"{comparison.ratio:.2f} of it; furthest off: {stages}"
    )


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
    """What a run would take, a row a stage; on the other machine too, where one was asked about."""
    if json:
        output.as_json(estimate.to_dict())
        return
    rows = [
        [
            *(stage.stage, stage.rows, stage.probed, stage.lost),
            _time(stage.seconds, stage.low, stage.high),
            *([_hours(stage.gpu_hours)] if any(one.gpu_hours for one in estimate.stages) else []),
            output.size(stage.memory_bytes),
            output.size(stage.bytes),
            _why(stage),
        ]
        for stage in estimate.stages
    ]
    gpu = ["GPU-hours"] if any(one.gpu_hours for one in estimate.stages) else []
    columns = ["stage", "rows to do", "probed", "lost", "time", *gpu, "memory", "disk", "bottleneck"]
    output.table(columns, rows)
    if estimate.on is not None:
        _elsewhere(estimate)
    output.table(
        ("this rests on", "figure", "from"), [[one.what, one.value, one.source] for one in estimate.assumptions]
    )
    for stage in estimate.stages:
        if stage.note:
            output.line(f"{stage.stage}: {stage.note}")
    low, high = estimate.range
    memory = max((stage.memory_bytes or 0 for stage in estimate.stages), default=0)
    disk = sum(stage.bytes or 0 for stage in estimate.stages)
    output.line(
        f"in all {_time(estimate.seconds, low, high)}{_without(estimate)}; memory {output.size(memory or None)}, "
        f"disk {output.size(disk)}"
    )
    if estimate.on is not None:
        output.line(_total_there(estimate))
    output.line("dry run: nothing was written")


def _elsewhere(estimate: Estimate) -> None:
    assert estimate.on is not None
    rows = [
        [
            stage.stage,
            _time(stage.other.seconds, stage.other.low, stage.other.high) if stage.other else "-",
            _hours(stage.other.gpu_hours) if stage.other else "-",
            (stage.other.bottleneck if stage.other.fits else "DOES NOT FIT its memory") if stage.other else "-",
        ]
        for stage in estimate.stages
    ]
    output.table((f"on {estimate.on.name}", "time", "GPU-hours", "bottleneck"), rows)


def _total_there(estimate: Estimate) -> str:
    assert estimate.on is not None
    seconds = estimate.seconds_there or 0.0
    used = sum(stage.other.gpu_hours for stage in estimate.stages if stage.other)
    price = (
        ""
        if estimate.on.price is None
        else f", {seconds / 3600 * estimate.on.price:.2f} at {estimate.on.price:g} an hour"
    )
    return f"on {estimate.on.name} {output.duration(seconds)}{_without(estimate)}: {_hours(used)} GPU-hours{price}"


def _without(estimate: Estimate) -> str:
    return f" without {', '.join(estimate.left_out)}, which could not be estimated" if estimate.left_out else ""


def _why(stage: StageEstimate) -> str:
    """What its time goes into; a second for each part would be noise in a table."""
    return "nothing to do" if not stage.rows else stage.bottleneck or "not estimated"


def _time(seconds: float | None, low: float | None, high: float | None) -> str:
    """A time with its range, where the two ends differ as a person reads them: `3.1 h (2.6 h to 3.9 h)`."""
    told = output.duration(seconds)
    ends = output.duration(low), output.duration(high)
    return told if low is None or high is None or ends[0] == ends[1] else f"{told} ({ends[0]} to {ends[1]})"


def _hours(hours: float | None) -> str:
    return "-" if not hours else f"{hours:.2g}"

"""How commands print: tables and lines for people, JSON for programs. Knows nothing of what is printed.

Options that several commands share.

How runs, balances and estimates are printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.engine.estimate.report import Comparison, Estimate, StageEstimate
    from coldstart.engine.report import RunReport, StageReport


def line(text: str) -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(f"{text}\n")


def as_json(value: Any) -> None:
    """One JSON document on stdout."""
    line(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def as_json_line(value: Any) -> None:
    """One JSON document on one line of stdout."""
    line(json.dumps(value, ensure_ascii=False, default=str))
    sys.stdout.flush()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """For a page or picture that a command writes: what keeps it from being written is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise ColdstartError(f"cannot write {path}: {error.strerror or error}; name another file with --out") from error


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; columns whose cells are all numbers are aligned to the right. Cells are plain text."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))] if cells else []
    grid = Table(header_style="bold")
    for index, column in enumerate(columns):
        right = bool(numeric) and numeric[index]
        grid.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # piped: wide enough not to wrap, and the same everywhere
    console.print(grid)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else _printable(str(value))


def _printable(text: str) -> str:
    """Text of items without what would steer the terminal; lines are kept."""
    return "".join(c if c.isprintable() or c in "\n\u200d" else " " for c in text)


def size(size_bytes: float | None) -> str:
    """Bytes as a person reads them."""
    if size_bytes is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:,.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


Uri = Annotated[
    str,
    typer.Option(
        "--workspace",
        "-w",
        envvar="COLDSTART_WORKSPACE",
        metavar="URI",
        help="Folder or LanceDB URI that holds the catalogue.",
    ),
]


PipelineName = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="FILE",
        help="Pipeline file, or the name of a packaged one; by default what this workspace ran with last.",
    ),
]


Manifest = Annotated[
    Path | None,
    typer.Option("--manifest", "-m", metavar="PATH", help="JSONL, CSV or Parquet file, or a folder of media."),
]


MediaRoots = Annotated[
    list[Path] | None,
    typer.Option("--media-root", metavar="DIR", help="Another folder that media may come from; repeatable."),
]


Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Change one setting, the value in YAML; repeatable."),
]


Limit = Annotated[int | None, typer.Option("--limit", min=0, metavar="N", help="At most N items a stage.")]


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


DEFAULT_WORKSPACE = "coldstart.store"


def run(report: RunReport) -> None:
    """What a run did: the balance of each stage, its notes, the time."""
    balance(report.stages, ran=True)
    for stage in report.stages:
        for note in stage.notes:
            line(f"{stage.stage}: {note}")
    upkeep = report.maintenance
    sizes = f"; disk {size(upkeep.bytes_before)} -> {size(upkeep.bytes_after)}" if upkeep else ""
    line(f"done in {duration(report.seconds)}{sizes}")
    if report.estimated is not None:
        compared(report.estimated)


def compared(comparison: Comparison) -> None:
    """The dry run before it against what it took: the whole, and the stages that it was furthest off in seconds."""
    without = f" without {', '.join(comparison.left_out)}" if comparison.left_out else ""
    off = sorted(comparison.stages, key=lambda stage: -abs(stage.estimated_s - stage.took_s))[:3]
    stages = ", ".join(f"{stage.stage} {duration(stage.estimated_s)} for {duration(stage.took_s)}" for stage in off)
    line(
        f"estimated {duration(comparison.estimated_s)} for {duration(comparison.took_s)}{without}, "
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
    table([*columns, *(["done now", "rate", "model waited"] if ran else []), "reasons"], rows)


def estimate(estimate: Estimate, json: bool) -> None:
    """What a run would take, a row a stage; on the other machine too, where one was asked about."""
    if json:
        as_json(estimate.to_dict())
        return
    rows = [
        [
            *(stage.stage, stage.rows, stage.probed, stage.lost),
            _time(stage.seconds, stage.low, stage.high),
            *([_hours(stage.gpu_hours)] if any(one.gpu_hours for one in estimate.stages) else []),
            size(stage.memory_bytes),
            size(stage.bytes),
            _why(stage),
        ]
        for stage in estimate.stages
    ]
    gpu = ["GPU-hours"] if any(one.gpu_hours for one in estimate.stages) else []
    columns = ["stage", "rows to do", "probed", "lost", "time", *gpu, "memory", "disk", "bottleneck"]
    table(columns, rows)
    if estimate.on is not None:
        _elsewhere(estimate)
    table(("this rests on", "figure", "from"), [[one.what, one.value, one.source] for one in estimate.assumptions])
    for stage in estimate.stages:
        if stage.note:
            line(f"{stage.stage}: {stage.note}")
    low, high = estimate.range
    memory = max((stage.memory_bytes or 0 for stage in estimate.stages), default=0)
    disk = sum(stage.bytes or 0 for stage in estimate.stages)
    line(
        f"in all {_time(estimate.seconds, low, high)}{_without(estimate)}; memory {size(memory or None)}, "
        f"disk {size(disk)}"
    )
    if estimate.on is not None:
        line(_total_there(estimate))
    line("dry run: nothing was written")


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
    table((f"on {estimate.on.name}", "time", "GPU-hours", "bottleneck"), rows)


def _total_there(estimate: Estimate) -> str:
    assert estimate.on is not None
    seconds = estimate.seconds_there or 0.0
    used = sum(stage.other.gpu_hours for stage in estimate.stages if stage.other)
    price = (
        ""
        if estimate.on.price is None
        else f", {seconds / 3600 * estimate.on.price:.2f} at {estimate.on.price:g} an hour"
    )
    return f"on {estimate.on.name} {duration(seconds)}{_without(estimate)}: {_hours(used)} GPU-hours{price}"


def _without(estimate: Estimate) -> str:
    return f" without {', '.join(estimate.left_out)}, which could not be estimated" if estimate.left_out else ""


def _why(stage: StageEstimate) -> str:
    """What its time goes into; a second for each part would be noise in a table."""
    return "nothing to do" if not stage.rows else stage.bottleneck or "not estimated"


def _time(seconds: float | None, low: float | None, high: float | None) -> str:
    """A time with its range, where the two ends differ as a person reads them: `3.1 h (2.6 h to 3.9 h)`."""
    told = duration(seconds)
    ends = duration(low), duration(high)
    return told if low is None or high is None or ends[0] == ends[1] else f"{told} ({ends[0]} to {ends[1]})"


def _hours(hours: float | None) -> str:
    return "-" if not hours else f"{hours:.2g}"

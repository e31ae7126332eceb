"""Options that commands share, and their printing: text and tables for people, JSON for programs.

Reports of runs, states of items and estimates are laid out here; all other output is laid out by its command.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.errors import ColdstartError, redact_urls

if TYPE_CHECKING:
    from coldstart.engine.estimate.report import Comparison, Estimate, StageEstimate
    from coldstart.engine.report import RunReport, StageReport

DEFAULT_WORKSPACE = "coldstart.workspace"
MAX_TOP_K = 10_000
"""As `coldstart.store.published.MAX_TOP_K`, which the help does not import."""

Uri = Annotated[
    str,
    typer.Option(
        "--workspace",
        "-w",
        envvar="COLDSTART_WORKSPACE",
        metavar="URI",
        help="Folder or LanceDB URI of the workspace.",
    ),
]
PipelineName = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="FILE",
        help="Pipeline file, or the name of a packaged one; by default the one of this workspace's last run.",
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option("--manifest", "-m", metavar="PATH", help="JSON, CSV, TSV or Parquet file, or a folder of media."),
]
MediaRoots = Annotated[
    list[Path] | None,
    typer.Option("--media-root", metavar="DIR", help="Another folder that media may come from; repeatable."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Change one setting, the value in YAML; repeatable."),
]
Kind = Annotated[str | None, typer.Option("--kind", metavar="video|product", help="Only items of this kind.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="SQL", help="A condition on the items, such as \"price < 20 AND category = 'Fruit'\"."
    ),
]
Split = Annotated[
    str,
    typer.Option("--split", metavar="NAME", help="Items of this split: test, held out from the fit; valid or train."),
]
MinWeight = Annotated[
    float | None,
    typer.Option(
        "--min-weight", metavar="W", help="Count interactions of at least W as positive; by default as the fit does."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=0, metavar="N", help="At most N items a stage.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def names(text: str | None) -> list[str] | None:
    """Split `a,b` into its names; None where the option was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def line(text: str) -> None:
    """Print one line on stdout; control characters, which would steer the terminal, become spaces.

    Half a character, which no encoding has, is escaped.
    """
    _write(without_controls(text))


def without_controls(text: str) -> str:
    """Replace control characters, which would steer the terminal, by spaces."""
    return _CONTROL.sub(" ", text)


def _write(text: str) -> None:
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line break, and those that turn the direction of writing."""


def as_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    _write(_json_text(value, indent=2))


def as_json_line(value: Any) -> None:
    """Print one JSON document on one line of stdout."""
    _write(_json_text(value))
    sys.stdout.flush()


def _json_text(value: Any, indent: int | None = None) -> str:
    text = json.dumps(_redacted(value), ensure_ascii=False, indent=indent, default=str)
    return _JSON_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)  # JSON itself escapes those below a space


def _redacted(value: Any, key: str = "") -> Any:
    """Leave the secrets of URLs out of the places of media, and of what is said of them; ids and texts stay."""
    if isinstance(value, Mapping):
        return {name: _redacted(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner, key) for inner in value]
    return redact_urls(value) if isinstance(value, str) and key in _PLACES else value


_PLACES = ("uri", "detail", "media", "medium", "manifest", "path", "value", "error", "note", "notes", "workspace")

_JSON_CONTROL = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def check_page(out: Path | None) -> None:
    """Check the name of a page that is written after long work.

    Raises:
        ColdstartError: it ends in something else than `.html`.
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise ColdstartError(f"--out {out}: the page is HTML: give a name that ends in .html")


def check_folder(out: Path | None) -> None:
    """Check the folder that files are written into after long work.

    Raises:
        ColdstartError: it is a file.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ColdstartError(f"--out {out} is a file: name a folder")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write of a page or picture into an error that names another `--out` as the next step."""
    try:
        yield
    except OSError as error:
        raise ColdstartError(f"cannot write {path}: {error.strerror or error}; name another file with --out") from error


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout; columns whose cells are all numbers are aligned to the right. Cells are plain text."""
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
    """Text of items without control characters, which would steer the terminal; line breaks stay."""
    return "".join(c if c.isprintable() or c in "\n\u200d" else " " for c in text)


def size(size_bytes: float | None) -> str:
    """Format bytes as B, kB, MB, GB or TB; `-` for none."""
    if size_bytes is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:,.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"


def duration(seconds: float | None) -> str:
    """Format seconds as s, min or h; `-` for none."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_run(report: RunReport) -> None:
    """Print a finished run: the balance of each stage, its notes, the time."""
    print_balance(report.stages, ran=True)
    for stage in report.stages:
        for note in stage.notes:
            line(f"{stage.stage}: {note}")
    upkeep = report.maintenance
    sizes = f"; disk {size(upkeep.bytes_before)} -> {size(upkeep.bytes_after)}" if upkeep else ""
    line(f"done in {duration(report.seconds)}{sizes}")
    if report.estimated is not None:
        print_comparison(report.estimated)


def print_comparison(comparison: Comparison) -> None:
    """Print the estimate against the time that the run took: in all, and of the stages with the greatest error."""
    without = f" without {', '.join(comparison.left_out)}" if comparison.left_out else ""
    off = sorted(comparison.stages, key=lambda stage: -abs(stage.estimated_s - stage.took_s))[:3]
    stages = ", ".join(f"{stage.stage} {duration(stage.estimated_s)} for {duration(stage.took_s)}" for stage in off)
    line(
        f"estimated {duration(comparison.estimated_s)} for {duration(comparison.took_s)}{without}, "
        f"{comparison.ratio:.2f} of it; furthest off: {stages}"
    )


def print_balance(reports: Iterable[StageReport], ran: bool = False) -> None:
    """Print the items in each state, a row a stage; with `ran` also the items done now and their rate."""
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


def print_estimate(estimate: Estimate, json: bool) -> None:
    """Print an estimate, a row a stage; for the other machine too, where one is named."""
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
            _bottleneck(stage),
        ]
        for stage in estimate.stages
    ]
    gpu = ["GPU-hours"] if any(one.gpu_hours for one in estimate.stages) else []
    columns = ["stage", "rows to do", "probed", "lost", "time", *gpu, "memory", "disk", "bottleneck"]
    table(columns, rows)
    if estimate.on is not None:
        _print_on_other(estimate)
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
        line(_total_on_other(estimate))
    line("dry run: nothing was written")


def _print_on_other(estimate: Estimate) -> None:
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


def _total_on_other(estimate: Estimate) -> str:
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


def _bottleneck(stage: StageEstimate) -> str:
    """The bottleneck of a stage."""
    return "nothing to do" if not stage.rows else stage.bottleneck or "not estimated"


def _time(seconds: float | None, low: float | None, high: float | None) -> str:
    """A time with its range, where the two ends differ after rounding: `3.1 h (2.6 h to 3.9 h)`."""
    text = duration(seconds)
    ends = duration(low), duration(high)
    return text if low is None or high is None or ends[0] == ends[1] else f"{text} ({ends[0]} to {ends[1]})"


def _hours(hours: float | None) -> str:
    return "-" if not hours else f"{hours:.2g}"

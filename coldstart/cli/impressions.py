"""Impressions on the command line: options of `ingest --impressions` and `--outcomes`, and the lines that they and
`status` print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.interactions import parse_pairs, print_columns, print_rejected, printable
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.ingest.load_impressions import ImpressionReport
    from coldstart.metrics.propensity import PropensityChecks, SlotPropensities
    from coldstart.store.impressions import ImpressionSummary

_SLOTS = 20
"""Positions that are printed."""

ImpressionFile = Annotated[
    Path | None,
    typer.Option(
        "--impressions",
        metavar="FILE",
        help="CSV, TSV, JSON or Parquet file, perhaps as .gz: a log of items shown to users, one a row.",
    ),
]
OutcomeFile = Annotated[
    Path | None,
    typer.Option(
        "--outcomes",
        metavar="FILE",
        help="The same, of outcomes that came after impressions: request_id, item_id and outcomes, or an event a row.",
    ),
]
Signals = Annotated[
    str | None,
    typer.Option(
        "--signals",
        metavar="NAME=COLUMN,…",
        help="Outcomes and their columns, such as follow=is_follow; follow= reads the column follow. click, dwell_s, "
        "like and hide are recognised.",
    ),
]


def ingest_file(
    uri: str, path: Path, later: bool, columns: str | None, signals: str | None, time_unit: str
) -> ImpressionReport:
    """Ingest a file of impressions or later outcomes into a workspace, created where there is none; as typed."""
    import coldstart
    from coldstart.core.spelling import existing_path, similar_path
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.ingest.files import KNOWN

    options: dict[str, Any] = {
        "columns": parse_pairs("--columns", columns),
        "signals": parse_pairs("--signals", signals),
        "time_unit": time_unit,
    }
    if not existing_path(path).is_file():  # a faulty name creates no workspace
        what = "outcomes" if later else "impressions"
        raise ColdstartError(f"no file of {what} at {path}{similar_path(path)}: give {KNOWN}")
    opened = coldstart.open(uri, create=not later)
    read = opened.ingest_outcomes if later else opened.ingest_impressions
    return read(path, progress=ConsoleProgress(), **options)


def print_report(report: ImpressionReport) -> None:
    """Print the counts of added, renewed, repeated and rejected rows."""
    for note in report.notes:
        output.note(printable(f"{report.file}: {note}"))
    print_columns({**report.columns, **report.signals}, report.guessed, report.time_unit)
    rate = f", {report.rows / report.seconds:,.0f} rows/s" if report.seconds else ""
    output.note(
        f"{report.rows:,} rows in {output.duration(report.seconds)}{rate}: {report.added:,} added, "
        f"{report.renewed:,} with new outcomes of a stored impression, {report.repeated:,} that add nothing, "
        f"{sum(report.rejected.values()):,} rejected; the table has {report.total:,}"
    )
    if report.early:
        output.note(
            f"rows whose outcome stands before its impression: {report.early:,}; it is kept apart and counts for "
            "nothing: compare the clocks"
        )
    if report.unknown_items and not report.later:
        output.note(
            f"{report.unknown_items:,} of {report.items:,} items are not in the catalogue; their "
            f"{report.unknown_rows:,} rows are stored"
        )
    if not report.signals and not report.later:
        output.note("no outcomes: --outcomes FILE brings them later, or interactions within 30 minutes count")
    print_rejected(report.rejected, report.examples)


def over_budget_fault(report: ImpressionReport) -> ColdstartError | None:
    """Describe that more rows were rejected than the budget allows; None where they were not."""
    if not report.over_budget:
        return None
    return ColdstartError(
        f"{report.rejected_share:.1%} of the rows of {report.file} were rejected, more than 1.0%; the good ones are "
        "stored, the others are in the table impressions_rejected: mend them and ingest the file again",
        kind="failed",
        result={"impressions": report.to_dict()},
    )


def summary_lines(summary: ImpressionSummary) -> list[str]:
    """Summarise the impressions of a workspace: one line of rows, one of outcomes."""
    rejected = f"; {summary.rejected:,} rows rejected" if summary.rejected else ""
    if summary.first is None or summary.last is None:
        return [f"impressions: none{rejected}"]
    from coldstart.store.removal import counted

    requests = f" in {summary.requests:,} requests" if summary.requests else ""
    found = [
        f"impressions: {summary.rows:,} on {counted(summary.days, 'day')}{requests}, of {summary.items:,} items, "
        f"{summary.known_items:,} of them in the catalogue, to {summary.users:,} users; "
        f"{summary.first:%Y-%m-%d %H:%M} to {summary.last:%Y-%m-%d %H:%M} UTC{rejected}"
    ]
    shares = ", ".join(f"{name} {above / stated:.2%}" for name, (stated, above) in summary.signals.items() if stated)
    early = f"; outcomes before their impression, kept apart: {summary.early:,}" if summary.early else ""
    found.append(
        f"outcomes: {summary.without_outcome:,} impressions ({summary.without_outcome / summary.rows:.1%}) state none"
        f"{f'; above 0 where stated: {shares}' if shares else ''}; propensity known of "
        f"{summary.with_propensity / summary.rows:.1%}{early}"
    )
    return found


def summary_json(summary: ImpressionSummary) -> Mapping[str, Any]:
    """Return the summary as plain data."""
    from dataclasses import asdict

    values = asdict(summary)
    for edge in ("first", "last"):
        values[edge] = values[edge] and values[edge].isoformat()
    values["signals"] = {
        name: {"stated": stated, "above_zero": above} for name, (stated, above) in summary.signals.items()
    }
    return values


def print_checks(checks: PropensityChecks) -> None:
    """Print what the propensities of the log can bear."""
    from coldstart.metrics.intervals import FEWEST_COMPARED

    if not checks.known:
        output.line(
            f"none of {checks.rows:,} impressions states a propensity: no other policy can be estimated on them"
        )
        return
    shown = checks.slots[:_SLOTS]
    output.table(
        ("position", "rows", "items", "least", "median", "uniform covered", "95 % interval", "effective rows"),
        [
            [
                "-" if slot.position < 0 else slot.position,
                slot.rows,
                slot.items,
                f"{slot.least:.2g}",
                f"{slot.median:.2g}",
                f"{slot.covered:.3f}",
                _interval(slot),
                f"{slot.effective_rows:,.0f}",
            ]
            for slot in shown
        ],
    )
    if any(slot.rows < FEWEST_COMPARED for slot in shown):
        output.note(f"fewer than {FEWEST_COMPARED} rows of a position are too few to judge")
    if len(checks.slots) > len(shown):
        output.note(f"{len(checks.slots) - len(shown):,} further positions: --json has all")
    output.line(
        f"propensity known of {checks.known:,} of {checks.rows:,} impressions, of {checks.covered_items:,} of "
        f"{checks.items:,} items"
    )
    output.note(
        "uniform covered: of a policy that shows these items equally often, the share of choices that the log could "
        "have made; 1 where propensities are right and every item had a chance, above 1 where they are too low"
    )
    if checks.doubled:
        output.note(
            f"places of a request with several items: {checks.doubled:,}; their propensities sum to more than 1 in "
            f"{checks.above_one:,}"
        )


def _interval(slot: SlotPropensities) -> str:
    return "" if slot.interval is None else f"{slot.interval[0]:.3f} to {slot.interval[1]:.3f}"

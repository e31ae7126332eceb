"""Interactions on the command line: options of `ingest --interactions`, and the lines that it and `status` print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import output
from coldstart.core.reasons import plain, remedy
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.ingest.load_interactions import InteractionReport
    from coldstart.store.histories import HistorySummary
    from coldstart.store.interactions import InteractionSummary

_RATED = ("rating", "stars")
"""Parts of the name of a column that holds ratings."""

InteractionFile = Annotated[
    Path | None,
    typer.Option(
        "--interactions",
        metavar="FILE",
        help="CSV, TSV, JSON or Parquet file, perhaps as .gz: a log of user-item interactions, one a row.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,…",
        help="Columns of the log's fields, such as user_id, item_id, timestamp; usual names are recognised.",
    ),
]
EventWeights = Annotated[
    str | None,
    typer.Option(
        "--event-weights",
        metavar="EVENT=WEIGHT,…",
        help="Weight of each event, such as click=1,like=3,skip=-1; EVENT alone: as in the weight column.",
    ),
]
TimeUnit = Annotated[
    str,
    typer.Option(
        "--time-unit",
        metavar="UNIT",
        help="Unit of the timestamps: s, ms or us since 1970, iso for dates, or auto: as the first rows are.",
    ),
]


def parse_pairs(option: str, text: str | None) -> dict[str, str] | None:
    """Parse `a=b,c` to {"a": "b", "c": ""}; None where the option was not given.

    Raises:
        ColdstartError: an entry without a name, or a name twice.
    """
    if text is None:
        return None
    found: dict[str, str] = {}
    for entry in text.split(","):
        name, _, value = (part.strip() for part in entry.partition("="))
        if not name or name in found:
            fault = f"{name!r} stands twice" if name else f"{entry!r} has no name"
            raise ColdstartError(f"{option} {text}: {fault}; give NAME=VALUE,NAME=VALUE")
        found[name] = value
    return found


def parse_weights(text: str | None) -> dict[str, float | None] | None:
    """Parse `--event-weights` to event -> weight, None for an event without a weight.

    Raises:
        ColdstartError: a weight that is no number.
    """
    found: dict[str, float | None] = {}
    for event, value in (parse_pairs("--event-weights", text) or {}).items():
        try:
            found[event] = float(value) if value else None
        except ValueError as error:
            raise ColdstartError(f"--event-weights {event}={value}: give a number, such as {event}=1") from error
    return None if text is None else found


def ingest_file(
    uri: str, path: Path, columns: str | None, event_weights: str | None, time_unit: str
) -> InteractionReport:
    """Ingest a file of interactions into a workspace, created where there is none; arguments as typed."""
    import coldstart
    from coldstart.core.spelling import existing_path, similar_path
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.ingest.files import KNOWN

    options: dict[str, Any] = {
        "columns": parse_pairs("--columns", columns),
        "event_weights": parse_weights(event_weights),
        "time_unit": time_unit,
    }
    if not existing_path(path).is_file():  # a faulty name creates no workspace
        raise ColdstartError(f"no file of interactions at {path}{similar_path(path)}: give {KNOWN}")
    return coldstart.open(uri, create=True).ingest_interactions(path, progress=ConsoleProgress(), **options)


def print_report(report: InteractionReport) -> None:
    """Print the counts of added, repeated and rejected rows."""
    for note in report.notes:
        output.note(printable(f"{report.file}: {note}"))
    print_columns(report.columns, report.guessed, report.time_unit, "; no times: all rows count as of 1970-01-01")
    rate = f", {report.rows / report.seconds:,.0f} rows/s" if report.seconds else ""
    output.note(
        f"{report.rows:,} rows in {output.duration(report.seconds)}{rate}: {report.added:,} added, "
        f"{report.renewed:,} with a new weight, {report.repeated:,} already stored, "
        f"{sum(report.rejected.values()):,} rejected; the table has {report.total:,}"
    )
    for note in report.likes.notes:
        output.note(note)
    column, likes = report.columns.get("weight", ""), report.likes
    if likes.scale is None and likes.likes and any(word in column.casefold() for word in _RATED):
        output.note(
            printable(
                f"{likes}: {column} fills no scale to 5, 10 or 100 mostly above its middle; if a low one is no like, "
                "give align.behaviour.min_weight"
            )
        )
    if report.unknown_items:
        output.note(
            f"{report.unknown_items:,} of {report.items:,} items are not in the catalogue; their "
            f"{report.unknown_rows:,} rows are stored"
        )
    print_rejected(report.rejected, report.examples)


def print_columns(
    columns: Mapping[str, str], guessed: Mapping[str, str], time_unit: str | None, untimed: str = ""
) -> None:
    """Print the columns of a log, those that were recognised, and the unit of its times."""
    used = ", ".join(f"{field}={column}" for field, column in columns.items())
    names = f"; recognised by name: {', '.join(guessed)}" if guessed else ""
    unit = time_unit or ""
    for code, letters in (("%d", "DD"), ("%m", "MM"), ("%Y", "YYYY"), ("%y", "YY"), ("%H:%M", "hh:mm"), ("%S", "ss")):
        unit = unit.replace(code, letters)
    output.note(printable(f"columns {used}{names}{f'; times in {unit}' if unit else untimed}"))


def print_rejected(rejected: Mapping[str, int], examples: Mapping[str, list[tuple[int, str]]]) -> None:
    """Print a table of the rejected rows of a log: reasons, counts, the first rows, and the next step."""
    if not rejected:
        return
    first = {
        reason: "; ".join(f"row {row}: {value}" if value else f"row {row}" for row, value in found)
        for reason, found in examples.items()
    }
    output.table(
        ("rejected", "rows", "first rows", "next step"),
        [[plain(reason), count, first.get(reason), remedy(reason) or None] for reason, count in rejected.items()],
        spare=("next step",),
    )


def printable(text: str) -> str:
    """Replace control characters in names of a file, which would steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def over_budget_fault(report: InteractionReport | None) -> ColdstartError | None:
    """Describe that more rows were rejected than the budget allows; None where they were not."""
    if report is None or not report.over_budget:
        return None
    events = sorted({detail for _, detail in report.examples.get("unknown_event", ())})
    why = f", such as those of event {' or '.join(events)}, which --event-weights does not name" if events else ""
    return ColdstartError(
        f"{report.rejected_share:.1%} of the rows of {report.file} were rejected, more than 1.0%{why}; the good "
        "ones are stored, the others are in the table interactions_rejected: mend them and ingest the file again",
        kind="failed",
        result={"interactions": report.to_dict()},
    )


def summary_line(summary: InteractionSummary) -> str:
    """Summarise the interactions of a workspace in one line."""
    if summary.first is None or summary.last is None:
        return "interactions: none"
    rejected = f"; {summary.rejected:,} rows rejected" if summary.rejected else ""
    return (
        f"interactions: {summary.rows:,} of {summary.users:,} users with {summary.items:,} items, "
        f"{summary.known_items:,} of them in the catalogue; {summary.first:%Y-%m-%d %H:%M} to "
        f"{summary.last:%Y-%m-%d %H:%M} UTC{rejected}"
    )


def history_line(summary: HistorySummary) -> str:
    """Summarise the histories of a workspace in one line."""
    dropped = f"; {summary.dropped:,} older ones dropped" if summary.dropped else ""
    no_time = f"; {summary.left_out:,} of a time that does not fit left out" if summary.left_out else ""
    return (
        f"histories: {summary.actions:,} actions of {summary.users:,} users, the longest {summary.longest:,} of at "
        f"most {summary.cap:,}{dropped}{no_time}"
    )


def summary_json(summary: InteractionSummary) -> Mapping[str, Any]:
    """Return the summary as plain data."""
    from dataclasses import asdict

    values = asdict(summary)
    for edge in ("first", "last"):
        values[edge] = values[edge] and values[edge].isoformat()
    return {"stage": "interactions", **values}

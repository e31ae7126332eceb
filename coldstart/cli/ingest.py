"""What `ingest --interactions` and `status` say of interactions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import output
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.ingest.load_interactions import InteractionReport
    from coldstart.store.interactions import Summary

InteractionFile = Annotated[
    Path | None,
    typer.Option(
        "--interactions",
        metavar="FILE",
        help="CSV, TSV, JSONL or Parquet file of who did what with which item, and when.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,…",
        help="Columns of user_id, item_id, timestamp, event and weight; plain names are recognised.",
    ),
]
EventWeights = Annotated[
    str | None,
    typer.Option(
        "--event-weights",
        metavar="EVENT=WEIGHT,…",
        help="Weight of each event, such as click=1,like=3,skip=-1; EVENT alone takes that of the weight column.",
    ),
]
TimeUnit = Annotated[
    str, typer.Option("--time-unit", metavar="UNIT", help="s, ms, us, iso, or auto: by the first times.")
]


def pairs(option: str, text: str | None) -> dict[str, str] | None:
    """`a=b,c` as {"a": "b", "c": ""}; None where the option was not given.

    Raises:
        ColdstartError: an entry without a name, or a name that stands twice.
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


def weights(text: str | None) -> dict[str, float | None] | None:
    """Event -> weight, None where an event stands alone.

    Raises:
        ColdstartError: a weight that is no number.
    """
    found: dict[str, float | None] = {}
    for event, value in (pairs("--event-weights", text) or {}).items():
        try:
            found[event] = float(value) if value else None
        except ValueError as error:
            raise ColdstartError(f"--event-weights {event}={value}: give a number, such as {event}=1") from error
    return None if text is None else found


def take(uri: str, path: Path, columns: str | None, event_weights: str | None, time_unit: str) -> InteractionReport:
    """Read a file of interactions into a workspace, which is made where there is none; arguments as typed."""
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    options: dict[str, Any] = {
        "columns": pairs("--columns", columns),
        "event_weights": weights(event_weights),
        "time_unit": time_unit,
    }
    if not path.is_file():  # a faulty name makes no workspace
        raise ColdstartError(f"no file of interactions at {path}: give a .csv, .tsv, .jsonl or .parquet file")
    return coldstart.open(uri, create=True).ingest_interactions(path, progress=ConsoleProgress(), **options)


def show(report: InteractionReport) -> None:
    """What became of the rows, for people."""
    used = ", ".join(f"{field}={column}" for field, column in report.columns.items())
    guessed = f"; recognised by name: {', '.join(report.guessed)}" if report.guessed else ""
    times = f"; times in {report.time_unit}" if report.time_unit else "; no times: all rows count as of 1970-01-01"
    output.line(_printable(f"columns {used}{guessed}{times}"))
    rate = f", {report.rows / report.seconds:,.0f} rows/s" if report.seconds else ""
    output.line(
        f"{report.rows:,} rows in {output.duration(report.seconds)}{rate}: {report.added:,} added, "
        f"{report.renewed:,} with a new weight, {report.repeated:,} there already, "
        f"{sum(report.rejected.values()):,} rejected; the table has {report.total:,}"
    )
    if report.unknown_items:
        output.line(
            f"{report.unknown_items:,} of {report.items:,} items are not in the catalogue; their "
            f"{report.unknown_rows:,} rows are kept"
        )
    if report.rejected:
        examples = {
            reason: "; ".join(f"row {row}: {value}" if value else f"row {row}" for row, value in found)
            for reason, found in report.examples.items()
        }
        output.table(
            ("rejected", "rows", "first of them"),
            [[reason, count, examples.get(reason, "")] for reason, count in report.rejected.items()],
        )


def _printable(text: str) -> str:
    """Names from a file without what would steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def leave_where_too_many_failed(report: InteractionReport) -> None:
    """Exit code 1, and one line on stderr, where more rows were rejected than may be."""
    if report.over_budget:
        typer.echo(
            f"error: {report.rejected_share:.1%} of the rows of {report.file} were rejected, more than 1.0%; the good "
            "ones are kept, the others are in the table interactions_rejected: mend them and ingest the file again",
            err=True,
        )
        raise typer.Exit(1)


def standing(summary: Summary) -> str:
    """How the table stands, in a line."""
    if summary.first is None or summary.last is None:
        return "interactions: none"
    rejected = f"; {summary.rejected:,} rows rejected" if summary.rejected else ""
    return (
        f"interactions: {summary.rows:,} of {summary.users:,} users with {summary.items:,} items, "
        f"{summary.known_items:,} of them in the catalogue; {summary.first:%Y-%m-%d %H:%M} to "
        f"{summary.last:%Y-%m-%d %H:%M} UTC{rejected}"
    )


def standing_json(summary: Summary) -> Mapping[str, Any]:
    """The same as plain data."""
    from dataclasses import asdict

    found = asdict(summary)
    for edge in ("first", "last"):
        found[edge] = found[edge] and found[edge].isoformat()
    return {"stage": "interactions", **found}

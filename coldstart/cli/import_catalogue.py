"""`coldstart import`: take in a catalogue as a shop has it, and show which column is taken for which field."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, MediaRoots, Overrides, PipelineName, Uri

if TYPE_CHECKING:
    from coldstart.ingest.catalogue import CatalogueReport, SourcePlan

_SHOWN = 12


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("import")(import_)


def import_(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…", help="Table file, folder with a table, a dataset or media, or https address."
        ),
    ],
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Read a field, or attributes.NAME, from this column, or several with commas; repeatable.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse where anything is doubtful or rejected; store nothing then.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything; store nothing.")] = False,
    media_root: MediaRoots = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Import a catalogue as a shop has it.

    Reads CSV, TSV, JSON, Parquet, Excel, shop exports, product feeds and datasets. Columns are recognised by name and
    values; what is no field becomes an attribute. Shows what is taken for what, then asks.

    \b
    Examples:
      coldstart import products.csv --workspace shop.workspace
      coldstart import export.xlsx --map title=Bezeichnung --yes
      coldstart import https://shop.example/feed.xml --dry-run
    """
    import coldstart
    from coldstart.core.scratch import scratch_folder
    from coldstart.core.spelling import is_folder
    from coldstart.core.uris import plain_uri
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.errors import ColdstartError

    uri = plain_uri(workspace)
    given = _given(columns or ())
    asks = not (yes or dry_run)
    settings: dict[str, Any] = {"pipeline": pipeline, "overrides": overrides or ()}
    with scratch_folder("run") as empty:  # nothing but the import itself creates a workspace
        there = "://" in uri or is_folder(uri)
        opened = coldstart.open(uri if there else empty)
        plans = opened.plan_import(sources, columns=given, downloads=empty / "downloads", **settings)
        if not json:
            for plan in plans:
                print_plan(plan)
        if asks and all(plan.known and not plan.changes for plan in plans):
            asks = False
        if asks and (json or not sys.stdin.isatty()):
            raise ColdstartError(
                "import: there is no terminal to ask on: look with --dry-run, then give --yes", kind="usage"
            )
        if asks:
            typer.confirm("import it so?", abort=True, default=True)
        options = {**settings, "media_roots": media_root or (), "strict": strict}
        if dry_run:
            report = opened.import_catalogue(plans, dry_run=True, **options)
        else:
            if strict and not there:
                opened.import_catalogue(plans, dry_run=True, **options)
            opened = coldstart.open(uri, create=True)
            report = opened.import_catalogue(opened.keep_downloads(plans, empty), progress=ConsoleProgress(), **options)
    if not json:
        advice = None if dry_run or any(source.over_budget for source in report.sources) else opened.encoder_advice()
        _print_report(report, uri, advice)
    if failed := [source for source in report.sources if source.over_budget]:
        raise ColdstartError(
            f"more rows of {failed[0].plan.path.name} were rejected than max_failed allows, and `coldstart run` stops "
            f"for it: see them with `coldstart status --failed --workspace {uri}`, mend the file, or give "
            "--set max_failed=1",
            kind="failed",
            result=report.to_dict(),
        )
    if json:
        output.as_json(report.to_dict())


def _given(texts: Sequence[str]) -> dict[str, list[str]]:
    """Parse `field=column` and `field=column,column`."""
    from coldstart.errors import ColdstartError

    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, column = text.partition("=")
        if not equals or not name.strip():
            raise ColdstartError(f"--map {text}: give FIELD=COLUMN, such as --map title=Name", kind="usage")
        found.setdefault(name.strip(), []).append(column.strip())
    return {name: [one for one in chosen if one] for name, chosen in found.items()}


def print_plan(plan: SourcePlan) -> None:
    """Print which column is taken for which field, what is doubtful, and what becomes an attribute."""
    from coldstart.ingest.catalogue import filled_attributes

    survey = plan.survey
    if survey is None:
        output.line(f"{plan.path}: a folder of media: an item a file")
        return
    output.note("; ".join((f"{plan.path}: {_rows(survey.rows)}", *plan.notes)))
    rows = [
        [
            match.field,
            ", ".join(match.columns),
            "yes" if match.sure or plan.known else "doubtful",
            " | ".join(match.samples),
        ]
        for match in plan.matches
    ]
    output.table(("field", "column", "sure", "samples"), rows, main="field", whole=("field", "sure"))
    attributes = filled_attributes(plan.recognition, survey)
    if attributes:
        more = f" and {len(attributes) - _SHOWN} more" if len(attributes) > _SHOWN else ""
        output.note(f"attributes: {', '.join(attributes[:_SHOWN])}{more}")
    for doubt in plan.doubts:
        output.note(f"doubtful: {doubt}")
    for warning in plan.warnings:
        output.note(f"warning: {warning}")
    for change in plan.changes:
        output.note(f"changed: {change}")
    if plan.known:
        output.note("read as in the last import: the columns are the same")
    if plan.hosts:
        named = ", ".join(f"{host} ({count:,})" for host, count in list(plan.hosts.items())[:3])
        setting = ", ".join(plan.hosts)
        output.note(
            f"not allowed: media of {named}: items that have no other are rejected; allow with "
            f"--set 'media.allowed_hosts=[{setting}]'"
        )


def _rows(count: int, what: str = "row") -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _print_report(report: CatalogueReport, uri: str, advice: str | None) -> None:
    """Print what became of each source, and the next step.

    Args:
        advice: on the encoder of texts, for their languages.
    """
    from coldstart.core.reasons import counted

    would = "would be imported" if report.dry_run else "imported"
    for source in report.sources:
        joined = f", {source.joined:,} joined into items of other rows" if source.joined else ""
        rejected = sum(source.rejected.values())
        output.note(
            f"{source.plan.path.name}: {_rows(source.rows)}: {_rows(source.items, 'item')} {would}{joined}, "
            f"{rejected:,} rejected"
        )
        for reason, count in source.rejected.most_common():
            output.note(f"  {counted({reason: count})}, such as {source.examples[reason]}")
        for doubt in source.doubts:
            output.note(f"doubtful: {doubt}")
    if report.doubled:
        output.note(
            f"{_rows(report.doubled, 'id')} in two of the sources, such as {report.doubled_example!r}: the later counts"
        )
    if advice:
        output.note(f"languages: {advice}")
    if report.dry_run:
        output.line("dry run: nothing was stored")
    elif not any(source.over_budget for source in report.sources):
        output.line(f"done in {output.duration(report.seconds)}; next: coldstart run --workspace {uri}")

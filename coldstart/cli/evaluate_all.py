"""`coldstart evaluate all`: measure every capability on held-out items of this catalogue, on one page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, PipelineName, Uri
from coldstart.core.sanitize import without_controls
from coldstart.errors import ColdstartError

_PAGE = Path("evaluation.html")


def register(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("all")(evaluate_all)


def evaluate_all(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="A,B", help="Capabilities by name, such as search,match.")
    ] = None,
    skip: Annotated[
        str | None, typer.Option("--skip", metavar="A,B", help="Capabilities to leave out, such as describe.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Describe at most N items; by default 30.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure samples of 100, fit for a minute, describe nothing.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", min=0, metavar="MIN", help="Leave out what is estimated above these minutes of processor time."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=f"Path of the HTML page; by default {_PAGE} in this folder."),
    ] = None,
    details: Annotated[
        Path | None,
        typer.Option("--details", metavar="DIR", help="Folder for pages of examples and tables, linked from the page."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure every capability, each against its baseline.

    Uses items of this catalogue that no fit has seen, and writes one page. With --json a page is written only if
    --out names a file. A capability that fails is shown with its error, and the command exits with 1.

    \b
    Examples:
      coldstart evaluate all --workspace shop.workspace --out evaluation.html
      coldstart evaluate all --only search,match --quick
      coldstart evaluate all --skip describe --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.evaluate.page import detail_pages, evaluation_page

    output.check_page(out)
    output.check_folder(details)
    opened = coldstart.open(workspace)
    report = opened.evaluate_all(
        opened.pipeline(pipeline),
        only=output.names(only),
        skip=output.names(skip) or (),
        quick=quick,
        limit=limit,
        budget_s=None if budget is None else 60 * budget,
        say=lambda text: typer.echo(without_controls(text), err=True),
        progress=ConsoleProgress(),
    )
    known = report.to_dict()
    try:
        opened.keep_evaluation(report)
    except ColdstartError as error:
        typer.echo(without_controls(f"the results are not kept with the workspace: {error}"), err=True)
    if not json:
        _print(known)
    links: dict[str, str] = {}
    if details is not None:
        with output.writing(details):
            links = detail_pages(report.details, details, opened.media_limits())
    if out is not None or not json:
        path = out or _PAGE
        own = {name: os.path.relpath(page, path.parent) for name, page in links.items()}
        with output.writing(path):
            evaluation_page(known, path, own)
        if not json:
            output.line(f"page: {path}")
    failed = report.failed
    if json:
        noun = "capability" if len(failed) == 1 else "capabilities"
        message = f"{len(failed)} {noun} failed: {', '.join(failed)}"
        output.as_json(known | ({"error": output.failed(message)} if failed else {}))
    if failed:
        raise typer.Exit(1)


def _print(known: Mapping[str, Any]) -> None:
    rows = known["rows"]
    measured = {row["capability"] for row in rows if row["value"]}
    for one in known["capabilities"]:
        own = [row for row in rows if row["capability"] == one["name"]]
        if one["name"] in measured:
            output.line(f"\n{one['title']}")
            for row in own:
                output.note(f"  {row['sentence']}")
    if measured:
        output.note("\nin brackets: 95 % intervals; n: queries, items or claims behind a value")
    without = [row for row in rows if row["capability"] not in measured]
    if without:
        titles = {one["name"]: one["title"] for one in known["capabilities"]}
        output.line("\nNot measured here" if measured else "Nothing could be measured")
        for row in without:
            output.note(f"  {titles[row['capability']]}: {known['verdicts'][row['verdict']]}: {row['why']}")

"""`coldstart evaluate recall`: compare lists of what users like next, inside one split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, PipelineName, Uri

_PAGE, _RECORD, _TABLE = "recall.html", "recall.json", "recall.md"


def register(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("recall")(recall)


def recall(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="KIND",
            help="Ask for the last item (last-out), the first after a cut (time), or hold out items (cold:0.1).",
        ),
    ] = "last-out",
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B", help="Methods by name, such as ease,both; by default all."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Number of fits of each trained method.")
    ] = 1,
    users: Annotated[
        int | None,
        typer.Option("--users", min=1, metavar="N", help="Judge N users, drawn by a hash of their ids."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help=f"Folder for {_PAGE}, {_RECORD} and {_TABLE}; by default only the page, in this folder.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare lists of what users like next.

    Fits the sequence model and baselines inside one split, and asks each list for the item that came next. Codes are
    also dealt out at random, and taken from category paths, to show what they are worth. A leak fails the run. With
    --json files are written only if --out names a folder.

    \b
    Examples:
      coldstart evaluate recall --workspace shop.workspace --out report
      coldstart evaluate recall --split cold:0.1 --methods dense,codes,both
      coldstart evaluate recall --split time --users 4000 --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.semantic_ids.recall_report import recall_html

    output.check_folder(out)
    opened = coldstart.open(workspace)
    found = opened.evaluate_recall(
        opened.pipeline(pipeline),
        split=split,
        methods=output.names(methods),
        seeds=seeds,
        users=users,
        progress=ConsoleProgress(),
    )
    known = found.to_dict()
    if not json:
        _print(known)
    output.write_report(out, "recall", known, recall_html, found.to_markdown, json_on_stdout=json)


def _print(known: Mapping[str, Any]) -> None:
    from coldstart.semantic_ids.recall_report import columns_of, heading, lines_of, rows_of

    columns = columns_of(known)
    for name in known["sets"]:
        rows = rows_of(known, name)
        if rows:
            output.line(f"\n{heading(known, name)}")
            output.table(columns, rows, "method", whole=columns[1:3], spare=columns[:2:-1])
    for line in lines_of(known):
        output.note(line)

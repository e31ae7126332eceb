"""`coldstart evaluate rerank`: judge rerankers against their base, and write their certificates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, PipelineName, Uri

_PAGE, _RECORD, _TABLE = "rerank.html", "rerank.json", "rerank.md"


def register(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("rerank")(rerank)


def rerank(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    kinds: Annotated[
        str, typer.Option("--kinds", metavar="A,B", help="Rerankers to measure: mmr, dpp, listwise, llm.")
    ] = "mmr,dpp",
    generator: Annotated[
        str,
        typer.Option("--generator", metavar="NAME", autocompletion=complete.generators, help="Language model of llm."),
    ] = "starter",
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="NAME",
            help="Order of llm: pointwise, by the likelihood of titles, or letters, which it writes.",
        ),
    ] = "pointwise",
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="KIND",
            help="Hold out the last liked item (last-out), or the first after a cut (time), which listwise needs.",
        ),
    ] = "last-out",
    users: Annotated[
        int, typer.Option("--users", min=1, metavar="N", help="Measure N users, drawn by a hash of their ids.")
    ] = 500,
    rank: Annotated[
        str,
        typer.Option("--rank", metavar="auto|on|off", help="Lists of `recommend` with this --rank are the base."),
    ] = "auto",
    recall: Annotated[
        str | None,
        typer.Option(
            "--recall", metavar="NAME", help="Lists of `recommend` with this --recall are the base, unranked."
        ),
    ] = None,
    deadline_ms: Annotated[
        float, typer.Option("--deadline-ms", metavar="N", help="Count lists that take longer than N ms as late.")
    ] = 300.0,
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
    """Judge whether reordering a list finds more of what users like.

    Chooses settings on some users and measures others. Saves a certificate of each kind, under which `recommend
    --rerank auto` serves it for 30 days if it gained for sure, and the list is of the same kind. A language model takes
    seconds a request on a CPU. With --json files are written only if --out names a folder.

    \b
    Examples:
      coldstart evaluate rerank --workspace shop.workspace --out rerank
      coldstart evaluate rerank --kinds llm,mmr --generator starter --users 100
      coldstart evaluate rerank --kinds listwise --split time --rank off --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.rerank.report import rerank_html

    output.check_folder(out)
    found = coldstart.open(workspace).evaluate_rerank(
        pipeline,
        kinds=output.names(kinds) or (),
        generator=generator,
        mode=mode,
        split=split,
        users=users,
        deadline_ms=deadline_ms,
        rank=rank,
        recall=recall,
        progress=ConsoleProgress(),
    )
    known = found.to_dict()
    if not json:
        _print(known)
    output.write_report(out, "rerank", known, rerank_html, found.to_markdown, json_on_stdout=json)


def _print(known: Mapping[str, Any]) -> None:
    from coldstart.rerank.report import COLUMNS, lines_of, rows_of

    if rows := rows_of(known):
        output.table(COLUMNS, rows, "kind", whole=COLUMNS[1:4], spare=COLUMNS[:3:-1])
    for line in lines_of(known):
        output.note(line)

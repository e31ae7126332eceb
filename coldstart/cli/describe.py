"""Commands around descriptions: `describe`, and `export adapter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, Limit, Overrides, PipelineName, Uri
from coldstart.cli.work import DryRun, run_and_report

exports = typer.Typer(help="Write out what was learnt.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    app.command("describe")(describe)
    app.add_typer(exports, name="export")


@exports.callback()
def export() -> None:
    """Write out what was learnt."""


def describe(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator", metavar="NAME", help="Who writes: finetune:describe, starter, hf:…, openai:MODEL@URL."
        ),
    ] = None,
    ab: Annotated[
        int | None,
        typer.Option(
            "--ab", min=1, metavar="N", help="Show what the base and the tuned model write of N items; keep nothing."
        ),
    ] = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Write a description of every item that has no fresh one, and check each claim of it.

    Example: coldstart describe --workspace shop.workspace --generator finetune:describe
    """
    import coldstart
    from coldstart.learning.describe_pipeline import with_describe

    opened = coldstart.open(workspace)
    raw, changes = with_describe(opened.pipeline(pipeline), {"generator": generator})
    changes += overrides or ()
    if ab is None:
        settings = {"source": raw, "overrides": changes}
        run_and_report(workspace, json, dry_run, settings, {"only": ["describe"]}, {"limit": limit})
        return
    compared = opened.compare_descriptions(opened.pipeline(raw, overrides=changes), limit=ab)
    if json:
        output.as_json(compared)
    else:
        _print(compared)


def _print(compared: list[dict[str, Any]]) -> None:
    for one in compared:
        output.line(f"{one['item_id']}: {one['title'] or ''}")
        rows = [
            (
                name,
                side["text"],
                side["kept"],
                "; ".join(f"{cut['claim']} {cut['value']!r}: {cut['reason']}" for cut in side["cut"]),
            )
            for name, side in one["written"].items()
        ]
        output.table(("writer", "wrote", "kept by the checks", "cut"), rows)


@exports.command("adapter")
def adapter(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the merged model goes; must not exist.")],
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    prompts: Annotated[
        int,
        typer.Option("--prompts", min=1, metavar="N", help="Prompts by which adapter and merged model are compared."),
    ] = 20,
    json: Json = False,
) -> None:
    """Merge what `finetune describe` made into its base and write a model that transformers and vLLM load.

    Fails where the adapter, the merged model and the batched path do not write the same.

    Example: coldstart export adapter shop-writer --workspace shop.workspace
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    report = opened.export_adapter(out, opened.pipeline(pipeline), prompts=prompts, progress=ConsoleProgress())
    if json:
        output.as_json(report)
    else:
        output.line(f"{report['folder']}: {output.size(report['size_bytes'])}; {report['agreement']}")

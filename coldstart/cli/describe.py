"""Commands around descriptions: `describe`, and `export adapter`.

`coldstart prompts`: which there are, what one asks, and how an item looks in it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Limit, Overrides, PipelineName, Uri
from coldstart.cli.run import DryRun, run_and_report

if TYPE_CHECKING:
    from coldstart.core.prompts import Prompt


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
    from coldstart.describe.finetune.settings import with_describe

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


_DIGEST = 12  # digits that a person compares


def register_prompts(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("prompts")(prompts)


def prompts(
    name: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="A packaged prompt or a path; none lists what is packaged.")
    ] = None,
    item: Annotated[str | None, typer.Option("--item", metavar="ID", help="Render it for this item.")] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    generator: Annotated[
        str, typer.Option("--generator", metavar="NAME", help="Whose tokens are counted; fake counts words.")
    ] = "starter",
    json: Json = False,
) -> None:
    """List prompts, show one, or render one for an item and count its tokens.

    Example: coldstart prompts describe_product --item shoe-7 --workspace shop.workspace
    """
    from coldstart.core import prompts as files
    from coldstart.core import settings
    from coldstart.errors import ColdstartError

    if name is None:
        if item is not None:
            raise ColdstartError(
                f"--item {item}: name the prompt to render, such as coldstart prompts describe_product"
            )
        _list([files.load(one) for one in settings.files("prompts", "*.md")], json)
    elif item is None:
        _show(files.load(name), json)
    else:
        _render(files.load(name), item, workspace, pipeline, generator, json)


def _list(found: list[Prompt], json: bool) -> None:
    if json:
        output.as_json([_plain(prompt) for prompt in found])
        return
    columns = ("prompt", "version", "reads", "asks for", "tokens read", "tokens written", "digest")
    rows = []
    for prompt in found:
        asks = bool(prompt.output)
        rows.append(
            (
                prompt.name,
                str(prompt.version),
                ", ".join(prompt.inputs),
                ", ".join(prompt.output) or None,
                str(sum(prompt.budgets.values())) if asks else None,
                str(prompt.max_new_tokens) if asks else None,
                prompt.digest[:_DIGEST],
            )
        )
    output.table(columns, rows)
    output.line("tokens read: of the item at most; an encoder's budgets stand in the pipeline file")


def _show(prompt: Prompt, json: bool) -> None:
    if json:
        output.as_json(_plain(prompt))
        return
    output.line(f"{prompt.name} {prompt.version}: {prompt.about}")
    output.line(f"digest: {prompt.digest}")
    output.line(f"inputs: {', '.join(_budgeted(prompt))}")
    if prompt.output:
        output.line(f"output: {', '.join(prompt.output)}, at most {prompt.max_new_tokens} tokens")
        output.line(f"system: {prompt.system}")
    output.line(f"template:\n{prompt.source.rstrip()}")


def _budgeted(prompt: Prompt) -> list[str]:
    return [f"{name} ({prompt.budgets[name]})" if name in prompt.budgets else name for name in prompt.inputs]


def _render(prompt: Prompt, item: str, workspace: str, pipeline: str | None, generator: str, json: bool) -> None:
    import coldstart
    from coldstart import generators
    from coldstart.describe.writing import rendered

    opened = coldstart.open(workspace)
    known = opened.dossier(item)
    row = {
        **known.item,
        "evidence": {"transcript": known.transcript, "screen_text": known.screen_text},
        "described": known.described,
    }
    count = generators.load(generator, device="cpu").count_tokens
    told = rendered(prompt, row, opened.pipeline(pipeline).attributes, count)
    if json:
        output.as_json({"prompt": prompt.name, "digest": prompt.digest, "item_id": item, **asdict(told)})
        return
    if told.system:
        output.line(f"system, {told.system_tokens} tokens:\n{told.system}\n")
    output.line(f"text, {told.text_tokens} tokens:\n{told.text}\n")
    output.table(
        ("input", "tokens", "read", "budget"),
        [(name, one.tokens, one.read, one.budget) for name, one in told.inputs.items()],
    )


def _plain(prompt: Prompt) -> dict[str, Any]:
    return {**asdict(prompt), "digest": prompt.digest}

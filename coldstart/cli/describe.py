"""Commands of descriptions: `describe`, `export adapter` and `prompts`."""

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

exports = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_DIGEST = 12  # digits that a person compares


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    app.command("describe")(describe)
    app.add_typer(exports, name="export")
    app.command("prompts")(prompts)


@exports.callback()
def export() -> None:
    """Export fitted models for other programs."""


def describe(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator", metavar="NAME", help="Model that writes: finetune:describe, starter, hf:…, openai:MODEL@URL."
        ),
    ] = None,
    ab: Annotated[
        int | None,
        typer.Option(
            "--ab", min=1, metavar="N", help="Compare base and tuned model on N items side by side; store nothing."
        ),
    ] = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Write descriptions of items and check each claim.

    Describes every item that has no fresh description.

    \b
    Examples:
      coldstart describe --workspace shop.workspace --generator finetune:describe
      coldstart describe --ab 5
      coldstart describe --generator openai:qwen3-30b@http://127.0.0.1:8000/v1
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
        _print_compared(compared)


def _print_compared(compared: list[dict[str, Any]]) -> None:
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
        output.table(("writer", "text", "after the checks", "cut"), rows)


@exports.command("adapter")
def adapter(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the merged model.")],
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    prompts: Annotated[
        int,
        typer.Option("--prompts", min=1, metavar="N", help="Compare adapter and merged model on N prompts."),
    ] = 20,
    json: Json = False,
) -> None:
    """Merge a fine-tuned adapter into its base model.

    The folder loads in transformers and vLLM. Fails if the adapter, the merged model and the batched path do not
    write the same text.

    \b
    Examples:
      coldstart export adapter shop-writer --workspace shop.workspace
      coldstart export adapter shop-writer --prompts 100
      coldstart export adapter shop-writer --pipeline product.yaml --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    report = opened.export_adapter(out, opened.pipeline(pipeline), prompts=prompts, progress=ConsoleProgress())
    if json:
        output.as_json(report)
    else:
        output.line(f"{report['folder']}: {output.size(report['size_bytes'])}; {report['agreement']}")


def prompts(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="Name of a packaged prompt, or a path; without it, list the packaged ones."
        ),
    ] = None,
    item: Annotated[str | None, typer.Option("--item", metavar="ID", help="Render the prompt for this item.")] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    generator: Annotated[
        str, typer.Option("--generator", metavar="NAME", help="Count tokens as this model does; fake counts words.")
    ] = "starter",
    json: Json = False,
) -> None:
    """List prompts, show one, or render one for an item.

    The rendered prompt comes with its tokens and the budget of each input.

    \b
    Examples:
      coldstart prompts
      coldstart prompts describe_product
      coldstart prompts describe_product --item sku-1 --workspace shop.workspace
    """
    from coldstart.core import settings
    from coldstart.core.prompts import load
    from coldstart.errors import ColdstartError

    if name is None:
        if item is not None:
            raise ColdstartError(
                f"--item {item}: name the prompt to render, such as coldstart prompts describe_product"
            )
        _list([load(one) for one in settings.data_files("prompts", "*.md")], json)
    elif item is None:
        _show(load(name), json)
    else:
        _render(load(name), item, workspace, pipeline, generator, json)


def _list(packaged: list[Prompt], json: bool) -> None:
    if json:
        output.as_json([_plain(prompt) for prompt in packaged])
        return
    columns = ("prompt", "version", "inputs", "outputs", "input tokens", "output tokens", "digest")
    rows = []
    for prompt in packaged:
        generates = bool(prompt.output)
        rows.append(
            (
                prompt.name,
                str(prompt.version),
                ", ".join(prompt.inputs),
                ", ".join(prompt.output) or None,
                str(sum(prompt.budgets.values())) if generates else None,
                str(prompt.max_new_tokens) if generates else None,
                prompt.digest[:_DIGEST],
            )
        )
    output.table(columns, rows)
    output.line("input tokens: at most, of the item; the budgets of an encoder are in the pipeline file")


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
    from coldstart.describe.writing import render_prompt

    opened = coldstart.open(workspace)
    known = opened.dossier(item)
    row = {
        **known.item,
        "evidence": {"transcript": known.transcript, "screen_text": known.screen_text},
        "described": known.described,
    }
    count = generators.load(generator, device="cpu").count_tokens
    text = render_prompt(prompt, row, opened.pipeline(pipeline).attributes, count)
    if json:
        output.as_json({"prompt": prompt.name, "digest": prompt.digest, "item_id": item, **asdict(text)})
        return
    if text.system:
        output.line(f"system, {text.system_tokens} tokens:\n{text.system}\n")
    output.line(f"text, {text.text_tokens} tokens:\n{text.text}\n")
    output.table(
        ("input", "tokens", "read", "budget"),
        [(name, one.tokens, one.read, one.budget) for name, one in text.inputs.items()],
    )


def _plain(prompt: Prompt) -> dict[str, Any]:
    return {**asdict(prompt), "digest": prompt.digest}

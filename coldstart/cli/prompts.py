"""`coldstart prompts`: which there are, what one asks, and how an item looks in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, PipelineName, Uri

if TYPE_CHECKING:
    from coldstart.prompts import Prompt

_DIGEST = 12  # digits that a person compares


def register(app: typer.Typer) -> None:
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
    from coldstart import prompts as files
    from coldstart import resources
    from coldstart.errors import ColdstartError

    if name is None:
        if item is not None:
            raise ColdstartError(
                f"--item {item}: name the prompt to render, such as coldstart prompts describe_product"
            )
        _list([files.load(one) for one in resources.files("prompts", "*.md")], json)
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
    from coldstart.learning.rendering import rendered

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

"""Commands of descriptions: `describe` and `prompts`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, Items, Json, Limit, Overrides, PipelineName, Uri, Where
from coldstart.cli.run import DryRun, run_and_report
from coldstart.core.reasons import plain

if TYPE_CHECKING:
    from coldstart.api.workspace import Workspace
    from coldstart.core.prompts import Prompt

_SHOWN = 20  # descriptions of chosen items that are printed
_DIGEST = 12  # digits that a person compares


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    app.command("describe")(describe)
    app.command("prompts")(prompts)


def describe(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            metavar="NAME",
            autocompletion=complete.generators,
            help="Model that writes: finetune:describe, starter, hf:…, openai:MODEL@URL.",
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
    items: Items = None,
    where: Where = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Write descriptions of items and check each claim.

    Describes every item that has no fresh description, or of the chosen items each that has none.

    \b
    Examples:
      coldstart describe --workspace shop.workspace --generator finetune:describe
      coldstart describe --items sku-1,sku-2
      coldstart describe --where "category = 'Shoes'" --limit 100
      coldstart describe --ab 5
      coldstart describe --generator openai:qwen3-30b@http://127.0.0.1:8000/v1
    """
    import coldstart

    opened = coldstart.open(workspace)
    from coldstart.describe.finetune.settings import with_describe  # once the workspace is there

    raw, changes = with_describe(opened.pipeline(pipeline), {"generator": generator})
    changes += overrides or ()
    if ab is None:
        settings = {"source": raw, "overrides": changes}
        chosen = output.item_ids(items)
        options = {"limit": limit, "items": chosen, "where": where}
        before = {} if chosen is None else _descriptions(opened, chosen[:_SHOWN])
        run_and_report(workspace, json, dry_run, settings, {"only": ["describe"]}, options)
        if chosen is not None and not (json or dry_run):
            _print_chosen(coldstart.open(workspace), chosen, before)
        return
    compared = opened.compare_descriptions(opened.pipeline(raw, overrides=changes), limit=ab)
    if json:
        output.as_json({"items": compared})
    else:
        _print_compared(compared)


def _descriptions(opened: Workspace, items: list[str]) -> dict[str, dict[str, Any]]:
    """Read the checked descriptions of some items: item -> row."""
    checks = opened.pipeline().of_kind("describe.check")
    table = f"stage.{checks[-1].name}" if checks else ""
    if table not in opened.tables():
        return {}
    wanted = " OR ".join("item_id = '{}'".format(item.replace("'", "''")) for item in items)
    rows = opened.table(table, ["item_id", "row_key", "summary"], wanted).to_pylist()
    return {row["item_id"]: row for row in rows}


def _print_chosen(opened: Workspace, items: list[str], before: dict[str, dict[str, Any]]) -> None:
    """Print the descriptions of the chosen items, and whether they were written now."""
    found = _descriptions(opened, items[:_SHOWN])
    facts = []
    for item in items[:_SHOWN]:
        row = found.get(item)
        if row is None:
            facts.append((item, f"no description: `coldstart show {item}` says why"))
        else:
            kept = item in before and before[item]["row_key"] == row["row_key"]
            facts.append((item, f"{'as before' if kept else 'written now'}: {row['summary'] or 'no sentence is left'}"))
    output.facts(facts)
    if len(items) > _SHOWN:
        output.note(f"and {len(items) - _SHOWN:,} more: `coldstart show ITEM` has the claims of each")


def _print_compared(compared: list[dict[str, Any]]) -> None:
    for one in compared:
        output.line(f"{one['item_id']}: {one['title'] or ''}")
        for name, side in one["written"].items():
            removed = [f"{cut['claim']} {cut['value']!r} {plain(cut['reason'])}" for cut in side["cut"]]
            output.facts(
                [
                    ("writer", name),
                    ("written", side["text"]),
                    ("after checks", side["kept"]),
                    ("removed", "; ".join(removed) or "nothing"),
                ]
            )
        output.line("")


def prompts(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT",
            autocompletion=complete.prompts,
            help="Name of a packaged prompt, or a path; without it, list the packaged ones.",
        ),
    ] = None,
    item: Annotated[
        str | None,
        typer.Option("--item", metavar="ID", autocompletion=complete.items, help="Render the prompt for this item."),
    ] = None,
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    generator: Annotated[
        str,
        typer.Option(
            "--generator",
            metavar="NAME",
            autocompletion=complete.generators,
            help="Count tokens as this model does; fake counts words.",
        ),
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
        output.as_json({"prompts": [_plain(prompt) for prompt in packaged]})
        return
    columns = ("prompt", "version", "input tokens", "output tokens", "inputs", "outputs", "digest")
    rows = []
    for prompt in packaged:
        generates = bool(prompt.output)
        rows.append(
            (
                prompt.name,
                str(prompt.version),
                str(sum(prompt.budgets.values())) if generates else None,
                str(prompt.max_new_tokens) if generates else None,
                ", ".join(prompt.inputs),
                ", ".join(prompt.output) or None,
                prompt.digest[:_DIGEST],
            )
        )
    output.table(columns, rows, whole=("prompt",), spare=("digest", "outputs", "inputs"))
    output.note("input tokens: at most, of the item; the budgets of an encoder are in the pipeline file")


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

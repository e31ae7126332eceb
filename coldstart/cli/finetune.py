"""Commands that learn from the catalogue: `finetune align`, `finetune describe`."""

from __future__ import annotations

from typing import Annotated

import typer

from coldstart.cli import output, report
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, Overrides, PipelineName, Uri

app = typer.Typer(help="Learn from the catalogue itself.", no_args_is_help=True, rich_markup_mode=None)


@app.command("align")
def align(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="SPACE", help="The space of pictures to learn from.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="ENCODER", help="The encoder of words.")] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Bring pictures and words into one space, learnt from this catalogue's own pairs.

    Learns anew where items came, changed or went since the last time. A pipeline without such a stage gets one.

    Example: coldstart finetune align --workspace shop.workspace --set align.text_image.training.epochs=60
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    done = coldstart.open(workspace).finetune_align(
        source=pipeline, image=image, text=text, overrides=overrides or (), progress=ConsoleProgress()
    )
    if json:
        output.as_json(done.to_dict())
    else:
        report.run(done)


@app.command("describe")
def describe(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    generator: Annotated[
        str | None,
        typer.Option("--generator", metavar="NAME", help="What is tuned: starter, starter-vlm or hf:NAME_OR_PATH."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="sft|dpo", help="dpo goes on from the last fit with the checks' preferences."),
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Teach a language model to describe this catalogue's items, from those that are well told.

    Learns anew where items came, changed or went since the last time. A pipeline without such a stage gets one.

    Example: coldstart finetune describe --workspace shop.workspace --generator starter-vlm
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    done = coldstart.open(workspace).finetune_describe(
        source=pipeline, generator=generator, method=method, overrides=overrides or (), progress=ConsoleProgress()
    )
    if json:
        output.as_json(done.to_dict())
    else:
        report.run(done)

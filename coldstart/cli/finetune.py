"""Commands that learn from the catalogue: `finetune align`, `finetune behaviour`, `finetune describe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli import output as report
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Overrides, PipelineName, Uri

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


@app.command("behaviour")
def behaviour(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    spaces: Annotated[
        str | None, typer.Option("--spaces", metavar="A,B", help="The spaces that say what an item is; by default all.")
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Learn from interactions who will like an item, by what it shows and says; so that new items have that too.

    Learns anew where items or interactions came, changed or went since the last time. A pipeline without such a stage
    gets one, and a space `behaviour` that `coldstart run` fills.

    Example: coldstart finetune behaviour --workspace shop.workspace --spaces image,text
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    chosen = None if spaces is None else [name.strip() for name in spaces.split(",") if name.strip()]
    done = opened.finetune_behaviour(
        source=pipeline, spaces=chosen, overrides=overrides or (), progress=ConsoleProgress()
    )
    fits = {stage.stage: opened.fit_report(stage.stage) for stage in done.stages}
    if json:
        output.as_json({**done.to_dict(), "fits": fits})
        return
    report.run(done)
    for found in fits.values():
        _candidates(found)


def _candidates(found: Mapping[str, Any]) -> None:
    """What was tried, the best first, each metric with its interval."""
    tried = found["candidates"]
    metrics = list(next(iter(tried.values())))
    rows: list[Sequence[Any]] = [
        [
            f"{name} (chosen)" if name == found["chosen"] else name,
            *(f"{one['value']:.4f} ({one['low']:.4f}–{one['high']:.4f})" for one in values.values()),
        ]
        for name, values in sorted(tried.items(), key=lambda entry: -entry[1][metrics[-1]]["value"])
    ]
    output.table(["mapper", *metrics], rows)


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

"""Commands that fit models to the catalogue: `finetune align`, `behaviour`, `describe`, `sids`, `recall`, `rerank`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, Overrides, PipelineName, Uri

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def finetune() -> None:
    """Fit models of items, users, rankings and lists."""


@app.command("align")
def align(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="SPACE", autocompletion=complete.spaces, help="Image space to learn from."),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="ENCODER", autocompletion=complete.encoders, help="Text encoder.")
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fit a joint space of pictures and texts.

    Learns from the catalogue's own pairs. Fits again only if items came, changed or went since the last fit. Adds
    the stage `align.text_image` to a pipeline without one.

    \b
    Examples:
      coldstart finetune align --workspace shop.workspace
      coldstart finetune align --image image --text starter
      coldstart finetune align --set align.text_image.training.epochs=60
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    done = coldstart.open(workspace).finetune_align(
        source=pipeline, image=image, text=text, overrides=overrides or (), progress=ConsoleProgress()
    )
    if json:
        output.as_json(done.to_dict())
    else:
        output.print_run(done)


@app.command("behaviour")
def behaviour(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    spaces: Annotated[
        str | None, typer.Option("--spaces", metavar="A,B", help="Content spaces to learn from; by default all.")
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fit a mapping from content to user behaviour.

    With it, items without interactions can be recommended. Fits again only if items or interactions came, changed
    or went since the last fit. Adds the stage `align.behaviour` to a pipeline without one, and a space `behaviour`
    that `coldstart run` fills.

    \b
    Examples:
      coldstart finetune behaviour --workspace shop.workspace
      coldstart finetune behaviour --pipeline recommend --spaces image,text
      coldstart finetune behaviour --set align.behaviour.warm_min=3 --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    done = opened.finetune_behaviour(
        source=pipeline, spaces=output.names(spaces), overrides=overrides or (), progress=ConsoleProgress()
    )
    fits = {stage.stage: opened.fit_report(stage.stage) for stage in done.stages}
    if json:
        output.as_json({**done.to_dict(), "fits": fits})
        return
    output.print_run(done)
    for report in fits.values():
        _print_candidates(report)


def _print_candidates(report: Mapping[str, Any]) -> None:
    """Print the mappers that were evaluated, the best first, each metric with its interval."""
    from coldstart.recommend.fit_stage import compared_metrics

    tried = report["candidates"]
    metrics = compared_metrics(report)
    rows: list[Sequence[Any]] = [
        [
            f"{name} (chosen)" if name == report["chosen"] else name,
            *(f"{one['value']:.4f} ({one['low']:.4f}–{one['high']:.4f})" for one in map(values.get, metrics)),
        ]
        for name, values in sorted(tried.items(), key=lambda entry: -entry[1][metrics[-1]]["value"])
    ]
    output.table(["mapper", *metrics], rows, whole=metrics[-1:], spare=metrics[:-1])


@app.command("describe")
def describe(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            metavar="NAME",
            autocompletion=complete.generators,
            help="Model to tune: starter, starter-vlm or hf:NAME_OR_PATH.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", metavar="sft|dpo", help="sft: supervised; dpo: from the last fit, by preferences of the checks."
        ),
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fine-tune a language model to describe items.

    Learns from the well described items of the catalogue. Fits again only if items came, changed or went since the
    last fit. Adds the stage `finetune.describe` to a pipeline without one.

    \b
    Examples:
      coldstart finetune describe --generator starter-vlm
      coldstart finetune describe --generator hf:Qwen/Qwen3-VL-4B-Instruct
      coldstart finetune describe --method dpo
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    done = coldstart.open(workspace).finetune_describe(
        source=pipeline, generator=generator, method=method, overrides=overrides or (), progress=ConsoleProgress()
    )
    if json:
        output.as_json(done.to_dict())
    else:
        output.print_run(done)


@app.command("sids")
def sids(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="SPACE",
            autocompletion=complete.spaces,
            help="Space to code; by default behaviour where that is fitted, else that of texts.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="rqkmeans: residual k-means; opq: product quantization; fsq: scalar quantization; rqvae: autoencoder.",
        ),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option("--levels", metavar="N,N,N", help="Number of codes of each level, such as 256,256,256."),
    ] = None,
    collisions: Annotated[
        str | None,
        typer.Option(
            "--collisions",
            metavar="NAME",
            help="Items of the same nearest codes: reassign a last code, count them by a suffix, or keep them.",
        ),
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fit semantic IDs: a few codes an item that like items share.

    Fits codebooks and gives every item its ID; `coldstart run` gives new items theirs, and no old one moves. Fits again
    only if items came, changed or went since the last fit. Adds the stages `align.sids` and `sids` to a pipeline
    without them.

    \b
    Examples:
      coldstart finetune sids --workspace shop.workspace
      coldstart finetune sids --space behaviour --levels 64,64,64
      coldstart finetune sids --method opq --collisions suffix --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    done = opened.finetune_sids(
        source=pipeline,
        space=space,
        method=method,
        levels=output.counts(levels, "--levels"),
        collisions=collisions,
        overrides=overrides or (),
        progress=ConsoleProgress(),
    )
    if json:
        output.as_json(done.to_dict())
    else:
        output.print_run(done)
        if not all(one["served"] for one in opened.sid_versions()[:1]):
            output.note(f"readers see these IDs from the next `coldstart index --workspace {workspace}` or run on")


@app.command("recall")
def recall(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="SPACE",
            autocompletion=complete.spaces,
            help="Space of content to read; by default the first one of texts.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="transformer|llm",
            help="Decode semantic IDs by the model's own head, or by a language model that is taught them.",
        ),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            metavar="NAME",
            autocompletion=complete.generators,
            help="Language model of --model llm: starter or hf:NAME_OR_PATH.",
        ),
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fit a sequence model of what users like next.

    Reads histories in order of time, and scores items by content and id, and by their semantic IDs. Items without
    interactions are scored too. Fits again only if items, IDs or interactions came, changed or went since the last fit;
    a fit that was stopped goes on where it was. Adds the stages it needs to a pipeline without them.

    \b
    Examples:
      coldstart finetune recall --workspace shop.workspace
      coldstart finetune recall --space text --set recall.dim=128
      coldstart finetune recall --model llm --set recall.llm.steps=200
      coldstart finetune recall --set recall.epochs=20 --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    done = opened.finetune_recall(
        source=pipeline,
        space=space,
        model=model,
        generator=generator,
        overrides=overrides or (),
        progress=ConsoleProgress(),
    )
    fits = {stage.stage: opened.fit_report(stage.stage) for stage in done.stages}
    if json:
        output.as_json({**done.to_dict(), "fits": fits})
        return
    output.print_run(done)
    for report in fits.values():
        _print_channels(report)


def _print_channels(report: Mapping[str, Any]) -> None:
    """Print what each channel reached on held-out items, that of `auto` marked."""
    rows: list[Sequence[Any]] = []
    for name, measures in report.get("held_out", {}).items():
        own = [measures[metric] for metric in ("recall@10", "ndcg@10")]
        if all(own):
            cells = [f"{one['value']:.4f} ({one['low']:.4f}–{one['high']:.4f})" for one in own]
            rows.append([f"{name} (auto)" if name == report["auto"] else name, *cells])
    if rows:
        output.table(["list", "recall@10", "ndcg@10"], rows, whole=("ndcg@10",))


@app.command("rerank")
def rerank(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    kind: Annotated[
        str, typer.Option("--kind", metavar="NAME", help="Kind that is fitted: listwise, a model of whole lists.")
    ] = "listwise",
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fit a model of what is clicked in a list as a whole.

    Learns from the logged showings of requests with five known items and more, and their outcomes. Fits again only if
    showings or interactions came, changed or went since the last fit. Adds the stage `finetune.rerank` to a pipeline
    without one.

    \b
    Examples:
      coldstart finetune rerank --workspace shop.workspace
      coldstart finetune rerank --kind listwise --set rerank.signal=like
      coldstart finetune rerank --set rerank.min_requests=200 --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    done = coldstart.open(workspace).finetune_rerank(
        source=pipeline, kind=kind, overrides=overrides or (), progress=ConsoleProgress()
    )
    if json:
        output.as_json(done.to_dict())
    else:
        output.print_run(done)

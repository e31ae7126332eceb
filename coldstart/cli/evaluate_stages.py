"""`coldstart evaluate stages`: what each stage adds to the finding of new items, against the seconds that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, PipelineName, Uri

_FILES = ("stages.html", "stages.json", "stages.md")


def register(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("stages")(stages)


def stages(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Hold out other items as if they were new, N times.")
    ] = 1,
    write: Annotated[
        str | None,
        typer.Option(
            "--write",
            metavar="N|all",
            help="Let the writer that has described nothing here (base or adapter) write of N items, or all.",
        ),
    ] = None,
    min_weight: Annotated[
        float | None,
        typer.Option("--min-weight", metavar="W", help="Interactions of at least W speak for their item."),
    ] = None,
    warm_min: Annotated[
        int, typer.Option("--warm-min", min=1, metavar="N", help="Users that an item needs to be learnt from.")
    ] = 1,
    labels: Annotated[
        bool, typer.Option("--labels", help="Give every step category, tags and attributes beside what it adds.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help=f"Where {', '.join(_FILES)} go; by default the page alone, in this folder."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Judge whether each stage pays its way: pictures, words, evidence, descriptions, behaviour, one after another.

    Items are held out as if nobody had met them. With --json files are written only where --out names a folder.

    Example: coldstart evaluate stages --workspace shop.workspace --min-weight 4 --out stages
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.evaluation.ablation.table import markdown
    from coldstart.show.ablation import ablation_html

    opened = coldstart.open(workspace)
    found = opened.evaluate_stages(
        opened.pipeline(pipeline),
        seeds=seeds,
        write=_count(write),
        min_weight=min_weight,
        warm_min=warm_min,
        labels=labels,
        progress=ConsoleProgress(),
    ).to_dict()
    if json:
        output.as_json(found)
    else:
        _print(found)
    if json and out is None:
        return
    texts = {"stages.html": ablation_html(found)}
    if out is not None:
        texts |= {"stages.json": dumps(found, ensure_ascii=False, indent=2), "stages.md": markdown(found)}
    for name, text in texts.items():
        path = (out or Path()) / name
        with output.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if not json:
            output.line(f"written: {path}")


def _count(write: str | None) -> int | str | None:
    if write is None or write == "all":
        return write
    if not write.isdecimal() or int(write) < 1:
        raise typer.BadParameter(f"--write {write}: give a number of items, at least 1, or all")
    return int(write)


def _print(found: Mapping[str, Any]) -> None:
    from coldstart.evaluation.ablation.table import seconds
    from coldstart.show.ablation import corrected
    from coldstart.show.alignment import interval, number, signed

    counts, k = found["counts"], found["k"]
    output.line(
        f"{counts['users']:,} users asked, {counts['new_items']:,} items held out as new of {counts['catalogue']:,}, "
        f"recall@{k} among the new ones"
    )
    for caveat in found["caveats"]:
        output.line(f"to know: {caveat}")

    def value(one: Mapping[str, Any]) -> str:
        return f"{number(one['value'])} ({interval(one)})"

    def gain(one: Mapping[str, Any] | None) -> str | None:
        if one is None:
            return None
        return f"{signed(one['value'])} ({interval(one, is_change=True)}) p {corrected(one)}"

    output.table(
        ("step", f"recall@{k}", "gain", "aligned", "gain aligned", "seconds", "per 1,000 items", "gain per 1,000 s"),
        [
            (
                one["name"],
                value(one["recall"]),
                gain(one["gain"]),
                value(one["aligned"]),
                gain(one["aligned_gain"]),
                seconds(one["seconds"]),
                seconds(one["per_thousand_s"]),
                None if one["gain_per_thousand_s"] is None else f"{one['gain_per_thousand_s']:.3g}",
            )
            for one in found["steps"]
        ],
    )
    for one in found["missing"]:
        output.line(f"not judged: {one['name']}: {one['reason']}")
    output.line(
        "in brackets: 95 % intervals, the wider of two bootstraps, over users and over items; p by Holm over the "
        "column; aligned: a ridge from the step's content onto users; seconds: the step's own work for all items"
    )

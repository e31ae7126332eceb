"""`coldstart evaluate`: how good what the catalogue serves is, on items that no fit has seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import evaluate_describe, evaluate_recommend, evaluate_stages, output
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, PipelineName, Uri

app = typer.Typer(
    help="Judge what was learnt, on items that it has not seen.", no_args_is_help=True, rich_markup_mode=None
)

_PAGE = Path("alignment.html")


@app.callback()
def evaluate() -> None:
    """Judge what was learnt, on items that it has not seen."""


@app.command("align")
def align(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    split: Annotated[
        str,
        typer.Option("--split", metavar="NAME", help="Which items: test, held out from the fit; or valid or train."),
    ] = "test",
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes", metavar="FILE", help="Classes to tell pictures apart by name; by default categories."
        ),
    ] = None,
    view: Annotated[
        str | None, typer.Option("--view", metavar="NAME", help="Which texts are asked; by default titles.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=f"Where the HTML page goes; by default {_PAGE} in this folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Judge how well pictures and words are aligned, before and after the fit, and write a page of what was found.

    With --json a page is written only where --out names a file.

    Example: coldstart evaluate align --workspace shop.workspace --out alignment.html
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.media.limits import Limits
    from coldstart.show.alignment import alignment_page

    opened = coldstart.open(workspace)
    settings = opened.pipeline(pipeline)
    found = opened.evaluate_align(
        settings, split=split, classes=classes, view=view, progress=ConsoleProgress()
    ).to_dict()
    if json:
        output.as_json(found)
    else:
        _print(found)
    if json and out is None:
        return
    path = out or _PAGE
    with output.writing(path):
        alignment_page(found, path, limits=Limits(**settings.media.limits()))
    if not json:
        output.line(f"page: {path}")


evaluate_describe.register(app)
evaluate_stages.register(app)
evaluate_recommend.register(app)


def _print(found: Mapping[str, Any]) -> None:
    from coldstart.show.alignment import DIRECTIONS, MEASURES, SHAPES, number

    counts, before, after = found["counts"], found["before"], found["after"]
    output.line(f"{found['split']}: {counts['asked']} items, by {found['view']}; {found['note']}")
    if counts["left_out"]:
        output.line(f"left out: {counts['left_out']} new items that share a group with what the fit has seen")
    rows: list[tuple[str | None, ...]] = []
    for side, direction in DIRECTIONS.items():
        for measure, name in MEASURES.items():
            new = after[side]["metrics"][measure]
            old = before and before[side]["metrics"][measure]
            change = found["difference"] and found["difference"][side][measure]
            is_rank = measure == "median_rank"
            cells = [_with_interval(old, is_rank), _with_interval(new, is_rank), _with_interval(change, is_rank, True)]
            rows.append((direction, name, *cells, number(new["chance"]) or None))
    classes = after["zero_shot"]
    if classes:
        old = before and before["zero_shot"] and before["zero_shot"]["accuracy"]
        change = found["difference"] and found["difference"]["zero_shot"]
        name = f"accuracy of {classes['classes']} classes"
        chance = number(classes["accuracy"]["chance"])
        new = classes["accuracy"]
        cells = [_with_interval(old), _with_interval(new), _with_interval(change, is_change=True)]
        rows.append(("Class by name", name, *cells, chance))
        majority = classes["majority"]
        rows.append(("", f"always {majority['name']!r}", None, _with_interval(majority), None, None))
    rows += [
        ("Space", SHAPES[name][0], number(before["shape"].get(name)) if before else None, number(value), None, None)
        for name, value in after["shape"].items()
        if name in ("modality_gap", "effective_rank_image", "effective_rank_text")
    ]
    columns = ("", "measure", "before", "after", "difference", "chance")
    kept = [place for place, name in enumerate(columns) if before or name not in ("before", "difference")]
    output.table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows])
    output.line("in brackets: 95 % intervals by bootstrap over items")


def _with_interval(found: Mapping[str, Any] | None, is_rank: bool = False, is_change: bool = False) -> str | None:
    from coldstart.show.alignment import interval, number, signed

    if found is None:
        return None
    value = (signed if is_change else number)(found["value"], is_rank=is_rank)
    return f"{value} ({interval(found, is_rank=is_rank, is_change=is_change)})"

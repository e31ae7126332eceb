"""`coldstart evaluate recommend`: how well new items find who will like them, by every method, honestly."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, PipelineName, Uri

_PAGE, _RECORD, _TABLE, _SPLIT = "recommend.html", "recommend.json", "recommend.md", "split"


def register(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("recommend")(recommend)


def recommend(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    split: Annotated[
        str,
        typer.Option(
            "--split", metavar="KIND", help="time, items or coldrec; or the folder of a split that was written before."
        ),
    ] = "time",
    methods: Annotated[
        str | None, typer.Option("--methods", metavar="A,B", help="Which methods, by name; by default all.")
    ] = None,
    spaces: Annotated[
        str | None,
        typer.Option(
            "--spaces", metavar="A,B", help="Spaces that say what items are; by default as align.behaviour has it."
        ),
    ] = None,
    part: Annotated[
        str,
        typer.Option("--part", metavar="NAME", help="test; or valid, which may be looked at as often as you like."),
    ] = "test",
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Fits of each trained method.")] = 5,
    min_weight: Annotated[
        float | None,
        typer.Option("--min-weight", metavar="W", help="Interactions of at least W speak for their item."),
    ] = None,
    warm_min: Annotated[
        int | None,
        typer.Option("--warm-min", min=1, metavar="N", help="Users that an item needs in the training window."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help=f"Where {_PAGE}, {_RECORD}, {_TABLE} and the split go; by default the page alone, in this folder.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Fit every method inside one split and judge it on new items: full ranking, intervals, and a check for leaks.

    A leak fails the run. With --json files are written only where --out names a folder.

    Example: coldstart evaluate recommend --workspace shop.workspace --min-weight 4 --out report
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.show.recommend import recommend_html

    opened = coldstart.open(workspace)
    found = opened.evaluate_recommend(
        opened.pipeline(pipeline),
        split=split,
        methods=_listed(methods),
        spaces=_listed(spaces),
        part=part,
        seeds=seeds,
        min_weight=min_weight,
        warm_min=warm_min,
        folder=None if out is None else out / _SPLIT,
        progress=ConsoleProgress(),
    )
    known = found.to_dict()
    if json:
        output.as_json(known)
    else:
        _print(known)
    if json and out is None:
        return
    texts = {_PAGE: recommend_html(known)}
    if out is not None:
        texts |= {_RECORD: dumps(known, ensure_ascii=False, indent=2) + "\n", _TABLE: found.to_markdown()}
    for name, text in texts.items():
        path = (out or Path()) / name
        with output.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if not json:
            output.line(f"written: {path}")
    if out is not None and not json:
        output.line(f"written: {out / _SPLIT}")


def _listed(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _print(known: Mapping[str, Any]) -> None:
    from coldstart.evaluation.recommend.markdown import SETS, rows_of

    split, counts = known["split"], known["counts"]
    output.line(
        f"split {split['kind']}, part {split['part']}, digest {split['digest']}: {counts['users']:,} users asked, "
        f"{counts['users_without_history']:,} more without a history"
    )
    for note in known["notes"]:
        output.line(f"to know: {note}")
    for name, of in counts["sets"].items():
        output.line(f"\n{SETS[name]}: {of['candidates']:,} candidates, {of['relevant']:,} relevant pairs")
        output.table(*rows_of(known, name))
    for name, reason in known["left_out"].items():
        output.line(f"left out: {name}: {reason}")
    reference = known["methods"][known["reference"]]["title"] if known["reference"] else None
    compared = f"; less reference: than {reference}, * where p < 0.05 after Holm's correction" if reference else ""
    output.line(f"in brackets: 95 % intervals by bootstrap over users or items, the wider{compared}")
    output.line(f"no leak of {len(known['checked'])} kinds that were looked for")

"""`coldstart evaluate recommend`: how well new items find who will like them, by every method, honestly.

`coldstart evaluate stages`: what each stage adds to the finding of new items, against the seconds that it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, PipelineName, Uri

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
    from coldstart.recommend.evaluate.page import recommend_html

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
    from coldstart.recommend.evaluate.page import SETS, rows_of

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


_FILES = ("stages.html", "stages.json", "stages.md")


def register_stages(app: typer.Typer) -> None:
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
    from coldstart.ablation.page import ablation_html
    from coldstart.ablation.report import markdown
    from coldstart.engine.progress import ConsoleProgress

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
        _print_stages(found)
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


def _print_stages(found: Mapping[str, Any]) -> None:
    from coldstart.ablation.page import corrected
    from coldstart.ablation.report import seconds
    from coldstart.pages.charts import interval, number, signed

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

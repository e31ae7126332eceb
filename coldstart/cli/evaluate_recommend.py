"""`coldstart evaluate recommend`: compare methods that recommend new items, inside one split.

`coldstart evaluate stages`: measure the gain of each stage in recommending new items, against its seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, MinWeight, PipelineName, Uri

_PAGE, _RECORD, _TABLE, _SPLIT = "recommend.html", "recommend.json", "recommend.md", "split"
_STAGES_PAGE, _STAGES_RECORD, _STAGES_TABLE = "stages.html", "stages.json", "stages.md"


def register(app: typer.Typer) -> None:
    """Add the commands to `coldstart evaluate`."""
    app.command("recommend")(recommend)
    app.command("stages")(stages)


def recommend(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="KIND",
            help="Split by time, items or coldrec; or the folder of a split that was written before.",
        ),
    ] = "time",
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B", help="Methods by name, such as ridge,clcrec; by default all."),
    ] = None,
    spaces: Annotated[
        str | None,
        typer.Option("--spaces", metavar="A,B", help="Content spaces; by default those of align.behaviour."),
    ] = None,
    part: Annotated[
        str,
        typer.Option("--part", metavar="NAME", help="Evaluate on test; or on valid, by which settings may be chosen."),
    ] = "test",
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Number of fits of each trained method.")
    ] = 5,
    min_weight: MinWeight = None,
    warm_min: Annotated[
        int | None,
        typer.Option(
            "--warm-min", min=1, metavar="N", help="Least number of users of a warm item in the training window."
        ),
    ] = None,
    ranked: Annotated[
        bool,
        typer.Option(
            "--ranked/--no-ranked",
            help="Rows of lists as `recommend` gives them, ranked and reranked; they take a minute or more.",
        ),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help=f"Folder for {_PAGE}, {_RECORD}, {_TABLE} and the split; by default only the page, in this folder.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare methods that recommend new items.

    Fits every method inside one split and ranks all new items, with intervals and a check for leaks. A leak fails
    the run. With --json files are written only if --out names a folder.

    \b
    Examples:
      coldstart evaluate recommend --workspace shop.workspace --out report
      coldstart evaluate recommend --split items --part valid --seeds 1
      coldstart evaluate recommend --methods ridge,clcrec --min-weight 4
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.recommend.evaluate.page import recommend_html

    output.check_folder(out)
    opened = coldstart.open(workspace)
    found = opened.evaluate_recommend(
        opened.pipeline(pipeline),
        split=split,
        methods=output.names(methods),
        spaces=output.names(spaces),
        part=part,
        seeds=seeds,
        min_weight=min_weight,
        warm_min=warm_min,
        folder=None if out is None else out / _SPLIT,
        ranked=ranked,
        progress=ConsoleProgress(),
    )
    known = found.to_dict()
    if not json:
        _print_recommend(known)
    output.write_report(out, "recommend", known, recommend_html, found.to_markdown, json_on_stdout=json)
    if not json and out is not None:
        output.line(f"written: {out / _SPLIT}")


def _print_recommend(known: Mapping[str, Any]) -> None:
    from coldstart.metrics.intervals import FEWEST_COMPARED
    from coldstart.recommend.evaluate.page import (
        SETS,
        compared_methods,
        popularity_rows,
        popularity_title,
        served_table,
        served_title,
        terminal_table,
    )

    split, counts, first = known["split"], known["counts"], known["headline"][0]
    output.note(
        f"split {split['kind']}, part {split['part']}, digest {split['digest']}: {counts['users']:,} users evaluated, "
        f"{counts['users_without_history']:,} more without a history"
    )
    for warning in (known["count_attributes"] or {"lines": ()})["lines"]:
        output.note(f"warning: {warning}")
    for note in known["notes"]:
        output.note(f"note: {note}")
    for name, of in counts["sets"].items():
        few = f"; too few to call one better: {FEWEST_COMPARED} are needed" if of["relevant"] < FEWEST_COMPARED else ""
        output.line(f"\n{SETS[name]}: {of['candidates']:,} candidates, {of['relevant']:,} relevant pairs{few}")
        if of["candidates"] <= (places := int(first.rpartition("@")[2])):
            output.note(
                f"a list of {places} holds all {of['candidates']:,} candidates, so that {first} says nothing: see "
                f"{known['headline'][1]}"
            )
        columns, rows = terminal_table(known, name)
        output.table(columns, rows, "method", whole=columns[1:5], spare=columns[:2:-1])
        most = known["most_liked"][name]
        output.note(
            f"{columns[4]}: {first} among the others, which have {most['relevant']:,} of the {of['relevant']:,} pairs"
        )
        if name != next(iter(counts["sets"])):  # the page and the other files have every set
            continue
        output.line(f"\n{popularity_title(known, name)}")
        if known["popularity"][name]:
            columns, rows = popularity_rows(known, name, compared_methods(known, name))
            output.table(columns, rows, columns[0])
    columns, rows = served_table(known)
    if rows:
        output.line(f"\n{served_title(known)}")
        output.table(columns, rows, "list", whole=columns[2:4], spare=columns[:3:-1])
    for name, reason in known["left_out"].items():
        output.note(f"left out: {name}: {reason}")
    reference = known["methods"][known["reference"]]["title"] if known["reference"] else None
    compared = f"; less reference: than {reference}, * where p < 0.05 after Holm's correction" if reference else ""
    output.note(f"in brackets: 95 % intervals by bootstrap over users or items, the wider{compared}")
    output.line(f"no leak found; {len(known['checked'])} kinds checked")


def stages(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Repeat with N random sets of held-out items.")
    ] = 1,
    write: Annotated[
        str | None,
        typer.Option(
            "--write",
            metavar="N|all",
            help="Describe N items, or all, by the writer (base or adapter) without stored descriptions.",
        ),
    ] = None,
    min_weight: MinWeight = None,
    warm_min: Annotated[
        int, typer.Option("--warm-min", min=1, metavar="N", help="Least number of users of a training item.")
    ] = 1,
    labels: Annotated[
        bool, typer.Option("--labels", help="Give every step category, tags and attributes beside its own content.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help=f"Folder for {_STAGES_PAGE}, {_STAGES_RECORD}, {_STAGES_TABLE}; by default only the page, here.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the gain of each stage against its seconds.

    Adds pictures, titles, evidence, descriptions and behaviour one after another, and recommends items held out as
    new. With --json files are written only if --out names a folder.

    \b
    Examples:
      coldstart evaluate stages --workspace shop.workspace --out stages
      coldstart evaluate stages --min-weight 4 --seeds 3
      coldstart evaluate stages --write 200 --labels
    """
    import coldstart
    from coldstart.ablation.page import ablation_html
    from coldstart.ablation.report import markdown
    from coldstart.engine.progress import ConsoleProgress

    output.check_folder(out)
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
    if not json:
        _print_stages(found)
    output.write_report(out, "stages", found, ablation_html, lambda: markdown(found), json_on_stdout=json)


def _count(write: str | None) -> int | str | None:
    if write is None or write == "all":
        return write
    if not write.isdecimal() or int(write) < 1:
        raise typer.BadParameter(f"--write {write}: give a number of items, at least 1, or all")
    return int(write)


def _print_stages(found: Mapping[str, Any]) -> None:
    from coldstart.ablation.page import format_p
    from coldstart.ablation.report import seconds
    from coldstart.pages.charts import interval, number, signed

    counts, k = found["counts"], found["k"]
    output.note(
        f"{counts['users']:,} users evaluated, {counts['new_items']:,} items held out as new of "
        f"{counts['catalogue']:,}, recall@{k} among the new ones"
    )
    for caveat in found["caveats"]:
        output.note(f"note: {caveat}")

    def value(one: Mapping[str, Any]) -> str:
        return f"{number(one['value'])} ({interval(one)})"

    def gain(one: Mapping[str, Any] | None) -> str | None:
        if one is None:
            return None
        return f"{signed(one['value'])} ({interval(one, is_change=True)}) p {format_p(one)}"

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
        "step",
        whole=(f"recall@{k}", "gain"),
        spare=("per 1,000 items", "gain aligned", "aligned", "gain per 1,000 s", "seconds"),
    )
    for one in found["missing"]:
        output.note(f"not evaluated: {one['name']}: {one['reason']}")
    output.note(
        "in brackets: 95 % intervals, the wider of two bootstraps, over users and over items; p by Holm over the "
        "column; aligned: a ridge from the step's content onto users; seconds: the step's own work for all items"
    )

"""`coldstart evaluate align` and `coldstart evaluate describe`: measures of fits on items that no fit has seen.

The group `evaluate`; its commands `recommend` and `stages` are in `evaluate_recommend`, `safety` and `all` in files of
their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import (
    complete,
    evaluate_all,
    evaluate_recall,
    evaluate_recommend,
    evaluate_rerank,
    evaluate_safety,
    output,
)
from coldstart.cli.output import DEFAULT_WORKSPACE, Json, PipelineName, Split, Uri

_ALIGN_PAGE = Path("alignment.html")
_DESCRIBE_PAGE = Path("descriptions.html")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def evaluate() -> None:
    """Evaluate models on items that no fit has seen."""


@app.command("align")
def align(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    split: Split = "test",
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes", metavar="FILE", help="Classes file for zero-shot accuracy; by default the categories."
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option("--view", metavar="NAME", help="Query by these texts, such as description; by default titles."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=f"Path of the HTML page; by default {_ALIGN_PAGE} in this folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure retrieval between pictures and texts.

    Searches for held-out items among themselves and among all items. Compares before and after the fit, seen groups
    and classes with unseen ones, and writes a page of right and wrong results. With --json a page is written only if
    --out names a file.

    \b
    Examples:
      coldstart evaluate align --workspace shop.workspace --out alignment.html
      coldstart evaluate align --split valid --classes classes.yaml
      coldstart evaluate align --view description --json
    """
    import coldstart
    from coldstart.align.page import alignment_page
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.media.limits import Limits

    output.check_page(out)
    opened = coldstart.open(workspace)
    settings = opened.pipeline(pipeline)
    found = opened.evaluate_align(
        settings, split=split, classes=classes, view=view, progress=ConsoleProgress()
    ).to_dict()
    if not json:
        _print_align(found)
    if out is not None or not json:
        path = out or _ALIGN_PAGE
        with output.writing(path):
            alignment_page(found, path, limits=Limits(**settings.media.limits()))
        if not json:
            output.line(f"page: {path}")
    if json:
        output.as_json(found)


def _print_align(found: Mapping[str, Any]) -> None:
    from coldstart.align.page import DIRECTIONS, MEASURES, SHAPES
    from coldstart.metrics.intervals import FEWEST_COMPARED
    from coldstart.pages.charts import number

    counts, before, after = found["counts"], found["before"], found["after"]
    output.note(f"{found['split']}: {counts['asked']} items, by {found['view']}; {found['note']}")
    if counts["asked"] < FEWEST_COMPARED:
        output.note(f"{counts['asked']} items are too few to call one fit better: {FEWEST_COMPARED} are needed")
    if counts["left_out"]:
        output.note(f"left out: {counts['left_out']} new items that share a group with items that the fit has seen")
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
    shown = [place for place, name in enumerate(columns) if before or name not in ("before", "difference")]
    output.table(
        [columns[place] for place in shown],
        [[row[place] for place in shown] for row in rows],
        "measure",
        whole=("before", "after", "difference"),
        spare=("chance", "before"),
    )
    _print_unseen(found["unseen"])
    if found["compared_with"]:
        output.note(f"before: {found['compared_with']}")
    output.note("in brackets: 95 % intervals by bootstrap over items")


def _print_unseen(unseen: Mapping[str, Any] | None) -> None:
    from coldstart.align.page import unseen_note, unseen_rows

    rows = unseen_rows(unseen)
    if not rows:
        return
    few = "too few to judge"
    changes = [few if row["verdict"] == few else _with_interval(row["change"], is_change=True) for row in rows]
    output.table_of(
        {
            "": [row["direction"] for row in rows],
            "queries": [row["part"] for row in rows],
            "n": [row["n"] for row in rows],
            "groups": [row["groups"] for row in rows],
            "R@1 before": [_with_interval(row["before"]) for row in rows],
            "R@1 after": [_with_interval(row["after"]) for row in rows],
            "difference": changes,
            "R@10 after": [_with_interval(row["after_10"]) for row in rows],
        },
        "queries",
        whole=("R@1 before", "R@1 after", "difference", "R@10 after"),
        spare=("R@10 after", "groups", "R@1 before"),
    )
    output.note(unseen_note(unseen))


def _with_interval(found: Mapping[str, Any] | None, is_rank: bool = False, is_change: bool = False) -> str | None:
    from coldstart.pages.charts import interval, number, signed

    if found is None:
        return None
    value = (signed if is_change else number)(found["value"], is_rank=is_rank)
    return f"{value} ({interval(found, is_rank=is_rank, is_change=is_change)})"


@app.command("describe")
def describe(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    split: Split = "test",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most N items, drawn at random.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="FIELD",
            help="A field in the prompt, such as title or picture; repeatable; by default those of the fit.",
        ),
    ] = None,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            "--generator",
            metavar="NAME",
            autocompletion=complete.generators,
            help="Evaluate base, adapter, or any generator; repeatable.",
        ),
    ] = None,
    gallery: Annotated[
        str, typer.Option("--gallery", metavar="NAME", help="Search among the held-out items, or all.")
    ] = "held-out",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help=f"Path of the HTML page; by default {_DESCRIBE_PAGE} in this folder."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure how correct descriptions are.

    Compares before and after the checks, by fields of the items that the writer was not given. With --json a page
    is written only if --out names a file.

    \b
    Examples:
      coldstart evaluate describe --workspace shop.workspace
      coldstart evaluate describe --given creator --given picture --limit 50
      coldstart evaluate describe --generator adapter --gallery all
    """
    import coldstart
    from coldstart.describe.page import descriptions_page
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.media.limits import Limits

    output.check_page(out)
    opened = coldstart.open(workspace)
    settings = opened.pipeline(pipeline)
    found = opened.evaluate_describe(
        settings,
        split=split,
        limit=limit,
        given=given,
        writers=generator,
        gallery=gallery,
        progress=ConsoleProgress(),
    ).to_dict()
    if not json:
        _print_describe(found)
    if out is not None or not json:
        path = out or _DESCRIBE_PAGE
        with output.writing(path):
            descriptions_page(found, path, limits=Limits(**settings.media.limits()))
        if not json:
            output.line(f"page: {path}")
    if json:
        output.as_json(found)


def _print_describe(found: Mapping[str, Any]) -> None:
    from coldstart.describe.page import ATTRIBUTES, MEASURES, QUESTIONS, STATUS
    from coldstart.metrics.intervals import FEWEST_COMPARED

    counts, measures = found["counts"], found["measures"]
    fields = "all fields" if found["given"] is None else ", ".join(found["given"]) or "nothing"
    output.note(f"{found['split']}: {counts['items']} items, given {fields}; {found['note']}")
    if counts["items"] < FEWEST_COMPARED:
        output.note(f"{counts['items']} items are too few to call one writer better: {FEWEST_COMPARED} are needed")
    if found["caveat"]:
        output.note(f"caveat: {found['caveat']}")
    rows: list[tuple[str | None, ...]] = []
    for writer, own in measures.items():
        rows.append((writer, "valid JSON", _cell(own["valid"]), None))
        for name, of in own["written"]["attributes"].items():
            after = own["checked"]["attributes"][name]
            title = "all attributes" if name == "all" else name
            some = ATTRIBUTES if name == "all" else {key: ATTRIBUTES[key] for key in ("stated", "accuracy", "recall")}
            rows += [
                (writer, f"{title}: {label}", _cell(of[measure]), _cell(after[measure]))
                for measure, label in some.items()
            ]
        rows += [
            (writer, label, _cell(own["written"][name]), _cell(own["checked"][name]))
            for name, (label, _) in MEASURES.items()
        ]
    output.table(("writer", "measure", "as written", "after the checks"), rows, "measure")
    for writer, own in measures.items():
        states = [f"{own['status'][key]['value']:.0%} {title}" for key, title in STATUS.items() if own["status"][key]]
        if own["true_cut"]:
            states.append(
                f"{own['true_cut']['value']:.1%} of {own['true_cut']['n']:,} true claims removed by the checks"
            )
        output.note(f"{writer}: {', '.join(states)}")
        texts = found["texts"][writer]
        output.note(
            f"{writer}: {texts['stored']} texts as stored in the workspace, {texts['written']} written now; "
            "all checked now, in this view"
        )
    for question, title in QUESTIONS.items():
        asked = found["gain"][question]
        if asked is None:
            continue
        by = f", queried by the hidden {found['query']}" if question == "text_to_item" else ""
        output.line(f"\n{title}: {asked['queries']} queries among {asked['gallery']} items{by}")
        output.table(
            ("in the index", "R@1", "R@10", "chance of R@10"),
            [
                (name, _cell(of["recall_at_1"]), _cell(of["recall_at_10"]), f"{of['recall_at_10']['chance']:.3f}")
                for name, of in asked["contenders"].items()
            ],
        )
        output.table(
            ("from", "to", "R@1", "R@10"),
            [
                (one["before"], one["after"], _change(one["recall_at_1"]), _change(one["recall_at_10"]))
                for one in asked["differences"]
            ],
        )
    output.note("in brackets: 95 % intervals by bootstrap over items; of distinct-n by jackknife")


def _cell(found: Mapping[str, Any] | None) -> str | None:
    from coldstart.pages.charts import interval, number

    return None if found is None else f"{number(found['value'])} ({interval(found)}) of {found['n']:,}"


def _change(found: Mapping[str, Any]) -> str:
    from coldstart.pages.charts import interval, signed

    return f"{signed(found['value'])} ({interval(found, is_change=True)})"


evaluate_recall.register(app)
evaluate_rerank.register(app)
evaluate_recommend.register(app)
evaluate_safety.register(app)
evaluate_all.register(app)

"""`coldstart evaluate describe`: how true written descriptions are, and whether they help items to be found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, PipelineName, Uri

_PAGE = Path("descriptions.html")


def register(app: typer.Typer) -> None:
    """Add the command to `coldstart evaluate`."""
    app.command("describe")(describe)


def describe(
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    split: Annotated[
        str,
        typer.Option("--split", metavar="NAME", help="Which items: test, held out from the fit; or valid or train."),
    ] = "test",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most N items, drawn at random.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="FIELD",
            help="A field that is shown, such as title or picture; repeatable; by default those that the fit showed.",
        ),
    ] = None,
    generator: Annotated[
        list[str] | None,
        typer.Option("--generator", metavar="NAME", help="Who is judged: base, adapter, or any generator; repeatable."),
    ] = None,
    gallery: Annotated[
        str, typer.Option("--gallery", metavar="NAME", help="What is searched: held-out items, or all.")
    ] = "held-out",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=f"Where the HTML page goes; by default {_PAGE} in this folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Judge what was written, before and after the checks, by what the items' records state and the writer did not see.

    With --json a page is written only where --out names a file.

    Example: coldstart evaluate describe --workspace shop.workspace --given creator --given picture
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.media.limits import Limits
    from coldstart.show.descriptions import descriptions_page

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
    if json:
        output.as_json(found)
    else:
        _print(found)
    if json and out is None:
        return
    path = out or _PAGE
    with output.writing(path):
        descriptions_page(found, path, limits=Limits(**settings.media.limits()))
    if not json:
        output.line(f"page: {path}")


def _print(found: Mapping[str, Any]) -> None:
    from coldstart.show.descriptions import ATTRIBUTES, MEASURES, QUESTIONS, STATUS

    counts, measures = found["counts"], found["measures"]
    shown = "all fields" if found["given"] is None else ", ".join(found["given"]) or "nothing"
    output.line(f"{found['split']}: {counts['items']} items, shown {shown}; {found['note']}")
    if found["caveat"]:
        output.line(f"take it with care: {found['caveat']}")
    rows: list[tuple[str | None, ...]] = []
    for writer, own in measures.items():
        rows.append((writer, "JSON as asked for", _cell(own["valid"]), None))
        for name, of in own["written"]["attributes"].items():
            after = own["checked"]["attributes"][name]
            title = "all attributes" if name == "all" else name
            some = ATTRIBUTES if name == "all" else {"f1": "F1", "accuracy": ATTRIBUTES["accuracy"]}
            rows += [
                (writer, f"{title}: {label}", _cell(of[measure]), _cell(after[measure]))
                for measure, label in some.items()
            ]
        rows += [
            (writer, label, _cell(own["written"][name]), _cell(own["checked"][name]))
            for name, (label, _) in MEASURES.items()
        ]
    output.table(("writer", "measure", "as written", "after the checks"), rows)
    for writer, own in measures.items():
        states = [f"{own['status'][key]['value']:.0%} {title}" for key, title in STATUS.items() if own["status"][key]]
        output.line(f"{writer}: {', '.join(states)}")
    for question, title in QUESTIONS.items():
        asked = found["gain"][question]
        if asked is None:
            continue
        by = f", asked by the hidden {found['query']}" if question == "text_to_item" else ""
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
    output.line("in brackets: 95 % intervals by bootstrap over items; of distinct-n by jackknife")


def _cell(found: Mapping[str, Any] | None) -> str | None:
    from coldstart.show.alignment import interval, number

    return None if found is None else f"{number(found['value'])} ({interval(found)}) of {found['n']:,}"


def _change(found: Mapping[str, Any]) -> str:
    from coldstart.show.alignment import interval, signed

    return f"{signed(found['value'])} ({interval(found, is_change=True)})"

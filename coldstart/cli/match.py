"""`coldstart match`: the products that a video shows or speaks of, and weights for that from known pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from coldstart.cli import output
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, Uri

if TYPE_CHECKING:
    from coldstart.api import Workspace
    from coldstart.retrieval.match import Answer


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("match")(match)


def match(
    workspace: Uri = DEFAULT_WORKSPACE,
    item: Annotated[str | None, typer.Option("--item", metavar="ID", help="A video of the catalog.")] = None,
    video: Annotated[
        Path | None, typer.Option("--video", metavar="FILE", help="A video that is not in the workspace.")
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", metavar="WORDS", help="With --video: what the video is called.")
    ] = None,
    listen: Annotated[
        bool, typer.Option("--listen", help="With --video: find its speech and text on screen as well.")
    ] = False,
    fit: Annotated[
        Path | None,
        typer.Option(
            "--fit",
            metavar="FILE",
            help="JSONL of item_id and product_ids: fit the weights of the channels on these, and keep them.",
        ),
    ] = None,
    kind: Annotated[str, typer.Option("--kind", metavar="product|video", help="What to find.")] = "product",
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="SQL", help="A condition, such as \"price < 20 AND category = 'Fruit'\"."),
    ] = None,
    space: Annotated[
        list[str] | None, typer.Option("--space", metavar="NAME", help="Compare in this space alone; repeatable.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many products to find.")] = 5,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the frames beside the products: .html or .png."),
    ] = None,
    json: Json = False,
) -> None:
    """Find the products that a video shows or speaks of, each with the frame and the words that say so.

    Example: coldstart match --item clip-7 --out clip-7.html
    """
    import coldstart
    from coldstart.errors import ColdstartError
    from coldstart.retrieval import known_pairs
    from coldstart.show.matches import SUFFIXES

    if sum(value is not None for value in (item, video, fit)) != 1:
        raise ColdstartError("give exactly one of --item, --video and --fit")
    if video is None and (title is not None or listen):
        raise ColdstartError("--title and --listen go with --video: an item has its own words")
    if out is not None and (fit is not None or out.suffix.lower() not in SUFFIXES):
        raise ColdstartError(f"--out {out}: goes with --item or --video, and ends in {' or '.join(SUFFIXES)}")
    opened = coldstart.open(workspace)
    if fit is not None:
        report = opened.fit_match(known_pairs.read(fit), spaces=space, kind=kind, where=where)
        if json:
            output.as_json(report)
        else:
            _print_fit(report)
        return
    answer = opened.match(
        item=item, video=video, title=title, listen=listen, spaces=space, kind=kind, where=where, top_k=top_k
    )
    if json:
        output.as_json(answer.to_dict())
    else:
        _print(answer)
    if out is not None:
        _draw(opened, answer, item, out)
        if not json:
            output.line(f"frames and products: {out}")


def _draw(opened: Workspace, answer: Answer, item: str | None, out: Path) -> None:
    from coldstart.media.limits import Limits
    from coldstart.show.matches import match_sheet

    if item is None:
        name, uri = Path(answer.asked).name, cast("str | None", str(Path(answer.asked).absolute()))
    else:
        view = opened.item(item)
        name, uri = str(view.title or item), view.uri
    limits = Limits(**opened.pipeline().media.limits())
    with output.writing(out):
        match_sheet(answer.to_dict(), uri, name, out, limits=limits)


def _print(answer: Answer) -> None:
    from coldstart.show.lanes import clock
    from coldstart.show.matches import said

    names = [str(channel["channel"]) for channel in answer.channels]
    shares = ", ".join(f"{channel['channel']} {channel['weight']:.2f}" for channel in answer.channels)
    output.line(f"compared: {', '.join(answer.used) or 'nothing'}")
    output.line(f"channels: {shares} ({answer.weights})")
    output.line(f"candidates: {answer.compared}")
    for note in answer.notes:
        output.line(f"note: {note}")
    found = answer.to_dict()["matches"]
    rows = [
        [
            place,
            one["item_id"],
            one["title"],
            one["price"],
            f"{one['score']:.2f}",
            clock(one["frame"]["second"]) if one["frame"] and one["frame"]["second"] is not None else None,
            said(one["words"]) or None,
            *(one["channels"][name]["rank"] if name in one["channels"] else None for name in names),
        ]
        for place, one in enumerate(found, start=1)
    ]
    columns = ("", "item", "title", "price", "score", "frame", "words", *(f"rank: {name}" for name in names))
    output.table(columns, rows)


def _print_fit(report: Mapping[str, Any]) -> None:
    default = {channel["channel"]: channel["weight"] for channel in report["default"]}
    output.table(
        ("channel", "kind of evidence", "default", "fitted"),
        [
            [channel["channel"], channel["kind"], f"{default[channel['channel']]:.2f}", f"{channel['weight']:.2f}"]
            for channel in report["channels"]
        ],
    )
    output.table(
        (f"{report['held_out']} videos held out", "default", "fitted"),
        [
            [name, _interval(report["before"][key]), _interval(report["after"][key])]
            for name, key in (("recall@1", "recall_1"), ("recall@5", "recall_5"), ("mean reciprocal rank", "mrr"))
        ]
        + [
            [
                f"products among the first 5, of {report['after']['shown']}",
                str(report["before"]["found_5"]),
                str(report["after"]["found_5"]),
            ]
        ],
    )
    output.line(f"fitted on {report['trained_on']} videos; gain in recall@5 on the others: {_interval(report['gain'])}")
    for number, what in ((report["missing_videos"], "videos"), (report["missing_products"], "products")):
        if number:
            output.line(f"note: {number} {what} of the pairs are not in the published catalog")
    if report["kept"]:
        output.line("kept: `coldstart match` uses the fitted weights from now on")
    else:
        output.line("not kept: the videos held out find less or later with them, so the weights stay as they were")


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"

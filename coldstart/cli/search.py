"""`coldstart search`: find items for one query or a file of queries.

`coldstart match`: find the products that a video shows or names, and fit the weights of that on known pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, MAX_TOP_K, Explain, Index, Json, Kind, Uri, Where
from coldstart.core.sanitize import without_controls

if TYPE_CHECKING:
    from coldstart.api import Workspace
    from coldstart.core.stage import Reject
    from coldstart.search.match import Answer
    from coldstart.search.search import Hit

Exact = Annotated[
    bool, typer.Option("--exact", help="Compare with all vectors, whatever index there is: slower, misses none.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    app.command("search")(search)
    app.command("match")(match)


def search(
    workspace: Uri = DEFAULT_WORKSPACE,
    text: Annotated[str | None, typer.Option("--text", metavar="WORDS", help="Text to search for.")] = None,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="Picture to search for.")] = None,
    video: Annotated[Path | None, typer.Option("--video", metavar="FILE", help="Video to search for.")] = None,
    item: Annotated[
        str | None,
        typer.Option("--item", metavar="ID", autocompletion=complete.items, help="Id of an item: list its neighbours."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="JSONL of query_id and one of text, image, video, item_id; prints JSONL: for each query its hits, or "
            "the reason why it has no answer.",
        ),
    ] = None,
    kind: Kind = None,
    where: Where = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space", metavar="NAME", autocompletion=complete.spaces, help="Search only this space; repeatable."
        ),
    ] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", metavar="N", min=1, max=MAX_TOP_K, help="Number of items to list.")
    ] = 10,
    hybrid: Annotated[
        bool, typer.Option("--hybrid/--no-hybrid", help="Match text by words as well as by vectors.")
    ] = True,
    copies: Annotated[bool, typer.Option("--copies", help="Also list copies that are linked to an original.")] = False,
    exact: Exact = False,
    index: Index = "disk",
    explain: Explain = False,
    json: Json = False,
) -> None:
    """Find the items nearest to a text, a picture, a video or an item.

    \b
    Examples:
      coldstart search --text "something sour for fish" --kind product
      coldstart search --image photo.jpg --where "price < 20" --top-k 5
      coldstart search --queries queries.jsonl --space text > answers.jsonl
    """
    import coldstart
    from coldstart.errors import ColdstartError
    from coldstart.search.queries import check_given

    given = {"text": text, "image": image, "video": video, "item": item, "queries": queries}
    if sum(value is not None for value in given.values()) != 1:
        raise ColdstartError("give exactly one of --text, --image, --video, --item and --queries")
    check_given(image=image, video=video, queries=queries)
    opened = coldstart.open(workspace, index=index)
    options: dict[str, Any] = {
        "kind": kind,
        "where": where,
        "spaces": space,
        "top_k": top_k,
        "hybrid": hybrid,
        "copies": copies,
        "exact": exact,
    }
    if queries is not None:
        _answer_file(opened, queries, options, json)
        return
    hits = opened.search(text=text, image=image, video=video, item=item, **options)
    if json:
        output.as_json({"hits": [asdict(hit) for hit in hits]}, hits.notes)
        return
    if hits:
        _print_hits(hits, explain)
    for note in hits.notes:
        typer.echo(without_controls(f"note: {note}"), err=True)


def _print_hits(hits: Sequence[Hit], explain: bool) -> None:
    """Print what is found: the columns that some hit has a value for, with `explain` its id and its ranks, too."""
    values: dict[str, list[Any]] = {
        "": list(range(1, len(hits) + 1)),
        "title": [hit.title or hit.item_id for hit in hits],
        "kind": [hit.kind for hit in hits],
        "category": [hit.category for hit in hits],
        "price": [hit.price for hit in hits],
        "creator": [hit.creator if hit.kind == "video" else None for hit in hits],
        "item": [hit.item_id for hit in hits],
        "copies": [", ".join(hit.copies) or None for hit in hits],
        "score": [f"{hit.score:.2f}" for hit in hits],
    }
    if explain:
        for name in sorted({name for hit in hits for name in hit.ranks}):
            values[f"rank: {name}"] = [hit.ranks.get(name) for hit in hits]
    output.table_of(values, main="title", whole=("item",), spare=("creator", "copies"))


def _answer_file(opened: Workspace, queries: Path, options: Mapping[str, Any], json: bool) -> None:
    """Print the answers to a file of queries in its order, for one that has none the reason.

    Exits with 1 where more than the pipeline's `max_failed` have none. Answers are lines of JSON with and without
    `--json`, so that a file of any length is answered in little memory and each answer is there at once.
    """
    from coldstart.core.reasons import counted
    from coldstart.search.queries import read_queries

    failed: Counter[str] = Counter()

    def report(query_id: str | None, reject: Reject) -> None:
        failed[reject.reason] += 1
        output.as_json_line({"query_id": query_id, "reason": reject.reason, "detail": reject.detail})

    answered = 0
    for query_id, hits in opened.search_many(read_queries(queries), on_error=report, **options):
        answered += 1
        output.as_json_line({"query_id": query_id, "hits": [asdict(hit) for hit in hits], "notes": list(hits.notes)})
    if failed:
        count = answered + failed.total()
        max_failed = opened.max_failed
        over = failed.total() > max_failed * count
        limit = f", more than max_failed {max_failed:.1%} allows" if over else ""
        text = f"{failed.total():,} of {count:,} queries have no answer{limit}: {counted(dict(failed.most_common()))}"
        typer.echo(f"{'error' if over else 'note'}: {text}", err=True)
        if over:
            if json:
                output.as_json_line({"error": output.failed(text, next="mend the lines that have a reason")})
            raise typer.Exit(1)


def match(
    workspace: Uri = DEFAULT_WORKSPACE,
    item: Annotated[
        str | None,
        typer.Option("--item", metavar="ID", autocompletion=complete.items, help="Id of a video of the catalog."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option("--video", metavar="FILE", help="A video that is not in the workspace.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="WORDS", help="With --video: its title.")] = None,
    listen: Annotated[
        bool, typer.Option("--listen", help="With --video: transcribe its speech and read its text on screen, too.")
    ] = False,
    fit: Annotated[
        Path | None,
        typer.Option(
            "--fit",
            metavar="FILE",
            help="JSONL of item_id and product_ids: fit the weights of the channels on these pairs and save them.",
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind", metavar="product|video", autocompletion=complete.kinds, help="Kind of the items to find."
        ),
    ] = "product",
    where: Where = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space", metavar="NAME", autocompletion=complete.spaces, help="Compare only in this space; repeatable."
        ),
    ] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", metavar="N", min=1, max=MAX_TOP_K, help="Number of products to list.")
    ] = 5,
    exact: Exact = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write a sheet of frames beside their products: .html or .png."),
    ] = None,
    explain: Explain = False,
    json: Json = False,
) -> None:
    """Find the products that a video shows or names.

    Each comes with the frame and the words as evidence.

    \b
    Examples:
      coldstart match --item clip-7 --out clip-7.html
      coldstart match --video new.mp4 --title "sauce day" --listen
      coldstart match --fit pairs.jsonl --workspace shop.workspace
    """
    import coldstart
    from coldstart.errors import ColdstartError
    from coldstart.pages.sheet import SUFFIXES
    from coldstart.search.queries import missing_file, read_pairs

    if sum(value is not None for value in (item, video, fit)) != 1:
        raise ColdstartError("give exactly one of --item, --video and --fit")
    if video is None and (title is not None or listen):
        raise ColdstartError("--title and --listen go with --video: an item has its own words")
    if out is not None and (fit is not None or out.suffix.lower() not in SUFFIXES):
        raise ColdstartError(f"--out {out}: goes with --item or --video, and ends in {' or '.join(SUFFIXES)}")
    if video is not None and (reject := missing_file(video)):
        raise ColdstartError(f"video {video}: {reject}")
    faults: list[str] = []
    pairs = {} if fit is None else read_pairs(fit, faults.append)
    opened = coldstart.open(workspace)
    if fit is not None:
        report = opened.fit_match(pairs, spaces=space, kind=kind, where=where)
        report["left_out"] = faults
        if json:
            output.as_json(report)
        else:
            _print_fit(report)
        return
    answer = opened.match(
        item=item,
        video=video,
        title=title,
        listen=listen,
        spaces=space,
        kind=kind,
        where=where,
        top_k=top_k,
        exact=exact,
    )
    if not json:
        _print(answer, explain)
    if out is not None:
        _draw(opened, answer, item, out)
        if not json:
            output.line(f"frames and products: {out}")
            if note := opened.trust_note():
                output.note(f"note: {note}")
    if json:
        output.as_json(answer.to_dict())


def _draw(opened: Workspace, answer: Answer, item: str | None, out: Path) -> None:
    from coldstart.pages.sheet import match_sheet

    if item is None:
        name, uri = Path(answer.asked).name, cast("str | None", str(Path(answer.asked).absolute()))
    else:
        view = opened.item(item)
        name, uri = str(view.title or item), view.uri
    limits = opened.media_limits(*([] if item is not None else [Path(answer.asked).absolute()]))
    with output.writing(out):
        match_sheet(answer.to_dict(), uri, name, out, limits=limits)


def _print(answer: Answer, explain: bool) -> None:
    from coldstart.pages.item import format_time
    from coldstart.pages.sheet import evidence_text

    if explain:
        shares = ", ".join(f"{channel['channel']} {channel['weight']:.2f}" for channel in answer.channels)
        output.note(f"compared: {', '.join(answer.used) or 'nothing'}")
        output.note(f"channels: {shares} ({answer.weights})")
        output.note(f"candidates: {answer.compared}")
    for note in answer.notes:
        output.note(f"note: {note}")
    found = answer.to_dict()["matches"]
    if not found:
        return
    seconds = [one["frame"]["second"] if one["frame"] else None for one in found]
    values: dict[str, list[Any]] = {
        "": list(range(1, len(found) + 1)),
        "title": [one["title"] or one["item_id"] for one in found],
        "price": [one["price"] for one in found],
        "score": [f"{one['score']:.2f}" for one in found],
        "frame at": [None if second is None else format_time(second) for second in seconds],
        "words": [evidence_text(one["words"]) or None for one in found],
        "item": [one["item_id"] for one in found],
    }
    if explain:
        for name in (str(channel["channel"]) for channel in answer.channels):
            values[f"rank: {name}"] = [
                one["channels"][name]["rank"] if name in one["channels"] else None for one in found
            ]
    output.table_of(values, main="title", whole=("item",), spare=("price",), below="words")


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
            output.note(f"note: {number} {what} of the pairs are not in the published catalog")
    for fault in report["left_out"]:
        output.note(f"note: left out: {fault}")
    if report["kept"]:
        output.line("kept: `coldstart match` uses the fitted weights from now on")
    else:
        output.line("not kept: the videos held out find less or later with them, so the weights stay as they were")


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"

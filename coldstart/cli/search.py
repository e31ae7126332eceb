"""`coldstart search`: one query to look at, or a file of queries to answer."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli import output
from coldstart.cli.options import DEFAULT_WORKSPACE, Json, Uri

if TYPE_CHECKING:
    from coldstart.retrieval.search import Query

_QUERY_FIELDS = ("text", "image", "video", "item_id")


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("search")(search)


def search(
    workspace: Uri = DEFAULT_WORKSPACE,
    text: Annotated[str | None, typer.Option("--text", metavar="WORDS", help="What to look for.")] = None,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="A picture to look for.")] = None,
    video: Annotated[Path | None, typer.Option("--video", metavar="FILE", help="A video to look for.")] = None,
    item: Annotated[str | None, typer.Option("--item", metavar="ID", help="An item whose neighbours to list.")] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="JSONL of query_id and one of text, image, video, item_id; answers as JSONL.",
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="video|product", help="Only items of this kind.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="SQL", help="A condition, such as \"price < 20 AND category = 'Fruit'\"."),
    ] = None,
    space: Annotated[
        list[str] | None, typer.Option("--space", metavar="NAME", help="Search this space alone; repeatable.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many items to find.")] = 10,
    hybrid: Annotated[
        bool, typer.Option("--hybrid/--no-hybrid", help="Let text match words as well as vectors.")
    ] = True,
    copies: Annotated[
        bool, typer.Option("--copies", help="List copies beside the original that they are linked to.")
    ] = False,
    json: Json = False,
) -> None:
    """Find the items nearest to a text, a picture, a video or an item.

    Example: coldstart search --text "something sour for fish" --kind product
    """
    import coldstart
    from coldstart.errors import ColdstartError

    given = {"text": text, "image": image, "video": video, "item": item, "queries": queries}
    if sum(value is not None for value in given.values()) != 1:
        raise ColdstartError("give exactly one of --text, --image, --video, --item and --queries")
    opened = coldstart.open(workspace)
    options: dict[str, Any] = {
        "kind": kind,
        "where": where,
        "spaces": space,
        "top_k": top_k,
        "hybrid": hybrid,
        "copies": copies,
    }
    if queries is not None:
        for query_id, hits in opened.search_many(_read(queries), **options):
            output.as_json_line({"query_id": query_id, "hits": [asdict(hit) for hit in hits]})
        return
    hits = opened.search(text=text, image=image, video=video, item=item, **options)
    if json:
        output.as_json([asdict(hit) for hit in hits])
        return
    lists = sorted({name for hit in hits for name in hit.ranks})
    linked = any(hit.copies for hit in hits)
    rows = [
        [
            place,
            hit.item_id,
            hit.kind,
            hit.title,
            hit.category,
            hit.price,
            f"{hit.score:.4f}",
            *(hit.ranks.get(name) for name in lists),
            *([", ".join(hit.copies)] if linked else []),
        ]
        for place, hit in enumerate(hits, start=1)
    ]
    columns = ("", "item", "kind", "title", "category", "price", "score", *(f"rank: {name}" for name in lists))
    output.table((*columns, *(["copies"] if linked else [])), rows)


def _read(path: Path) -> Iterator[Query]:
    """Queries of a JSONL file; media paths are relative to it."""
    from coldstart.errors import ColdstartError
    from coldstart.retrieval.search import Query

    if not path.is_file():
        raise ColdstartError(f"no query file at {path}: give JSONL with query_id and one of {', '.join(_QUERY_FIELDS)}")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                fields = jsonlib.loads(line)
                query_id = str(fields["query_id"])
                chosen = {name: str(fields[name]) for name in _QUERY_FIELDS if fields.get(name) is not None}
            except (ValueError, TypeError, KeyError) as error:
                raise ColdstartError(f"{path} line {number}: not a JSON object with query_id ({error})") from error
            if len(chosen) != 1:
                raise ColdstartError(f"{path} line {number}: give exactly one of {', '.join(_QUERY_FIELDS)}")
            ((name, value),) = chosen.items()
            if name in ("image", "video"):
                value = str(path.parent / value)
            yield Query(query_id, **{name.removesuffix("_id"): value})

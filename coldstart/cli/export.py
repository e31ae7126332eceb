"""Commands of export: items, vectors, descriptions, recommendations, the ledger, all of it, and fitted adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import DEFAULT_WORKSPACE, MAX_TOP_K, Json, Kind, PipelineName, Uri, Where

if TYPE_CHECKING:
    from coldstart.store.export import Exported

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="PLACE", help="File that ends in .parquet or .jsonl, or a new folder.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="parquet, jsonl, or a folder for huggingface; by default as the name of --out ends.",
    ),
]
VectorFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="parquet, jsonl, or a folder for huggingface or faiss; by default as the name of --out ends.",
    ),
]
Space = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="NAME",
        autocompletion=complete.spaces,
        help="Vectors of this space; needed where there are several.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a file, or a folder that an export wrote, with all in it.")
]


def register(main: typer.Typer) -> None:
    """Add the commands to the main app."""
    main.add_typer(app, name="export")


@app.callback()
def export() -> None:
    """Export items, vectors and models for other programs."""


@app.command("items")
def items(
    out: Out,
    workspace: Uri = DEFAULT_WORKSPACE,
    format: Format = None,
    where: Where = None,
    kind: Kind = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export the served items as a manifest.

    `coldstart run --manifest` reads the file again; allow the folders of its media with --media-root.

    \b
    Examples:
      coldstart export items --out items.parquet --workspace shop.workspace
      coldstart export items --out fruit.jsonl --where "category = 'Fruit'"
      coldstart export items --out shop-dataset --format huggingface
    """
    _write("items", workspace, out, format, json, where=where, kind=kind, overwrite=overwrite)


@app.command("vectors")
def vectors(
    out: Out,
    workspace: Uri = DEFAULT_WORKSPACE,
    format: VectorFormat = None,
    where: Where = None,
    kind: Kind = None,
    space: Space = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export the vectors of a space, or a faiss index of them.

    Linked copies have the vector of their original and are left out.

    \b
    Examples:
      coldstart export vectors --out image.parquet --space image
      coldstart export vectors --out image.faiss --format faiss --space image
      coldstart export vectors --out videos.jsonl --kind video --space text
    """
    _write("vectors", workspace, out, format, json, where=where, kind=kind, space=space, overwrite=overwrite)


@app.command("descriptions")
def descriptions(
    out: Out,
    workspace: Uri = DEFAULT_WORKSPACE,
    format: Format = None,
    where: Where = None,
    kind: Kind = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export descriptions with their claims and evidence.

    Labels, speech and text on screen are columns, too.

    \b
    Examples:
      coldstart export descriptions --out written.jsonl
      coldstart export descriptions --out videos.parquet --kind video
      coldstart export descriptions --out described --format huggingface
    """
    _write("descriptions", workspace, out, format, json, where=where, kind=kind, overwrite=overwrite)


@app.command("recommendations")
def recommendations(
    users: Annotated[
        Path, typer.Option("--users", metavar="FILE", help="CSV, JSONL, Parquet or text file of user ids.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="File that ends in .csv, .tsv, .jsonl, .json or .parquet."),
    ],
    workspace: Uri = DEFAULT_WORKSPACE,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", metavar="N", min=1, max=MAX_TOP_K, help="Number of items in a list.")
    ] = 20,
    where: Where = None,
    kind: Kind = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export the lists of many users.

    As `coldstart recommend --users FILE --out FILE`, which has the rules of a list.

    \b
    Examples:
      coldstart export recommendations --users u.csv --out lists.parquet
      coldstart export recommendations --users u.txt --out lists.jsonl -k 50
      coldstart export recommendations --users u.csv --out l.csv --kind video
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.errors import ColdstartError
    from coldstart.store.export import Exported

    if out.exists() and not overwrite:
        raise ColdstartError(f"--out {out} exists: name another, or replace it with --overwrite")
    opened = coldstart.open(workspace)
    lists = opened.recommend_many(users, out, top_k=top_k, where=where, kind=kind, progress=ConsoleProgress())
    one = Exported(f"lists of {lists.users:,} users", str(out), lists.rows, out.stat().st_size)
    _print([one], out, out.suffix.lower().removeprefix("."), json)
    if lists.without_history and not json:
        output.note(f"note: {lists.without_history:,} of the users have no liked items")


@app.command("impressions")
def impressions(
    out: Out,
    workspace: Uri = DEFAULT_WORKSPACE,
    format: Format = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export the showings with their outcomes.

    The rows name users, and so are in no other export. `coldstart ingest --impressions` reads the file again.

    \b
    Examples:
      coldstart export impressions --out shown.parquet
      coldstart export impressions --out shown.jsonl --overwrite
      coldstart export impressions --out shown --format huggingface
    """
    _write("impressions", workspace, out, format, json, overwrite=overwrite)


@app.command("ledger")
def ledger(
    out: Out,
    workspace: Uri = DEFAULT_WORKSPACE,
    format: Format = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export the ledger of items that a stage skipped.

    \b
    Examples:
      coldstart export ledger --out ledger.jsonl --workspace shop.workspace
      coldstart export ledger --out ledger.parquet --overwrite
      coldstart export ledger --out ledger --format huggingface
    """
    _write("ledger", workspace, out, format, json, overwrite=overwrite)


@app.command("all")
def everything(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="New folder, with a file of each table.")],
    workspace: Uri = DEFAULT_WORKSPACE,
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Format of the files: parquet, jsonl or huggingface.")
    ] = "parquet",
    where: Where = None,
    kind: Kind = None,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="NAME", autocompletion=complete.spaces, help="Only vectors of this space."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export all of that, a file each.

    \b
    Examples:
      coldstart export all --out shop-export --workspace shop.workspace
      coldstart export all --out shop-dataset --format huggingface
      coldstart export all --out videos --kind video --space image
    """
    _write("all", workspace, out, format, json, where=where, kind=kind, space=space, overwrite=overwrite)


def _write(
    what: str,
    workspace: str,
    out: Path,
    format: str | None,
    json: bool,
    *,
    where: str | None = None,
    kind: str | None = None,
    space: str | None = None,
    overwrite: bool = False,
) -> None:
    """Export and print the files, with their rows and bytes."""
    import coldstart
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.errors import ColdstartError

    if format is None:
        format = {".parquet": "parquet", ".jsonl": "jsonl"}.get(out.suffix.lower())
    if format is None:
        raise ColdstartError(f"--out {out}: give a name that ends in .parquet or .jsonl, or a --format")
    written = coldstart.open(workspace).export(
        what,
        out,
        format=format,
        where=where,
        kind=kind,
        space=space,
        overwrite=overwrite,
        progress=ConsoleProgress(),
    )
    _print(written, out, format, json)


def _print(written: list[Exported], out: Path, format: str, json: bool) -> None:
    if json:
        output.as_json({"out": str(out), "format": format, "files": [one.to_dict() for one in written]})
        return
    for one in written:
        copies = f"; {one.left_out:,} linked copies have the vector of their original" if one.left_out else ""
        output.line(f"{one.what}: {one.rows:,} rows, {output.size(one.size_bytes)}: {one.out}{copies}")


@app.command("adapter")
def adapter(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the merged model.")],
    workspace: Uri = DEFAULT_WORKSPACE,
    pipeline: PipelineName = None,
    prompts: Annotated[
        int,
        typer.Option("--prompts", min=1, metavar="N", help="Compare adapter and merged model on N prompts."),
    ] = 20,
    json: Json = False,
) -> None:
    """Merge a fine-tuned adapter into its base model.

    The folder loads in transformers and vLLM. Fails if the adapter, the merged model and the batched path do not
    write the same text.

    \b
    Examples:
      coldstart export adapter shop-writer --workspace shop.workspace
      coldstart export adapter shop-writer --prompts 100
      coldstart export adapter shop-writer --pipeline product.yaml --json
    """
    import coldstart
    from coldstart.engine.progress import ConsoleProgress

    opened = coldstart.open(workspace)
    report = opened.export_adapter(out, opened.pipeline(pipeline), prompts=prompts, progress=ConsoleProgress())
    if json:
        output.as_json(report)
    else:
        output.line(f"{report['folder']}: {output.size(report['size_bytes'])}; {report['agreement']}")

"""`coldstart init`: write a first pipeline file; `coldstart schema`: its JSON Schema, for editors."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from coldstart.cli import output
from coldstart.cli.output import Json


def register(app: typer.Typer) -> None:
    """Add the commands to the main app."""
    app.command("init")(init)
    app.command("schema")(schema)


def init(
    place: Annotated[
        Path, typer.Argument(metavar="PLACE", help="Folder that the pipeline file is written to.")
    ] = Path(),
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", "-m", metavar="PATH", help="Catalogue to look at: a table file, or a folder of media."
        ),
    ] = None,
    interactions: Annotated[
        Path | None,
        typer.Option("--interactions", metavar="FILE", help="Log of user-item interactions, if there is one."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Pipeline file to write; by default pipeline.yaml in PLACE."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a first pipeline file for what a catalogue has.

    Looks for pictures, videos, words and categories in the first rows. Each setting has a comment; settings that are
    not used stand in comments.

    \b
    Examples:
      coldstart init --manifest products.csv
      coldstart init --manifest items.jsonl --interactions clicks.csv
      coldstart init --out video.yaml --manifest clips
    """
    from coldstart.core.language import languages_text
    from coldstart.core.spelling import similar_path
    from coldstart.errors import ColdstartError
    from coldstart.ingest.contents import read_contents
    from coldstart.ingest.first_pipeline import pipeline_text

    if place.is_file():
        raise ColdstartError(f"{place} is a file: give a catalogue as --manifest {place}", kind="usage")
    path = out or place / "pipeline.yaml"
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise ColdstartError(f"--out {path}: a pipeline is YAML: give a name that ends in .yaml", kind="usage")
    if path.exists():
        raise ColdstartError(f"{path} is there already: name another file with --out, or remove it", kind="usage")
    if not path.parent.is_dir():
        raise ColdstartError(f"no folder {path.parent}{similar_path(path.parent)}: make it, or name another one")
    if interactions is not None and not interactions.is_file():
        hint = similar_path(interactions)
        raise ColdstartError(f"no file of interactions at {interactions}{hint}: give one, or leave --interactions out")
    contents = None if manifest is None else read_contents(manifest)
    text = pipeline_text(contents, place=path.parent, interactions=interactions)
    with output.writing(path), path.open("x", encoding="utf-8") as file:
        file.write(text)
    run = f"coldstart run {path} --workspace shop.workspace{'' if contents else ' --manifest FILE'}"
    if json:
        found = None if contents is None else {"rows": contents.rows, **contents.having}
        output.as_json({"pipeline": str(path), "found": found, "next": run})
        return
    if contents is not None:
        counted = ", ".join(f"{count:,} with {name}" for name, count in contents.having.items() if count)
        output.note(f"{contents.path.name}: {contents.rows:,} rows read, {counted or 'all empty'}")
        if contents.is_english is False:
            output.note(
                f"languages: {languages_text(contents.languages)}: texts are encoded by starter:multilingual"
                + ("" if _is_pulled() else ", which is pulled by: coldstart models pull multilingual")
            )
    output.line(f"written: {path}; next: {run}")


def _is_pulled() -> bool:
    from coldstart.models import install
    from coldstart.models.starter_set import OPTIONAL

    return any(row.job == "multilingual" and row.state == "ready" for row in install.model_rows(table=OPTIONAL))


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="File to write; by default it is printed.")
    ] = None,
    of: Annotated[
        str, typer.Option("--of", metavar="pipeline|output", help="Of pipeline files, or of what --json prints.")
    ] = "pipeline",
    json: Json = False,
) -> None:
    """Print the JSON Schema of pipelines or of outputs.

    An editor with YAML support completes and checks settings by it: put `# yaml-language-server: $schema=FILE` in the
    first line of the pipeline.

    \b
    Examples:
      coldstart schema --out pipeline.schema.json
      coldstart schema > pipeline.schema.json
      coldstart schema --of output --out coldstart-json.schema.json
    """
    from coldstart.cli import shapes
    from coldstart.core.pipeline_schema import pipeline_schema
    from coldstart.errors import ColdstartError

    if of not in ("pipeline", "output"):
        raise ColdstartError(f"--of {of}: give pipeline or output")
    made = pipeline_schema() if of == "pipeline" else shapes.schema()
    if out is not None:
        with output.writing(out):
            out.write_text(dumps(made, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if json:
        output.as_json({"schema": made} if out is None else {"file": str(out)})
    elif out is None:
        typer.echo(dumps(made, indent=2, ensure_ascii=False))
    elif of == "output":
        output.line(f"written: {out}")
    else:
        output.line(f"written: {out}; first line of a pipeline: # yaml-language-server: $schema={out}")

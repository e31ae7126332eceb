"""Complete words of the command line in the shell: pipelines, spaces, stages, kinds, items, encoders and models.

A completion is there at once or not at all: it loads no model, reads a workspace of this machine through Lance alone,
and whatever goes wrong, it offers nothing and says nothing. The shell evaluates what is offered, and ids may be a
stranger's: words that hold anything but letters, digits and `_ . / @ + = , : -` are left out.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import typer

from coldstart.core import arrow

VARIABLE = "_COLDSTART_COMPLETE"
"""Environment variable by which the shell asks for completions."""
MOST = 50
"""Items offered at once; a few more letters narrow them down."""
_SAFE = re.compile(r"[\w./@+=,:-]+")
_GROUPS = ("understand", "describe", "align", "finetune")

Complete = Callable[[typer.Context, str], list[str]]


def prepare() -> None:
    """Make this process quick and silent, where the shell has started it for completions."""
    if VARIABLE in os.environ:
        arrow.leave_pandas_out()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # native libraries write there, too


def _completing(candidates: Callable[[typer.Context, str], Iterable[str]]) -> Complete:
    """Build a completion: candidates that begin with the word and are safe to evaluate; none after any fault."""

    @functools.wraps(candidates)
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            fitting = (word for word in candidates(ctx, incomplete) if word.startswith(incomplete))
            return list(islice(filter(_SAFE.fullmatch, fitting), MOST))
        except BaseException:
            return []

    complete.__annotations__ = {"ctx": typer.Context, "incomplete": str, "return": list[str]}
    return complete


@_completing
def pipelines(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete names of packaged pipelines, and YAML files of the folder at hand."""
    from coldstart.core.settings import data_files

    folder, _, _ = incomplete.rpartition("/")
    beside = Path(folder) if folder else Path()
    there = sorted(beside.iterdir()) if beside.is_dir() else []
    files = [path for path in there if path.suffix in (".yaml", ".yml") and not path.name.startswith(".")]
    return [*([] if folder else data_files("pipelines", "*.yaml")), *(path.as_posix() for path in files)]


@_completing
def kinds(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete kinds of items."""
    return ("product", "video")


@_completing
def items(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete ids of items in the workspace by their beginning."""
    condition = f"starts_with(item_id, '{incomplete}')" if _SAFE.fullmatch(incomplete) else None
    if condition is None and incomplete:
        return ()
    return (row["item_id"] for row in _rows(ctx, "items", ["item_id"], condition, MOST))


@_completing
def spaces(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete spaces of the published catalog."""
    rows = _rows(ctx, "publications", ["number", "passports"])
    return sorted(json.loads(max(rows, key=lambda row: row["number"])["passports"]))


@_completing
def stages(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete names of stages: of the pipeline on the line, else of the workspace's last run."""
    return _stage_names(_settings(ctx))


@_completing
def encoders(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete names of encoders, or their prefixes."""
    return _modules("encoders")


@_completing
def generators(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete names of generators, or their prefixes."""
    return _modules("generators")


@_completing
def models(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete names and jobs of the starter models."""
    from coldstart.models.starter_set import MODELS

    return ("starter", *(model.name for model in MODELS), *(model.job for model in MODELS))


@_completing
def prompts(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Complete names of packaged prompts."""
    from coldstart.core.settings import data_files

    return data_files("prompts", "*.md")


def _modules(room: str) -> list[str]:
    """List the modules of a room, as they are spelt in a pipeline; the room itself is heavy, and not imported."""
    folder = Path(__file__).parents[1] / room
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem[0] != "_")
    return [name if name == "open_clip" else name.replace("_", "-") for name in names]


def _workspace(ctx: typer.Context) -> Path:
    """Find the folder of the workspace on the line, else of the environment or the default one; never a remote one."""
    uri = ctx.params.get("workspace") or os.environ.get("COLDSTART_WORKSPACE") or "coldstart.workspace"
    if "://" in uri:
        raise FileNotFoundError(uri)
    return Path(uri).expanduser()


def _rows(
    ctx: typer.Context, table: str, columns: list[str], condition: str | None = None, most: int | None = None
) -> list[dict[str, Any]]:
    """Read rows of a table of the workspace."""
    path = _workspace(ctx) / f"{table}.lance"
    if not path.is_dir():
        return []
    arrow.import_arrow()
    import lance  # LanceDB itself would take three times as long to load

    found: list[dict[str, Any]] = (
        lance.dataset(str(path)).scanner(columns=columns, filter=condition, limit=most).to_table().to_pylist()
    )
    return found


def _settings(ctx: typer.Context) -> Mapping[str, Any]:
    """Read the settings of the pipeline on the line, else of the workspace's last run."""
    given = ctx.params.get("pipeline") or next(iter(ctx.args), None)  # an open option leaves arguments unparsed
    if given:
        import yaml

        from coldstart.core.settings import data_files

        path = data_files("pipelines", "*.yaml").get(given, Path(given))
        loaded: Mapping[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        return loaded
    rows = _rows(ctx, "pipelines", ["seq", "settings"])
    stored: Mapping[str, Any] = json.loads(max(rows, key=lambda row: row["seq"])["settings"])
    return stored


def _stage_names(settings: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for name, given in settings["stages"].items():
        parts = [part for part, value in (given or {}).items() if value is None or isinstance(value, dict)]
        names += [name, *(f"{name}.{part}" for part in parts)] if name in _GROUPS else [name]
    return names

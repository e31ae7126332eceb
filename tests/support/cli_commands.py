"""The commands of the Typer app."""

from __future__ import annotations

from typing import Any

from coldstart.cli import app


def commands(group: Any = app, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command of the Typer app, as the words that call it."""
    own = [(*prefix, command.name or command.callback.__name__) for command in group.registered_commands]
    return own + [
        path for inner in group.registered_groups for path in commands(inner.typer_instance, (*prefix, inner.name))
    ]

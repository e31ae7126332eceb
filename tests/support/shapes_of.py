"""Checks of what commands print with `--json` against the schema of `coldstart.cli.shapes`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from typer._click.globals import get_current_context

from coldstart.cli.shapes import COMMANDS, schema


@cache
def _validator(modes: tuple[str, ...]) -> Draft202012Validator:
    return Draft202012Validator(
        {"$defs": schema()["$defs"], "anyOf": [{"$ref": f"#/$defs/{quote(mode)}"} for mode in modes]}
    )


def modes_of(command: str) -> list[str]:
    """List the shapes that a command may print, such as `status`, `status --failed`."""
    return [name for name in COMMANDS if name == command or name.startswith((f"{command} -", f"{command} PROMPT"))]


def check(value: Mapping[str, Any], command: str | None) -> None:
    """Fail where an object has none of the shapes that a command may print; without a known command, of any."""
    modes = tuple(modes_of(command or "")) or (*COMMANDS, "fault")
    plain = json.loads(json.dumps(value, default=str))
    assert isinstance(plain["notes"], list)
    fault = best_match(_validator(modes).iter_errors(plain))
    assert fault is None, f"`{command} --json`: {fault.message} at {fault.json_path}; fields: {sorted(plain)}"


def checking(print_json: Any) -> Any:
    """Wrap `coldstart.cli.output.as_json`, so that every test that runs a command with `--json` checks its shape."""

    def as_json(value: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
        context = get_current_context(silent=True)
        command = None if context is None else context.command_path.partition(" ")[2]
        check({**value, "notes": [*(value.get("notes") or ()), *notes]}, command)
        print_json(value, notes)

    return as_json

"""Words: first lines of docstrings and help texts are plain statements; every command has examples that parse."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_commands import commands
from paths import ROOT
from typer.main import get_command
from typer.testing import CliRunner

from coldstart.cli import app

PACKAGE = ROOT / "coldstart"
RIDDLES = frozenset({"what", "who", "whom", "whose", "whether", "how", "which", "where", "when", "that"})
COMMANDS = commands()
EXAMPLES = 3
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Of the click that Typer brings along, or of click itself."""


def fault(first_line: str) -> str | None:
    """The fault of a first line; None if it is plain."""
    words = first_line.split()
    if len(words) < 2:
        return "one word"
    opening = words[0].strip("`*(\"'").rstrip(",.:;").lower()
    return f"begins with {words[0]}" if opening in RIDDLES else None


def documented(path: Path) -> Iterator[tuple[str, str]]:
    """Name and first line of each docstring of a file: the module, public classes, functions and fields."""
    tree = ast.parse(path.read_text("utf-8"))
    module = ast.get_docstring(tree)
    if module:
        yield path.stem, module.splitlines()[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            own = ast.get_docstring(node)
            if own:
                yield node.name, own.splitlines()[0]
        if isinstance(node, ast.ClassDef | ast.Module):
            yield from fields(node)


def fields(owner: ast.ClassDef | ast.Module) -> Iterator[tuple[str, str]]:
    """Name and first line of the text under each public field or constant."""
    for before, after in zip(owner.body, owner.body[1:], strict=False):
        target: ast.expr | None = before.target if isinstance(before, ast.AnnAssign) else None
        if isinstance(before, ast.Assign) and len(before.targets) == 1:
            target = before.targets[0]
        if isinstance(target, ast.Name) and not target.id.startswith("_"):
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield target.id, text.value.strip().splitlines()[0]


@cache
def root() -> Any:
    """The click command of the app, which takes a tenth of a second to build."""
    return get_command(app)


def command_of(path: tuple[str, ...]) -> Any:
    """The click command of a path, such as ("evaluate", "align")."""
    found: Any = root()
    for name in path:
        found = found.commands[name]
    return found


def examples(path: tuple[str, ...]) -> list[str]:
    """The lines of a command's help that call coldstart."""
    lines = [line.strip() for line in (command_of(path).help or "").splitlines()]
    return [line for line in lines if line.startswith("coldstart ")]


def parse(example: str) -> str:
    """The path of the command that an example calls, once its options and arguments are parsed; runs nothing.

    Raises:
        UsageError: there is no such command, option or value.
    """
    words = shlex.split(example)
    end = next((place for place, word in enumerate(words) if word in ("|", ">")), len(words))
    program, *rest = words[:end]
    command: Any = root()
    path = [program]
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        path.append(rest.pop(0))
        if path[-1] not in command.commands:
            raise UsageError(f"No such command {path[-1]!r}.")
        command = command.commands[path[-1]]
    command.make_context(path[-1], rest)
    return " ".join(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "room", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=lambda room: room.relative_to(ROOT).as_posix()
)
def test_docstrings_begin_with_a_plain_statement(room: Path) -> None:
    faults = [
        f"{path.relative_to(ROOT)} {name}: {wrong}: {line}"
        for path in sorted(room.glob("*.py"))
        for name, line in documented(path)
        if (wrong := fault(line))
    ]
    assert faults == []


@pytest.mark.slow
def test_help_texts_begin_with_a_plain_statement() -> None:
    paths = {path[:length] for path in COMMANDS for length in range(len(path) + 1)}
    faults = []
    for path in sorted(paths):
        command = command_of(path)
        texts = {"": command.help or ""}
        texts |= {param.name or "": getattr(param, "help", None) or "" for param in command.params}
        faults += [f"{' '.join(path)} {name}: {text!r}" for name, text in texts.items() if fault(text.split("\n")[0])]
    assert len(paths) > len(COMMANDS)
    assert faults == []


@pytest.mark.slow
def test_lists_of_commands_cut_no_first_line_short() -> None:
    for group in [(), ("finetune",), ("evaluate",), ("export",), ("models",)]:
        result = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "80"})
        listed = result.stdout.partition("Commands:\n")[2].splitlines()
        assert listed
        assert [line for line in listed if line.endswith("...") or line.startswith(" " * 8)] == []


@pytest.mark.parametrize("path", [("models",), *COMMANDS], ids=" ".join)
def test_a_command_has_three_examples_that_parse(path: tuple[str, ...]) -> None:
    found = examples(path)
    assert len(found) >= EXAMPLES
    assert len(set(found)) == len(found)
    called = f"coldstart {' '.join(path)}"
    assert [example for example in found if not f"{parse(example)} ".startswith(f"{called} ")] == []
    assert all(len(example) + 4 <= 80 for example in found), "an example is one line of 80 columns"


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ("coldstart sreach --text a", "No such command 'sreach'"),
        ("coldstart search --txt a", "No such option: --txt"),
        ("coldstart search --text a --top-k none", "valid integer"),
        ("coldstart evaluate alignment", "No such command 'alignment'"),
        ("coldstart audience", "Missing parameter: item"),
    ],
)
def test_an_example_that_does_not_parse_is_seen(example: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(example)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Load frames for a shot detector.", None),
        ("What the demo made.", "begins with What"),
        ("How.", "one word"),
        ("Whether each stage pays its way.", "begins with Whether"),
        ("`which` of them", "begins with `which`"),
        ("", "one word"),
    ],
)
def test_a_first_line_that_is_a_riddle_is_seen(line: str, expected: str | None) -> None:
    assert fault(line) == expected

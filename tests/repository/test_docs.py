"""The README names every command, and no command that is not there."""

from __future__ import annotations

import re

from cli_commands import commands
from paths import ROOT

README = ROOT / "README.md"


def test_every_command_stands_in_the_readme() -> None:
    """As `coldstart NAME`; the commands of a group stand with it, in one line."""
    lines = README.read_text("utf-8").splitlines()
    missing = [
        path
        for path in commands()
        if not any(re.search(rf"\bcoldstart {'(?: |.*`)'.join(path)}\b", line) for line in lines)
    ]
    assert missing == []


def test_the_readme_names_no_command_that_is_not_there() -> None:
    known = {path[0] for path in commands()}
    named = set(re.findall(r"(?:^\$? ?|`)coldstart ([a-z]+)", README.read_text("utf-8"), re.MULTILINE))
    assert len(named) > 1
    assert named <= known

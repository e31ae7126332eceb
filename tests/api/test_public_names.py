"""The public names: pinned, importable, documented, and cheap to import."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys

import pytest

import coldstart

NAMES = [
    "ColdstartError",
    "Encoder",
    "Hit",
    "Hits",
    "ItemView",
    "Passport",
    "Pipeline",
    "PipelineError",
    "Query",
    "Reject",
    "Workspace",
    "__version__",
    "connect",
    "open",
]


def test_the_public_names_are_these() -> None:
    assert coldstart.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    scope: dict[str, object] = {}
    exec(f"from coldstart import {name}", scope)
    value = scope[name]
    assert value is getattr(coldstart, name)
    if name != "__version__":
        own = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
        assert own and own.strip(), f"coldstart.{name} has no docstring"
        assert not own.startswith(f"{name}("), f"coldstart.{name} has a generated docstring"


@pytest.mark.parametrize("name", ["ItemView", "Hits", "Pipeline", "PipelineError", "Encoder"])
def test_public_methods_say_what_they_do(name: str) -> None:
    silent = [
        method
        for method, value in vars(getattr(coldstart, name)).items()
        if not method.startswith("_") and (callable(value) or isinstance(value, property)) and not value.__doc__
    ]
    assert silent == []


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", coldstart.__version__)


def test_other_names_are_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match=r"^module 'coldstart' has no attribute 'nope'$"):
        _ = coldstart.nope
    assert not hasattr(coldstart, "Store")


def test_importing_the_package_imports_nothing_heavy() -> None:
    probe = "import json, sys, coldstart; print(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    loaded = json.loads(
        subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    )
    assert "coldstart" in loaded
    assert not {"torch", "lancedb", "lance", "pyarrow", "numpy", "pydantic", "typer", "PIL", "av"} & set(loaded)


def test_no_two_families_of_methods_share_a_name() -> None:
    """One would take the place of the other in `Workspace`."""
    homes: dict[str, str] = {}
    for family in coldstart.Workspace.__mro__[:-1]:
        for name in vars(family):
            if not name.startswith("__"):
                assert name not in homes, f"{name} of {family.__name__} and of {homes[name]}"
                homes[name] = family.__name__

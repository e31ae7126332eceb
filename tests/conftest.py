"""Helpers beside the tests (`poison`, `preparers`, …) import from every folder of tests."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make a warning an error where a module of the tests is the place it is said of; see `pyproject.toml`."""
    names = "|".join(sorted({path.stem for path in Path(__file__).parent.rglob("*.py")}))
    config.addinivalue_line("filterwarnings", rf"error:::(\w+\.)*({names})$")

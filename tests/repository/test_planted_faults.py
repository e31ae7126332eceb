"""The list of planted faults fits the package: each can be planted, and the test files named for it are there."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())


@pytest.fixture(scope="module")
def planted() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted_faults", ROOT / "tools" / "planted_faults.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_fault_can_be_planted_and_tested(planted: ModuleType) -> None:
    assert planted.problems(ROOT) == []


def test_there_are_at_least_two_a_room(planted: ModuleType) -> None:
    rooms = Counter(fault.room for fault in planted.read())
    assert len(rooms) >= 28 and min(rooms.values()) >= 2


def test_a_line_broken_anew_is_found_and_one_that_stands_twice_is_told(planted: ModuleType, tmp_path: Path) -> None:
    fault = planted.Fault("room-x", "a.py", "total = one + two", "total = one", "", ("test_a.py",))
    module = tmp_path / "coldstart" / "deep" / "a.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "tests" / "room").mkdir(parents=True)
    (tmp_path / "tests" / "room" / "test_a.py").touch()
    module.write_text("one = two = (\n    1\n)\nif one:\n    total = one + two\n", "utf-8")
    assert planted.problems(tmp_path, [fault]) == []
    path, text = planted.planted(fault, planted.sources(tmp_path))
    assert path == module and text.endswith("\n    total = one\n")
    module.write_text("one = two = 1\ntotal = one + two\ntotal = one + two\n", "utf-8")
    (tmp_path / "tests" / "room" / "test_a.py").unlink()
    assert planted.problems(tmp_path, [fault]) == [
        f"room-x: `old` has to stand once, and stands 2 times: {module}, {module}",
        "room-x: no test file test_a.py below tests/",
    ]
    broken = replace(fault, old="one = two = 1", new="one = (", tests=("a.py",))
    assert planted.problems(tmp_path, [broken])[0] == "room-x: `new` is no Python: '(' was never closed (a.py, line 1)"

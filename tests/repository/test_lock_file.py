"""The lock file fits `pyproject.toml`, and the tools see where one does not, or where the newest releases break."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from paths import ROOT

from tools import lock_file, newest

PROJECT = lock_file.project_of(ROOT / "pyproject.toml")
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in lock_file.LOCKS}
SMALL: dict[str, Any] = {
    "build-system": {"requires": ["hatchling>=1.27"]},
    "project": {
        "name": "coldstart",
        "requires-python": ">=3.11",
        "dependencies": ["numpy>=2.0,<3"],
        "optional-dependencies": {
            "one": ["Ray[data]>=2.60,<2.64"],
            "two": ["tomli>=2; python_version < '3.12'"],
            "dev": ["coldstart[one,two]", "pytest>=8"],
        },
    },
}
PINS = """\
hatchling==1.33.0 \\
    --hash=sha256:aa
numpy==2.4.6 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via coldstart (pyproject.toml)
pytest==9.2.0 --hash=sha256:dd
ray==2.60.0 --hash=sha256:ee
tomli==2.3.0 ; python_full_version < '3.12' --hash=sha256:ff
"""


def small(pinned: str = PINS, project: dict[str, Any] = SMALL) -> str:
    return f"# Made from dependencies of sha256 {lock_file.digest(project)}\n{pinned}"


@pytest.mark.parametrize("name", lock_file.LOCKS)
def test_the_lock_files_fit_the_project(name: str) -> None:
    assert lock_file.faults(PROJECT, TEXTS[name], *lock_file.LOCKS[name]) == []


@pytest.mark.parametrize("name", lock_file.LOCKS)
def test_the_lock_files_name_no_place(name: str) -> None:
    assert [word for word in ("://", "index-url", "find-links", "file:", "/dev/") if word in TEXTS[name]] == []


def test_users_get_the_releases_that_are_tested() -> None:
    everything, run = ({(pin.requirement.name, pin.version) for pin in lock_file.pins(text)} for text in TEXTS.values())
    assert run < everything


def test_pytorch_and_cuda_can_be_left_out() -> None:
    lock = ROOT / "requirements-run.lock"
    command = ["awk", "-f", str(ROOT / "tools" / "without_cuda.awk"), str(lock)]
    left = lock_file.pins(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    gone = {pin.requirement.name for pin in lock_file.pins(lock.read_text("utf-8"))} - {
        pin.requirement.name for pin in left
    }
    assert {"torch", "torchvision", "triton", "nvidia-cudnn-cu13", "cuda-bindings"} <= gone
    assert [name for name in gone if not re.match("torch|triton|nvidia-|cuda-", name)] == []
    assert all(pin.hashes for pin in left)


def test_every_dependency_has_both_bounds() -> None:
    """An upper bound is what was tried; pip alone has none, as `pyproject.toml` says."""
    found: dict[str, list[str]] = {"lower": [], "upper": []}
    for one in lock_file.wanted(PROJECT):
        operators = {part.operator for part in one.specifier}
        if ">=" not in operators:
            found["lower"].append(one.name)
        if "<" not in operators and one.name != "pip":
            found["upper"].append(one.name)
    assert found == {"lower": [], "upper": []}


def test_extras_are_followed() -> None:
    assert [one.name for one in lock_file.wanted(SMALL)] == ["numpy", "hatchling", "Ray", "tomli", "pytest"]


@pytest.mark.parametrize(
    ("pinned", "said"),
    [
        (PINS, []),
        (PINS.replace("numpy==2.4.6", "numpy==3.1"), ["numpy==3.1 is outside of <3,>=2.0"]),
        (PINS.replace("ray==2.60.0 --hash=sha256:ee\n", ""), ["Ray is not pinned for Python"]),
        (PINS.replace("< '3.12'", "< '3.11'"), ["tomli is not pinned for Python 3.11 on linux x86_64"]),
        (PINS.replace(" --hash=sha256:dd", ""), ["pytest bears no digest"]),
        (f"{PINS}numpy==2.4.5 --hash=sha256:ab\n", ["numpy is pinned 2 times for Python 3.13 on linux aarch64"]),
        (f"--index-url https://host/simple\n{PINS}", ["an address stands in the lock file"]),
    ],
)
def test_faults_of_a_lock_file(pinned: str, said: list[str]) -> None:
    if pinned.startswith("--"):
        pinned = pinned.replace("--index-url ", "# ")
    found = lock_file.faults(SMALL, small(pinned))
    assert bool(found) == bool(said)
    for words in said:
        assert any(words in fault for fault in found), found


def test_a_range_is_no_pin() -> None:
    with pytest.raises(ValueError, match="'numpy>=2' is not of the form NAME==VERSION"):
        lock_file.pins("numpy>=2 --hash=sha256:bb\n")


@pytest.mark.parametrize("place", ["dependencies", "optional-dependencies", "requires-python"])
def test_another_pyproject_needs_another_lock(place: str) -> None:
    changed = copy.deepcopy(SMALL)
    own = changed["project"]
    if place == "dependencies":
        own[place] = ["numpy>=2.1,<3"]
    elif place == "requires-python":
        own[place] = ">=3.12"
    else:
        own[place]["one"] = []
    found = lock_file.faults(changed, small())
    assert found[0] == "pyproject.toml has other dependencies than the lock file was made from"


def test_versions_and_order_do_not_matter_where_they_pin_nothing() -> None:
    changed = copy.deepcopy(SMALL)
    changed["project"]["description"] = "other words"
    changed["project"]["optional-dependencies"]["dev"].reverse()
    assert lock_file.digest(changed) == lock_file.digest(SMALL)


def test_the_command_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock_file, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    assert lock_file.main(["check"]) == 1
    assert capsys.readouterr().out == (
        "requirements.lock is missing\nrequirements-run.lock is missing\nrun `make lock`\n"
    )
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text.replace("\nnumpy==", "\nnumpy==99."), "utf-8")
    assert lock_file.main(["check"]) == 1
    assert "numpy==99." in (said := capsys.readouterr().out)
    assert said.endswith("run `make lock`\n")
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text, "utf-8")
    assert lock_file.main(["check"]) == 0


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ("numpy>=2.0,<3", "numpy>=2.0"),
        ("ray[data]>=2.60,!=2.61,<2.64", "ray[data]!=2.61,>=2.60"),
        ("tomli~=2.0; python_version < '3.12'", 'tomli; python_version < "3.12"'),
        ("pip", "pip"),
    ],
)
def test_upper_bounds_are_taken_off(asked: str, left: str) -> None:
    assert newest.without_upper_bound(Requirement(asked)) == left


def test_releases_that_differ_are_listed() -> None:
    locked = {"numpy": "2.4.6", "rich": "15.0.0", "gone": "1"}
    assert newest.differences(locked, {"rich": "16.0", "numpy": "2.4.6", "fresh": "0.1"}) == [
        "fresh 0.1 (not in requirements.lock)",
        "rich 15.0.0 -> 16.0",
    ]


def test_what_breaks_is_counted_by_message(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        """<testsuites><testsuite>
        <testcase classname="tests.a" name="one"><failure message="FutureWarning: a name&#10;more"/></testcase>
        <testcase classname="tests.a" name="two"/>
        <testcase classname="tests.b" name="three"><error message="FutureWarning: a name"/></testcase>
        <testcase classname="tests.b" name="four"><failure message="assert 1 == 2"/></testcase>
        <testcase classname="tests.b" name="five"><skipped message="no GPU"/></testcase>
        </testsuite></testsuites>""",
        "utf-8",
    )
    assert newest.broken(report) == [
        (2, "FutureWarning: a name", "tests.a::one"),
        (1, "assert 1 == 2", "tests.b::four"),
    ]

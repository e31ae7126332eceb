"""Run the tests with the newest release of every dependency, whatever upper bounds `pyproject.toml` sets.

    python -m tools.newest [--venv .venv-latest] [--install-only] [PYTEST ARGUMENT ...]

Makes a virtual environment of its own, installs the package's dependencies and development tools without their upper
bounds, and runs pytest there. Ends with what breaks, by message, and with every release that is another than the one
in `requirements.lock`. The exit code is pytest's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.lock_file import LOCK, ROOT, pins, project_of, wanted

_UPPER = ("<", "<=", "==", "~=", "===")
_MESSAGE_WIDTH = 160


def without_upper_bound(requirement: Requirement) -> str:
    """Write a requirement with its lower bounds alone."""
    found = Requirement(str(requirement))
    found.specifier = SpecifierSet(",".join(str(one) for one in requirement.specifier if one.operator not in _UPPER))
    return str(found)


def differences(locked: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """List the releases that are installed and are not those of the lock file; names are canonical."""
    told = []
    for name, version in sorted(installed.items()):
        if name not in locked:
            told.append(f"{name} {version} (not in {LOCK})")
        elif locked[name] != version:
            told.append(f"{name} {locked[name]} -> {version}")
    return told


def broken(report: Path) -> list[tuple[int, str, str]]:
    """Count what breaks in a JUnit report: tests, the first line of their message, and one of them, most first."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        for kind in ("failure", "error"):
            for found in case.findall(kind):
                message = next(iter((found.get("message") or kind).splitlines()), kind)[:_MESSAGE_WIDTH]
                counts[message] += 1
                examples.setdefault(message, f"{case.get('classname')}::{case.get('name')}")
    return [(count, message, examples[message]) for message, count in counts.most_common()]


def install(venv: Path) -> Path:
    """Make the environment, or bring it up to the newest releases; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lines = [without_upper_bound(one) for one in wanted(project_of(ROOT / "pyproject.toml"))]
    subprocess.run([*pip, "--upgrade", "--upgrade-strategy", "eager", *lines], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "--editable", str(ROOT)], check=True)
    return python


def installed_in(python: Path) -> dict[str, str]:
    """Read canonical name -> version of what an environment has, the package itself left out."""
    told = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = {canonicalize_name(one["name"]): one["version"] for one in json.loads(told)}
    found.pop("coldstart", None)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; the exit code of pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-latest")
    parser.add_argument("--install-only", action="store_true")
    options, tests = parser.parse_known_args(arguments)
    python = install(options.venv.absolute())
    code, breaks = 0, []
    if not options.install_only:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
            command = [str(python), "-m", "pytest", f"--junit-xml={report}", *tests]
            code = subprocess.run(command, cwd=ROOT, env=environment).returncode
            breaks = broken(report) if report.exists() else []
    locked = {
        canonicalize_name(pin.requirement.name): str(pin.version) for pin in pins((ROOT / LOCK).read_text("utf-8"))
    }
    other = differences(locked, installed_in(python))
    print(f"\n{len(other)} releases are not those of {LOCK}:", *other, sep="\n  ")
    if not options.install_only:
        tests_broken = sum(count for count, _, _ in breaks)
        print(f"\n{tests_broken} tests break with them:" if breaks else "\nno test breaks with them")
        for count, message, example in breaks:
            print(f"  {count} x {message}\n      as in {example}")
    return code


if __name__ == "__main__":
    sys.exit(main())

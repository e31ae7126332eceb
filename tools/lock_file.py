"""Make the lock files from `pyproject.toml`, or check without a network that they fit it.

    python -m tools.lock_file make [--upgrade]
    python -m tools.lock_file check

`requirements-run.lock` pins what a user of all commands needs, `requirements.lock` the development tools besides, each
by the digests of its files, for the versions of Python in `PYTHONS` on Linux and macOS. `make` keeps every pin that
still fits; `--upgrade` takes the newest
releases within the bounds. The first lines of a file hold a digest of what its pins were made from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LOCK = "requirements.lock"
LOCKS = {LOCK: ("dev",), "requirements-run.lock": ("video", "train")}
"""Lock file -> extras that it pins; the pins of the first are those of the others."""
_BUILD = "editables>=0.5,<0.7"
"""Needed to install the package from its folder without a network, besides what builds it."""
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
_DIGEST = "# Made from dependencies of sha256 "


@dataclass(frozen=True)
class Pin:
    """One line of a lock file: a release, where it is installed, and how many digests it bears."""

    requirement: Requirement
    version: Version
    hashes: int


def project_of(pyproject: Path) -> dict[str, Any]:
    """Read a `pyproject.toml`."""
    return tomllib.loads(pyproject.read_text("utf-8"))


def digest(project: Mapping[str, Any]) -> str:
    """Digest everything in a `pyproject.toml` that decides what is pinned."""
    own = project["project"]
    said = {
        "build": sorted(project["build-system"]["requires"]),
        "python": own["requires-python"],
        "main": sorted(own["dependencies"]),
        "extras": {name: sorted(extra) for name, extra in own.get("optional-dependencies", {}).items()},
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def wanted(project: Mapping[str, Any], *chosen: str) -> list[Requirement]:
    """List what a `pyproject.toml` asks for with extras (by default `dev`), and with those that they name in turn."""
    own = project["project"]
    extras = {canonicalize_name(name): lines for name, lines in own.get("optional-dependencies", {}).items()}

    def of(name: str) -> Iterator[Requirement]:
        for line in extras[canonicalize_name(name)]:
            found = Requirement(line)
            if canonicalize_name(found.name) == canonicalize_name(own["name"]):
                for inner in sorted(found.extras):
                    yield from of(inner)
            else:
                yield found

    lines = [*own["dependencies"], *project["build-system"]["requires"]]
    return [*(Requirement(line) for line in lines), *(one for extra in chosen or LOCKS[LOCK] for one in of(extra))]


def pins(text: str) -> list[Pin]:
    """Read the pins of a lock file.

    Raises:
        ValueError: a line pins no one release.
    """
    found = []
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(str.strip, joined.splitlines()):
        said, *hashes = line.split(" --hash=")
        requirement = Requirement(said.strip())
        exact = [one.version for one in requirement.specifier if one.operator == "=="]
        if len(exact) != 1 or len(requirement.specifier) != 1:
            raise ValueError(f"{LOCK}: {said.strip()!r} is not of the form NAME==VERSION")
        found.append(Pin(requirement, Version(exact[0]), len(hashes)))
    return found


def faults(project: Mapping[str, Any], text: str, *chosen: str) -> list[str]:
    """List how a lock file of extras does not fit a `pyproject.toml`."""
    found = []
    if f"{_DIGEST}{digest(project)}\n" not in text:
        found.append("pyproject.toml has other dependencies than the lock file was made from")
    if "://" in text:
        found.append("an address stands in the lock file: it names releases and digests alone")
    locked = pins(text)
    found += [f"{pin.requirement.name} bears no digest" for pin in locked if not pin.hashes]
    for python in PYTHONS:
        for system, machine in PLATFORMS:
            where = _markers(python, system, machine)
            here = [pin for pin in locked if _holds(pin.requirement, where)]
            found += _missing(wanted(project, *chosen), here, f"Python {python} on {system} {machine}", where)
    return list(dict.fromkeys(found))


def _missing(asked: Sequence[Requirement], here: Sequence[Pin], name: str, where: Mapping[str, str]) -> Iterator[str]:
    known: dict[str, list[Version]] = {}
    for pin in here:
        known.setdefault(canonicalize_name(pin.requirement.name), []).append(pin.version)
    for package, versions in known.items():
        if len(versions) > 1:
            yield f"{package} is pinned {len(versions)} times for {name}"
    for one in asked:
        if not _holds(one, where):
            continue
        versions = known.get(canonicalize_name(one.name), [])
        if not versions:
            yield f"{one.name} is not pinned for {name}"
        for version in versions:
            if not one.specifier.contains(version, prereleases=True):
                yield f"{one.name}=={version} is outside of {one.specifier}"


def _holds(requirement: Requirement, where: Mapping[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(dict(where))


def _markers(python: str, system: str, machine: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system],
        "platform_machine": machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def make(root: Path, upgrade: bool) -> None:
    """Write the lock files with uv."""
    project = project_of(root / "pyproject.toml")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_INDEX")}
    builds = "\n".join([*project["build-system"]["requires"], _BUILD])
    for name, extras in LOCKS.items():
        lock = root / name
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "-", "--universal"]
        command += [part for extra in extras for part in ("--extra", extra)]
        command += ["--python-version", PYTHONS[0], "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        command += ["--output-file", name, *(["--upgrade"] if upgrade else [])]
        command += [] if name == LOCK else ["--constraints", LOCK]
        subprocess.run(
            command, cwd=root, env=environment, input=builds, text=True, check=True, stdout=subprocess.DEVNULL
        )
        made_of = "pyproject.toml and its extras " + ", ".join(extras)
        head = f"# Written by `make lock` from {made_of}: change that, then make this again.\n"
        lock.write_text(f"{head}{_DIGEST}{digest(project)}\n{lock.read_text('utf-8')}", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; 1 where the lock file does not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "check"))
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases within the bounds")
    options = parser.parse_args(arguments)
    if options.what == "make":
        make(ROOT, options.upgrade)
    found = []
    for name, extras in LOCKS.items():
        lock = ROOT / name
        if lock.exists():
            text = lock.read_text("utf-8")
            found += [f"{name}: {one}" for one in faults(project_of(ROOT / "pyproject.toml"), text, *extras)]
        else:
            found.append(f"{name} is missing")
    for fault in found:
        print(fault)
    if found:
        print("run `make lock`")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

"""Count what someone who reads the package meets, and what its start costs, as JSON. Run in the project's root.

    python tools/house_counts.py [--opens NAME=MODULE,MODULE …] [--ground MODULE,…] [--starts WORKSPACE]

Counting is static and the same for any layout, so that two checkouts can be compared:

- `modules` are files but `__init__.py`; `loose` ones lie in the package's own folder; `circles` are groups of modules
  that import each other, imports inside functions included, those for types alone left out; `layers` are the lines of
  the import contract of type layers.
- `opens`, files one opens for a capability: begin at its entry modules and follow every import inside the package,
  those inside functions too, those for types alone not. A name that a package's `__init__.py` merely passes on leads to
  the module that defines it. What the ground modules (those of a pipeline that only ingests) lead to is subtracted.
  `files` is the count, `places` the number of folders they lie in, each loose module a place of its own; `reached` is
  the count with the ground. Modules that are found by name when a pipeline asks for them are not followed: encoders,
  generators, mappers, stage kinds.
- `starts`: median of five processes each of `import coldstart`, `coldstart --help`, `coldstart status`: seconds by the
  clock and of the processor (user and system), and modules loaded at the end.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGE = "coldstart"
TIMES = 5
_AT_EXIT = (
    "import atexit, sys; atexit.register(lambda: print(len(sys.modules), "
    "sum(name.partition('.')[0] == 'coldstart' for name in sys.modules), 'torch' in sys.modules, file=sys.stderr)); "
)
_CLI = "from coldstart.cli import main; main()"


class House:
    """The modules of a checkout and the imports between them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {self._name(path): path for path in sorted((root / PACKAGE).rglob("*.py"))}
        self.trees = {name: ast.parse(path.read_text("utf-8")) for name, path in self.files.items()}
        self.passed_on = {name: self._passed_on(name) for name, path in self.files.items() if path.stem == "__init__"}
        self.graph = {name: set(self._imports(name)) - {name} for name in self.files}

    def _name(self, path: Path) -> str:
        return ".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__")

    def _passed_on(self, name: str) -> dict[str, str]:
        """Read which names a package takes from its modules: name -> dotted place."""
        found = {}
        for node in self.trees[name].body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
                found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        return found

    def _imports(self, name: str) -> Iterator[str]:
        for_types = {
            id(inner)
            for node in ast.walk(self.trees[name])
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(self.trees[name]):
            if id(node) in for_types:
                continue
            if isinstance(node, ast.Import):
                yield from (one.name for one in node.names if one.name in self.files)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(name, node)
                yield from (place for one in node.names if (place := self._defined(f"{base}.{one.name}")))

    def _absolute(self, name: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        is_package = self.files[name].stem == "__init__"
        parts = name.split(".")[: len(name.split(".")) - node.level + is_package]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _defined(self, place: str) -> str | None:
        """Find the module that a dotted place leads to."""
        for _ in range(10):
            if place in self.files:
                return place
            package, _, name = place.rpartition(".")
            if name not in self.passed_on.get(package, {}):
                return package if package in self.files else None
            place = self.passed_on[package][name]
        return None

    def reached(self, entries: Iterable[str]) -> set[str]:
        """Follow the imports from some modules."""
        found: set[str] = set()
        ahead = list(entries)
        for name in ahead:
            if name not in self.files:
                sys.exit(f"no module {name} in {self.root}")
        while ahead:
            name = ahead.pop()
            if name not in found:
                found.add(name)
                ahead += self.graph[name]
        return found

    def circles(self) -> list[list[str]]:
        """List groups of modules that reach each other; a package that only passes names on belongs to none."""
        faces = {
            name
            for name in self.passed_on
            if not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in self.trees[name].body)
        }
        reached = {name: self._beyond(name, faces) for name in self.graph if name not in faces}
        groups = {
            tuple(sorted({name, *(other for other in there if name in reached.get(other, ()))}))
            for name, there in reached.items()
            if name in there
        }
        return sorted(map(list, groups))

    def _beyond(self, name: str, faces: set[str]) -> set[str]:
        found: set[str] = set()
        ahead = list(self.graph[name])
        while ahead:
            other = ahead.pop()
            if other not in found and other not in faces:
                found.add(other)
                ahead += self.graph[other]
        return found

    def layers(self) -> int:
        """Count the lines of the import contract of type layers."""
        tools = tomllib.loads((self.root / "pyproject.toml").read_text("utf-8"))["tool"]
        return sum(len(one["layers"]) for one in tools["importlinter"]["contracts"] if one["type"] == "layers")

    def counts(self) -> dict[str, Any]:
        """Count modules, their lines, folders, layers and circles."""
        lines = {
            str(path.relative_to(self.root)): len(path.read_text("utf-8").splitlines())
            for path in self.files.values()
            if path.stem != "__init__"
        }
        largest = sorted(lines, key=lambda path: -lines[path])[:3]
        circles = self.circles()
        return {
            "modules": len(lines),
            "packages": len(self.files) - len(lines),
            "loose": sum(path.parent.name == PACKAGE for path in self.files.values() if path.stem != "__init__"),
            "folders": len({path.parent for path in self.files.values()}),
            "lines": sum(len(path.read_text("utf-8").splitlines()) for path in self.files.values()),
            "median_lines": statistics.median(lines.values()),
            "largest": {path: lines[path] for path in largest},
            "layers": self.layers(),
            "circles": len(circles),
            "in_circles": circles,
        }

    def opens(self, entries: Iterable[str], ground: Iterable[str]) -> dict[str, Any]:
        """Count the files and folders that some modules lead to, less those of the ground."""
        entries = list(entries)
        every = self.reached(entries)
        own = (every - self.reached(ground)) | set(entries)
        places = {self._place(name) for name in own}
        return {
            "entries": sorted(entries),
            "files": len(own),
            "places": len(places),
            "reached": len(every),
            "in_places": sorted(places),
        }

    def _place(self, name: str) -> str:
        path = self.files[name]
        return str((path if path.parent.name == PACKAGE else path.parent).relative_to(self.root))


def starts(root: Path, workspace: Path) -> dict[str, Any]:
    """Measure `import coldstart`, `coldstart --help` and `coldstart status`."""
    codes: Mapping[str, tuple[str, list[str]]] = {
        "import coldstart": ("import coldstart", []),
        "coldstart --help": (_CLI, ["--help"]),
        "coldstart status": (_CLI, ["status", "--workspace", str(workspace)]),
    }
    return {name: _measured(root, _AT_EXIT + code, arguments) for name, (code, arguments) in codes.items()}


def _measured(root: Path, code: str, arguments: list[str]) -> dict[str, Any]:
    clock, processor, loaded = [], [], ["", "", ""]
    for _ in range(TIMES + 1):  # the first one warms the caches of files
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
        clock.append(time.perf_counter() - began)
        after = os.times()
        processor.append(after.children_user + after.children_system - before.children_user - before.children_system)
        loaded = done.stderr.splitlines()[-1].split()
    return {
        "wall_s": round(statistics.median(clock[1:]), 3),
        "cpu_s": round(statistics.median(processor[1:]), 3),
        "modules": int(loaded[0]),
        "modules_of_coldstart": int(loaded[1]),
        "torch": loaded[2] == "True",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Count modules, layers, circles, files one opens, and starting costs.")
    parser.add_argument("--opens", nargs="*", default=[], metavar="NAME=MODULE,MODULE", help="capabilities, by entries")
    parser.add_argument("--ground", default="", help="modules whose reach is subtracted, such as that of ingest")
    parser.add_argument("--starts", type=Path, metavar="WORKSPACE", help="measure starts, status on this workspace")
    given = parser.parse_args()
    house = House(Path.cwd())
    found = house.counts()
    ground = [name for name in given.ground.split(",") if name]
    found["opens"] = {
        name: house.opens(modules.split(","), ground)
        for name, _, modules in (capability.partition("=") for capability in given.opens)
    }
    if given.starts:
        found["starts"] = starts(house.root, given.starts)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

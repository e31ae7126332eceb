"""Plant the faults of `planted_faults.yaml` in a copy of the project, one at a time, and say which test sees each.

    python tools/planted_faults.py [--check] [--only ID] [--tests all] [--jobs N] [--json FILE]

A test counts only if it passes without the fault: what fails is run again in the clean copy, and what fails there too
is left out. Exits with 1 where a fault is caught by no test, or the list does not fit the package any more.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import cache_from_source
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_name("planted_faults.yaml")
PACKAGE, TESTS = "coldstart", "tests"
DEADLINE_S = 1800.0
"""Seconds that the tests of one fault may take."""
_LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv", "venv", "__pycache__", ".*_cache", "*.egg-info", "dist", "build")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
_NO_TESTS = 5  # pytest's exit status


@dataclass(frozen=True)
class Fault:
    """One line to be replaced, and the tests that should see it.

    Attributes:
        id: the room and some words.
        path: where it stands, for a reader.
        old, new: text, in which runs of white space are all alike.
        breaks: what a user sees.
        tests: names of test files, wherever they lie; k: what pytest takes as `-k`.
        slow: seen only with real models or whole runs.
    """

    id: str
    path: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]
    k: str = ""
    slow: bool = False

    @property
    def room(self) -> str:
        return self.id.partition("-")[0]


@dataclass(frozen=True)
class Found:
    """What became of one fault.

    Attributes:
        file: where it was planted.
        caught: whether a test saw it that passes without it; by: the first such test.
        red: tests that fail without the fault too.
        problem: why nothing can be said, such as no test collected.
    """

    id: str
    file: str
    caught: bool
    by: str
    red: tuple[str, ...]
    seconds: float
    problem: str = ""

    @property
    def verdict(self) -> str:
        return "caught" if self.caught else self.problem or "NOT CAUGHT"


def read(path: Path = LIST) -> list[Fault]:
    """Read the list."""
    rows = yaml.safe_load(path.read_text("utf-8"))
    return [Fault(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def sources(root: Path) -> dict[Path, str]:
    """Read every module of the package."""
    return {path: path.read_text("utf-8") for path in sorted((root / PACKAGE).rglob("*.py"))}


def places(fault: Fault, modules: dict[Path, str]) -> list[tuple[Path, int, int]]:
    """Find where the text to replace stands: file, first character, character after the last."""
    pattern = re.compile(r"\s+".join(re.escape(word) for word in fault.old.split()))
    return [(path, *match.span()) for path, text in modules.items() for match in pattern.finditer(text)]


def planted(fault: Fault, modules: dict[Path, str]) -> tuple[Path, str]:
    """Give the file of a fault, and its text with the fault in it.

    Raises:
        ValueError: the text to replace does not stand exactly once, or the new one is no Python.
    """
    found = places(fault, modules)
    if len(found) != 1:
        where = ", ".join(str(path) for path, _, _ in found) or "nowhere"
        raise ValueError(f"{fault.id}: `old` has to stand once, and stands {len(found)} times: {where}")
    path, start, end = found[0]
    text = modules[path][:start] + fault.new.strip() + modules[path][end:]
    try:
        compile(text, str(path), "exec")
    except SyntaxError as error:
        raise ValueError(f"{fault.id}: `new` is no Python: {error}") from error
    return path, text


def files_of(fault: Fault, root: Path) -> list[Path]:
    """Find the test files of a fault.

    Raises:
        ValueError: there is none of a name.
    """
    files: list[Path] = []
    for name in fault.tests:
        own = sorted((root / TESTS).rglob(name))
        if not own:
            raise ValueError(f"{fault.id}: no test file {name} below {TESTS}/")
        files += own
    return list(dict.fromkeys(files))


def problems(root: Path = ROOT, faults: Sequence[Fault] | None = None) -> list[str]:
    """Check the list against a tree: a line for each fault that could not be planted or tested there."""
    faults = read() if faults is None else faults
    modules, found = sources(root), []
    for fault in faults:
        for check in (lambda fault=fault: planted(fault, modules), lambda fault=fault: files_of(fault, root)):
            try:
                check()
            except ValueError as error:
                found.append(str(error))
    ids = [fault.id for fault in faults]
    return found + [f"{name}: two faults of one id" for name in sorted({one for one in ids if ids.count(one) > 1})]


class Copy:
    """A copy of the project in which faults are planted."""

    def __init__(self, root: Path, folder: Path, extra: Sequence[str]) -> None:
        self.root = folder / root.name
        self._extra = extra
        shutil.copytree(root, self.root, ignore=_LEFT_BEHIND, symlinks=True)
        if (data := root.parent / "shared").is_dir():  # sets of real media, which tests look for beside the project
            (folder / "shared").symlink_to(data)
        used = self._python("-c", f"import {PACKAGE}; print({PACKAGE}.__file__)").stdout.strip()
        if not used.startswith(str(self.root)):
            raise SystemExit(f"error: {PACKAGE} is imported from {used}, not from the copy {self.root}")
        self.modules = sources(self.root)

    def try_out(self, fault: Fault, everything: bool) -> Found:
        """Plant a fault, and run its tests until one fails that passes without it."""
        began = time.monotonic()
        path, text = planted(fault, self.modules)
        file = str(path.relative_to(self.root))
        chosen = [TESTS] if everything else [str(one.relative_to(self.root)) for one in files_of(fault, self.root)]
        if fault.k and not everything:
            chosen += ["-k", fault.k]
        red: list[str] = []

        def ended(caught: bool, by: str = "", problem: str = "") -> Found:
            return Found(fault.id, file, caught, by, tuple(red), round(time.monotonic() - began, 1), problem)

        while True:
            deselected = [part for test in red for part in ("--deselect", test)]
            with self._with(path, text):
                done = self._pytest("-x", *chosen, *deselected)
            if done is None:
                return ended(False, problem=f"no end in {DEADLINE_S:g} s")
            if done.returncode == _NO_TESTS:
                return ended(False, problem="no test was run")
            if done.returncode == 0:
                return ended(False)
            failed = _FAILED.findall(done.stdout)
            if not failed:
                return ended(False, problem=f"pytest ended with {done.returncode}: {done.stdout[-300:]}")
            if self._passes(failed[0]):
                return ended(True, failed[0])
            clean = None if red else self._pytest(*chosen)  # once: where one is red without the fault, others may be
            found = [] if clean is None else _FAILED.findall(clean.stdout)
            red += dict.fromkeys([failed[0], *found])

    def _passes(self, test: str) -> bool:
        """Run a test without any fault; of a file that could not be imported, see that it can."""
        done = self._pytest(test) if "::" in test else self._pytest("--collect-only", test)
        return done is not None and done.returncode == 0

    @contextmanager
    def _with(self, path: Path, text: str) -> Iterator[None]:
        """Put a text in the place of a file's own while it lasts."""
        try:
            _write(path, text)
            yield
        finally:
            _write(path, self.modules[path])

    def _pytest(self, *arguments: str) -> subprocess.CompletedProcess[str] | None:
        """Run pytest in the copy; None where it takes too long."""
        options = ["-q", "-p", "no:cacheprovider", "--color=no", "--tb=no", "-rfE", *self._extra]
        with suppress(subprocess.TimeoutExpired):
            return self._python("-m", "pytest", *options, *arguments, timeout_s=DEADLINE_S)
        return None

    def _python(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root), "COLUMNS": "400"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )


def _write(path: Path, text: str) -> None:
    """Write a module, and drop what was compiled of it: a file of the same second and size would pass as unchanged."""
    path.write_text(text, "utf-8")
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


def run(
    faults: Sequence[Fault], root: Path, jobs: int, everything: bool, extra: Sequence[str], out: Path | None
) -> list[Found]:
    """Try out faults, in as many copies as there are jobs; print a line as each ends, and keep it in a file."""
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="planted-faults-") as folder, ThreadPoolExecutor(jobs) as pool:
        for number in range(min(jobs, len(faults))):
            (own := Path(folder, str(number))).mkdir()
            free.put(Copy(root, own, extra))

        def work(fault: Fault) -> Found:
            copy = free.get()
            try:
                found = copy.try_out(fault, everything)
            finally:
                free.put(copy)
            print(f"{found.id:<30} {found.verdict:<12} {found.seconds:>7.1f} s  {found.by}", flush=True)
            return found

        done: list[Found] = []
        for one in pool.map(work, faults):
            done.append(one)
            if out is not None:  # as it goes: a whole run takes long
                out.write_text(json.dumps([asdict(each) for each in done], indent=1) + "\n", "utf-8")
        return done


def table(faults: Sequence[Fault], found: Sequence[Found]) -> str:
    """Draw a Markdown table of what was caught, and by which test."""
    lines = ["| fault | breaks | verdict | by | s |", "|---|---|---|---|---|"]
    for fault, one in zip(faults, found, strict=True):
        cells = (fault.id, fault.breaks, one.verdict, f"`{one.by}`" if one.by else "", f"{one.seconds:.0f}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    caught = sum(one.caught for one in found)
    return "\n".join([*lines, "", f"{caught} of {len(found)} caught"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="only see that every fault can be planted; quick")
    parser.add_argument("--only", action="append", metavar="ID", help="this fault, or all of this room; repeatable")
    parser.add_argument("--fast", action="store_true", help="leave out those that only slow tests see")
    parser.add_argument(
        "--tests", choices=("named", "all"), default="named", help="the tests named, or the whole suite"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at once, each in a copy of its own")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project to plant them in; by default this one")
    parser.add_argument("--list", type=Path, default=LIST, help="the faults; by default the file beside this one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    parser.add_argument(
        "--pytest", action="append", default=[], metavar="OPTION", help="an option of pytest; repeatable"
    )
    given = parser.parse_args(arguments)
    faults = read(given.list)
    if given.only:
        unknown = set(given.only) - {name for fault in faults for name in (fault.id, fault.room)}
        if unknown:
            parser.error(f"no fault or room {', '.join(sorted(unknown))}")
        faults = [fault for fault in faults if {fault.id, fault.room} & set(given.only)]
    faults = [fault for fault in faults if not (given.fast and fault.slow)]
    wrong = problems(given.root, faults)
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    if given.check or wrong:
        print(f"{len(faults)} faults, {len(wrong)} problems")
        return int(bool(wrong))
    found = run(faults, given.root.resolve(), max(1, given.jobs), given.tests == "all", given.pytest, given.json)
    print(table(faults, found))
    return int(not all(one.caught for one in found))


if __name__ == "__main__":
    sys.exit(main())

"""Run the benchmarks: `python -m benchmarks` all in short form, `--full` at full size. Writes README.md and ratios.png.

Each runs in a process of its own. One that fails, lacks its data or takes too long is named in the end with the reason,
the others go on, and the exit code is 1. What a call did not come to (failed, out of time, interrupted) is what the
next one begins with; what it measured is left alone for a day, or until `--anew`. Named benchmarks always run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import page, plot, results
from benchmarks.areas import AREAS, MODULES
from benchmarks.goals import goals
from benchmarks.report import CACHE, Row, table

HERE = Path(__file__).resolve().parent
LIMIT_S = {False: 150.0, True: 3 * 3600.0}
"""Seconds that one may take, by whether it is the full form."""
BUDGET_S = {False: 1800.0, True: float("inf")}
"""Seconds that all may take together; what would start later is named as not run."""
REMEMBERED_S = 24 * 3600.0
"""How long a call that did not end with all benchmarks is gone on with."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="full size")
    parser.add_argument("--anew", action="store_true", help="measure again what an unfinished call measured")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page of what is kept")
    parser.add_argument("--alone", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"some of {', '.join(MODULES)}")
    options = parser.parse_args()
    if unknown := sorted(set(options.only) - set(MODULES)):
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(MODULES)}")
    CACHE.mkdir(exist_ok=True)
    if options.alone:
        alone(options.alone, options.full)
        return
    if options.page:
        write_page()
        return
    progress = CACHE / f"measured-{'full' if options.full else 'short'}.json"
    before = {} if options.only or options.anew else measured_before(progress)
    if before:
        print(f"{len(before)} benchmarks were measured by the call before (--anew measures them again)\n", flush=True)
    names = [name for name in options.only or MODULES if name not in before]
    try:
        failed, spent = run_all(names, options.full, None if options.only else progress, before)
    finally:
        write_page()
    if failed:
        print(table([Row(f"`{name}`", "not measured", "failed", why) for name, why in failed.items()]) + "\n")
    elif not options.only:
        progress.unlink(missing_ok=True)
    print(f"{len(spent)} benchmarks in {sum(spent.values()) / 60:.1f} minutes: " + _longest(spent))
    sys.exit(bool(failed))


def measured_before(progress: Path) -> dict[str, float]:
    """Read the seconds of what an unfinished call of the last day measured."""
    if not progress.is_file() or time.time() - progress.stat().st_mtime > REMEMBERED_S:
        return {}
    try:
        found: dict[str, float] = json.loads(progress.read_text("utf-8"))
    except ValueError:  # killed while it was written
        return {}
    return {name: seconds for name, seconds in found.items() if name in MODULES}


def run_all(
    names: list[str], full: bool, progress: Path | None, before: dict[str, float]
) -> tuple[dict[str, str], dict[str, float]]:
    """Run benchmarks one after the other; return why some failed, and the seconds of each.

    Args:
        progress: file that keeps what was measured, with `before`; None keeps nothing.
    """
    failed: dict[str, str] = {}
    spent: dict[str, float] = {}
    for name in names:
        began = time.monotonic()
        reason = run(name, full, BUDGET_S[full] - sum(spent.values()))
        spent[name] = time.monotonic() - began
        if reason:
            failed[name] = reason.replace("|", "/")
        elif progress:
            before[name] = round(spent[name], 1)
            progress.write_text(json.dumps(before), "utf-8")
        print(f"[{name}: {spent[name]:.0f} s{', failed: ' * bool(reason)}{reason}]\n", flush=True)
    return failed, spent


def run(name: str, full: bool, left_s: float = float("inf")) -> str:
    """Run one benchmark in a process of its own, which prints its table; return why it failed, or "".

    Its processes end with it, also where it is stopped.

    Args:
        left_s: seconds that are left for it and all after it.
    """
    limit_s = min(LIMIT_S[full], left_s)
    if limit_s <= 0:
        return f"not started: the {BUDGET_S[full] / 60:.0f} minutes are over"
    command = [sys.executable, "-m", "benchmarks", "--alone", name, *["--full"] * full]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(command, cwd=HERE.parent, stderr=said, start_new_session=True)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit_s:.0f} s"
        finally:
            _end_group(process)
        said.seek(0)
        lines = [line for line in said.read().strip().splitlines() if line.strip()]
    if code == 0:
        return ""
    return lines[-1] if lines else f"ended with {code}"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and of those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def alone(name: str, full: bool) -> None:
    """Measure, keep what was found, print the table."""
    began = time.perf_counter()
    module = importlib.import_module(f"benchmarks.{name}")
    found = module.run(short=not full)
    form: results.Form = "full" if full else "short"
    (CACHE / f"{name}{'-full' * full}.json").write_text(json.dumps(found, indent=2))
    record = results.measured(form, time.perf_counter() - began, module.rows(found))
    results.save(name, record)
    print(table(record.rows), flush=True)


def write_page() -> None:
    """Write README.md and the picture, of all that was ever measured."""
    found = {name: results.kept(name, area.code) for area in AREAS.values() for name in area.names}
    kept = {name: own for name, own in found.items() if own}
    plot.draw(plot.bars(goals(kept)), HERE / "ratios.png")
    names = {title: area.names for title, area in AREAS.items()}
    (HERE / "README.md").write_text(page.page(names, kept, HERE), "utf-8")


def _longest(spent: dict[str, float]) -> str:
    ordered = sorted(spent.items(), key=lambda one: -one[1])
    return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in ordered)


if __name__ == "__main__":
    main()

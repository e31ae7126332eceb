"""Claim: a search in a fresh process answers within two processor seconds; what only reads, within about one.

    python -m benchmarks first_answer [--full]

The sample catalogue under the packaged `starter` pipeline, once; then fresh processes, the commands in turn within each
round: a search by words with graphs and, for comparison, with torch; `status`, `show`, `check`, `--help`; a missing
workspace and a missing query. Beside them the bare import of LanceDB and ONNX Runtime. Of each: processor seconds (user
and system, all threads), wall seconds and modules loaded, medians over the rounds. The wall is that of a warm file
cache, and reads too high on a machine shared with other work; the graphs are exported before the first round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import coldstart
from benchmarks.report import Row
from coldstart import sample
from coldstart.encoders._starter_onnx import export_graph
from coldstart.encoders.starter import Starter
from coldstart.models import exported

QUERY = "something sour for fish"
ITEM = "clip-19"
MAIN = "from coldstart.cli import main\ntry: main()\nexcept SystemExit: pass\n"
TORCH = "from coldstart import encoders\nencoders.for_queries = lambda encoder: encoder\n"
COUNT = "import sys; open({path!r}, 'w').write(str(len(sys.modules)))"
GOALS = {
    "search by words": "at most 2.0",
    "status": "at most 0.6",
    "show": "at most 0.6",
    "check": "at most 0.6",
    "help": "at most 0.6",
    "a missing workspace": "at most 0.6",
    "no query": "at most 0.6",
}


def commands(workspace: Path) -> dict[str, tuple[str, list[str]]]:
    """Code and arguments of each process."""
    at = ["--workspace", str(workspace)]
    search = ["search", "--text", QUERY, *at]
    return {
        "bare import": ("import lancedb, onnxruntime\n", []),
        "search by words": (MAIN, search),
        "search by words, torch": (TORCH + MAIN, search),
        "status": (MAIN, ["status", *at]),
        "show": (MAIN, ["show", ITEM, "--json", *at]),
        "check": (MAIN, ["check", *at]),
        "help": (MAIN, ["--help"]),
        "a missing workspace": (MAIN, ["status", "--workspace", str(workspace.with_name("none"))]),
        "no query": (MAIN, ["search", *at]),
    }


def measure(code: str, arguments: list[str], folder: Path) -> dict[str, float]:
    """Processor and wall seconds of a fresh process, and the modules it has loaded in the end."""
    counted = folder / "modules"
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", code + COUNT.format(path=str(counted)), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    return {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": wall, "modules": int(counted.read_text())}


def run(short: bool) -> dict[str, Any]:
    """All rounds, command by command."""
    for job in exported.JOBS:
        export_graph(job, Starter("cpu", "float32"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = folder / "sample.workspace"
        opened = coldstart.open(workspace, create=True)
        manifest = sample.path() / "manifest.jsonl"
        opened.run(opened.pipeline("starter", manifest=manifest))
        every = commands(workspace)
        for code, arguments in every.values():
            measure(code, arguments, folder)  # compiled files and the file cache
        rounds = [
            {what: measure(code, arguments, folder) for what, (code, arguments) in every.items()}
            for _ in range(3 if short else 10)
        ]
    return {"commands": {what: [one[what] for one in rounds] for what in every}}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    measured = result["commands"]
    found = []
    for what, rounds in measured.items():
        cpu, wall = ([one[unit] for one in rounds] for unit in ("cpu_s", "wall_s"))
        told = f"{min(cpu):.2f} to {max(cpu):.2f}; wall {statistics.median(wall):.2f} s"
        setting = f"{len(rounds)} fresh processes, {rounds[-1]['modules']:,} modules"
        figure, goal = f"{statistics.median(cpu):.2f}", GOALS.get(what, "")
        found.append(Row(f"{what}: processor seconds", setting, figure, told, goal))
    pairs = zip(measured["search by words"], measured["bare import"], strict=True)
    more = [ours["wall_s"] - bare["wall_s"] for ours, bare in pairs]
    found.append(
        Row(
            "search by words: wall seconds beyond the bare import",
            f"{len(more)} rounds",
            f"{statistics.median(more):.2f}",
            f"{min(more):.2f} to {max(more):.2f}",
            "at most 0.5",
        )
    )
    return found


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))

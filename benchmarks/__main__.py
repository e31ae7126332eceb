"""Run all benchmarks: `python -m benchmarks` in short form, `--full` at full size, which also writes README.md."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.report import CACHE, Row, table

MODULES = ("embed_clip", "video_seek", "index_200k")
PACKAGES = ("torch", "open_clip_torch", "lancedb", "av", "pillow")
HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="full size; writes benchmarks/README.md")
    parser.add_argument("only", nargs="*", help=f"some of {', '.join(MODULES)}")
    options = parser.parse_args()
    found: list[Row] = []
    for name in options.only or MODULES:
        module = importlib.import_module(f"benchmarks.{name}")
        result = module.run(short=not options.full)
        CACHE.mkdir(exist_ok=True)
        (CACHE / f"{name}{'-full' if options.full else ''}.json").write_text(json.dumps(result, indent=2))
        rows = module.rows(result)
        print(table(rows), flush=True)
        found += rows
    if options.full and not options.only:
        (HERE / "README.md").write_text(page(found))


def page(rows: list[Row]) -> str:
    """The page that stands beside the benchmarks."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"""# Benchmarks

One file a claim; contenders run interleaved in one process on one machine, and ratios are taken round by round, since a
shared machine is noisy. `make bench` runs a short form; this table is `make bench-full`.

{table(rows)}

Measured on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), {versions}.
"""


if __name__ == "__main__":
    main()

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

MODULES = (
    *("embed_clip", "waiting", "video_seek", "index_200k"),
    *("align_fashion", "align_100k"),
    *("towers", "understand", "speech_wer", "screen_text", "shots", "near_duplicates", "safety", "match_sample"),
    *("starter_clip", "describe_fashion", "describe_retrieval", "describe_films"),
    *("lora_tokens", "describe_tokens"),
    *("interactions_ingest", "exploration_simulated"),
    *("recommend_speed", "recommend_films"),
)
PACKAGES = ("torch", "open_clip_torch", "lancedb", "av", "faster-whisper", "rapidocr", "onnxruntime")
HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="full size; writes benchmarks/README.md of all that were run so"
    )
    parser.add_argument("only", nargs="*", help=f"some of {', '.join(MODULES)}")
    options = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    for name in options.only or MODULES:
        module = importlib.import_module(f"benchmarks.{name}")
        result = module.run(short=not options.full)
        _saved(name, options.full).write_text(json.dumps(result, indent=2))
        print(table(module.rows(result)), flush=True)
    if options.full:
        ran = [name for name in MODULES if _saved(name, True).exists()]
        rows = [
            row
            for name in ran
            for row in importlib.import_module(f"benchmarks.{name}").rows(json.loads(_saved(name, True).read_text()))
        ]
        (HERE / "README.md").write_text(page(rows, [name for name in MODULES if name not in ran]))


def _saved(name: str, full: bool) -> Path:
    return CACHE / f"{name}{'-full' if full else ''}.json"


def page(rows: list[Row], missing: list[str]) -> str:
    """The page that stands beside the benchmarks; `missing`: those that were not run in full."""
    left = f"\nNot run in full yet: {', '.join(f'`{name}`' for name in missing)}.\n" if missing else ""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"""# Benchmarks

One file a claim; contenders run interleaved in one process on one machine, and ratios are taken round by round, since a
shared machine is noisy. `make bench` runs a short form; this table is `make bench-full`.

{table(rows)}
{left}
Measured on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), {versions}.
"""


if __name__ == "__main__":
    main()

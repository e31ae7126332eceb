"""Run the benchmarks: `python -m benchmarks` all in short form, `--full` at full size. Writes README.md and ratios.png.

Each runs in a process of its own. One that fails, lacks its data or takes too long is named in the table with the
reason, the others go on, and the exit code is 1 in the end.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import page, plot, results
from benchmarks.report import CACHE, Row, table

AREAS: dict[str, tuple[str, ...]] = {
    "Embedding": ("embed_clip", "peers_embed", "towers", "gpu", "gpu_fits"),
    "The engine": ("waiting", "devices_cpu", "ray_local", "estimate", "incremental", "runs_200", "scale"),
    "Vectors and search": (
        *(
            "first_answer",
            "index_200k",
            "vectors_1m",
            "search_default",
            "languages",
            "match_sample",
            "match_new_clips",
            "serve",
            "serve_uploads",
            "serve_rank",
        ),
    ),
    "Video and understanding": (
        *(
            "video_seek",
            "video_decode",
            "understand",
            "speech_wer",
            "screen_text",
            "shots",
            "near_duplicates",
            "safety",
        ),
    ),
    "Pictures and words": ("align_unseen", "align_fashion", "align_100k", "starter_clip"),
    "Descriptions": (
        *("describe_fashion", "describe_retrieval", "describe_perfect_writer"),
        *("describe_films", "lora_tokens", "describe_tokens"),
    ),
    "Behaviour": (
        "interactions_ingest",
        "histories",
        "impressions",
        "exploration_simulated",
        "recommend_mixed",
        "recommend_speed",
        "recommend_films",
        "recommend_default",
        "behaviour_fit",
        "semantic_ids",
        "recall",
        "rank",
        "rank_union",
        "rerank",
    ),
}
MODULES = tuple(name for names in AREAS.values() for name in names)
HERE = Path(__file__).resolve().parent
LIMIT_S = {False: 300.0, True: 3 * 3600.0}
"""Seconds that one may take, by whether it is the full form."""
BUDGET_S = {False: 1800.0, True: float("inf")}
"""Seconds that all may take together; what would start later is named as not run."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="full size")
    parser.add_argument("--alone", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("only", nargs="*", help=f"some of {', '.join(MODULES)}")
    options = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    if options.alone:
        alone(options.alone, options.full)
        return
    failed: list[Row] = []
    spent: dict[str, float] = {}
    for name in options.only or MODULES:
        began = time.monotonic()
        reason = run(name, options.full, BUDGET_S[options.full] - sum(spent.values()))
        spent[name] = time.monotonic() - began
        if reason:
            failed.append(Row(f"`{name}`", "did not run to its end", "failed", reason.replace("|", "/")))
        print(f"[{name}: {spent[name]:.0f} s{', failed' * bool(reason)}]\n", flush=True)
    write_page()
    if failed:
        print(table(failed))
    print(f"{len(spent)} benchmarks in {sum(spent.values()) / 60:.1f} minutes: " + _longest(spent))
    sys.exit(bool(failed))


def run(name: str, full: bool, left_s: float = float("inf")) -> str:
    """One benchmark in a process of its own, which prints its table; why it failed, or "".

    Args:
        left_s: seconds that are left for it and all after it.
    """
    limit_s = min(LIMIT_S[full], left_s)
    if limit_s <= 0:
        return f"not started: the {BUDGET_S[full] / 60:.0f} minutes are over"
    command = [sys.executable, "-m", "benchmarks", "--alone", name, *["--full"] * full]
    try:
        ran = subprocess.run(command, cwd=HERE.parent, stderr=subprocess.PIPE, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"stopped after {limit_s:.0f} s"
    if ran.returncode == 0:
        return ""
    said = [line for line in ran.stderr.strip().splitlines() if line.strip()]
    return said[-1] if said else f"ended with {ran.returncode}"


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
    """README.md and the picture, of all that was ever measured."""
    records = {name: record for name in MODULES if (record := results.best(name))}
    rows = [(row, record.form == "short") for record in records.values() for row in record.rows]
    plot.draw(rows, HERE / "ratios.png")
    (HERE / "README.md").write_text(page.page(AREAS, records, HERE), "utf-8")


def _longest(spent: dict[str, float]) -> str:
    ordered = sorted(spent.items(), key=lambda one: -one[1])
    return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in ordered)


if __name__ == "__main__":
    main()

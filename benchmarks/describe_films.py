"""Whether a film is found by its overview when what a tuned language model wrote of its title is indexed.

    python -m benchmarks.describe_films [--short]

Needs the real data (`COLDSTART_DATA`, default `../shared/data`) and the starter models. SmolLM2 is tuned on titles and
genres of 300 MovieLens films, one epoch, with overview, first genre and decade to write; the
overview of a film that it held out asks, among 100 held out, given the title alone and given title and genres. The
workspace is kept under `.bench/`, and a second run trains nothing. `--short` learns from 40 films and asks for 16.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

import coldstart
from benchmarks.describe_retrieval import DATA, lines_of
from benchmarks.report import CACHE, Row

GIVEN = ("title", "tags")
VIEWS = {"title": ["title"], "title and genres": ["title", "tags"]}


def films(short: bool) -> dict[str, Any]:
    """SmolLM2 tuned on films, and whether the overviews of those held out find them."""
    folder = CACHE / f"describe_films{'-short' if short else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    workspace = coldstart.open(folder / "films.workspace", create=True)
    settings = film_settings(folder, short)
    workspace.run(settings, only=["ingest"])
    workspace.finetune_describe()
    limit = 16 if short else 100
    reports = {name: workspace.evaluate_describe(given=given, limit=limit).to_dict() for name, given in VIEWS.items()}
    return {
        name: {
            "items": found["counts"]["items"],
            "gain": found["gain"],
            "f1": {
                writer: {stage: own[stage]["attributes"]["all"]["f1"] for stage in ("written", "checked")}
                for writer, own in found["measures"].items()
            },
            "made_up": {
                writer: {stage: own[stage]["made_up"] for stage in ("written", "checked")}
                for writer, own in found["measures"].items()
            },
            "valid": {writer: own["valid"] for writer, own in found["measures"].items()},
        }
        for name, found in reports.items()
    }


def film_settings(folder: Path, short: bool) -> dict[str, Any]:
    """A pipeline over the films: titles and genres are given, overview, first genre and decade are learnt."""
    manifest = folder / "items.jsonl"
    rows = [json.loads(line) for line in (DATA / "movielens_posters/items.jsonl").read_text("utf-8").splitlines()]
    rows = rows[:100] if short else rows
    lines = [
        {
            "item_id": row["id"],
            "kind": "product",
            "title": row["title"],
            "description": row["text"],
            "category": (row["genres"] or [None])[0],
            "tags": row["genres"],
            "attributes": {"decade": f"{row['year'] // 10 * 10}s"} if row["year"] else {},
        }
        for row in rows
        if row["text"]
    ]
    manifest.write_text("\n".join(json.dumps(line) for line in lines) + "\n", "utf-8")
    size = {"judged": 0, "views": 1, "max_items": 40 if short else 300, "training": {"epochs": 1, "looks": 1}}
    return {
        "manifest": str(manifest),
        "engine": {"workers": 1},
        "attributes": {"default": {"genre": {"from": "category"}, "decade": {}}},
        "stages": {
            "ingest": {},
            "text": {"stage": "embed", "encoder": "starter", "input": "text"},
            "finetune": {"describe": {"generator": "starter", "given": list(GIVEN), "drop": {"tags": 0.5}, **size}},
            "index": {},
        },
    }


def run(short: bool) -> dict[str, Any]:
    """Recall by what is indexed, attributes, made-up claims and valid JSON of each writer."""
    torch.set_num_threads(2)
    CACHE.mkdir(exist_ok=True)
    return {"load": os.getloadavg()[0], "films": films(short)}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for view, found in result["films"].items():
        setting = f"{found['items']} films by their overview, given {view}"
        lines += lines_of(setting, found["gain"])
        for what in ("f1", "made_up"):
            for writer, stages in found[what].items():
                for stage, one in stages.items():
                    claim = f"{'attributes, F1' if what == 'f1' else 'made-up claims'}, {writer}, {stage}"
                    lines.append(Row(claim, setting, f"{one['value']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}"))
        for writer, one in found["valid"].items():
            lines.append(Row(f"valid JSON, {writer}", setting, f"{one['value']:.3f}", "", "at least 0.99"))
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))

"""Claim: the Ray engine makes the tables that the local engine makes; and what a cluster costs on one machine.

Contenders, interleaved: the local engine with its workers, and Ray with one actor that prepares and one that
computes, on copies of one workspace of JPEG files. The limit on two cores is the local engine: Ray has the same cores,
and copies what is prepared from process to process. Measured beside it: a stage in which nothing is stale, by either
engine, and finding what is stale among 200,000 items.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.embed_clip import make_jpegs
from benchmarks.report import CACHE, Row, ratio
from coldstart.core import pipeline as pipelines
from coldstart.core.keys import stage_key
from coldstart.core.pipeline import Pipeline, RayCluster
from coldstart.core.stage import is_map
from coldstart.engine.ray import plan as ray_plan
from coldstart.engine.ray.cluster import cluster
from coldstart.engine.recipe import Recipe
from coldstart.engine.report import RunReport
from coldstart.engine.run import run_pipeline
from coldstart.engine.work import Scope
from coldstart.store import ITEMS, Store
from coldstart.store.fits import with_fits
from coldstart.store.freshness import assess_map, build, expected_keys

STAGE = {"stage": "embed", "encoder": "open_clip:ViT-B-32", "batch_size": 64, "allow_random_weights": True}
STALE = 0.01


def load(manifest: Path, engine: dict[str, Any]) -> Pipeline:
    return pipelines.load({"stages": {"ingest": {}, "clip": STAGE}, "engine": engine}, manifest=manifest)


def embed(store: Store, pipeline: Pipeline) -> tuple[float, RunReport]:
    """Seconds of the embed stage alone, all around it included."""
    began = time.perf_counter()
    report = run_pipeline(store, pipeline, only=["clip"])
    return time.perf_counter() - began, report


def lowest_cosine(one: Store, other: Store) -> float:
    """Of the vectors of the same items; 0 where the items or their keys differ."""
    [table] = [name for name in one.tables() if name.startswith("stage.")]
    if one.keys(table) != other.keys(table):
        return 0.0
    left, right = (
        np.array(store.read(table).sort_by("item_id")["vector"].to_pylist(), np.float64) for store in (one, other)
    )
    return float(np.min(np.sum(left * right, 1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)))


def planning(count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds to find what is stale where 1 % of the items are, in this process and by tasks of the cluster."""
    folder = CACHE / "ray_plan.workspace"
    shutil.rmtree(folder, ignore_errors=True)
    store = Store(folder, create=True)
    store.set_layout_version()
    ids = [f"item-{number:08d}" for number in range(count)]
    items = {"item_id": ids, "row_key": [f"{number:032x}" for number in range(count)], "title": ids}
    store.merge(ITEMS, pa.table(items))
    settings = {"stage": "embed", "encoder": "fake", "input": "text"}
    pipeline = with_fits(pipelines.load({"stages": {"ingest": {}, "words": settings}}), store)
    stage = build(pipeline.stages[1], pipeline)
    assert is_map(stage)
    keys = expected_keys(stage, store.item_keys(stage.item_fields))
    made = list(keys)[round(STALE * count) :]
    store.merge(stage.table, pa.table({"item_id": made, stage.key_column: [keys[item] for item in made]}))
    recipe = Recipe.of(store, pipeline, "words")
    key = stage_key(stage.kind, stage.version, stage.fingerprint())
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    for _ in range(rounds):
        began = time.perf_counter()
        found = assess_map(store, stage)
        between = time.perf_counter()
        plan = ray_plan.make_plan(store, recipe, stage, key, Scope(), 128)
        seconds["ray"].append(time.perf_counter() - between)
        seconds["local"].append(between - began)
        assert plan.balance == found.balance, (plan.balance, found.balance)
        assert plan.chosen == len(found.stale)
    return seconds


def run(short: bool) -> dict[str, Any]:
    """Seconds by round of each contender, the lowest cosine between their vectors, seconds to plan."""
    warnings.simplefilter("ignore", ResourceWarning)
    count, rounds, catalogue = (200, 2, 200_000) if short else (1000, 5, 200_000)
    manifest = make_jpegs(count)
    base = CACHE / "ray_base.workspace"
    shutil.rmtree(base, ignore_errors=True)
    run_pipeline(Store(base, create=True), load(manifest, {}), only=["ingest"])
    figures: dict[str, list[float]] = {
        name: [] for name in ("local", "ray", "ray_idle", "local_idle", "cosine", "ray_start_s", "ray_compute_s")
    }
    engines: dict[str, dict[str, Any]] = {"local": {"workers": 2}, "ray": {"name": "ray", "ray": {"part": 64}}}
    began = time.perf_counter()
    with cluster(RayCluster(), Store(base)):
        started = time.perf_counter() - began
        for _ in range(rounds):
            stores = {}
            for name, engine in engines.items():
                folder = CACHE / f"ray_{name}.workspace"
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(base, folder)
                stores[name] = Store(folder)
                seconds, report = embed(stores[name], load(manifest, engine))
                [stage] = report.stages
                assert stage.ran.done == count, f"{stage.ran.done} of {count} by {name}"
                figures[name].append(seconds)
                figures[f"{name}_idle"].append(embed(stores[name], load(manifest, engine))[0])
                if name == "ray":
                    figures["ray_start_s"].append(stage.ran.start_s)
                    figures["ray_compute_s"].append(stage.ran.compute_s)
            figures["cosine"].append(lowest_cosine(stores["local"], stores["ray"]))
        plans = planning(catalogue, rounds)
    return {"pictures": count, "items": catalogue, "cluster_s": started, **figures, "plan": plans}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    setting = f"{result['pictures']} JPEGs, ViT-B/32, one machine, the same cores"
    cosine = min(result["cosine"])
    idle = [ray - local for ray, local in zip(result["ray_idle"], result["local_idle"], strict=True)]
    plan = result["plan"]
    return [
        Row("tables of Ray against the local engine's: lowest cosine", setting, f"{cosine:.5f}", "", "at least 0.999"),
        Row("speed of Ray against the local engine", setting, *ratio(result["local"], result["ray"])),
        Row("seconds that Ray adds to a stage with nothing to do", setting, *_seconds(idle)),
        Row("seconds until Ray's first part is made", setting, *_seconds(result["ray_start_s"])),
        Row(
            "finding 1 % stale by Ray against in one process",
            f"{result['items']:,} items",
            *ratio(plan["ray"], plan["local"]),
        ),
    ]


def _seconds(values: list[float]) -> tuple[str, str]:
    return f"{sorted(values)[len(values) // 2]:.1f} s", f"{min(values):.1f} to {max(values):.1f}"


if __name__ == "__main__":
    print(json.dumps(run(short=True), indent=2))

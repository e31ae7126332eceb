"""What the stages of a pipeline took, by what the workspace has recorded of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from coldstart.evaluation.ablation.report import Cost
from coldstart.freshness import Standing
from coldstart.pipeline import Pipeline
from coldstart.stage import is_map
from coldstart.workspace import RUNS, Store

_FINETUNE, _GROUNDS, _WRITE, _CHECK = "finetune.describe", "describe.grounds", "describe.write", "describe.check"
_UNKNOWN = "no run of it is recorded"


def needs_of(name: str, pipeline: Pipeline, standing: Standing) -> frozenset[str]:
    """The stage and all that its rows are made from: stages that it reads, and fits that it stands on."""
    found = {name}
    stage = standing.stage(name)
    if is_map(stage):
        for read in stage.reads.values():
            found |= needs_of(read, pipeline, standing)
    spec = next(spec for spec in pipeline.stages if spec.name == name)
    if spec.kind == _WRITE and spec.settings.generator.startswith("finetune:"):
        found |= {one.name for one in pipeline.of_kind(_FINETUNE)}
    if spec.kind == _CHECK:
        found |= {one.name for one in pipeline.of_kind(_GROUNDS)}
    return frozenset(found)


def recorded(names: Sequence[str], store: Store, standing: Standing) -> dict[str, Cost]:
    """Stage -> what it took: seconds an item, of the newest runs that made as many rows as there are; of a fit, once.

    Seconds are those on the clock of the machine that ran it, waiting for media included.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    if store.has(RUNS):
        for row in store.read(RUNS).sort_by([("started_at", "descending")]).to_pylist():
            ran = json.loads(row["report"])["ran"]
            if ran["done"] + ran["lost"]:
                runs.setdefault(row["stage"], []).append(ran)
    found = {}
    for name in names:
        own = runs.get(name, [])
        if not is_map(standing.stage(name)):
            found[name] = Cost(name, 0.0, own[0]["seconds"], "recorded") if own else Cost(name, 0.0, 0.0, _UNKNOWN)
            continue
        rows = len(standing.of(name).fresh)
        done = spent = 0.0
        for ran in own:
            done += ran["done"] + ran["lost"]
            spent += ran["seconds"]
            if done >= rows:
                break
        found[name] = Cost(name, spent / done, 0.0, f"recorded, {done:,.0f} items") if done else _unknown(name)
    return found


def _unknown(name: str) -> Cost:
    return Cost(name, None, 0.0, _UNKNOWN)

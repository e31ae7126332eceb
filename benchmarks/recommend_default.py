"""Recommendations of new items by the plain commands: films and scientific supplies, as a user has them.

    python -m benchmarks.recommend_default [films|scientific] [--short]

A manifest and a log are written as a shop would have them, then `coldstart run recommend`, `coldstart ingest
--interactions` and `coldstart finetune behaviour` are run with no setting; what they fitted ranks the items that were
held out, for each user with a like among them. Nothing is chosen here, and the log holds no row of the new items.

Films: MovieLens with posters (`benchmarks.films_data`), 1,988 films to learn from and the 431 of `cold_dev`; title,
overview, genres as tags, year as an attribute. Users' tags and the number of ratings are left out, for they tell what
viewers did. A like of the test is a rating of 4 or more. `CHOSEN` of `benchmarks.recommend_films` is the tuned blend.
This was the third look at the 431, after which nothing was changed: run it on them to check a figure, not to choose.

Scientific: Amazon's Industrial & Scientific 5-core; an item is new where the digest of its id says so, which is one in
ten; title, description, category path and brand. Its folder is `COLDSTART_INTERACTIONS`.

Baselines learn from the same content with equal weights, by their own default settings. `--short` fits on a third of
the users of the scientific supplies, and reads no rating of the new films.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import coldstart
from benchmarks.films_data import DATA, FOLDER, LIKED, films
from benchmarks.report import Row
from coldstart.core.interactions import Interactions, interactions
from coldstart.metrics.ranking import measure_lists
from coldstart.metrics.two_way import contributions_by_item, resample, shares_by_item
from coldstart.recommend import model
from coldstart.recommend.inputs import load_content, load_newest_fit
from coldstart.recommend.model.factors import fit_teacher
from coldstart.recommend.model.holdout import build_problem
from coldstart.recommend.model.scoring import top_k
from coldstart.store import Store

SCIENTIFIC = Path(os.environ.get("COLDSTART_INTERACTIONS", DATA.parent / "interactions")) / "amazon_scientific"
SETS = ("films", "scientific")
MEASURES = ("recall@20", "ndcg@20")
DEFAULT = "coldstart finetune behaviour"
BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "knn": ("knn", {}),
    "ridge onto people": ("ridge", {"target": "users"}),
    "kernel ridge": ("kernel", {}),
    "popularity by content": ("popularity", {}),
}


@dataclass(frozen=True)
class Shop:
    """A catalogue with a log: `log` rows user, item, time, weight; `new` ids; `liked` least weight of a test's like."""

    manifest: list[dict[str, Any]]
    log: list[tuple[str, str, int, float]]
    new: frozenset[str]
    liked: float


def films_shop() -> Shop:
    told = films()
    manifest = [
        {
            "item_id": film["id"],
            "title": film["title"],
            "description": film["text"] or None,
            "tags": film["genres"],
            "attributes": {"year": film["year"]},
            "images": [str(FOLDER / film["file"])],
        }
        for film in told
    ]
    with (FOLDER / "ratings.csv").open(encoding="utf-8") as file:
        log = [
            (row["userId"], f"ml-{row['movieId']}", int(row["timestamp"]), float(row["rating"]))
            for row in csv.DictReader(file)
        ]
    return Shop(manifest, log, frozenset(film["id"] for film in told if film["fold"] == "cold_dev"), LIKED)


def scientific_shop() -> Shop:
    items = json.loads((SCIENTIFIC / "Scientific.item.json").read_text("utf-8"))
    manifest = []
    for name, own in items.items():
        path = " > ".join(part.strip() for part in own.get("categories", "").split(",") if part.strip())
        row = {"item_id": f"sci-{name}", "title": own.get("title") or None, "description": own.get("description")}
        brand = {"brand": own["brand"]} if own.get("brand") else {}
        manifest.append({**row, "category": path or None, "attributes": brand})
    met = json.loads((SCIENTIFIC / "Scientific.inter.json").read_text("utf-8"))
    log = [(f"u{user}", f"sci-{item}", step, 1.0) for user, own in met.items() for step, item in enumerate(own)]
    new = {name for name in items if int(hashlib.sha1(f"cold:{name}".encode()).hexdigest(), 16) % 10 == 0}
    return Shop(manifest, log, frozenset(f"sci-{name}" for name in new), 0.5)


def fitted(shop: Shop, folder: Path, has_pictures: bool) -> tuple[coldstart.Workspace, float, float]:
    """Run the three commands on a workspace; returns it, and the seconds of the fit, of the processor and the clock."""
    manifest, log = folder / "manifest.jsonl", folder / "log.csv"
    manifest.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shop.manifest), "utf-8")
    with log.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp", "weight"])
        rows.writerows(row for row in shop.log if row[1] not in shop.new)
    uri = folder / "workspace"
    workspace = coldstart.open(uri, create=True)
    roots = [FOLDER] if has_pictures else []
    workspace.run("recommend", manifest=manifest, media_roots=roots)
    workspace.ingest_interactions(log)
    began, worked = time.perf_counter(), _cpu_s()
    workspace.finetune_behaviour()
    return workspace, _cpu_s() - worked, time.perf_counter() - began


def measured(shop: Shop, uri: str | Path) -> dict[str, Any]:
    """Rank the new items by what a workspace fitted, and by the baselines, with intervals over users and over items."""
    store, pipeline = Store(uri), coldstart.open(uri).pipeline()
    behaviour, artifact = load_newest_fit(store, pipeline)
    spaces = list(behaviour.fusion.spaces)
    content = load_content(store, pipeline, spaces)
    known = [place for place, item in enumerate(content.item_ids) if item not in shop.new]
    new = [place for place, item in enumerate(content.item_ids) if item in shop.new]
    users, items, times, weights = zip(*shop.log, strict=True)
    every = interactions(users, items, np.array(times), np.array(weights, np.float32))
    least: float | None = artifact.report["settings"]["min_weight"]
    learnt = content.take(known)
    train = every.where(~np.isin(np.array(every.item_ids, dtype=object), list(shop.new))[every.items])
    held = content.take(new)
    relevant = every.positive(shop.liked).over(held.item_ids).matrix()
    histories = train.positive(least).over(behaviour.item_ids).matrix()
    asked = np.flatnonzero((np.diff(relevant.indptr) > 0) & (np.diff(histories.indptr) > 0))
    relevant = relevant[asked]
    lists = {
        "random": _by_lot(relevant.shape),
        DEFAULT: top_k(behaviour.users(histories[asked]), behaviour.items(held), 20)[0],
    }
    for name, (mapper, settings) in BASELINES.items():
        lists[name] = _baseline(mapper, settings, train.over(learnt.item_ids), learnt, held, least, asked)
    if behaviour.name == "blend":
        features = behaviour.fusion.transform(held)
        for part in behaviour.mapper.parts:  # type: ignore[attr-defined]
            own = top_k(part.mapper.users(histories[asked]), part.mapper.items(features), 20)[0]
            lists[f"its part {part.name}"] = own
    return {
        "new": len(new),
        "users": len(asked),
        "likes": int(relevant.nnz),
        "fit": {name: artifact.report[name] for name in ("chosen", "parts", "weights", "powers", "kernel", "budget")},
        "held_out": artifact.report["candidates"][artifact.report["chosen"]],
        "lists": compared(lists, relevant),
    }


def compared(lists: dict[str, NDArray[np.int64]], relevant: Any) -> dict[str, Any]:
    """Measures of each list, and how far the default is ahead, with intervals over users and over items."""
    names = list(lists)
    found: dict[str, Any] = {name: {} for name in names}
    for measure in MEASURES:
        values = np.stack([measure_lists(lists[name], relevant, [20])[measure] for name in names], axis=1)
        parts = np.stack([contributions_by_item(lists[name], relevant, 20)[measure] for name in names], axis=1)
        drawn = resample(values, parts, shares_by_item(relevant), draws=1000)
        for place, name in enumerate(names):
            found[name][measure] = drawn.interval(place).to_dict()
            if name != DEFAULT:
                found[name][f"{measure}, default ahead"] = drawn.difference(names.index(DEFAULT), place)[0].to_dict()
    return found


def _baseline(
    mapper: str, settings: dict[str, Any], train: Interactions, learnt: Any, held: Any, least: float | None, asked: Any
) -> NDArray[np.int64]:
    teacher = fit_teacher("als", train.positive(least).matrix(), dim=64, seed=0)
    problem, fusion = build_problem(train, learnt, min_weight=least, weights=None, labels=True, teacher=teacher)
    fit = model.fit(mapper, problem, **settings)
    return top_k(fit.users(problem.matrix[asked]), fit.items(fusion.transform(held)), 20)[0]


def _by_lot(shape: tuple[int, int]) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(shape[1])[:20] for _ in range(shape[0])]).astype(np.int64)


def _cpu_s() -> float:
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in own)


def run(short: bool, names: tuple[str, ...] = SETS) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        if short and name == "films":
            continue  # their new ratings are for a look at the end, never for a routine run
        shop = films_shop() if name == "films" else scientific_shop()
        if short:
            users = sorted({row[0] for row in shop.log})[::3]
            some = frozenset(users)
            shop = Shop(shop.manifest, [row for row in shop.log if row[0] in some], shop.new, shop.liked)
        with tempfile.TemporaryDirectory() as folder:
            workspace, cpu_s, seconds = fitted(shop, Path(folder), name == "films")
            times = {"fit_cpu_s": round(cpu_s, 1), "fit_s": round(seconds, 1), "load": os.getloadavg()[0]}
            found[name] = {**measured(shop, workspace.uri), **times}
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    return [row for name, own in result.items() for row in _rows(name, own)]


def _rows(name: str, own: dict[str, Any]) -> Iterator[Row]:
    setting = f"{own['users']} users, {own['new']} new items"
    for method, cells in own["lists"].items():
        told = ", ".join(f"{measure} {cells[measure]['value']:.3f}" for measure in MEASURES)
        low, high, over = (cells["recall@20"][key] for key in ("low", "high", "over"))
        yield Row(f"{name}, {method}", setting, told, f"recall@20 {low:.3f} to {high:.3f} ({over})")
    if "fit_cpu_s" in own:
        yield Row(f"{name}, processor seconds of the fit", setting, f"{own['fit_cpu_s']:.0f} s", "", "at most 1200")
    if "fit_s" in own:
        setting += f", {os.cpu_count()} cores, load {own['load']:.0f}"
        yield Row(f"{name}, seconds of the fit by the clock", setting, f"{own['fit_s']:.0f} s", "", "at most 180")


if __name__ == "__main__":
    chosen = tuple(name for name in sys.argv[1:] if name in SETS) or SETS
    print(json.dumps(run("--short" in sys.argv, chosen), indent=2))

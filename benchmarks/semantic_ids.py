"""Semantic IDs: cost at 100,000 items, and health on Amazon Scientific beside ten ready sets of IDs.

    python -m benchmarks.semantic_ids [--short]

Cost: 100,000 made unit vectors of 384 numbers in 500 clusters, in a process of its own; then 1,000 new ones. Health:
the 4,344 products of Amazon Reviews 2018 Industrial & Scientific (`COLDSTART_INTERACTIONS`, default
`../shared/interactions`), texts by the starter encoder. An item is new where `int(sha1("cold:ITEM")) % 10 == 0`: events
with new items and the last event of every user are in no fit. Judged are the pairs of the last two items of a user: by
prefixes of IDs, by those of the ready sets, of category paths, and of codes shuffled among the items. The ready sets
were made with all items and, where they take behaviour, with events that are judged here. Short: cost at 10,000 items,
and no fit of behaviour.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import CACHE, Row
from coldstart.core.interactions import Interactions
from coldstart.metrics.intervals import share
from coldstart.semantic_ids.collisions import RULES, place_items
from coldstart.semantic_ids.fit_stage import is_usable
from coldstart.semantic_ids.health import (
    buckets,
    category_groups,
    is_held_out,
    measure_agreement,
    measure_new_items,
    prefix_groups,
)
from coldstart.semantic_ids.methods import METHODS, fit_codebooks

DATA = Path(os.environ.get("COLDSTART_INTERACTIONS", Path(__file__).resolve().parents[2] / "shared/interactions"))
SCIENTIFIC = DATA / "amazon_scientific"
SIZES = {False: 100_000, True: 10_000}
DIM, CLUSTERS, NEW = 384, 500, 1000
BUDGET_S = 60
"""Processor seconds of the fit of behaviour, a tenth of the default."""
SETTINGS: dict[str, tuple[int, ...]] = {"3 x 256": (256, 256, 256), "4 x 256": (256, 256, 256, 256)}


# -- cost


def made(count: int, seed: int = 0) -> Any:
    """Unit vectors in clusters, float32 [count, DIM]."""
    centres = np.random.default_rng(1).normal(size=(CLUSTERS, DIM)).astype(np.float32)
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(CLUSTERS, size=count)] + rng.normal(size=(count, DIM)).astype(np.float32) * 0.8
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cost(count: int) -> dict[str, Any]:
    """Processor seconds and peak memory of a fit, of all IDs and of those of new items, in this process."""
    import scipy.optimize
    import scipy.sparse  # noqa: F401  (loading both is not part of it)

    vectors, new = made(count), made(NEW, 2)
    began, clock = time.process_time(), time.perf_counter()
    books = fit_codebooks(vectors)
    fitted = time.process_time()
    projected = books.project(vectors)
    nearest, _ = books.encode(projected)
    ids = place_items(books, projected, nearest, "reassign", np.empty((0, 3), np.int32))
    placed, all_clock = time.process_time(), time.perf_counter()
    more = books.project(new)
    added = place_items(books, more, books.encode(more)[0], "reassign", ids)
    done, end = time.process_time(), time.perf_counter()
    together = np.concatenate([ids, added])
    return {
        "items": count,
        "fit_s": fitted - began,
        "ids_s": placed - fitted,
        "clock_s": all_clock - clock,
        "new_s": done - placed,
        "new_clock_s": end - all_clock,
        "unique": len(np.unique(together, axis=0)) / len(together),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }


# -- Scientific


def workspace(short: bool) -> Path:
    """The products with texts, without events of new items and without the last event of a user; made once."""
    import coldstart

    folder = CACHE / "scientific.workspace"
    items = json.loads((SCIENTIFIC / "Scientific.item.json").read_text("utf-8"))
    histories = read_histories()
    manifest, events = CACHE / "scientific.jsonl", CACHE / "scientific-events.csv"
    CACHE.mkdir(exist_ok=True)
    lines = []
    for item, row in items.items():
        path = " > ".join(part.strip() for part in str(row.get("categories") or "").split(",") if part.strip())
        lines.append({
            "item_id": f"i{item}", "title": row.get("title") or None, "description": row.get("description") or None,
            "category": path or None, "creator": row.get("brand") or None,
        })  # fmt: skip
    manifest.write_text("\n".join(json.dumps(line) for line in lines) + "\n", "utf-8")
    rows = ["user_id,item_id,timestamp"]
    for user, history in histories.items():
        rows += [f"{user},{item},{1_500_000_000 + place}" for place, item in enumerate(history[:-1])
                 if not is_held_out(item.removeprefix("i"))]  # fmt: skip
    events.write_text("\n".join(rows) + "\n", "utf-8")
    opened = coldstart.open(folder, create=True)
    settings: dict[str, Any] = {
        "manifest": str(manifest),
        "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "starter", "input": "text"}, "index": {}},
    }
    opened.run(settings)
    opened.ingest_interactions(events)
    if not short:
        opened.finetune_behaviour(overrides=[f"align.behaviour.budget_s={BUDGET_S}"])
        opened.run()
    return folder


def read_histories() -> dict[str, list[str]]:
    """User -> items in order."""
    found = json.loads((SCIENTIFIC / "Scientific.inter.json").read_text("utf-8"))
    return {f"u{user}": [f"i{item}" for item in items] for user, items in found.items()}


def last_pairs(item_ids: Sequence[str]) -> Interactions:
    """The last two items of each user, as histories over these items."""
    places = {item: place for place, item in enumerate(item_ids)}
    users, items, times = [], [], []
    histories = read_histories()
    for number, history in enumerate(histories.values()):
        for place, item in enumerate(history[-2:]):
            users.append(number)
            items.append(places[item])
            times.append(place)
    return Interactions(
        tuple(histories), tuple(item_ids), np.array(users, np.int32), np.array(items, np.int32),
        np.array(times, np.int64), np.ones(len(users), np.float32),
    )  # fmt: skip


def scientific(short: bool) -> dict[str, Any]:
    """Health of our IDs by space, method, levels and collision rule, and of the ready sets."""
    import coldstart

    opened = coldstart.open(workspace(short))
    store = opened._store
    ids = sorted(store.keys("items"))
    records = {row["item_id"]: row for row in store.read("items", ["item_id", "category"]).to_pylist()}
    categories = [records[item]["category"] for item in ids]
    pairs = last_pairs(ids)
    new = np.array([is_held_out(item.removeprefix("i")) for item in ids], bool)
    found: dict[str, Any] = {"items": len(ids), "new": int(new.sum()), "pairs": len(pairs) // 2, "sets": {}}
    groupings = {**category_groups(categories)}
    found["baselines"] = _agreement(groupings, pairs, categories, new)
    for space in ("text",) if short else ("text", "behaviour"):
        every = _vectors(opened, space, ids)
        usable = is_usable(every)
        vectors, old = every[usable], ~new[usable]
        for method in METHODS:
            if short and method == "rqvae":
                continue
            for name, levels in SETTINGS.items():
                if (method != "rqkmeans" and name != "3 x 256") or (short and name != "3 x 256"):
                    continue
                given = None if method == "fsq" else levels
                began = time.process_time()
                books = fit_codebooks(vectors[old], method, given)
                took = time.process_time() - began
                projected = books.project(vectors)
                nearest, left = books.encode(projected)
                own: dict[str, Any] = {"fit_s": took, "sizes": books.sizes, "nearest": buckets(nearest)}
                whole = np.square(projected - projected.mean(0)).sum()
                own["variance_left"] = float(left[:, -1].sum() / whole)
                own["reach"] = _reach(nearest, ~old)
                own["without_vector"] = int((~usable).sum())
                for rule in RULES:
                    width = nearest.shape[1] + (rule == "suffix")
                    placed = place_items(books, projected, nearest, rule, np.empty((0, width), np.int32))
                    own[rule] = {"collisions": buckets(placed), "none": int((placed[:, 0] < 0).sum())}
                    if rule == "reassign":
                        groups = {name: _alone(one, usable) for name, one in prefix_groups(placed).items()}
                        own["agreement"] = _agreement(groups, pairs, categories, new)
                if method == "rqkmeans" and name == "3 x 256":
                    names = [item.removeprefix("i") for item, is_one in zip(ids, usable, strict=True) if is_one]
                    _, churn = measure_new_items(
                        names, vectors, "reassign", lambda given, start: fit_codebooks(given, start=start)
                    )
                    assert churn is not None
                    own["churn"] = {"moved": churn.moved, "refit": churn.refit, "fresh": churn.fresh}
                found["sets"][f"{space}, {method}{'' if method == 'fsq' else f' {name}'}"] = own
                (CACHE / "semantic_ids.partial.json").write_text(json.dumps(found, indent=1, default=float))
    for path in sorted((SCIENTIFIC / "indexes").glob("*.json")):
        ready = json.loads(path.read_text("utf-8"))
        codes = np.array(
            [[int(code.strip("<>").split("_")[1]) for code in ready[item.removeprefix("i")]] for item in ids], np.int32
        )
        found["sets"][f"ready: {path.stem}"] = {
            "sizes": [int(codes[:, level].max()) + 1 for level in range(codes.shape[1])],
            "nearest": buckets(codes),
            "reach": _reach(codes, new),
            "agreement": _agreement(prefix_groups(codes), pairs, categories, new),
        }
    return found


def _alone(groups: Any, usable: Any) -> Any:
    """Groups of all items, where an item without a vector is a group of its own."""
    found = np.arange(len(usable)) + int(groups.max()) + 1
    found[usable] = groups
    return found


def _vectors(opened: Any, space: str, ids: Sequence[str]) -> Any:
    from coldstart.embed.spaces import vectors_of
    from coldstart.store.freshness import build

    pipeline = opened.pipeline()
    return vectors_of(opened._store, build(pipeline.stage(space), pipeline), ids)


def _reach(codes: Any, new: Any) -> list[float]:
    found = []
    for level in range(1, codes.shape[1] + 1):
        known = {tuple(row) for row in codes[~new, :level].tolist()}
        found.append(float(np.mean([tuple(row) in known for row in codes[new, :level].tolist()])))
    return found


def _agreement(groupings: Any, pairs: Interactions, categories: Any, new: Any) -> dict[str, Any]:
    """Agreement of groupings with the judged pairs; `new`: of those pairs alone whose last item is a new one."""
    found: dict[str, Any] = {}
    for one in measure_agreement(groupings, pairs, categories):
        name = f"{one.name}, shuffled" if one.shuffled else one.name
        assert one.pairs is not None
        found[name] = {
            "groups": one.groups, "pairs": one.pairs.value, "low": one.pairs.low, "high": one.pairs.high,
            "n": one.pairs.n, "lift": one.lift, "purity": one.purity,
        }  # fmt: skip
    left, right = pairs.items[0::2], pairs.items[1::2]
    cold = new[right] & (left != right)
    for name, groups in groupings.items():
        of_new = share((groups[left] == groups[right])[cold].astype(float))
        assert of_new is not None
        met = np.bincount(groups, minlength=int(groups.max()) + 1) / len(groups)
        found[name] |= {"new": of_new.value, "new_low": of_new.low, "new_high": of_new.high, "new_n": of_new.n}
        found[name]["new_chance"] = float(np.square(met).sum())
    return found


def run(short: bool) -> dict[str, Any]:
    """Cost by a process of its own, and the health cards where the data are there."""
    command = [sys.executable, "-m", "benchmarks.semantic_ids", "cost", str(SIZES[short])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    result: dict[str, Any] = {"cost": json.loads(done.stdout)}
    if SCIENTIFIC.is_dir():
        result["scientific"] = scientific(short)
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    spent = result["cost"]
    setting = f"{spent['items']:,} x {DIM}, 3 x 256 codes, threads: {spent['threads']}"
    fit = f"fit {spent['fit_s']:.1f} s, IDs {spent['ids_s']:.1f} s of processor time, peak {spent['peak_mb']:,.0f} MB"
    found = [
        Row("semantic IDs, fit and all IDs", setting, f"{spent['clock_s']:.1f} s", fit, "at most 60"),
        Row(f"semantic IDs of {NEW:,} new items", setting, f"{spent['new_clock_s']:.2f} s", "", "at most 1"),
    ]
    known = result.get("scientific")
    if known is None:
        return [*found, Row("semantic IDs on Scientific", "no data", "not run", "set COLDSTART_INTERACTIONS")]
    for name, own in known["sets"].items():
        first, last = own["agreement"]["L1"], own["reach"]
        unique, sharing, largest = own["nearest"]
        found.append(
            Row(
                f"semantic IDs on Scientific, {name}",
                f"{known['items']:,} items, {known['pairs']:,} last pairs",
                f"pairs of one first code {first['pairs']:.3f} ({first['low']:.3f} to {first['high']:.3f})",
                f"lift {first['lift']:.1f}; nearest codes {unique:.1%} unique, {sharing:.1%} of items share one, "
                f"largest {largest}; new items in reach {', '.join(f'{share:.2f}' for share in last)}",
            )
        )
    for name, base in known["baselines"].items():
        found.append(
            Row(
                f"semantic IDs on Scientific, {name}",
                f"{base['groups']:,} groups",
                f"pairs of one group {base['pairs']:.3f} ({base['low']:.3f} to {base['high']:.3f})",
                f"lift {base['lift']:.1f}",
            )
        )
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["cost"]:
        print(json.dumps(cost(int(sys.argv[2]))))
    else:
        from benchmarks.report import table

        measured = run("--short" in sys.argv)
        CACHE.mkdir(exist_ok=True)
        (CACHE / "semantic_ids.json").write_text(json.dumps(measured, indent=1, default=float))
        print(table(rows(measured)))

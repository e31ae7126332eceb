"""Time of `coldstart finetune behaviour` with its defaults on a made shop: 20,000 items, 500,000 rows.

    python -m benchmarks [--full] behaviour_fit

The shop has structure to learn: every item has a topic and a place within it, two spaces of 384 numbers that show both
with noise, a category and a brand of its topic; every user prefers three topics, and within them items near a place of
their own; a few items are liked far more than most. The fit is the one of the command (`select_model`), the workspace
left out: selection of the weights of spaces, candidates on two folds, the final fit and its rehearsal. The fits of real
data are timed by `recommend_default`. The short form has 2,000 items and 50,000 rows.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from benchmarks.report import Row
from coldstart.core.interactions import Interactions, interactions
from coldstart.recommend.model.fusion import Content
from coldstart.recommend.model.selection import SelectionSettings, select_model

TOPICS, INNER, WIDTH = 200, 8, 384
NOISE = {"title": 0.8, "text": 1.2}
GOAL_S = 900


def shop(items: int, rows: int, seed: int = 0) -> tuple[Content, Interactions]:
    """Make a catalogue and its log: one row in twenty is by chance, the others follow topics, places and popularity."""
    rng = np.random.default_rng(seed)
    topics = min(TOPICS, items // 20)
    topic, place = rng.integers(0, topics, items), rng.normal(size=(items, INNER)).astype(np.float32)
    blocks = {}
    for name, noise in NOISE.items():
        middles, turn = rng.normal(size=(topics, WIDTH)), rng.normal(size=(INNER, WIDTH)) / INNER**0.5
        found = middles[topic] + place @ turn + noise * rng.normal(size=(items, WIDTH))
        blocks[name] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    records = tuple(
        {"title": f"item {at}", "category": f"c{own % 40}", "tags": [], "attributes": {"brand": f"b{own % 90}"}}
        for at, own in enumerate(topic.tolist())
    )
    content = Content(tuple(f"i{at:06}" for at in range(items)), blocks, records)
    popularity = rng.zipf(1.6, items).clip(max=1000).astype(np.float64)
    by_topic = [np.flatnonzero(topic == one) for one in range(topics)]
    users = max(rows // 20, 1)
    who, what = [], []
    for user in range(users):
        own = rng.normal(size=INNER)
        near = np.concatenate([by_topic[one] for one in rng.choice(topics, min(3, topics), replace=False)])
        odds = popularity[near] ** 0.5 * np.exp(place[near] @ own / 2)
        count = min(len(near), 1 + int(rng.geometric(1 / 20)))
        liked = rng.choice(near, count, replace=False, p=odds / odds.sum())
        liked = np.where(rng.random(count) < 0.05, rng.integers(0, items, count), liked)
        who += [f"u{user:06}"] * count
        what += [content.item_ids[at] for at in liked]
        if len(who) >= rows:
            break
    times = rng.integers(0, 10**8, len(who))
    log = interactions(who, what, times, np.ones(len(who), np.float32))
    return content, log.over(content.item_ids)


def run(short: bool) -> dict[str, Any]:
    """Seconds of the fit by the clock and of the processor, peak memory, and what it selected."""
    content, log = shop(*((2_000, 50_000) if short else (20_000, 500_000)))
    began, worked = time.perf_counter(), time.process_time()
    report = select_model(log, content, SelectionSettings()).report
    return {
        "items": len(content),
        "rows": len(log),
        "users": len(log.user_ids),
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - worked,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        **{name: report[name] for name in ("chosen", "parts", "trained", "budget", "candidates", "calibration")},
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    setting = f"made, {result['items']:,} items, {result['users']:,} users, {result['rows']:,} rows, defaults"
    parts = ", ".join(f"{share:.0%} {label}" for label, share in result["parts"].items())
    found = [
        Row(
            "fit of behaviour by its defaults, seconds",
            setting,
            f"{result['seconds']:.0f} s",
            f"{result['cpu_s']:.0f} s of the processor, peak {result['peak_gb']:.1f} GB; selected {parts}",
            f"at most {GOAL_S}",
        )
    ]
    for label, metrics in result["candidates"].items():
        own = metrics["ndcg@20"]
        spread = f"{own['low']:.3f} to {own['high']:.3f}"
        found.append(Row(f"its candidate {label}, ndcg@20 held out", setting, f"{own['value']:.3f}", spread))
    return found

"""Claim: the embed stage over two processes of one core each is slower than one process of two threads, as it has to be
on one socket, and makes the same vectors.

It shows what spreading costs, since both have the same cores: starting processes, sending rows, a second copy of the
weights. What it cannot show is what several sockets or GPUs gain. Contenders are interleaved, from JPEG files to
committed rows; the rate once all processes work is given beside the whole. The short form takes the starter alone.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np

from benchmarks.embed_clip import ARCH, BATCH, make_jpegs
from benchmarks.report import CACHE, Row, ratio
from coldstart.core import pipeline
from coldstart.engine.run import run_pipeline
from coldstart.store import Store

ENCODERS = {"ViT-B/32": f"open_clip:{ARCH}", "starter": "starter"}


def embed(encoder: str, manifest: Any, count: int, devices: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of one run (items a second of the whole and after the start, shares of time), and item -> vector."""
    folder = CACHE / "devices.workspace"
    shutil.rmtree(folder, ignore_errors=True)
    store = Store(folder, create=True)
    image = {"encoder": encoder, "stage": "embed", "batch_size": BATCH, "allow_random_weights": True}
    engine = {"device": "cpu", "devices": devices}
    loaded = pipeline.load({"engine": engine, "stages": {"ingest": {}, "image": image}}, manifest=manifest)
    ran = run_pipeline(store, loaded).stages[1].ran
    assert ran.done == count, f"{ran.done} of {count} pictures embedded"
    table = next(name for name in store.tables() if name.startswith("stage.image"))
    rows = store.read(table, ["item_id", "vector"])
    vectors = dict(zip(rows["item_id"].to_pylist(), rows["vector"].to_pylist(), strict=True))
    figures = {
        "rate": count / ran.seconds,
        "working_rate": count / (ran.seconds - ran.start_s),
        "seconds": ran.seconds,
        "start_s": ran.start_s,
        "waited": (ran.wait_s - ran.start_s) / ran.seconds,
    }
    return figures, vectors


def run(short: bool) -> dict[str, Any]:
    """Figures round by round, and the least cosine between vectors of one process and of two."""
    count, rounds = (300, 1) if short else (600, 3)
    manifest = make_jpegs(count)
    found: dict[str, Any] = {"pictures": count}
    for label, encoder in ENCODERS.items():
        if short and label != "starter":
            continue
        figures: dict[str, list[dict[str, float]]] = {"1": [], "2": []}
        least = 1.0
        for _ in range(rounds):
            made = {}
            for devices in (1, 2):
                measured, made[devices] = embed(encoder, manifest, count, devices)
                figures[str(devices)].append(measured)
            assert made[1].keys() == made[2].keys()
            cosines = [np.dot(vector, made[2][item]) for item, vector in made[1].items()]
            least = min(least, float(np.min(cosines)))
        found[label] = {**figures, "least_cosine": least}
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for label in ENCODERS:
        if label not in result:
            continue
        found = result[label]
        for what, name in (("rate", "all of it"), ("working_rate", "after the start")):
            two, one = ([ran[what] for ran in found[count]] for count in ("2", "1"))
            setting = f"{result['pictures']} JPEGs, {label}, {name}; least cosine {found['least_cosine']:.5f}"
            lines.append(Row("2 processes of 1 core against 1 of 2 threads, `embed`", setting, *ratio(two, one), ""))
    return lines


if __name__ == "__main__":
    print(json.dumps(run(short=False), indent=2))

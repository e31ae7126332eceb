"""Alignment at size: seconds an epoch over 100,000 made pairs, peak memory, and near pictures among 100,000.

    python -m benchmarks.align_100k [--short]

Pairs are made: vectors of 1280 and 384 numbers of one hidden cause, in float16, one picture and one text an item. Each
training runs in a process of its own, whose highest resident memory counts, beside that of a process that only makes
the pairs. An epoch is set against the time of the matrix products alone that it cannot do without, of the same shapes
and in the same minute. Near pictures are looked for among vectors of which one in a hundred is a copy with a little
noise; all copies must be found. `--short` takes 10,000.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.report import Row
from coldstart.align.head_math import Pairs
from coldstart.align.settings import HeadTraining
from coldstart.align.train_heads import Epoch, fit, new_heads
from coldstart.metrics.splits import near_pairs

IMAGE, TEXT, EPOCHS, VALID = 1280, 384, 2, 2000
COPY_NOISE = 0.1  # a cosine of 0.995
SETTINGS = {"linear": {"hidden": 0}, "hidden layer of 1024": {"hidden": 1024}}


def made(items: int) -> Pairs:
    """Made in blocks, so that making them takes no more memory than they do."""
    random = np.random.Generator(np.random.SFC64(0))
    turns = [random.standard_normal((64, width), np.float32) for width in (IMAGE, TEXT)]
    arrays = [np.empty((items, width), np.float16) for width in (IMAGE, TEXT)]
    for start in range(0, items, 4096):
        cause = random.standard_normal((min(4096, items - start), 64), np.float32)
        for turn, array in zip(turns, arrays, strict=True):
            block = cause @ turn + 8 * random.standard_normal((len(cause), turn.shape[1]), np.float32)
            array[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    own = np.arange(items)
    return Pairs(arrays[0], own, arrays[1], own, np.ones(items, np.float32), own)


def products_s(items: int, training: HeadTraining) -> float:
    """Seconds of the float32 products of one epoch: heads and cosines, forward once, backward as needed."""
    batch, dim, hidden = training.batch_size, training.dim, training.hidden
    shapes = [(batch, width, dim) for width in (IMAGE, TEXT)] * 2  # no gradient reaches the vectors themselves
    if hidden:
        shapes += [(batch, width, hidden) for width in (IMAGE, TEXT)] * 2 + [(batch, hidden, dim)] * 6
    shapes += [(batch, dim, batch)] * 3
    operands = [(torch.ones(rows, inner), torch.ones(inner, columns)) for rows, inner, columns in shapes]
    spent = 0.0
    for _ in range(3):
        spent = 0.0
        for _ in range(8):
            start = time.perf_counter()
            for left, right in operands:
                torch.mm(left, right)
            spent += time.perf_counter() - start
    return spent / 8 * items / batch


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _train(items: int, hidden: int) -> dict[str, Any]:
    torch.set_num_threads(2)
    pairs = made(items + VALID)
    before_mb = _peak_mb()
    train, valid = pairs.take(np.arange(items)), pairs.take(np.arange(items, items + VALID))
    training = HeadTraining(epochs=EPOCHS, patience=0, hidden=hidden)
    moments, floor = [time.perf_counter()], []

    def told(_: Epoch) -> None:
        floor.append(products_s(items, training))
        moments.append(time.perf_counter())

    fitted = fit(train, valid, new_heads(training, IMAGE, TEXT), training, device=torch.device("cpu"), progress=told)
    took = [after - before - spent for before, after, spent in zip(moments, moments[1:], floor, strict=False)]
    return {
        "epoch_s": took,
        "products_s": floor,
        "pairs_mb": before_mb,
        "peak_mb": _peak_mb(),
        "mrr": fitted.history[-1].mrr,
    }


def _find(items: int) -> dict[str, Any]:
    torch.set_num_threads(2)
    vectors = made(items).images
    random = np.random.default_rng(1)
    places = random.permutation(items)[: 2 * (items // 100)].reshape(2, -1)
    noise = random.standard_normal((places.shape[1], IMAGE)) * (COPY_NOISE / IMAGE**0.5)
    copies = vectors[places[0]] + noise
    vectors[places[1]] = copies / np.linalg.norm(copies, axis=1, keepdims=True)
    before_mb, start = _peak_mb(), time.perf_counter()
    found = {tuple(pair) for pair in near_pairs(vectors).tolist()}
    took_s = time.perf_counter() - start
    wanted = {tuple(sorted(pair)) for pair in places.T.tolist()}
    return {
        "near_s": took_s,
        "found": len(wanted & found),
        "of": len(wanted),
        "others": len(found - wanted),
        "pairs_mb": before_mb,
        "peak_mb": _peak_mb(),
    }


def run(short: bool) -> dict[str, Any]:
    """Figures of each kind of heads and of the search, each from a fresh process."""
    items = 10_000 if short else 100_000
    spawn = multiprocessing.get_context("spawn")
    result: dict[str, Any] = {"items": items, "load": os.getloadavg()[0], "train": {}}
    for name, settings in SETTINGS.items():
        with spawn.Pool(1) as pool:
            result["train"][name] = pool.apply(_train, (items,), settings)
    with spawn.Pool(1) as pool:
        result["near"] = pool.apply(_find, (items,))
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for name, figures in result["train"].items():
        took, floor = figures["epoch_s"], figures["products_s"]
        ratio = statistics.median(a / b for a, b in zip(took, floor, strict=True))
        setting = f"{result['items']:,} made pairs, 1280 and 384 numbers, {name}"
        lines.append(
            Row(
                "alignment, seconds an epoch",
                setting,
                f"{statistics.median(took):.1f}",
                f"{min(took):.1f} to {max(took):.1f}; {ratio:.1f} times its float32 products alone",
                "seconds",
            )
        )
        memory = f"{figures['pairs_mb']:.0f} before training"
        lines.append(Row("alignment, peak memory in MB", setting, f"{figures['peak_mb']:.0f}", memory))
    near_ones = result["near"]
    found = f"{near_ones['found']} of {near_ones['of']} copies, {near_ones['others']} others; exact"
    setting = f"{result['items']:,} vectors of 1280 numbers"
    lines.append(Row("near pictures, seconds", setting, f"{near_ones['near_s']:.1f}", found))
    return lines


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))

"""A model of the workspace's cost in items, and what it says of a billion; used by `benchmarks/scale.py`.

    python -m benchmarks.scale_model

prints the tables of `docs/scale.md` from the constants that `python -m benchmarks scale --full` left under `.bench/`.
Bytes and seconds are lines in the number of items: a fixed part and a part an item. Work that is not such a line is
given its own formula here, and said to be so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.report import CACHE

QUANTITIES = {
    "bytes of items": ("bytes", "items"),
    "bytes of one space": ("bytes", "space"),
    "bytes of the ledger": ("bytes", "ledger"),
    "bytes of the catalog": ("bytes", "catalog"),
    "bytes of its indexes": ("bytes", "catalog_indexes"),
    "finding stale rows": ("stale_s",),
    "memory to find stale rows": ("standing_bytes",),
    "a commit of 1,000 rows": ("commit_s",),
    "indexing all": ("index_s",),
    "indexing when nothing is new": ("index_idle_s",),
    "writing 1 % of new items": ("add_s",),
    "indexing 1 % of new items": ("index_new_s",),
    "peak memory": ("peak_bytes",),
}
"""Name -> where it stands in the figures of one size; those whose last word ends in `_s` are seconds, others bytes."""


@dataclass(frozen=True)
class Line:
    """`fixed + per_item * items`."""

    fixed: float
    per_item: float

    def at(self, items: float) -> float:
        return self.fixed + self.per_item * items


def line(first: tuple[float, float], second: tuple[float, float]) -> Line:
    """The line through two points `(items, value)`; a fixed part is never below zero."""
    per_item = (second[1] - first[1]) / (second[0] - first[0])
    fixed = second[1] - per_item * second[0]
    return Line(fixed, per_item) if fixed >= 0 and per_item >= 0 else Line(0.0, second[1] / second[0])


def value(figures: Mapping[str, Any], path: Sequence[str]) -> float:
    for name in path:
        figures = figures[name]
    return float(figures)  # type: ignore[arg-type]


def lines(small: Mapping[str, Any], large: Mapping[str, Any]) -> dict[str, Line]:
    """A line a quantity through the figures of two sizes."""
    return {
        name: line((small["size"], value(small, path)), (large["size"], value(large, path)))
        for name, path in QUANTITIES.items()
    }


def check(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Fit on the two smaller sizes, predict the largest."""
    small, middle, large = measured
    found = []
    for name, fitted in lines(small, middle).items():
        path = QUANTITIES[name]
        predicted, true = fitted.at(large["size"]), value(large, path)
        unit = "s" if path[-1].endswith("_s") else "bytes"
        found.append({"name": name, "unit": unit, "predicted": predicted, "measured": true, "ratio": true / predicted})
    return found


BILLION = 1_000_000_000
PARTITION_ROWS, SAMPLE, ITERATIONS = 4096, 256, 50
"""LanceDB 0.40's own: vectors a partition, and those a partition that k-means looks at, and how often at most."""


@dataclass(frozen=True)
class Assumptions:
    """What the model takes from elsewhere than from its own runs; `docs/scale.md` says where each is from.

    Attributes:
        gemm: operations a second of one GPU's matrix products, bf16; `share`: of them that an encoder reaches.
        encoder_flop: operations an item of the encoder.
        captions_per_s: descriptions a second of one GPU.
        decode_per_s: pictures a second that one core decodes.
        new_share: share of the catalogue that is new each day.
    """

    gemm: float = 650e12
    share: float = 0.5
    encoder_flop: float = 8.82e9
    captions_per_s: float = 37
    decode_per_s: float = 700
    new_share: float = 0.01


def encode_hours(items: float, given: Assumptions) -> float:
    """GPU-hours to encode one picture an item."""
    return items * given.encoder_flop / (given.gemm * given.share) / 3600


def decode_hours(items: float, given: Assumptions) -> float:
    """Core-hours to decode one picture an item."""
    return items / given.decode_per_s / 3600


def describe_hours(items: float, given: Assumptions) -> float:
    """GPU-hours to write one description an item."""
    return items / given.captions_per_s / 3600


def ivf_flop(rows: float, dim: int) -> tuple[float, float]:
    """Operations to train the partitions of one index and to assign all vectors: both grow as the square of `rows`."""
    partitions = rows / PARTITION_ROWS
    train = 2.0 * SAMPLE * partitions * partitions * dim * ITERATIONS
    return train, 2.0 * rows * partitions * dim


@dataclass(frozen=True)
class Shards:
    """A catalogue cut into tables of equal size.

    Attributes:
        shards: how many; `partitions`: of the index of each.
        build_s: core-seconds of training and assignment of all of them, at `flop_per_s` a core.
        code_bytes: of all indexes, which want to lie in memory.
    """

    shards: int
    partitions: int
    build_s: float
    code_bytes: float


def shards(items: float, rows: float, dim: int, flop_per_s: float, code_bytes: float) -> Shards:
    """The layout for tables of `rows` items with `code_bytes` of index an item."""
    count = math.ceil(items / rows)
    return Shards(
        count, round(rows / PARTITION_ROWS), count * sum(ivf_flop(rows, dim)) / flop_per_s, items * code_bytes
    )


def commit_hours(items: float, rows: int, commit: Line) -> float:
    """Hours that one committer needs to fill a table from nothing, `rows` a commit.

    A commit into `n` items costs `commit.at(n)`, so that the sum over all of them grows as the square of `items`.
    """
    count = items / rows
    return count * (commit.fixed + commit.per_item * items / 2) / 3600


def tables(measured: Sequence[Mapping[str, Any]], code_bytes: float, flop_per_s: float = 1e11) -> str:
    """The tables of `docs/scale.md` as Markdown.

    Args:
        measured: figures of the sizes of `benchmarks/scale.py`; the two largest carry the lines.
        code_bytes: bytes of vector index an item.
        flop_per_s: of one core in float32 products.
    """
    fitted = lines(*measured[-2:])
    last = measured[-1]["size"]
    out = [f"| quantity | an item | {last:,} measured | {BILLION:,} by the line |", "|---|---|---|---|"]
    for name, path in QUANTITIES.items():
        show = _seconds if path[-1].endswith("_s") else _bytes
        of_all = show(fitted[name].at(BILLION))
        out.append(f"| {name} | {show(fitted[name].per_item)} | {show(value(measured[-1], path))} | {of_all} |")
    out += ["", "| items a shard | shards | partitions a shard | core-hours to train and assign | codes |"]
    out.append("|---|---|---|---|---|")
    for rows in (1_000_000, 10_000_000, 100_000_000, BILLION):
        found = shards(BILLION, rows, 384, flop_per_s, code_bytes)
        took = f"{found.build_s / 3600:,.0f}"
        out.append(f"| {rows:,} | {found.shards:,} | {found.partitions:,} | {took} | {_bytes(found.code_bytes)} |")
    out += ["", "| rows a commit | commits | hours of one committer |", "|---|---|---|"]
    for rows in (1_000, 10_000, 100_000):
        hours = commit_hours(BILLION, rows, fitted["a commit of 1,000 rows"])
        out.append(f"| {rows:,} | {BILLION // rows:,} | {hours:,.0f} |")
    given = Assumptions()
    out += ["", "| model | hours for a billion | for a day of 1 % |", "|---|---|---|"]
    for name, hours in (
        ("ViT-B/32, one picture, GPU", encode_hours(BILLION, given)),
        ("ViT-L/14, one picture, GPU", encode_hours(BILLION, replace(given, encoder_flop=162e9))),
        ("decoding that picture, core", decode_hours(BILLION, given)),
        ("describing, 7B vision-language model, GPU", describe_hours(BILLION, given)),
    ):
        out.append(f"| {name} | {hours:,.0f} | {hours * given.new_share:,.1f} |")
    return "\n".join(out)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"


def _seconds(count: float) -> str:
    for unit, size in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        if count < 1000 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count:,.0f} s" if count < 7200 else f"{count / 3600:,.1f} h"


if __name__ == "__main__":
    scale = json.loads((CACHE / "scale-full.json").read_text())
    vectors = json.loads((CACHE / "vectors_1m-full.json").read_text())
    print(tables(scale["measured"], vectors["built"]["IVF_RQ"]["disk_bytes"] / vectors["rows"]))

"""A catalogue that grows, for benchmarks of what a run costs besides its models.

Every item has words of its own, drawn around one of many topics, and one of a thousand small pictures; two spaces of
the `fake` encoder, 384 numbers each, stand for real ones, so that what is timed is the work around them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DIM = 384
PICTURES = 1000
TOPICS = 2000
"""Items of one topic share words, so that their vectors lie close together, as those of one kind of product do."""
_SYLLABLES = [a + b for a in "bcdfglmnprstv" for b in ("a", "e", "i", "o", "u", "ai", "ou")]


def word(number: int) -> str:
    """A made word of three syllables, another one for every number below 750,000."""
    count = len(_SYLLABLES)
    return "".join(_SYLLABLES[number // count**place % count] for place in range(3))


def pictures(folder: Path) -> None:
    """Small JPEGs, `0000.jpg` and so on; made once."""
    if (folder / f"{PICTURES - 1:04d}.jpg").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    for number in range(PICTURES):
        colours = noise.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((48, 48), Image.Resampling.NEAREST).save(folder / f"{number:04d}.jpg")


def entry(number: int) -> dict[str, Any]:
    """The manifest row of an item; the same one for the same number, whatever stands around it."""
    draw = random.Random(number)
    topic = random.Random(10**9 + draw.randrange(TOPICS))
    shared, own = [topic.randrange(20_000) for _ in range(5)], [draw.randrange(20_000) for _ in range(8)]
    return {
        "item_id": f"item-{number:07d}",
        "title": " ".join(word(n) for n in (*shared[:3], *own[:2])),
        "description": " ".join(word(n) for n in (*shared, *own)),
        "category": f"shelf {shared[0] % 20}",
        "creator": f"shop {own[0] % 500}",
        "tags": [word(n) for n in own[2:4]],
        "price": round(draw.lognormvariate(3, 1), 2),
        "image": f"{number % PICTURES:04d}.jpg",
    }


def manifest(path: Path, numbers: Iterable[int], mode: str = "w") -> Path:
    """A JSONL file of items, beside the pictures; `mode="a"` adds to one that is there."""
    pictures(path.parent)
    with path.open(mode, encoding="utf-8") as out:
        for number in numbers:
            out.write(json.dumps(entry(number)) + "\n")
    return path


def pipeline(path: Path) -> dict[str, Any]:
    """Settings of a pipeline over a manifest: ingest, two spaces of words, index."""
    space = {"stage": "embed", "encoder": f"fake:{DIM}", "input": "text"}
    return {
        "manifest": str(path),
        "stages": {"ingest": {}, "title": {**space, "prompt": "title"}, "words": space, "index": {}},
    }

"""A catalogue of two-coloured pictures whose titles name the colours: pairs that heads over fake encoders can learn."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from catalogue import write_manifest
from PIL import Image

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 40),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
    "orange": (240, 140, 20),
    "purple": (140, 30, 160),
    "cyan": (30, 200, 220),
    "grey": (128, 128, 128),
}


def picture(path: Path, left: str, right: str) -> Path:
    """A PNG, its left half of one colour and its right half of another."""
    image = Image.new("RGB", (32, 32), COLOURS[left])
    image.paste(COLOURS[right], (16, 0, 32, 32))
    image.save(path)
    return path


def entries(folder: Path) -> list[dict[str, Any]]:
    """100 manifest rows `red-blue`, …, each with a picture in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        {
            "item_id": f"{left}-{right}",
            "title": f"{left} hat with {right} shoes",
            "description": f"shoes are {right}, the hat is {left}",
            "category": f"{left} hats",
            "image": picture(folder / f"{left}-{right}.png", left, right).name,
        }
        for left, right in product(COLOURS, COLOURS)
    ]


def settings(folder: Path, **align: Any) -> dict[str, Any]:
    """A pipeline over them: ingest, image, align, spaces made by it, index."""
    manifest = write_manifest(folder / "items.jsonl", entries(folder))
    fit = {"text": "fake:64", "min_items": 20, "test_share": 0.2, "near_duplicates": None, "hold_out": [], **align}
    return {
        "manifest": str(manifest),
        "engine": {"workers": 2, "device": "cpu", "dtype": "float32"},
        "stages": {
            "ingest": {},
            "image": {"stage": "embed", "encoder": "fake:48", "input": "image"},
            "align": {"text_image": fit},
            "aligned": {"stage": "embed", "encoder": "align:text_image", "input": "image", "over": "image"},
            "aligned_text": {
                "stage": "embed",
                "encoder": "align:text_image",
                "input": "text",
                "prompt": "title",
            },
            "index": {},
        },
    }

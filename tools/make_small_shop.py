"""Make a small made-up shop: drawn products, and people whose tastes are known because they were drawn by lot.

    python tools/make_small_shop.py FOLDER [--items 300] [--people 400] [--seed 0]

Writes `manifest.jsonl`, `pictures/` and `interactions.csv`. Nothing of it is real: it shows how the pieces go together
where no data may be shipped, and figures on it say nothing about any shop. Products arrive over 100 days; a person buys
what fits their taste for colours, things and materials, and never before the product was there.
"""

from __future__ import annotations

import argparse
import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (200, 40, 40),
    "blue": (40, 80, 200),
    "green": (40, 150, 70),
    "yellow": (230, 200, 50),
    "black": (30, 30, 30),
    "pink": (240, 150, 190),
}
THINGS = {"Kitchen": ("bowl", "plate", "cup"), "Garden": ("pot", "bench", "lantern"), "Play": ("ball", "kite", "drum")}
MATERIALS = ("wooden", "glass", "steel", "woven", "paper")
FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
DAYS, SIDE = 100, 96


def draw(thing: str, colour: str, rng: np.random.Generator) -> Image.Image:
    """One shape a thing, in its colour, on a light ground with some grain."""
    ground = np.clip(rng.normal(235, 6, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(ground)
    pen = ImageDraw.Draw(picture)
    left, top = rng.integers(10, 22, 2).tolist()
    right, bottom = SIDE - 14, SIDE - 14
    middle, ink = (left + right) // 2, COLOURS[colour]
    if thing in ("ball", "plate"):
        pen.ellipse((left, top, right, bottom), fill=ink)
        if thing == "plate":
            pen.ellipse((left + 16, top + 16, right - 16, bottom - 16), outline=(255, 255, 255), width=3)
    elif thing in ("bowl", "cup"):
        pen.pieslice((left, top - (bottom - top) // 2, right, bottom), 0, 180, fill=ink)
        if thing == "cup":
            pen.arc((right - 18, top + 10, right + 8, bottom - 20), 270, 90, fill=ink, width=5)
    elif thing == "kite":
        pen.polygon(
            [(middle, top), (right, (top + bottom) // 2), (middle, bottom), (left, (top + bottom) // 2)], fill=ink
        )
    elif thing == "pot":
        pen.polygon([(left, top), (right, top), (right - 16, bottom), (left + 16, bottom)], fill=ink)
    elif thing == "drum":
        pen.rectangle((left, top + 16, right, bottom - 8), fill=ink)
        pen.ellipse((left, top + 4, right, top + 28), fill=(250, 245, 235), outline=ink, width=3)
    elif thing == "bench":
        pen.rectangle((left, top + 24, right, top + 38), fill=ink)
        for leg in (left + 4, right - 12):
            pen.rectangle((leg, top + 38, leg + 8, bottom), fill=ink)
    else:
        pen.rectangle((left + 16, top + 10, right - 16, bottom), outline=ink, width=6)
        pen.ellipse((middle - 8, top + 30, middle + 8, top + 54), fill=ink)
    return picture


def make(folder: Path, items: int, people: int, seed: int) -> None:
    """Write the shop into a folder that may exist already."""
    rng = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    things = [(thing, category) for category, own in THINGS.items() for thing in own]
    kind = rng.integers(len(things), size=items)
    colour = rng.integers(len(COLOURS), size=items)
    material = rng.integers(len(MATERIALS), size=items)
    day = np.sort(rng.integers(0, DAYS, items))
    with (folder / "manifest.jsonl").open("w", encoding="utf-8") as lines:
        for place in range(items):
            thing, category = things[kind[place]]
            name = list(COLOURS)[colour[place]]
            draw(thing, name, rng).save(folder / "pictures" / f"{place:04d}.png")
            record = {
                "item_id": f"shop-{place:04d}",
                "kind": "product",
                "title": f"{MATERIALS[material[place]].capitalize()} {name} {thing}",
                "category": category,
                "created_at": (FIRST_DAY + timedelta(days=int(day[place]))).isoformat(),
                "media": [{"uri": f"pictures/{place:04d}.png", "role": "image"}],
            }
            lines.write(json.dumps(record) + "\n")
    tastes = [rng.normal(0, spread, (people, count)) for spread, count in ((1.2, len(things)), (1.0, 6), (0.7, 5))]
    liking = tastes[0][:, kind] + tastes[1][:, colour] + tastes[2][:, material] + rng.normal(0, 0.5, items)
    with (folder / "interactions.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp", "event"])
        for person in range(people):
            count = int(rng.integers(8, 25))
            for place in np.argsort(-(liking[person] + rng.gumbel(0, 1, items)))[:count]:
                bought = FIRST_DAY + timedelta(days=float(rng.uniform(day[place], DAYS + 20)))
                rows.writerow([f"p{person:04d}", f"shop-{place:04d}", bought.isoformat(timespec="seconds"), "buy"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a small made-up shop.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    make(given.folder, given.items, given.people, given.seed)

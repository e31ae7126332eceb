"""Pictures of two colours, one over the other, with their names: what a tiny model can learn in seconds."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from coldstart.align.towers.data import Example, ImageRef

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (40, 60, 220),
    "yellow": (230, 220, 40),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
    "pink": (250, 150, 190),
    "brown": (120, 70, 30),
    "grey": (128, 128, 128),
    "orange": (250, 140, 20),
}


def examples(folder: Path, colours: int = 10) -> list[Example]:
    """One item a combination; three in ten are held out, each colour among them above and below."""
    made = []
    names = list(COLOURS)[:colours]
    for i, above in enumerate(names):
        for j, below in enumerate(names):
            path = folder / f"{above}-{below}.png"
            picture = Image.new("RGB", (64, 64), COLOURS[above])
            picture.paste(COLOURS[below], (0, 32, 64, 64))
            picture.save(path)
            split = "valid" if (i + 3 * j) % 10 < 3 else "train"
            made.append(Example(path.stem, len(made), split, [ImageRef(str(path))], [(f"{above} over {below}", 1.0)]))
    return made

"""Folders of small heads over fake encoders."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from coldstart import encoders
from coldstart.encoders._heads import AlignedHeads, Heads, HeadShape
from coldstart.encoders._heads_file import Tower


def folder(path: Path, *, image: str = "fake:48", text: str = "fake:64", dim: int = 16, seed: int = 0) -> Path:
    """Random heads, the picture's with a hidden layer."""
    dims = [encoders.load(name).passport("text").dim for name in (image, text)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = Heads(HeadShape(dims[0], dim, hidden=8), HeadShape(dims[1], dim)).requires_grad_(False)
        heads.text.bias.normal_()
    sides = {"image": image, "text": text}
    towers = {
        side: Tower(name, asdict(encoders.load(name).passport(side)))  # type: ignore[arg-type]
        for side, name in sides.items()
    }
    AlignedHeads(towers, heads, {"seed": seed}).save(path)
    return path

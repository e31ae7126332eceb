"""The heads from which a fit starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from coldstart import resources
from coldstart.errors import ColdstartError
from coldstart.heads import Aligned, Heads, HeadShape
from coldstart.heads_file import SIDES, Tower

PACKAGED = resources.PACKAGE / "weights" / "starter_clip"


def starting_heads(asked: str, towers: Mapping[str, Tower], place: str) -> Aligned | None:
    """Heads over the towers, or None for random ones.

    Args:
        asked: `random`; `same`: encoders that share a space already keep it at first; `starter-clip`, or a folder of
            heads; `auto`: `same` or `starter-clip` where one of them fits, else random.
        place: the setting, for messages.

    Raises:
        ColdstartError: what is asked for belongs to other encoders.
    """
    passports = {side: dict(towers[side].passport) for side in SIDES}
    one_space = passports["image"] == passports["text"]
    if asked == "random":
        return None
    if asked == "same" or (asked == "auto" and one_space):
        if not one_space:
            names = " and ".join(str(passports[side]["encoder"]) for side in SIDES)
            raise ColdstartError(f"{place}={asked}: {names} share no space; use auto or random")
        return Aligned(towers, _identity(int(passports["image"]["dim"])))
    folder = PACKAGED if asked in ("auto", "starter-clip") else Path(asked).expanduser()
    given = Aligned.load(folder)
    for side in SIDES:
        found, wanted = dict(given.towers[side].passport), passports[side]
        if found != wanted:
            if asked == "auto":
                return None
            raise ColdstartError(
                f"{place}={asked}: its {side} head is for {found['encoder']} ({found['weights'][:19]}), not for "
                f"{wanted['encoder']} ({wanted['weights'][:19]}); use auto or random"
            )
    return Aligned(towers, given.heads)


def _identity(dim: int) -> Heads:
    shape = HeadShape(dim, dim)
    heads = Heads(shape, shape).requires_grad_(False)
    for head in (heads.image, heads.text):
        assert head.direct is not None, "a linear head has a direct way"
        head.direct.weight.copy_(torch.eye(dim))
    return heads.eval()

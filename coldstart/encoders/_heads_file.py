"""Read `heads.json`, the shapes of heads and the encoders they belong to, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coldstart.errors import ColdstartError

CONFIG, WEIGHTS = "heads.json", "heads.safetensors"
SIDES = ("image", "text")


@dataclass(frozen=True)
class HeadShape:
    """Shape of a head: numbers in, out and hidden (0: linear), the function between, and whether it has `W`.

    Raises:
        ValueError: it has neither a hidden layer nor direct weights.
    """

    inputs: int
    outputs: int
    hidden: int = 0
    activation: Literal["gelu", "softmax"] = "gelu"
    direct: bool = True

    def __post_init__(self) -> None:
        if not self.hidden and not self.direct:
            raise ValueError("a head needs a hidden layer or direct weights `W`")


@dataclass(frozen=True)
class Tower:
    """Frozen encoder under a head.

    Attributes:
        encoder: its name, as `coldstart.encoders.load` takes it.
        passport: its passport as plain data: heads fit this one alone.
        adapter: folder of a LoRA adapter on it, relative to the heads' own; None where it is as published.
    """

    encoder: str
    passport: Mapping[str, Any]
    adapter: str | None = None


@dataclass(frozen=True)
class HeadsFile:
    """Contents of `heads.json`: towers and head shapes of `image` and `text`, and notes for people."""

    towers: Mapping[str, Tower]
    shapes: Mapping[str, HeadShape]
    about: Mapping[str, Any]

    @property
    def dim(self) -> int:
        """Dimensions of the space."""
        return self.shapes["image"].outputs


def read_heads_file(folder: Path) -> HeadsFile:
    """Read the file in a folder of heads.

    Raises:
        ColdstartError: there is none, or it is of another version or shape.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
        if config["version"] != 1:
            raise ColdstartError(f"{path} is of version {config['version']}: this coldstart reads version 1")
        towers = {side: Tower(**config["towers"][side]) for side in SIDES}
        for tower in towers.values():
            if tower.adapter is not None and Path(tower.adapter).name != tower.adapter:
                raise ValueError(f"adapter {tower.adapter!r} is not the name of a folder beside it")
        shapes = {side: HeadShape(**config["heads"][side]) for side in SIDES}
        return HeadsFile(towers, shapes, config["about"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ColdstartError(f"{folder} does not hold aligned heads ({CONFIG}): {error!r}") from error

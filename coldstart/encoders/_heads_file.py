"""Read `heads.json`, the shapes of heads and the encoders they belong to, without torch.

Version 1 has one head a side. Version 2 has some, a list of shapes and one weight each: their vectors are set side by
side, each of length one times the root of its weight, so that a cosine is the weighted sum of theirs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coldstart.errors import ColdstartError

CONFIG, WEIGHTS = "heads.json", "heads.safetensors"
SIDES = ("image", "text")
ACTIVATIONS = ("gelu", "softmax", "exp")

_MOST_HEADS = 8  # a side: a file of a stranger may state any number


@dataclass(frozen=True)
class HeadShape:
    """Shape of a head: numbers in, out and hidden (0: linear), the function between, and whether it has `W`.

    Raises:
        ValueError: it has neither a hidden layer nor direct weights, or a number or function that no head has.
    """

    inputs: int
    outputs: int
    hidden: int = 0
    activation: Literal["gelu", "softmax", "exp"] = "gelu"
    direct: bool = True

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is none of {', '.join(ACTIVATIONS)}")
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
    """Contents of `heads.json`: towers and head shapes of `image` and `text`, and notes for people.

    Attributes:
        shapes: of the heads of each side, as many as there are weights.
        weights: of the heads, their sum is 1; none where each side has one head alone, as in version 1.
    """

    towers: Mapping[str, Tower]
    shapes: Mapping[str, tuple[HeadShape, ...]]
    about: Mapping[str, Any]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        image, text = (self.shapes[side] for side in SIDES)
        if not len(image) == len(text) == (len(self.weights) or 1) <= _MOST_HEADS:
            raise ValueError(
                f"{len(image)} image heads, {len(text)} text heads and {len(self.weights)} weights do not fit"
            )
        for one, other in zip(image, text, strict=True):
            if one.outputs != other.outputs:
                raise ValueError(f"heads of one space end in one width, not {one.outputs} and {other.outputs}")
        for side in SIDES:
            if len({shape.inputs for shape in self.shapes[side]}) > 1:
                raise ValueError(f"{side} heads take vectors of one width, not of several")
        if self.weights and not (all(weight > 0 for weight in self.weights) and abs(sum(self.weights) - 1) < 1e-3):
            raise ValueError(f"weights {self.weights} are not above 0 with a sum of 1")

    @property
    def dim(self) -> int:
        """Dimensions of the space."""
        return sum(shape.outputs for shape in self.shapes["image"])


def scales(weights: tuple[float, ...]) -> list[float]:
    """Compute the length of each head's part of a vector of length one."""
    return [math.sqrt(weight / sum(weights)) for weight in weights]


def read_heads_file(folder: Path) -> HeadsFile:
    """Read the file in a folder of heads.

    Raises:
        ColdstartError: there is none, or it is of another version or shape.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
        if config["version"] not in (1, 2):
            raise ColdstartError(f"{path} is of version {config['version']}: this coldstart reads versions 1 and 2")
        towers = {side: Tower(**config["towers"][side]) for side in SIDES}
        for tower in towers.values():
            if tower.adapter is not None and Path(tower.adapter).name != tower.adapter:
                raise ValueError(f"adapter {tower.adapter!r} is not the name of a folder beside it")
        if config["version"] == 1:
            return HeadsFile(towers, {side: (HeadShape(**config["heads"][side]),) for side in SIDES}, config["about"])
        shapes = {side: tuple(HeadShape(**shape) for shape in config["heads"][side]) for side in SIDES}
        weights = tuple(float(weight) for weight in config["weights"])
        if not weights:
            raise ValueError("weights are missing")
        return HeadsFile(towers, shapes, config["about"], weights)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ColdstartError(f"{folder} does not hold aligned heads ({CONFIG}): {error!r}") from error

"""Heads: small maps from the vectors of two frozen encoders into one space; their folder, and those a fit starts from.

Every head is one formula, `W x + V s(U x + c) + b`, with `x` a vector of length one and `s` either GELU or softmax.
With nothing hidden it is linear; with softmax, `U` and `c` a classifier and `V` the vectors of its classes' names, it
is ConSE (Norouzi et al. 2014). Knows nothing of training, encoders or workspaces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from coldstart.core import settings
from coldstart.encoders._heads_file import CONFIG, SIDES, WEIGHTS, HeadShape, Tower, read_heads_file
from coldstart.errors import ColdstartError

__all__ = ["CONFIG", "SIDES", "WEIGHTS", "AlignedHeads", "Head", "HeadShape", "Heads", "Tower"]


_ROWS = 8192  # vectors that go through a head at a time


class Head(nn.Module):
    """Head `W x + V s(U x + c) + b`: float32 `[B, inputs]` of length one to float32 `[B, outputs]`, of any length.

    The names of its weights: `direct` is W, `inner` is U and c, `outer` is V, `bias` is b.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        self.direct = nn.Linear(shape.inputs, shape.outputs, bias=False) if shape.direct else None
        self.inner = nn.Linear(shape.inputs, shape.hidden) if shape.hidden else None
        self.outer = nn.Linear(shape.hidden, shape.outputs, bias=False) if shape.hidden else None
        self.bias = nn.Parameter(torch.zeros(shape.outputs))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        out = self.bias.expand(len(vectors), -1)
        if self.direct is not None:
            out = out + self.direct(vectors)
        if self.inner is not None and self.outer is not None:
            hidden = self.inner(vectors)
            out = out + self.outer(
                hidden.softmax(-1) if self.shape.activation == "softmax" else nn.functional.gelu(hidden)
            )
        return out

    def project(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Map unit rows `[N, inputs]` to unit rows, float32 `[N, outputs]`; some thousands at a time."""
        made = np.empty((len(vectors), self.shape.outputs), np.float32)
        with torch.inference_mode():
            for start in range(0, len(vectors), _ROWS):
                part = np.ascontiguousarray(vectors[start : start + _ROWS], dtype=np.float32)
                made[start : start + _ROWS] = nn.functional.normalize(self(torch.from_numpy(part)), dim=-1).numpy()
        return made


class Heads(nn.Module):
    """Heads of both sides, and the scale of their cosines in training.

    Attributes:
        image, text: the heads; both end in the same number of outputs.
        logit_scale: what cosines are multiplied by, as its logarithm, a number.
        logit_bias: what is added after that (of the sigmoid loss), a number.
    """

    def __init__(self, image: HeadShape, text: HeadShape) -> None:
        super().__init__()
        if image.outputs != text.outputs:
            raise ValueError(f"heads of one space end in one width, not {image.outputs} and {text.outputs}")
        self.image = Head(image)
        self.text = Head(text)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # log(1 / 0.07), as CLIP starts (Radford et al. 2021)
        self.logit_bias = nn.Parameter(torch.tensor(0.0))

    @property
    def dim(self) -> int:
        return self.image.shape.outputs

    def digest(self) -> str:
        """Compute the SHA-256 of names and weights, as hexadecimal digits."""
        sha = sha256()
        for name, tensor in sorted(self.state_dict().items()):
            sha.update(f"{name} {tuple(tensor.shape)} ".encode())
            sha.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()


@dataclass(frozen=True)
class AlignedHeads:
    """Heads with the towers that they belong to, as a fit writes and an encoder reads them.

    Attributes:
        towers: `image` and `text`.
        about: what a person should know: data, settings, metrics; changes no vector.
    """

    towers: Mapping[str, Tower]
    heads: Heads
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write `heads.json` and `heads.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        shapes = {side: asdict(getattr(self.heads, side).shape) for side in SIDES}
        towers = {side: asdict(self.towers[side]) for side in SIDES}
        config = {"version": 1, "towers": towers, "heads": shapes, "about": dict(self.about)}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
        save_file(
            {name: w.detach().to(dtype).contiguous() for name, w in self.heads.state_dict().items()}, folder / WEIGHTS
        )

    @classmethod
    def load(cls, folder: Path) -> AlignedHeads:
        """Read what `save` wrote; weights become float32.

        Raises:
            ColdstartError: the folder does not hold heads, or its two files do not fit each other.
        """
        config = read_heads_file(folder)
        try:
            with torch.device("meta"):  # shapes alone: the file may state any
                heads = Heads(*(config.shapes[side] for side in SIDES))
            tensors = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
            heads.load_state_dict(tensors, assign=True)
        except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
            raise ColdstartError(f"{folder / WEIGHTS} does not fit {CONFIG} beside it: {error}") from error
        return cls(config.towers, heads.requires_grad_(False).eval(), config.about)


PACKAGED = settings.PACKAGE / "weights" / "starter_clip"


def starting_heads(start: str, towers: Mapping[str, Tower], place: str) -> AlignedHeads | None:
    """Load the heads from which a fit starts; None for random ones.

    Args:
        start: `random`; `same`: encoders that share a space already keep it at first; `starter-clip`, or a folder of
            heads; `auto`: `same` or `starter-clip` where one of them fits, else random.
        place: the setting, for messages.

    Raises:
        ColdstartError: the requested heads belong to other encoders.
    """
    passports = {side: dict(towers[side].passport) for side in SIDES}
    one_space = passports["image"] == passports["text"]
    if start == "random":
        return None
    if start == "same" or (start == "auto" and one_space):
        if not one_space:
            names = " and ".join(str(passports[side]["encoder"]) for side in SIDES)
            raise ColdstartError(f"{place}={start}: {names} share no space; use auto or random")
        return AlignedHeads(towers, _identity(int(passports["image"]["dim"])))
    folder = PACKAGED if start in ("auto", "starter-clip") else Path(start).expanduser()
    given = AlignedHeads.load(folder)
    for side in SIDES:
        found, wanted = dict(given.towers[side].passport), passports[side]
        if found != wanted:
            if start == "auto":
                return None
            raise ColdstartError(
                f"{place}={start}: its {side} head is for {found['encoder']} ({found['weights'][:19]}), not for "
                f"{wanted['encoder']} ({wanted['weights'][:19]}); use auto or random"
            )
    return AlignedHeads(towers, given.heads)


def _identity(dim: int) -> Heads:
    shape = HeadShape(dim, dim)
    heads = Heads(shape, shape).requires_grad_(False)
    for head in (heads.image, heads.text):
        assert head.direct is not None, "a linear head has a direct way"
        head.direct.weight.copy_(torch.eye(dim))
    return heads.eval()

"""Heads: small maps from the vectors of two frozen encoders into one space; their folder, and those a fit starts from.

Every head is one formula, `W x + V s(U x + c) + b`, with `x` a vector of length one and `s` GELU, softmax or exp.
With nothing hidden it is linear; with softmax, `U` and `c` a classifier and `V` the vectors of its classes' names, it
is ConSE (Norouzi et al. 2014); with exp, `U` some vectors times g and `c` = -g, it is a sum of Gaussian kernels around
these, as of kernel ridge regression. Knows nothing of training, encoders or workspaces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from coldstart.encoders._heads_file import CONFIG, SIDES, WEIGHTS, HeadsFile, HeadShape, Tower, read_heads_file, scales
from coldstart.errors import ColdstartError

__all__ = ["CONFIG", "SIDES", "WEIGHTS", "AlignedHeads", "Head", "HeadShape", "Heads", "JoinedHeads", "Tower"]


LOGIT_SCALE = 2.6593
"""First scale of cosines, as its logarithm: log(1 / 0.07), as CLIP starts (Radford et al. 2021)."""
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
            out = out + self.outer(_active(self.inner(vectors), self.shape.activation))
        return out

    def project(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Map unit rows `[N, inputs]` to unit rows, float32 `[N, outputs]`; some thousands at a time."""
        return _project(self, vectors, self.shape.outputs)


def _active(hidden: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "softmax":
        return hidden.softmax(-1)
    if activation == "exp":
        return hidden.clamp(max=0).exp()  # kernels are at most 1
    return nn.functional.gelu(hidden)


def _project(head: nn.Module, vectors: NDArray[np.floating[Any]], width: int) -> NDArray[np.float32]:
    made = np.empty((len(vectors), width), np.float32)
    with torch.inference_mode():
        for start in range(0, len(vectors), _ROWS):
            part = np.ascontiguousarray(vectors[start : start + _ROWS], dtype=np.float32)
            made[start : start + _ROWS] = nn.functional.normalize(head(torch.from_numpy(part)), dim=-1).numpy()
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
        self.logit_scale = nn.Parameter(torch.tensor(LOGIT_SCALE))
        self.logit_bias = nn.Parameter(torch.tensor(0.0))

    @property
    def dim(self) -> int:
        return self.image.shape.outputs

    def digest(self) -> str:
        """Compute the SHA-256 of names and weights, as hexadecimal digits."""
        return _digest(self)


def _digest(module: nn.Module) -> str:
    sha = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name} {tuple(tensor.shape)} ".encode())
        sha.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


class JoinedHead(nn.Module):
    """Some heads of one side: their unit outputs side by side, each times the root of its weight."""

    def __init__(self, heads: Sequence[Head], weights: tuple[float, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.outputs = sum(head.shape.outputs for head in heads)
        self._scales = scales(weights)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        parts = zip(self.heads, self._scales, strict=True)
        return torch.cat([nn.functional.normalize(head(vectors), dim=-1) * scale for head, scale in parts], dim=-1)

    def project(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Map unit rows to unit rows, as `Head.project`."""
        return _project(self, vectors, self.outputs)


class JoinedHeads(nn.Module):
    """Some heads a side in one space: a cosine is the weighted sum of theirs.

    Attributes:
        parts: pairs of heads; weights: of each, above 0, their sum is 1.
        image, text: the heads of one side, joined.
    """

    def __init__(self, parts: Sequence[Heads], weights: tuple[float, ...]) -> None:
        super().__init__()
        self.parts = list(parts)
        self.weights = weights
        self.image = JoinedHead([part.image for part in parts], weights)
        self.text = JoinedHead([part.text for part in parts], weights)

    @property
    def dim(self) -> int:
        return self.image.outputs

    def digest(self) -> str:
        """Compute the SHA-256 of names and weights, as hexadecimal digits."""
        return sha256(f"{_digest(self)} {self.weights}".encode()).hexdigest()


@dataclass(frozen=True)
class AlignedHeads:
    """Heads with the towers that they belong to, as a fit writes and an encoder reads them.

    Attributes:
        towers: `image` and `text`.
        about: what a person should know: data, settings, metrics; changes no vector.
    """

    towers: Mapping[str, Tower]
    heads: Heads | JoinedHeads
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write `heads.json` and `heads.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        towers = {side: asdict(self.towers[side]) for side in SIDES}
        config: dict[str, Any] = {"version": 1, "towers": towers, "about": dict(self.about)}
        if isinstance(self.heads, JoinedHeads):
            shapes = {side: [asdict(getattr(part, side).shape) for part in self.heads.parts] for side in SIDES}
            config |= {"version": 2, "heads": shapes, "weights": list(self.heads.weights)}
        else:
            config["heads"] = {side: asdict(getattr(self.heads, side).shape) for side in SIDES}
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
                heads = _of_shapes(config)
            tensors = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
            heads.load_state_dict(tensors, assign=True)
            for part in heads.parts if isinstance(heads, JoinedHeads) else ():  # of training alone, and in no file
                part.logit_scale, part.logit_bias = (nn.Parameter(torch.tensor(value)) for value in (LOGIT_SCALE, 0.0))
                part.requires_grad_(False)
        except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
            raise ColdstartError(f"{folder / WEIGHTS} does not fit {CONFIG} beside it: {error}") from error
        return cls(config.towers, heads.requires_grad_(False).eval(), config.about)


def _of_shapes(config: HeadsFile) -> Heads | JoinedHeads:
    parts = [Heads(*shapes) for shapes in zip(*(config.shapes[side] for side in SIDES), strict=True)]
    return JoinedHeads(parts, config.weights) if config.weights else parts[0]


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
    return AlignedHeads(towers, given.heads.parts[0] if isinstance(given.heads, JoinedHeads) else given.heads)


def _identity(dim: int) -> Heads:
    shape = HeadShape(dim, dim)
    heads = Heads(shape, shape).requires_grad_(False)
    for head in (heads.image, heads.text):
        assert head.direct is not None, "a linear head has a direct way"
        head.direct.weight.copy_(torch.eye(dim))
    return heads.eval()

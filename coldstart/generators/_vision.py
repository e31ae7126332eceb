"""Project pictures to vectors in the place of tokens, from a frozen picture model to a language model.

A picture comes as the numbers of `grid_features` of the starter encoder. Each of its cells becomes one vector by a
two-layer projector that all cells share (as in LLaVA 1.5, Liu et al. 2023, arXiv:2310.03744), and the picture as a
whole becomes a few more, by a projector of its own over all levels of the network, where colour is kept. Beside that
one stands a straight map that training solves at once. Several pictures of one item, such as a video's
frames, are the mean of their numbers, so that they cost no more tokens than one; the order of frames is lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from coldstart.errors import ColdstartError
from coldstart.generators import _chat_template

FILE = "projector.safetensors"
PICTURE = -1
"""Stands among the tokens of a prompt where a picture's vector does."""


@dataclass(frozen=True)
class ProjectorShape:
    """Sizes of a projector.

    Attributes:
        cells: of a picture, each of `cell_dim` numbers; `whole_dim`: numbers of the picture as a whole after them.
        whole_tokens: vectors that the whole becomes; `hidden`: numbers between the two layers.
        width: of the language model's vectors; `scale`: their root mean square.
    """

    cells: int
    cell_dim: int
    whole_dim: int
    whole_tokens: int
    hidden: int
    width: int
    scale: float

    @property
    def dim(self) -> int:
        """Input dimensions of a picture."""
        return self.cells * self.cell_dim + self.whole_dim

    @property
    def tokens(self) -> int:
        """Number of vectors of a picture."""
        return self.cells + self.whole_tokens


class Projector(nn.Module):
    """Projector from float `[B, dim]` of pictures to float32 `[B, tokens, width]`.

    `mean` and `deviation`, `[dim]`, are those of the pictures of its training.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, shape: ProjectorShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.dim))
        self.register_buffer("deviation", torch.ones(shape.dim))
        self.drop = nn.Dropout(dropout)
        self.cell = nn.Sequential(
            nn.Linear(shape.cell_dim, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, shape.width)
        )
        self.place = nn.Parameter(torch.zeros(shape.cells, shape.width))
        wide = shape.whole_tokens * shape.width
        self.whole = nn.Sequential(nn.Linear(shape.whole_dim, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, wide))
        self.straight = nn.Linear(shape.whole_dim, wide).requires_grad_(False)
        nn.init.zeros_(self.straight.weight)
        nn.init.zeros_(self.straight.bias)

    def forward(self, pictures: torch.Tensor, straight: torch.Tensor | None = None) -> torch.Tensor:
        """Project pictures; `straight`, float32 `[B, whole_tokens * width]`, stands in for the straight map's own."""
        shape = self.shape
        seen = self.drop(self.standardised(pictures))
        cells, whole = seen.split([shape.cells * shape.cell_dim, shape.whole_dim], dim=1)
        places = self.cell(cells.unflatten(1, (shape.cells, shape.cell_dim))) + self.place
        if straight is None:
            straight = self.straight(self.standardised(pictures)[:, -shape.whole_dim :])
        alone = (self.whole(whole) + straight).unflatten(1, (shape.whole_tokens, shape.width))
        return torch.cat([places, alone], dim=1) * shape.scale

    def standardised(self, pictures: torch.Tensor) -> torch.Tensor:
        return (pictures.float() - self.mean) / self.deviation

    def save(self, path: Path) -> None:
        """Save as safetensors, its shape in the file's metadata."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, path, {"shape": json.dumps(asdict(self.shape))})


def load(path: Path) -> Projector:
    """Load the projector of a file, in evaluation mode.

    Raises:
        ColdstartError: it is no file of a projector.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["shape"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with torch.device("meta"):  # shapes alone: the file may state any
            projector = Projector(ProjectorShape(**about))
        projector.load_state_dict(state, assign=True)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ColdstartError(
            f"{path} is no projector ({str(error).splitlines()[0]}): make it anew with coldstart finetune describe"
        ) from error
    return projector.eval().requires_grad_(False)


def prompt_ids(tokenizer: Any, system: str, prompt: str, pictures: int) -> list[int]:
    """Build the tokens of a prompt: the chat, then `PICTURE` for each vector of the picture.

    The chat comes first, so that what all prompts have in common is read once. Where nothing is said, the model reads
    the picture alone.
    """
    said = _chat_template.prompt_ids(tokenizer, system, prompt) if system or prompt else []
    return [*said, *[PICTURE] * pictures]


def embed_prompt(table: nn.Module, ids: Sequence[int], pictures: torch.Tensor) -> torch.Tensor:
    """Embed `ids` as vectors `[T, width]`, those of the picture `[tokens, width]` in their places."""
    places = torch.tensor(ids, device=pictures.device)
    vectors: torch.Tensor = table(places.clamp(min=0))
    return vectors.masked_scatter((places == PICTURE)[:, None], pictures.to(vectors))

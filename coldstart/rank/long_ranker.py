"""Score candidates by a user's whole history: long attention, and a perceptron over it and the plain features.

Items are their vectors by who met them, projected, plus learnt ones of the item, its creator, category, … . A batch is
cut by the actions of its histories, so that its memory does not grow with their length; each history is encoded once
for all of its candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coldstart.rank.attention import PREDICTED, ItemVectors, attribute_codes, batch_size, initialise, item_places
from coldstart.rank.long_attention import LongAttention

if TYPE_CHECKING:
    from coldstart.rank.model import Sequences

_ACTIONS = 1 << 17
"""Actions of a batch, with padding: some 250 MB in training at width 32."""
_MIXED = 2_048
"""Histories that are sorted by length at a time, so that batches hold little padding and stay random."""


@dataclass(frozen=True)
class LongShape:
    """Sizes of a network, which its weights are built from.

    Attributes:
        vectors: columns of the items' vectors, 0 for none; latest, tokens, merged: as of `LongAttention`.
    """

    items: int
    attributes: tuple[int, ...]
    events: int
    features: int
    outputs: int
    dim: int
    vectors: int = 0
    latest: int = 100
    tokens: int = 4
    merged: int = 4


class LongRanker(nn.Module):
    """Network over whole histories; `backend` as for `coldstart.rank.long_attention.attend`."""

    codes: Tensor
    vectors: Tensor

    def __init__(self, shape: LongShape, backend: str = "auto") -> None:
        super().__init__()
        self.shape, dim = shape, shape.dim
        self.items = ItemVectors(shape.items, shape.attributes, dim)
        initialise([self.items.item, *self.items.attributes])
        self.project = nn.Linear(shape.vectors, dim, bias=False) if shape.vectors else None
        if self.project is not None:
            nn.init.orthogonal_(self.project.weight, dim**0.5)
        self.history = LongAttention(
            shape.events + 1, dim=dim, latest=shape.latest, tokens=shape.tokens, merged=shape.merged, backend=backend
        )  # fmt: skip
        self.tower = nn.Sequential(
            nn.Linear(4 * dim + 2 * shape.features, 2 * dim), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, shape.outputs),
        )  # fmt: skip
        self.register_buffer("codes", torch.zeros(0, len(shape.attributes), dtype=torch.int64), persistent=False)
        self.register_buffer("vectors", torch.zeros(0, shape.vectors), persistent=False)

    def prepare(self, sequences: Sequences, device: str) -> None:
        """Set attributes and vectors of the items of now."""
        self.codes = attribute_codes(sequences.attributes, self.shape.attributes).to(device)
        self.vectors = torch.from_numpy(np.pad(sequences.vectors, ((1, 0), (0, 0)))).to(device)

    def steps(self, sequences: Sequences, rows: NDArray[np.int64], draw: np.random.Generator) -> list[NDArray[Any]]:
        """Cut rows into batches of a training pass, in random order; rows of one history stay together."""
        groups, starts, order = _by_history(sequences, rows)
        mixed = draw.permutation(len(groups))
        lengths = sequences.lengths[groups]
        for first in range(0, len(mixed), _MIXED):
            part = mixed[first : first + _MIXED]
            mixed[first : first + _MIXED] = part[np.argsort(lengths[part], kind="stable")]
        found = _batches(mixed, starts, order, lengths, batch_size(len(rows)))
        return [found[place] for place in draw.permutation(len(found))]

    def blocks(self, sequences: Sequences, rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Cut rows into blocks of bounded size for prediction."""
        groups, starts, order = _by_history(sequences, rows)
        lengths = sequences.lengths[groups]
        return _batches(np.argsort(lengths, kind="stable"), starts, order, lengths, PREDICTED)

    def gather(self, sequences: Sequences, rows: NDArray[Any], device: str) -> dict[str, Tensor]:
        """Read histories of some rows, each once, and their candidates beside them."""
        groups, of = np.unique(sequences.rows[rows], return_inverse=True)
        read = sequences.read(groups.astype(np.int64))
        counts = np.diff(read.starts)
        width = max(1, int(counts.max(initial=0)))
        history = np.repeat(np.arange(len(groups)), counts)
        slots = width - counts[history] + np.arange(len(history)) - read.starts[history]

        def padded(values: NDArray[Any], nothing: int) -> NDArray[np.int64]:
            found = np.full((len(groups), width), nothing, np.int64)
            found[history, slots] = values
            return found

        events = np.where(read.events <= self.shape.events, read.events, 0)
        order = np.argsort(of, kind="stable")
        columns = np.empty(len(rows), np.int64)
        columns[order] = np.arange(len(rows)) - np.searchsorted(of[order], of[order])
        candidates = np.full((len(groups), int(columns.max(initial=0)) + 1), -1, np.int32)
        candidates[of, columns] = sequences.items[rows]
        found = {
            "history": item_places(padded(read.items, -1).astype(np.int32)),
            "events": torch.from_numpy(padded(events, 0)),
            "ages": torch.from_numpy(padded(sequences.ends[groups][history] - read.seconds, 0)),
            "candidates": item_places(candidates),
            "of": torch.from_numpy(of.astype(np.int64)),
            "columns": torch.from_numpy(columns),
        }
        return {name: one.to(device) for name, one in found.items()}

    def forward(self, batch: Mapping[str, Tensor], plain: Tensor) -> Tensor:
        """Logits, float32 [rows, outputs]."""
        history = batch["history"]
        keys = self.history.encode(self._embedded(history), batch["events"], batch["ages"], history > 0)
        candidates = self._embedded(batch["candidates"])
        read = torch.cat([candidates, self.history.read(keys, candidates)], -1)[batch["of"], batch["columns"]]
        out: Tensor = self.tower(torch.cat([read, plain], 1))
        return out

    def _embedded(self, places: Tensor) -> Tensor:
        found: Tensor = self.items(places, self.codes)
        return found if self.project is None else found + self.project(self.vectors[places])


def _by_history(
    sequences: Sequences, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group rows: histories, where the rows of each start, and the rows."""
    own = sequences.rows[rows]
    order = np.argsort(own, kind="stable")
    groups, starts = np.unique(own[order], return_index=True)
    return groups.astype(np.int64), np.append(starts, len(rows)), rows[order]


def _batches(
    histories: NDArray[np.int64],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    lengths: NDArray[np.int64],
    size: int,
) -> list[NDArray[Any]]:
    """Cut histories, in this order, by rows (`size`) and by padded actions; one with more rows than a block is cut."""
    found: list[NDArray[Any]] = []
    held: list[NDArray[np.int64]] = []
    count = longest = 0
    for history in histories.tolist():
        own, length = rows[starts[history] : starts[history + 1]], int(lengths[history])
        if held and (count + len(own) > size or max(longest, length) * (len(held) + 1) > _ACTIONS):
            found.append(np.concatenate(held))
            held, count, longest = [], 0, 0
        held.append(own)
        count, longest = count + len(own), max(longest, length)
    if held:
        found.append(np.concatenate(held))
    return [part for one in found for part in np.array_split(one, -(-len(one) // PREDICTED))]

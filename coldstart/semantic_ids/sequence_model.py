"""Sequence model of histories with three heads: codes of the next item, a dense score of every item, ids alone.

A causal transformer in torch that reads one token an item: its id vector (dropped at random, so that the model also
learns to do without it), its content through one linear layer, and the vectors of its codes. The dense head scores an
item by its content tower plus its id vector; a new item has the tower alone. The head of codes gives each level a
softmax over all its codes, given the codes before. Without content and codes it is SASRec (Kang and McAuley 2018) with
a full softmax, the baseline.

RecTools was read as an alternative: its SASRec and HSTU take ids and category features, have one head over items, no
score for an item that no training row has, no decoding under a trie, and bring Lightning; all that is needed of it are
the forty lines of the blocks below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

_MASKED = -1e9


@dataclass(frozen=True)
class Shape:
    """Sizes of a sequence model.

    Attributes:
        items: rows of the id vectors; content: dimensions of content vectors, 0: none; sizes: codes of each level,
            empty: no head of codes.
    """

    items: int
    content: int
    sizes: tuple[int, ...]
    dim: int = 64
    layers: int = 1
    heads: int = 1
    length: int = 50
    dropout: float = 0.3
    id_dropout: float = 0.3

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {**asdict(self), "sizes": list(self.sizes)}


@dataclass(frozen=True)
class ItemTensors:
    """N items as the model reads them; row N stands for an empty place of a history.

    Attributes:
        rows: row of the id vector, `Shape.items` for a new item, int64 [N + 1].
        content: float32 [N + 1, D]; codes: int64 [N + 1, L], the size of the level where an item has none.
    """

    rows: Tensor
    content: Tensor
    codes: Tensor

    def __len__(self) -> int:
        return len(self.rows) - 1


def item_tensors(
    shape: Shape,
    rows: NDArray[np.int64],
    content: NDArray[np.float32] | None,
    codes: NDArray[np.int32] | None,
    device: torch.device | str = "cpu",
) -> ItemTensors:
    """Build the tensors of N items.

    Args:
        rows: row of each item's id vector, -1 for a new item; content: float32 [N, D]; codes: int32 [N, L], -1 or a
            code that the model does not know where an item has none.
    """
    count, sizes = len(rows), np.array(shape.sizes, np.int64)
    own = np.full(count + 1, shape.items, np.int64)
    own[:count] = np.where(rows < 0, shape.items, rows)
    vectors = np.zeros((count + 1, shape.content), np.float32)
    if content is not None and shape.content:
        vectors[:count] = content
    known = np.tile(sizes, (count + 1, 1))
    if codes is not None and len(sizes):
        given = codes.astype(np.int64)
        known[:count] = np.where((given < 0) | (given >= sizes), sizes, given)
    return ItemTensors(*(torch.from_numpy(array).to(device) for array in (own, vectors, known)))


class _Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        dim = shape.dim
        self.heads, self.dropout = shape.heads, shape.dropout
        self.before_attention, self.before_layers = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attended, self.joined = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, states: Tensor) -> Tensor:
        count, length, dim = states.shape
        parts = self.attended(self.before_attention(states)).view(count, length, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)
        states = states + self._drop(self.joined(found.transpose(1, 2).reshape(count, length, dim)))
        inner = self._drop(functional.gelu(self.wide(self.before_layers(states))))
        return states + self._drop(self.narrow(inner))

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training)


class SequenceModel(nn.Module):
    """Model of the next item of a history; see the module."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        dim, inner = shape.dim, 2 * shape.dim
        self.ids = nn.Embedding(shape.items + 1, dim, padding_idx=shape.items)
        self.positions = nn.Embedding(shape.length, dim)
        self.blocks = nn.ModuleList([_Block(shape) for _ in range(shape.layers)])
        self.norm, self.to_dense = nn.LayerNorm(dim), nn.Linear(dim, dim)
        if shape.content:
            self.content = nn.Linear(shape.content, dim)
            self.tower = nn.Sequential(nn.Linear(shape.content, inner), nn.GELU(), nn.Linear(inner, dim))
        self.codes = nn.ModuleList([nn.Embedding(size + 1, dim, padding_idx=size) for size in shape.sizes])
        if shape.sizes:
            self.to_codes = nn.Linear(dim, dim)
        self.given = nn.ModuleList([nn.Embedding(size, dim) for size in shape.sizes[:-1]])
        self.mixed = nn.ModuleList([
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))
            for _ in shape.sizes
        ])  # fmt: skip
        self.out = nn.ModuleList([nn.Linear(dim, size) for size in shape.sizes])
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.xavier_normal_(module.weight)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])

    # -- histories

    def forward(self, items: ItemTensors, histories: Tensor) -> Tensor:
        """Read histories, int64 [B, T] of places of items, `len(items)` after their end: states, [B, T, d]."""
        states = self.ids(items.rows[histories])
        if self.training and self.shape.content:
            states = states * (torch.rand(histories.shape, device=states.device) > self.shape.id_dropout)[..., None]
        if self.shape.content:
            states = states + self.content(items.content[histories])
        codes = items.codes[histories]
        for level, vectors in enumerate(self.codes):
            states = states + vectors(codes[..., level])
        # counted from the end: what came last has the same vector in histories of any length
        lengths = (histories != len(items)).sum(1, keepdim=True)
        from_end = lengths - 1 - torch.arange(histories.shape[1], device=histories.device)
        states = states + self.positions(from_end.clamp(min=0))
        states = functional.dropout(states, self.shape.dropout, self.training)
        for block in self.blocks:
            states = block(states)
        found: Tensor = self.norm(states)
        return found

    def last_states(self, items: ItemTensors, histories: Sequence[NDArray[np.int64]]) -> Tensor:
        """Read whole histories, the latest item last: the state after each, [B, d]; of an empty one after no item."""
        padded, lengths = pad(histories, self.shape.length, len(items))
        padded, lengths = padded.to(items.rows.device), lengths.to(items.rows.device)
        states: Tensor = self(items, padded)
        return states[torch.arange(len(lengths), device=lengths.device), (lengths - 1).clamp(min=0)]

    # -- dense head

    def item_vectors(self, items: ItemTensors, places: Tensor | None = None) -> Tensor:
        """Compute the vectors by which the dense head scores items, [N, d]: tower plus id vector."""
        chosen = torch.arange(len(items), device=items.rows.device) if places is None else places
        vectors: Tensor = self.ids(items.rows[chosen])
        if not self.shape.content:
            return vectors
        if self.training:
            vectors = vectors * (torch.rand(len(chosen), 1, device=vectors.device) > self.shape.id_dropout)
        found: Tensor = self.tower(items.content[chosen]) + vectors
        return found

    def dense_query(self, states: Tensor) -> Tensor:
        """Compute what the dense head multiplies item vectors with, [B, d]."""
        found: Tensor = self.to_dense(states) if self.shape.content else states
        return found

    def dense_loss(self, items: ItemTensors, states: Tensor, targets: Tensor, among: Tensor, sampled: int) -> Tensor:
        """Compute the loss of the dense head, the mean over targets.

        Args:
            states: [B, d]; targets: places of the right items, int64 [B]; among: places of the items to tell them from,
                all targets among them; sampled: tell them from so many drawn ones instead, where there are more; 0:
                from all.
        """
        query = self.dense_query(states)
        if not sampled or len(among) <= sampled:
            place = torch.full((len(items) + 1,), -1, device=among.device)
            place[among] = torch.arange(len(among), device=among.device)
            return functional.cross_entropy(query @ self.item_vectors(items, among).T, place[targets])
        drawn = among[torch.randint(len(among), (sampled,), device=among.device)]
        right = (query * self.item_vectors(items, targets)).sum(1, keepdim=True)
        wrong = query @ self.item_vectors(items, drawn).T
        # logQ: each drawn item stands for as many as were not drawn
        wrong = wrong.masked_fill(targets[:, None] == drawn, _MASKED) + math.log((len(among) - 1) / sampled)
        nothing = torch.zeros(len(targets), dtype=torch.int64, device=targets.device)
        return functional.cross_entropy(torch.cat([right, wrong], 1), nothing)

    # -- head of codes

    def code_query(self, states: Tensor) -> Tensor:
        """Compute what the first level of codes is predicted from, [B, d]."""
        found: Tensor = self.to_codes(states)
        return found

    def level_log_p(self, level: int, query: Tensor) -> Tensor:
        """Compute log P of every code of a level given those before, [..., K]; `query`: [..., d] after those."""
        return functional.log_softmax(self.out[level](query + self.mixed[level](query)), -1)

    def after_codes(self, level: int, query: Tensor, codes: Tensor) -> Tensor:
        """Add the codes of a level to the query of the next one."""
        found: Tensor = query + self.given[level](codes)
        return found

    def code_loss(self, items: ItemTensors, states: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of the codes of the right items, summed over levels; items without codes do not count."""
        codes = items.codes[targets]
        known = (codes < torch.tensor(self.shape.sizes, device=codes.device)).all(1)
        query, codes = self.code_query(states[known]), codes[known]
        total = states.new_zeros(())
        if not len(codes):
            return total
        for level in range(len(self.shape.sizes)):
            total = total + functional.nll_loss(self.level_log_p(level, query), codes[:, level])
            if level < len(self.given):
                query = self.after_codes(level, query, codes[:, level])
        return total


def pad(histories: Sequence[NDArray[np.int64]], length: int, empty: int) -> tuple[Tensor, Tensor]:
    """Put the last `length` items of histories into one array, int64 [B, T], and count them, int64 [B]."""
    widest = max(1, min(length, max((len(own) for own in histories), default=1)))
    padded = np.full((len(histories), widest), empty, np.int64)
    lengths = np.zeros(len(histories), np.int64)
    for row, own in enumerate(histories):
        last = own[-widest:]
        padded[row, : len(last)] = last
        lengths[row] = len(last)
    return torch.from_numpy(padded), torch.from_numpy(lengths)

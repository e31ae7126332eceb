"""Decode semantic IDs under a trie: a beam search that can give no ID which no item has, and exact scores of all.

The softmax of a level is over all its codes; then only the children of a node are kept. Filters are masks of items: a
node counts as there while an item below it is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coldstart.semantic_ids.read import Trie

if TYPE_CHECKING:
    from coldstart.semantic_ids.sequence_model import SequenceModel

BEAM = 50
_BLOCK = 1 << 22  # numbers that are expanded at a time


@dataclass(frozen=True)
class TrieTensors:
    """Trie as tensors (see `Trie`)."""

    codes: tuple[Tensor, ...]
    parents: tuple[Tensor, ...]
    first: tuple[Tensor, ...]
    leaf_of: Tensor
    """Last node of each item, int64 [N]; -1 for one that is not in the trie."""

    @property
    def leaves(self) -> int:
        """Number of different IDs."""
        return len(self.codes[-1])


def trie_tensors(trie: Trie, places: NDArray[np.int64], count: int, device: torch.device | str = "cpu") -> TrieTensors:
    """Convert a trie.

    Args:
        places: place of each of its items among `count` items.
    """
    leaf_of = np.full(count, -1, np.int64)
    leaves = np.repeat(np.arange(len(trie.first_item) - 1), np.diff(trie.first_item))
    leaf_of[places[trie.items]] = leaves

    def convert(arrays: tuple[NDArray[np.int32], ...]) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(own.astype(np.int64)).to(device) for own in arrays)

    leaf_tensor = torch.from_numpy(leaf_of).to(device)
    return TrieTensors(convert(trie.codes), convert(trie.parents), convert(trie.first), leaf_tensor)


def allowed_nodes(trie: TrieTensors, allowed: Tensor) -> list[Tensor]:
    """Find the nodes of each level with an allowed item below, bool [B, nodes]; `allowed`: bool [B, N] over items."""
    inside = trie.leaf_of >= 0
    found = [torch.zeros(len(allowed), trie.leaves, dtype=torch.int32, device=allowed.device)]
    found[0].index_add_(1, trie.leaf_of[inside], allowed[:, inside].int())
    for level in range(len(trie.codes) - 1, 0, -1):
        above = torch.zeros(len(allowed), len(trie.codes[level - 1]), dtype=torch.int32, device=allowed.device)
        above.index_add_(1, trie.parents[level], found[0].clamp(max=1))
        found.insert(0, above)
    return [counts > 0 for counts in found]


class CodeDecoder(Protocol):
    """Decoder of IDs that reads histories itself, places of items, as a language model does."""

    def beam(
        self, histories: Sequence[NDArray[np.int64]], trie: TrieTensors, allowed: Tensor, width: int
    ) -> tuple[Tensor, Tensor]:
        """Search for the likeliest IDs after each history; as `beam`."""

    def log_p(self, history: NDArray[np.int64], codes: Tensor) -> Tensor:
        """Compute log P of whole IDs after one history, [N]; `codes`: int64 [N, L], known ones alone."""


@torch.no_grad()
def beam(
    model: SequenceModel, trie: TrieTensors, states: Tensor, allowed: Tensor | None = None, width: int = BEAM
) -> tuple[Tensor, Tensor]:
    """Search for the likeliest IDs of each state.

    Args:
        states: [B, d]; allowed: items that may be given, bool [B, N] or [1, N].
        width: prefixes that are kept a level.

    Returns:
        last nodes, int64 [B, width], likeliest first and -1 where there are no more; log P, -inf there.
    """
    query = model.code_query(states)[:, None]

    def advance(level: int, above: Tensor, codes: Tensor) -> Tensor:
        nonlocal query
        query = query.gather(1, above[..., None].expand(-1, -1, query.shape[-1]))
        query = model.after_codes(level, query, codes)
        return model.level_log_p(level + 1, query)

    return search(trie, model.level_log_p(0, query), advance, allowed, width)


def search(
    trie: TrieTensors,
    first: Tensor,
    advance: Callable[[int, Tensor, Tensor], Tensor],
    allowed: Tensor | None,
    width: int,
) -> tuple[Tensor, Tensor]:
    """Keep the likeliest prefixes that the trie has, level by level; see `beam`.

    Args:
        first: log P of the codes of the first level, [B, 1, K].
        advance: of a level, the place among the prefixes kept before of each one kept now, int64 [B, W], and its code,
            int64 [B, W]: log P of the codes of the next level after it, [B, W, K].
    """
    count, device = len(first), first.device
    masks = None if allowed is None else [one.expand(count, -1) for one in allowed_nodes(trie, allowed)]
    nodes = torch.zeros(count, 1, dtype=torch.int64, device=device)
    log_p = torch.zeros(count, 1, device=device)
    own = first
    for level in range(len(trie.codes)):
        start, stop = trie.first[level][nodes.clamp(min=0)], trie.first[level][nodes.clamp(min=0) + 1]
        sizes = (stop - start) * (nodes >= 0)
        widest = max(1, int(sizes.max()))
        offsets = torch.arange(widest, device=device)
        children = start[..., None] + offsets  # [B, W, C]
        is_child = offsets < sizes[..., None]
        children = torch.where(is_child, children, 0)
        scores = log_p[..., None] + own.gather(-1, trie.codes[level][children])
        if masks is not None:
            is_child &= masks[level].gather(1, children.flatten(1)).view_as(children)
        scores = scores.masked_fill(~is_child, -torch.inf).flatten(1)
        log_p, best = scores.topk(min(width, scores.shape[1]), dim=1)
        nodes = torch.where(log_p == -torch.inf, -1, children.flatten(1).gather(1, best))
        if level + 1 < len(trie.codes):
            own = advance(level, best // widest, trie.codes[level][nodes.clamp(min=0)])
    return nodes, log_p


@torch.no_grad()
def exact_log_p(model: SequenceModel, trie: TrieTensors, states: Tensor, depth: int | None = None) -> Tensor:
    """Compute log P of every node of a level, by default of the last one: [B, nodes]."""
    deep = len(trie.codes) if depth is None else depth
    widest = max((len(own) for own in trie.codes[: max(1, deep - 1)]), default=1)
    step = max(1, _BLOCK // max(1, widest * model.shape.dim))
    if len(states) > step:
        return torch.cat([exact_log_p(model, trie, part, depth) for part in torch.split(states, step)])
    query = model.code_query(states)[:, None]
    log_p = torch.zeros(len(states), 1, device=states.device)
    for level in range(deep):
        parents, codes = trie.parents[level], trie.codes[level]
        log_p = log_p[:, parents] + model.level_log_p(level, query)[:, parents, codes]
        if level + 1 < deep:
            query = model.after_codes(level, query[:, parents], codes.expand(len(states), -1))
    return log_p


@torch.no_grad()
def prefix_log_p(model: SequenceModel, states: Tensor, codes: Tensor) -> Tensor:
    """Compute log P of prefixes, known to a trie or not: [B, N] of `codes`, int64 [N, depth]."""
    prefixes, inverse = torch.unique(codes, dim=0, return_inverse=True)
    query = model.code_query(states)
    first = model.level_log_p(0, query)
    log_p = first[:, prefixes[:, 0]]
    if codes.shape[1] > 1:
        heads, of = torch.unique(prefixes[:, 0], return_inverse=True)
        after = model.after_codes(0, query[:, None], heads.expand(len(states), -1))
        log_p = log_p + model.level_log_p(1, after)[:, of, prefixes[:, 1]]
    return log_p[:, inverse]

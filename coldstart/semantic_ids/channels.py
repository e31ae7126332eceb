"""Lists of candidates from a sequence model: by the dense head, by decoded codes, by both; and a share of new items.

A new item is one that no training row has. The dense head scores it by its content tower. No decoder was trained on its
codes, so that it is never ranked by the probability of its whole ID: among new items the order is the dense score plus
a weight times the log probability of their first codes, plus a weight times their cosine with the content of the
history, recent items first; each in standard deviations, and the weights may be 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from coldstart.semantic_ids.decode import BEAM, CodeDecoder, TrieTensors, beam, prefix_log_p
from coldstart.semantic_ids.sequence_model import ItemTensors, SequenceModel, pad

Channel = Literal["dense", "codes", "both"]
CHANNELS: tuple[Channel, ...] = ("dense", "codes", "both")
RRF_K = 60
RECENCY = 0.7
"""Weight of an item of a history by the one after it, for the cosine with new items."""
_BLOCK = 1 << 23  # scores in memory at a time


@dataclass(frozen=True)
class Lists:
    """Lists of B histories, best first.

    Attributes:
        places: of items, int64 [B, k], -1 for an empty slot; scores: float32, -inf there. By `dense` the score of that
            head, by `codes` log P, by `both` the sum of reciprocal ranks.
        added: slots that the share of new items gave, bool [B, k].
    """

    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    added: NDArray[np.bool_]


@dataclass(frozen=True)
class NewItems:
    """Order among new items: dense score, `weight` times log P of the first `depth` codes, `content` times cosine."""

    weight: float = 0.0
    depth: int = 1
    content: float = 0.0


class Recaller:
    """Lists of candidates by one model over one set of items.

    Attributes:
        is_new: items that no training row has, bool [N].
    """

    def __init__(
        self,
        model: SequenceModel,
        items: ItemTensors,
        is_new: NDArray[np.bool_],
        trie: TrieTensors | None,
        new: NewItems = NewItems(),
        tie_seed: int | None = None,
        decoder: CodeDecoder | None = None,
    ) -> None:
        """Build the vectors of all items.

        Args:
            tie_seed: items of one ID in random order, for measures of codes alone; None: by their dense scores.
            decoder: what IDs are decoded by; None: the model's own head of codes.
        """
        self.model, self.items, self.is_new, self.trie, self.new = model.eval(), items, is_new, trie, new
        self.decoder = decoder
        self._device = items.rows.device
        self._new = torch.from_numpy(is_new).to(self._device)
        self._chance = None
        if tie_seed is not None:
            drawn = np.random.default_rng(tie_seed).random(len(items), np.float32)
            self._chance = torch.from_numpy(drawn).to(self._device)
        with torch.no_grad():
            self._vectors = model.item_vectors(items)

    def lists(
        self,
        histories: Sequence[NDArray[np.int64]],
        channel: Channel,
        top_k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        seen: Sequence[NDArray[np.int64]] | None = None,
        cold_share: float = 0.0,
    ) -> Lists:
        """List items for histories, places of items with the latest last.

        Args:
            allowed: items that may be listed, bool [N]; seen: of each history the items that may not, by default those
                in it.
            cold_share: least share of new items among the first n, for every n, as far as there are some.
        """
        step = max(1, _BLOCK // max(1, len(self.items)))
        parts = []
        for start in range(0, max(1, len(histories)), step):
            own = slice(start, start + step)
            left_out = histories[own] if seen is None else seen[own]
            parts.append(self._block(histories[own], channel, top_k, allowed, left_out, cold_share))
        return Lists(*(np.concatenate([getattr(one, name) for one in parts]) for name in ("places", "scores", "added")))

    @torch.no_grad()
    def _block(
        self,
        histories: Sequence[NDArray[np.int64]],
        channel: Channel,
        top_k: int,
        allowed: NDArray[np.bool_] | None,
        seen: Sequence[NDArray[np.int64]],
        cold_share: float,
    ) -> Lists:
        states = self.model.last_states(self.items, histories)
        may = torch.ones(len(histories), len(self.items), dtype=torch.bool, device=self._device)
        if allowed is not None:
            may &= torch.from_numpy(allowed).to(self._device)
        rows = np.repeat(np.arange(len(seen)), [len(own) for own in seen])
        if len(rows):
            columns = np.concatenate([np.asarray(own, np.int64) for own in seen])
            may[torch.from_numpy(rows).to(self._device), torch.from_numpy(columns).to(self._device)] = False
        dense = (self.model.dense_query(states) @ self._vectors.T).masked_fill(~may, -torch.inf)
        if channel == "dense" or self.trie is None:
            found = _top(dense, top_k)
        else:
            found = self._by_codes(histories, states, dense, may & ~self._new, top_k)
            if channel == "both":
                by_dense = _top(dense, max(top_k, BEAM))
                # what cannot be decoded has its dense rank in the place of a rank by codes, or it would fall behind
                undecoded = (self._new | (self.trie.leaf_of < 0)).cpu().numpy()
                again = np.where(undecoded[by_dense[0]], by_dense[0], -1)
                found = fuse([by_dense, found, (again, by_dense[1])], top_k)
        places, scores = found
        added = np.zeros(places.shape, bool)
        if cold_share > 0 and self.is_new.any():
            order = self.new_order(histories, states, dense, places.shape[1])
            places, scores, added = with_share(places, scores, order, self.is_new, cold_share)
        return Lists(places, scores, added)

    def _by_codes(
        self, histories: Sequence[NDArray[np.int64]], states: Tensor, dense: Tensor, may: Tensor, top_k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Decode IDs; items that share one stand together, in the order of their dense scores, a slot each."""
        assert self.trie is not None
        width = max(BEAM, top_k)
        if self.decoder is None:
            nodes, log_p = beam(self.model, self.trie, states, may, width)
        else:
            nodes, log_p = self.decoder.beam(histories, self.trie, may, width)
        none = self.trie.leaves
        rank_of = torch.full((len(states), none + 1), nodes.shape[1], dtype=torch.float64, device=self._device)
        ranks = torch.arange(nodes.shape[1], dtype=torch.float64, device=self._device).expand_as(log_p)
        rank_of.scatter_(1, torch.where(nodes < 0, none, nodes), ranks)
        rank_of[:, none] = nodes.shape[1]
        ranks = rank_of[:, torch.where(self.trie.leaf_of < 0, none, self.trie.leaf_of)]
        is_found = may & (ranks < nodes.shape[1])
        order = dense if self._chance is None else self._chance.expand_as(dense)
        within = _unit_range(order, is_found)  # decides among items of one ID alone: ranks of IDs differ by 1
        keys = (within - ranks).masked_fill(~is_found, -torch.inf)
        best, places = keys.topk(min(top_k, keys.shape[1]), dim=1)
        ranks = ranks.gather(1, places).clamp(max=nodes.shape[1] - 1).long()
        return _arrays(places, log_p.gather(1, ranks).masked_fill(best == -torch.inf, -torch.inf))

    @torch.no_grad()
    def describe(
        self, history: NDArray[np.int64], places: NDArray[np.int64], decoded: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the dense score and log P of the whole ID of items for one history.

        log P is NaN without an ID, and by a decoder beside the model where the list is not `decoded`.
        """
        states = self.model.last_states(self.items, [history])
        chosen = torch.from_numpy(places).to(self._device)
        dense = (self.model.dense_query(states) @ self._vectors[chosen].T)[0]
        log_p = torch.full_like(dense, torch.nan)
        sizes = self.model.shape.sizes
        codes = self.items.codes[chosen]
        known = (codes < torch.tensor(sizes, device=codes.device, dtype=torch.int64)).all(1)
        if decoded and self.decoder is not None and bool(known.any()):
            log_p[known] = self.decoder.log_p(history, codes[known])
        elif self.decoder is None and sizes and bool(known.any()):
            total, codes = torch.zeros(int(known.sum()), device=self._device), codes[known]
            query = self.model.code_query(states).expand(len(codes), -1)
            for level in range(len(sizes)):
                total += self.model.level_log_p(level, query).gather(1, codes[:, level : level + 1])[:, 0]
                if level + 1 < len(sizes):
                    query = self.model.after_codes(level, query, codes[:, level])
            log_p[known] = total
        return dense.cpu().numpy(), log_p.cpu().numpy()

    def new_order(
        self, histories: Sequence[NDArray[np.int64]], states: Tensor, dense: Tensor, most: int
    ) -> NDArray[np.int64]:
        """Order the new items of a dense score that is not -inf: int64 [B, at most `most`], -1 for empty slots."""
        new = torch.nonzero(self._new)[:, 0]
        scores, there = dense[:, new], dense[:, new] > -torch.inf
        if self.new.weight or self.new.content:
            scores = standard(scores, there)
        if self.new.weight and self.trie is not None:
            codes = self.items.codes[new][:, : self.new.depth]
            known = (codes < torch.tensor(self.model.shape.sizes[: self.new.depth], device=codes.device)).all(1)
            log_p = torch.zeros_like(scores)
            if bool(known.any()):
                log_p[:, known] = prefix_log_p(self.model, states, codes[known])
            scores = scores + self.new.weight * standard(log_p, there & known)
        if self.new.content:
            near = self._profiles(histories) @ self._unit_content[new].T
            scores = scores + self.new.content * standard(near, there)
        best, order = scores.masked_fill(~there, -torch.inf).topk(min(most, len(new)), dim=1)
        found: NDArray[np.int64] = torch.where(best == -torch.inf, -1, new[order]).cpu().numpy()
        return found

    @cached_property
    def _unit_content(self) -> Tensor:
        """Content of items and of the empty place, each of length 1."""
        return functional.normalize(self.items.content, dim=1)

    def _profiles(self, histories: Sequence[NDArray[np.int64]]) -> Tensor:
        """Sum the content of the latest items of histories, recent ones first, [B, D]."""
        padded, lengths = pad(histories, self.model.shape.length, len(self.items))
        age = lengths[:, None] - 1 - torch.arange(padded.shape[1])
        weights = torch.where(age >= 0, RECENCY ** age.clamp(min=0).float(), 0).to(self._device)
        return torch.einsum("bt,btd->bd", weights, self._unit_content[padded.to(self._device)])


def standard(values: Tensor, there: Tensor) -> Tensor:
    """Centre the values of each row that are there, in standard deviations; 0 for the others, as for the mean."""
    count = there.sum(1, keepdim=True).clamp(min=1)
    kept = torch.where(there, values, 0)
    centred = torch.where(there, kept - kept.sum(1, keepdim=True) / count, 0)
    deviation = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=1e-6)


def _unit_range(values: Tensor, there: Tensor) -> Tensor:
    """Scale the values of each row that are there to 0 up to less than 1, float64."""
    low = values.masked_fill(~there, torch.inf).amin(1, keepdim=True)
    high = values.masked_fill(~there, -torch.inf).amax(1, keepdim=True)
    width = (high - low).double()
    width = torch.where((width > 0) & width.isfinite(), width, 1)
    return torch.where(there, (values - low).double() / width * 0.99, 0)


def _top(scores: Tensor, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    best, places = scores.topk(min(top_k, scores.shape[1]), dim=1)
    return _arrays(places, best)


def _arrays(places: Tensor, scores: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    found: NDArray[np.int64] = torch.where(scores == -torch.inf, -1, places).cpu().numpy()
    return found, scores.cpu().numpy()


def fuse(
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]], top_k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Join lists by reciprocal rank fusion (Cormack, Clarke and Büttcher 2009); the first list breaks ties."""
    joined = np.concatenate([places for places, _ in parts], 1)
    points = np.concatenate([
        np.broadcast_to(1 / (RRF_K + 1 + np.arange(places.shape[1])), places.shape) for places, _ in parts
    ], 1)  # fmt: skip
    order = np.argsort(joined, axis=1, kind="stable")
    own, worth = np.take_along_axis(joined, order, 1), np.take_along_axis(points, order, 1)
    is_first = np.ones(own.shape, bool)
    is_first[:, 1:] = own[:, 1:] != own[:, :-1]
    totals = np.add.reduceat(worth.ravel(), np.flatnonzero(is_first.ravel()))
    sums = np.full(own.shape, -np.inf)
    sums[is_first] = totals
    sums[own < 0] = -np.inf
    best = np.lexsort((order, -sums), axis=1)[:, :top_k]
    sums = np.take_along_axis(sums, best, 1).astype(np.float32)
    return np.where(np.isneginf(sums), -1, np.take_along_axis(own, best, 1)), sums


def with_share(
    places: NDArray[np.int64],
    scores: NDArray[np.float32],
    new_order: NDArray[np.int64],
    is_new: NDArray[np.bool_],
    share: float,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Give new items at least a share of the first n slots, for every n, and of the rest keep the order.

    Returns:
        places, scores of the same width (an added item has the score of the slot above it), and which were added.
    """
    found, worth = np.full_like(places, -1), np.full_like(scores, -np.inf)
    added = np.zeros(places.shape, bool)
    for row in range(len(places)):
        rest = [one for one in places[row].tolist() if one >= 0]
        fresh = [one for one in new_order[row].tolist() if one >= 0]
        own = dict(zip(places[row].tolist(), scores[row].tolist(), strict=True))
        taken: set[int] = set()
        count = 0
        for slot in range(places.shape[1]):
            while rest and rest[0] in taken:
                rest.pop(0)
            while fresh and fresh[0] in taken:
                fresh.pop(0)
            is_due = count < int(share * (slot + 1) + 1e-9)
            added[row, slot] = bool(fresh) and is_due
            if not (source := fresh if added[row, slot] else rest):
                break
            item = source.pop(0)
            taken.add(item)
            count += bool(is_new[item])
            above = worth[row, slot - 1] if slot else scores[row, 0]
            found[row, slot], worth[row, slot] = item, above if added[row, slot] else own[item]
    return found, worth, added

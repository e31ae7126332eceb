"""Lists of candidates from a sequence model: by the dense head, by decoded codes, by both; and a share of new items.

By `both` the score is that of the dense head plus weights times three more: neighbours by shared users of the items of
a history, the cosine with its content, log P of decoded IDs; each in standard deviations. That of a new item, of which
nobody's rows tell, is a weight times its score among new items. Weights are chosen on held-out items and may be 0.

A new item is one that no training row has. The dense head scores it by its content tower. No decoder was trained on its
codes, so that it is never ranked by the probability of its whole ID: among new items the order is the dense score plus
a weight times the log probability of their first codes, plus a weight times their cosine with the content of the
history, recent items first; each in standard deviations, and the weights may be 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from coldstart.core.neighbours import RECENCY, histories_matrix
from coldstart.semantic_ids.decode import BEAM, CodeDecoder, TrieTensors, beam, prefix_log_p
from coldstart.semantic_ids.sequence_model import ItemTensors, SequenceModel, pad

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Channel = Literal["dense", "codes", "both"]
CHANNELS: tuple[Channel, ...] = ("dense", "codes", "both")
NEIGHBOURS = 200
"""Most neighbours that are kept of an item."""
_BLOCK = 1 << 21  # scores in memory at a time


@dataclass(frozen=True)
class Lists:
    """Lists of B histories, best first.

    Attributes:
        places: of items, int64 [B, k], -1 for an empty slot; scores: float32, -inf there. By `dense` the score of that
            head, by `codes` log P, by `both` the weighted sum.
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


@dataclass(frozen=True)
class Mix:
    """Weights in `both`.

    Attributes:
        neighbours, content, codes: beside the dense score's of 1, for items that have training rows.
        new: of the score among new items.
    """

    neighbours: float = 0.0
    content: float = 0.0
    codes: float = 0.0
    new: float = 1.0


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
        neighbours: csr_matrix | None = None,
        mix: Mix = Mix(),
    ) -> None:
        """Build the vectors of all items.

        Args:
            neighbours: weights from items to items, csr [N, N]; mix: weights of `both`.
            tie_seed: items of one ID in random order, for measures of codes alone; None: by their dense scores.
            decoder: what IDs are decoded by; None: the model's own head of codes.
        """
        self.model, self.items, self.is_new, self.trie, self.new = model.eval(), items, is_new, trie, new
        self.decoder, self.neighbours, self.mix = decoder, neighbours, mix
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
        may = self._may(len(histories), allowed, seen)
        dense = self.model.dense_query(states) @ self._vectors.T
        if channel == "codes" and self.trie is not None:
            found = self._by_codes(histories, states, dense.masked_fill(~may, -torch.inf), may & ~self._new, top_k)
        elif channel == "both":
            terms = self._terms(histories, states, dense, may, self.mix)
            found = _top(mixed(terms, self.mix).masked_fill(~may, -torch.inf), top_k)
        else:
            found = _top(dense.masked_fill(~may, -torch.inf), top_k)
        places, scores = found
        added = np.zeros(places.shape, bool)
        if cold_share > 0 and self.is_new.any():
            order = self._new_order(histories, states, dense, may, places.shape[1])
            places, scores, added = with_share(places, scores, order, self.is_new, cold_share)
        return Lists(places, scores, added)

    def _may(self, count: int, allowed: NDArray[np.bool_] | None, seen: Sequence[NDArray[np.int64]]) -> Tensor:
        """Mark what may be listed, bool [B, N]."""
        may = torch.ones(count, len(self.items), dtype=torch.bool, device=self._device)
        if allowed is not None:
            may &= torch.from_numpy(allowed).to(self._device)
        rows = np.repeat(np.arange(len(seen)), [len(own) for own in seen])
        if len(rows):
            columns = np.concatenate([np.asarray(own, np.int64) for own in seen])
            may[torch.from_numpy(rows).to(self._device), torch.from_numpy(columns).to(self._device)] = False
        return may

    def _terms(
        self, histories: Sequence[NDArray[np.int64]], states: Tensor, dense: Tensor, may: Tensor, wanted: Mix
    ) -> list[Tensor | None]:
        """Compute what `both` adds up, [B, N] each in standard deviations; None where the weight is 0.

        Over all items with rows, or all new ones, whatever may be listed, so that a filter does not change their order.
        """
        warm = (~self._new).expand_as(may)
        near = content = codes = None
        if wanted.neighbours and self.neighbours is not None:
            profiles = histories_matrix(histories, len(self.items), RECENCY)
            found = np.asarray((profiles @ self.neighbours).todense(), np.float32)
            near = standard(torch.from_numpy(found).to(self._device), warm)
        if wanted.content and self.model.shape.content:
            content = standard(self._profiles(histories) @ self._unit_content[: len(self.items)].T, warm)
        if wanted.codes and self.trie is not None:
            ranks, log_p = self._decode(histories, states, may & ~self._new, BEAM)
            there = log_p > -torch.inf
            least = log_p.masked_fill(~there, torch.inf).amin(1, keepdim=True)
            over = torch.where(there, log_p - least, 0)  # of what the beam has not found: no more than its last
            over = torch.cat([over, torch.zeros_like(over[:, :1])], 1)
            codes = standard(over.gather(1, ranks), warm)
        new = None
        if wanted.new and self.is_new.any():
            new = torch.zeros_like(dense)
            scores = self._new_scores(histories, states, dense)
            new[:, self._new] = standard(scores, torch.ones_like(scores, dtype=torch.bool))
        return [standard(dense, warm), near, content, codes, new]

    def _decode(
        self, histories: Sequence[NDArray[np.int64]], states: Tensor, may: Tensor, width: int
    ) -> tuple[Tensor, Tensor]:
        """Decode IDs: rank of each item's among them, int64 [B, N], and log P by rank, [B, W]; W: was not found."""
        assert self.trie is not None
        if self.decoder is None:
            nodes, log_p = beam(self.model, self.trie, states, may, width)
        else:
            nodes, log_p = self.decoder.beam(histories, self.trie, may, width)
        none, found = self.trie.leaves, nodes.shape[1]
        rank_of = torch.full((len(states), none + 1), found, dtype=torch.int64, device=self._device)
        ranks = torch.arange(found, device=self._device).expand_as(nodes)
        rank_of.scatter_(1, torch.where(nodes < 0, none, nodes), ranks)
        rank_of[:, none] = found
        ranks = rank_of[:, torch.where(self.trie.leaf_of < 0, none, self.trie.leaf_of)]
        return ranks.masked_fill(~may, found), log_p

    @torch.no_grad()
    def pool(
        self, histories: Sequence[NDArray[np.int64]], targets: NDArray[np.int64], allowed: NDArray[np.bool_], most: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the terms of `both` for the `most` best items by each of them and the target of each history.

        Returns:
            places, int64 [B, P], each once and -1 for empty slots; terms, [B, P, 5], 0 where one is not known; the
            target's slot, int64 [B].
        """
        step = max(1, _BLOCK // max(1, len(self.items)))
        if len(histories) > step:
            parts = [
                self.pool(histories[start : start + step], targets[start : start + step], allowed, most)
                for start in range(0, len(histories), step)
            ]
            return (
                torch.cat([one[0] for one in parts]),
                torch.cat([one[1] for one in parts]),
                torch.cat([one[2] for one in parts]),
            )
        states = self.model.last_states(self.items, histories)
        may = self._may(len(histories), allowed, histories)
        dense = self.model.dense_query(states) @ self._vectors.T
        known = self._terms(histories, states, dense, may, Mix(1, 1, 1, 1))
        right = torch.from_numpy(targets).to(self._device)[:, None]
        width = min(most, dense.shape[1])
        chosen = [right, *(one.masked_fill(~may, -torch.inf).topk(width)[1] for one in known if one is not None)]
        places = torch.cat(chosen, 1)
        places = places.sort(1)[0]
        again = torch.zeros_like(places, dtype=torch.bool)
        again[:, 1:] = places[:, 1:] == places[:, :-1]
        values = torch.stack([torch.zeros_like(dense) if one is None else one for one in known], 2)
        terms = values.gather(1, places[..., None].expand(-1, -1, len(known)))
        again |= ~may.gather(1, places)
        return places.masked_fill(again, -1), terms, (places == right).int().argmax(1)

    def _by_codes(
        self, histories: Sequence[NDArray[np.int64]], states: Tensor, dense: Tensor, may: Tensor, top_k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Decode IDs; items that share one stand together, in the order of their dense scores, a slot each."""
        ranks, log_p = self._decode(histories, states, may, max(BEAM, top_k))
        last = log_p.shape[1]
        is_found = ranks < last
        order = dense if self._chance is None else self._chance.expand_as(dense)
        within = _unit_range(order, is_found)  # decides among items of one ID alone: ranks of IDs differ by 1
        keys = (within - ranks).masked_fill(~is_found, -torch.inf)
        best, places = keys.topk(min(top_k, keys.shape[1]), dim=1)
        ranks = ranks.gather(1, places).clamp(max=last - 1)
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

    def _new_order(
        self, histories: Sequence[NDArray[np.int64]], states: Tensor, dense: Tensor, may: Tensor, most: int
    ) -> NDArray[np.int64]:
        """Order the new items that may be listed: int64 [B, at most `most`], -1 for empty slots."""
        new = torch.nonzero(self._new)[:, 0]
        scores = self._new_scores(histories, states, dense).masked_fill(~may[:, new], -torch.inf)
        best, order = scores.topk(min(most, len(new)), dim=1)
        found: NDArray[np.int64] = torch.where(best == -torch.inf, -1, new[order]).cpu().numpy()
        return found

    def _new_scores(self, histories: Sequence[NDArray[np.int64]], states: Tensor, dense: Tensor) -> Tensor:
        """Score new items among themselves, whatever may be listed, [B, new items]; see `NewItems`."""
        new = torch.nonzero(self._new)[:, 0]
        scores = dense[:, new]
        there = torch.ones_like(scores, dtype=torch.bool)
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
        return scores

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


def mixed(terms: Sequence[Tensor | None], mix: Mix) -> Tensor:
    """Add up the terms of `both`: dense, neighbours, content, codes, score among new items."""
    total = terms[0]
    assert total is not None
    for weight, term in zip(astuple(mix), terms[1:], strict=True):
        if weight and term is not None:
            total = total + weight * term
    return total


def _unit_range(values: Tensor, there: Tensor) -> Tensor:
    """Scale the values of each row that are there to 0 up to less than 1, float32: MPS has no wider numbers."""
    low = values.masked_fill(~there, torch.inf).amin(1, keepdim=True)
    high = values.masked_fill(~there, -torch.inf).amax(1, keepdim=True)
    width = high - low
    width = torch.where((width > 0) & width.isfinite(), width, 1)
    return torch.where(there, (values - low) / width * 0.99, 0)


def _top(scores: Tensor, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    best, places = scores.topk(min(top_k, scores.shape[1]), dim=1)
    return _arrays(places, best)


def _arrays(places: Tensor, scores: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    found: NDArray[np.int64] = torch.where(scores == -torch.inf, -1, places).cpu().numpy()
    return found, scores.cpu().numpy()


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

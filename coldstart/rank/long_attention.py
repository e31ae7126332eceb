"""Encode a whole history for a ranker: groups of actions as keys, the latest actions as queries, read by candidates.

LONGER (Chai et al., RecSys 2025): actions are merged by a projection, four by default; the latest actions and learnt
global tokens attend to the whole merged sequence, then to one another, each to what came before it. Keys and values of
the user are made once a request; each candidate is one more query against them, so that 500 candidates cost 500 queries
and not 500 histories.

Attention to what came before runs by one of three back ends: `sdpa`, PyTorch's own, everywhere; `flex`, which skips the
blocks of a mask that are empty, on CUDA; `linear`, whose cost grows with the length alone, and which has no windows.
The kernels of flash-linear-attention (`fla-core`) are not used: they need Triton and CUDA, and only the latest actions
attend to one another here, which is too little work to gain from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

_DAY_S = 86_400.0
_SHARPNESS = 1.5
"""Scale of queries and keys at first: among 7,500 groups the softmax has to find five."""


@dataclass(frozen=True)
class Mask:
    """Actions of packed sequences that an action may read: those of its own user, up to itself, within a window.

    Attributes:
        users: number of the user of each action, int [B, L]; seconds: its time, int64 [B, L], rising for a user.
        window_s: furthest age that is read; None for any.
    """

    users: Tensor
    seconds: Tensor
    window_s: int | None = None

    def dense(self) -> Tensor:
        """Build the mask, bool [B, 1, L, L]."""
        places = torch.arange(self.users.shape[1], device=self.users.device)
        kept = (places[:, None] >= places) & (self.users[:, :, None] == self.users[:, None, :])
        if self.window_s is not None:
            kept = kept & (self.seconds[:, :, None] - self.seconds[:, None, :] <= self.window_s)
        return kept[:, None]

    def blocks(self) -> Any:
        """Build the block mask of flex attention."""
        from torch.nn.attention.flex_attention import create_block_mask

        users, seconds, window_s = self.users, self.seconds, self.window_s

        def reads(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            kept = (query >= key) & (users[batch, query] == users[batch, key])
            if window_s is not None:
                kept = kept & (seconds[batch, query] - seconds[batch, key] <= window_s)
            return kept

        length = users.shape[1]
        return create_block_mask(reads, users.shape[0], None, length, length, device=str(users.device))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask, backend: str = "auto") -> Tensor:
    """Attend over packed sequences, [B, heads, L, d] each.

    Args:
        backend: `sdpa`, `flex`, `linear`, or `auto`: `flex` on CUDA, elsewhere `sdpa`. `flex` has no gradient on a CPU.

    Raises:
        ValueError: `linear` with a window.
    """
    if backend == "auto":
        backend = "flex" if query.is_cuda else "sdpa"
    if backend == "flex":
        found: Tensor = _flex(query.is_cuda)(query, key, value, block_mask=mask.blocks())
        return found
    if backend == "linear":
        if mask.window_s is not None:
            raise ValueError("linear attention sums over all that came before, and has no window")
        return linear_attention(query, key, value, mask.users)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask.dense())


@cache
def _flex(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention


def linear_attention(query: Tensor, key: Tensor, value: Tensor, users: Tensor) -> Tensor:
    """Attend with weights phi(q) phi(k), phi = elu + 1, to all that came before of the same user (Katharopoulos et al.,
    ICML 2020), by cumulative sums: [B, heads, L, d] each, `users` int [B, L], those of a user together.

    Holds L d^2 numbers a head.
    """
    query, key = F.elu(query) + 1, F.elu(key) + 1
    outer = torch.einsum("bhlk,bhlv->bhlkv", key, value).double().cumsum(2)  # differences of float32 sums would drift
    norms = key.double().cumsum(2)
    fresh = torch.ones_like(users, dtype=torch.bool)
    fresh[:, 1:] = users[:, 1:] != users[:, :-1]
    places = torch.arange(users.shape[1], device=users.device)
    before = torch.where(fresh, places, 0).cummax(1).values - 1  # last action of the user before
    at = before.clamp(min=0)[:, None, :]
    there = (before >= 0)[:, None, :, None]
    norms = norms - there * norms.gather(2, at[..., None].expand_as(norms))
    outer = outer - there[..., None] * outer.gather(2, at[..., None, None].expand_as(outer))
    weighed = torch.einsum("bhlk,bhlkv->bhlv", query.double(), outer)
    return (weighed / torch.einsum("bhlk,bhlk->bhl", query.double(), norms)[..., None]).to(value.dtype)


@dataclass(frozen=True)
class Keys:
    """Keys and values of B users, made once a request.

    Attributes:
        key, value: [B, heads, M, d]; hidden: places that hold nothing, bool [B, M].
        summary: of the whole history, [B, dim].
    """

    key: Tensor
    value: Tensor
    hidden: Tensor
    summary: Tensor

    def size_bytes(self) -> int:
        """Bytes of keys and values."""
        return sum(part.numel() * part.element_size() for part in (self.key, self.value))


class _Block(nn.Module):
    """Pre-norm attention of queries to a context, and a perceptron."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.context_norm, self.last_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.query, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        with torch.no_grad():  # queries and keys start equal, so that what is alike is read from the first step on
            self.query.weight.copy_(nn.init.orthogonal_(torch.empty(dim, dim), _SHARPNESS))
            self.key_value.weight.copy_(torch.cat([self.query.weight, torch.eye(dim)]))
            self.out.weight.copy_(torch.eye(dim))
            for layer in (self.query, self.key_value, self.out):
                layer.bias.zero_()

    def keys(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Make keys and values of a context, [B, heads, M, d] each."""
        key, value = self.key_value(self.context_norm(context)).chunk(2, dim=-1)
        return _split(key, self.heads), _split(value, self.heads)

    def forward(self, tokens: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
        """Read keys that are not hidden, bool [B, M]: tokens, [B, Q, dim]."""
        query = _split(self.query(self.norm(tokens)), self.heads)
        return self._update(tokens, F.scaled_dot_product_attention(query, key, value, ~hidden[:, None, None]))

    def causal(self, tokens: Tensor, mask: Mask, backend: str) -> Tensor:
        """Read the tokens before."""
        query = _split(self.query(self.norm(tokens)), self.heads)
        return self._update(tokens, attend(query, *self.keys(tokens), mask, backend))

    def _update(self, tokens: Tensor, found: Tensor) -> Tensor:
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        updated: Tensor = tokens + self.mlp(self.last_norm(tokens))
        return updated


def _split(values: Tensor, heads: int) -> Tensor:
    return values.reshape(*values.shape[:2], heads, -1).transpose(1, 2)


class LongAttention(nn.Module):
    """Reader of whole histories by candidates; items are given as vectors of the width of the network.

    Args:
        events: kinds of actions; merged: actions of a key; latest: actions that are queries; tokens: global ones.
        window_s: furthest age that the latest actions read of one another; backend: as for `attend`.
    """

    def __init__(
        self,
        events: int,
        *,
        dim: int = 32,
        heads: int = 2,
        latest: int = 100,
        tokens: int = 4,
        merged: int = 4,
        window_s: int | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.latest, self.merged, self.window_s, self.backend = latest, merged, window_s, backend
        self.event = nn.Embedding(events, dim)
        self.age = nn.Linear(2, dim)
        self.merge = nn.Linear(merged * dim, dim)
        self.tokens = nn.Parameter(0.05 * torch.randn(tokens, dim))
        self.cross, self.own, self.last = (_Block(dim, heads) for _ in range(3))
        with torch.no_grad():  # an action starts as its item, and a group as the mean of its actions
            self.merge.weight.copy_(torch.eye(dim).repeat(1, merged) / merged)
            for layer in (self.merge, self.age):
                layer.bias.zero_()
            self.age.weight.mul_(0.1)
            self.event.weight.mul_(0.02)

    def encode(self, items: Tensor, events: Tensor, ages_s: Tensor, present: Tensor) -> Keys:
        """Make the keys and values of histories that end at the right.

        Args:
            items: vectors of the actions' items, [B, N, dim]; events: int64 [B, N]; ages_s: at the request, [B, N].
            present: places that hold an action, bool [B, N].
        """
        days = torch.log1p(ages_s.clamp(min=0) / _DAY_S).to(items.dtype)
        actions = items + self.event(events) + self.age(torch.stack([days, days.square()], -1) / 8)
        actions = actions * present[..., None]
        recent, recent_there = actions[:, -self.latest :], present[:, -self.latest :]
        if missing := -actions.shape[1] % self.merged:  # before the first action, so that the latest are one group
            actions, present = F.pad(actions, (0, 0, missing, 0)), F.pad(present, (missing, 0))
        merged = self.merge(actions.reshape(len(actions), -1, self.merged * actions.shape[2]))
        merged_there = present.reshape(len(present), -1, self.merged).any(-1)
        globals_ = self.tokens.expand(len(actions), -1, -1)
        tokens = torch.cat([recent, globals_], 1)  # behind the actions, so that they read all of them
        there = F.pad(recent_there, (0, len(self.tokens)), value=True)
        hidden = ~torch.cat([there, merged_there], 1)  # a global token is always there: no query reads nothing
        tokens = self.cross(tokens, *self.cross.keys(torch.cat([tokens, merged], 1)), hidden)
        times = F.pad(-ages_s[:, -self.latest :].long(), (0, len(self.tokens)))
        tokens = self.own.causal(tokens, Mask((~there).long(), times, self.window_s), self.backend)
        summary = tokens[:, -len(self.tokens) :].mean(1)
        return Keys(*self.last.keys(torch.cat([tokens, merged], 1)), hidden, summary)

    def read(self, keys: Keys, candidates: Tensor) -> Tensor:
        """Read the histories by candidates, vectors [B, C, dim]: [B, C, 3 dim], what was found, its product with the
        candidate, and the summary of the history."""
        found = self.last(candidates, keys.key, keys.value, keys.hidden)
        return torch.cat([found, found * candidates, keys.summary[:, None].expand_as(found)], -1)

"""Score candidates by attention of the candidate over a user's actions, beside the plain features.

Deep Interest Network (Zhou et al., 2018, arXiv 1706.06978) with scaled dot-product attention in place of its own unit:
the candidate is the query, the latest actions of the history are keys and values, and, where histories are long, the
actions that search over the whole of one found for the candidate (as in SIM, Pi et al., CIKM 2020, and TWIN, Chang et
al., KDD 2023). It learns a vector for each item, creator, category and event, and for tiers of similarity and age of
found actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from coldstart.rank.model import Sequences

_BATCH, _LEAST_BATCH, _STEPS = 512, 32, 64
"""Most and fewest rows of a training step, and steps of a pass at least where there are enough rows."""
PREDICTED = 4_096
"""Rows of a block of prediction."""
_HEADS = 2
_TIERS, _AGES = 12, 13
"""Tiers of similarity and ages of found actions, as of `FoundActions`."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network, which its weights are built from; `found`: actions of search that it reads, 0 for none."""

    items: int
    attributes: tuple[int, ...]
    events: int
    features: int
    outputs: int
    dim: int
    length: int
    found: int = 0


class ItemVectors(nn.Module):
    """Learnt vectors of items: the sum of those of the item and of its creator, category, … ."""

    def __init__(self, items: int, attributes: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.size = items
        self.item = nn.Embedding(items + 1, dim, padding_idx=0)
        self.attributes = nn.ModuleList(nn.Embedding(size + 1, dim, padding_idx=0) for size in attributes)

    def forward(self, places: Tensor, codes: Tensor) -> Tensor:
        """Vectors of items: places from 1, 0 for none; `codes`: attributes of every place, int64 [I + 1, C].

        An item that came after the fit has those of its attributes alone.
        """
        found: Tensor = self.item(torch.where(places <= self.size, places, 0))
        own = codes[places]
        for column, table in enumerate(self.attributes):
            found = found + table(own[..., column])
        return found


class TargetAttention(nn.Module):
    """Network: attention of the candidate over its user's actions, and a perceptron over it and the plain features.

    Where all rows are of one history, as in a request, its keys and values are made once.
    """

    codes: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        dim = shape.dim
        self.shape = shape
        self.items = ItemVectors(shape.items, shape.attributes, dim)
        self.event = nn.Embedding(shape.events + 1, dim)
        self.place = nn.Embedding(shape.length + 1, dim)
        tables = [self.items.item, *self.items.attributes, self.event, self.place]
        initialise(tables)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.nothing = nn.Parameter(torch.zeros(1, 1, dim))
        width = 3 * dim + 2 * shape.features
        self.tower = nn.Sequential(
            nn.Linear(width, 2 * dim), nn.ReLU(), nn.Dropout(0.2), nn.Linear(2 * dim, dim), nn.ReLU(),
            nn.Linear(dim, shape.outputs),
        )  # fmt: skip
        if shape.found:
            self.tier, self.age = nn.Embedding(_TIERS, dim), nn.Embedding(_AGES, dim)
            initialise([self.tier, self.age])
        self.register_buffer("codes", torch.zeros(0, len(shape.attributes), dtype=torch.int64), persistent=False)

    def prepare(self, sequences: Sequences, device: str) -> None:
        """Set the attributes of the items of now."""
        self.codes = attribute_codes(sequences.attributes, self.shape.attributes).to(device)

    def steps(self, sequences: Sequences, rows: NDArray[np.int64], draw: np.random.Generator) -> list[NDArray[Any]]:
        """Cut rows into batches of a training pass, in random order."""
        order, size = draw.permutation(rows), batch_size(len(rows))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def blocks(self, sequences: Sequences, rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Cut rows into blocks of bounded size for prediction."""
        return [rows[start : start + PREDICTED] for start in range(0, len(rows), PREDICTED)]

    def gather(self, sequences: Sequences, rows: NDArray[Any], device: str) -> dict[str, Tensor]:
        """Read candidates and histories of some rows; a history that all share stands once."""
        own = sequences.rows[rows]
        if len(own) > 1 and (own == own[0]).all():
            own = own[:1]
        length = self.shape.length
        events = np.minimum(sequences.events[own, -length:], self.shape.events)
        found = {
            "items": item_places(sequences.items[rows]),
            "history": item_places(sequences.histories[own, -length:]),
            "events": torch.from_numpy(events.astype(np.int64)),
        }
        if self.shape.found and sequences.found is not None:
            some = sequences.found.where(rows)
            found["found"] = item_places(some.items)
            kinds = np.minimum(some.events.astype(np.int64), self.shape.events)
            found["found_of"] = torch.from_numpy((kinds * _TIERS + some.tiers) * _AGES + some.ages)
        return {name: one.to(device) for name, one in found.items()}

    def forward(self, batch: Mapping[str, Tensor], plain: Tensor) -> Tensor:
        """Logits, float32 [rows, outputs]."""
        target = self.items(batch["items"], self.codes)
        history = batch["history"]
        length = history.shape[1]
        ages = torch.arange(length, 0, -1, device=history.device)
        keys = self.items(history, self.codes) + self.event(batch["events"]) + self.place(ages)[None]
        present = history > 0
        count, dim = history.shape[0], self.shape.dim
        keys = torch.cat([self.nothing.expand(count, 1, dim), keys], 1)  # what a user without a history attends to
        present = torch.cat([torch.ones(count, 1, dtype=torch.bool, device=present.device), present], 1)
        query, key, value = self.query(target), self.key(keys), self.value(keys)
        if "found" in batch:
            read = self._with_found(query, key, value, present, batch)
        else:
            shared = count == 1
            queries = query[None] if shared else query[:, None]
            read = F.scaled_dot_product_attention(
                _split(queries), _split(key), _split(value), attn_mask=present[:, None, None, :]
            )
            read = read.transpose(1, 2).reshape(len(target), dim)
        out: Tensor = self.tower(torch.cat([target, read, target * read, plain], 1))
        return out

    def _with_found(
        self, query: Tensor, key: Tensor, value: Tensor, present: Tensor, batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Attend over the latest actions, which rows may share, and the found ones, which are of each row."""
        found, dim = batch["found"], self.shape.dim
        width = dim // _HEADS
        own_key, own_value = self._found_keys(found, batch["found_of"])
        query = query.view(-1, _HEADS, width) * width**-0.5
        latest = _split(key), _split(value)  # [H, heads, L, d]
        shared = len(key) == 1 and len(query) > 1
        if shared:
            near = torch.einsum("rhd,hld->rhl", query, latest[0][0])
        else:
            near = torch.einsum("rhd,rhld->rhl", query, latest[0])
        near = near.masked_fill(~present[:, None, :], -torch.inf)
        rows = len(query)
        far = torch.einsum("rhd,rkhd->rhk", query, own_key.view(rows, -1, _HEADS, width))
        far = far.masked_fill((found == 0)[:, None, :], -torch.inf)
        weights = torch.cat([near, far], 2).softmax(2)
        first, second = weights[:, :, : near.shape[2]], weights[:, :, near.shape[2] :]
        if shared:
            read = torch.einsum("rhl,hld->rhd", first, latest[1][0])
        else:
            read = torch.einsum("rhl,rhld->rhd", first, latest[1])
        read = read + torch.einsum("rhk,rkhd->rhd", second, own_value.view(rows, -1, _HEADS, width))
        return read.reshape(rows, dim)

    def _found_keys(self, found: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of found actions, [rows, K, dim] each: sums of those of the item and of event, tier and age,
        each made once."""
        weight = torch.cat([self.key.weight, self.value.weight])
        bias = torch.cat([self.key.bias, self.value.bias])
        items, place = torch.unique(found, return_inverse=True)
        of_items = F.linear(self.items(items, self.codes), weight, bias)
        kinds = self.event.weight[:, None, None] + self.tier.weight[:, None] + self.age.weight
        of_kinds = F.linear(kinds.reshape(-1, self.shape.dim), weight)
        key, value = (of_items[place] + of_kinds[of]).chunk(2, dim=-1)
        return key, value


def batch_size(rows: int) -> int:
    """Rows of a training step: few rows are cut smaller, so that a pass takes enough steps."""
    return min(_BATCH, max(_LEAST_BATCH, rows // _STEPS))


def _split(values: Tensor) -> Tensor:
    """Cut vectors [B, L, dim] into heads, [B, heads, L, d]."""
    return values.view(len(values), -1, _HEADS, values.shape[-1] // _HEADS).transpose(1, 2)


def initialise(tables: list[Any]) -> None:
    """Draw small vectors; those of nothing are 0."""
    for table in tables:
        nn.init.normal_(table.weight, std=0.05)
    with torch.no_grad():
        for table in tables:
            if table.padding_idx is not None:
                table.weight[table.padding_idx] = 0


def attribute_codes(attributes: NDArray[np.int32], known: tuple[int, ...]) -> Tensor:
    """Attributes of every item from place 1 on; place 0 is no item, code 0 none, as of one that came after the fit."""
    own = np.where(attributes <= np.array(known, np.int64), attributes, 0)
    return torch.from_numpy(np.pad(own, ((1, 0), (0, 0))).astype(np.int64))


def item_places(items: NDArray[np.int32]) -> Tensor:
    """Places of items from 1, 0 for none."""
    return torch.from_numpy(items.astype(np.int64) + 1)

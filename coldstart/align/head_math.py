"""Arrays and formulas of heads: pairs to train on, ranks of pairs, and heads over standardised vectors.

Numbers of a vector differ in spread, and one that hardly varies is trained late. So training sees each number less its
mean and by its deviation, both of the training part alone; a head's first step is linear, and takes both in again.
Knows no tables and no encoders.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from coldstart.encoders._heads import Head, Heads, JoinedHeads
from coldstart.errors import ColdstartError

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.integer[Any]]


TOP = 10
_TESTED = 8192  # items, at most: recall among more costs more than an epoch
_BLOCK = 8192
_LEAST = 1e-2  # of the mean deviation: what varies less is taken to vary so much


@dataclass(frozen=True)
class Pairs:
    """Items with one or more pictures and one or more texts each; rows may stand in any order.

    Attributes:
        images: float16 or float32 `[N, Di]` of length one: pictures or frames, as a frozen encoder gave them.
        image_items: int `[N]`: the item of each, 0 to I - 1; -1 for a row that belongs to none.
        texts: float16 or float32 `[M, Dt]` of length one: titles, descriptions, transcripts.
        text_items: int `[M]`, as `image_items`.
        text_weights: float32 `[M]`, at least 0: how often a text is drawn, against the other texts of its item.
        groups: int `[I]`: items of one group are no negatives of each other (one product, one title, one picture).
        image_weights: float32 `[N]`, as `text_weights`; None: all alike.

    Raises:
        ColdstartError: lengths do not fit, or an item has no picture or no text that could be drawn.
    """

    images: Floats
    image_items: Places
    texts: Floats
    text_items: Places
    text_weights: NDArray[np.float32]
    groups: Places
    image_weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        weights = self.image_weights
        lengths = {
            "images": (len(self.images), len(self.image_items), len(self.images) if weights is None else len(weights)),
            "texts": (len(self.texts), len(self.text_items), len(self.text_weights)),
        }
        for name, found in lengths.items():
            if len(set(found)) > 1:
                raise ColdstartError(f"{name}: {found[0]} vectors, {found[1]} items and {found[2]} weights do not fit")
        for name, rows in (("picture", self.image_rows()), ("text", self.text_rows())):
            if len(rows.totals) > len(self.groups):
                raise ColdstartError(f"{name}s name item {len(rows.totals) - 1} of {len(self.groups)}")
            bare = np.flatnonzero(rows.padded(len(self.groups)) <= 0)
            if len(bare):
                raise ColdstartError(f"{len(bare)} items have no {name} of a weight above 0, the first at {bare[0]}")

    def __len__(self) -> int:
        return len(self.groups)

    def image_rows(self) -> Rows:
        """Index the pictures by item."""
        return Rows(self.image_items, self.image_weights)

    def text_rows(self) -> Rows:
        """Index the texts by item."""
        return Rows(self.text_items, self.text_weights)

    def take(self, items: Places) -> Pairs:
        """Select items, numbered in this order; the vectors are shared, not copied."""
        numbers = np.full(len(self) + 1, -1, np.int64)  # the last stands for "of no item" before and after
        numbers[items] = np.arange(len(items))
        return replace(
            self,
            image_items=numbers[self.image_items],
            text_items=numbers[self.text_items],
            groups=self.groups[items],
        )

    def digest(self) -> str:
        """Compute the SHA-256 of all arrays, as hexadecimal digits."""
        sha = sha256()
        for name, array in vars(self).items():
            if array is not None:
                sha.update(f"{name} {array.dtype} {array.shape} ".encode())
                sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


class Rows:
    """Rows of each item, to draw from by weight.

    Attributes:
        order: rows that belong to an item, items together, in their order.
        totals: float64: the sum of weights of each item.
    """

    def __init__(self, items: Places, weights: NDArray[np.float32] | None) -> None:
        order = np.argsort(items, kind="stable")
        self.order: NDArray[np.int64] = order[np.searchsorted(items, 0, sorter=order) :]
        weight = np.ones(len(self.order)) if weights is None else weights[self.order].astype(np.float64)
        if len(weight) and not weight.min() >= 0:
            raise ColdstartError(f"a weight of {weight.min()}: weights are at least 0")
        self._items = items[self.order]
        self._weights = weight
        self.totals = np.bincount(self._items, weight).astype(np.float64)
        self._until = np.cumsum(weight)
        self._from = np.concatenate([[0.0], np.cumsum(self.totals)])

    def padded(self, count: int) -> NDArray[np.float64]:
        """Return `totals` of `count` items, 0 for those without rows."""
        return np.pad(self.totals, (0, max(0, count - len(self.totals))))

    def draw(self, items: Places, random: np.random.Generator) -> NDArray[np.int64]:
        """Draw one row of each item `[B]`, by its weight."""
        at = self._from[items] + random.random(len(items)) * self.totals[items]
        found = np.searchsorted(self._until, at, side="right")
        first = np.searchsorted(self._items, items)
        last = np.searchsorted(self._items, items, side="right") - 1
        return self.order[np.clip(found, first, last)]  # sums round: a draw at the very edge stays with its item

    def heaviest(self) -> NDArray[np.int64]:
        """Return the row of each item with the largest weight, the first of equals: int `[I]`."""
        best = np.lexsort((np.arange(len(self.order)), -self._weights, self._items))
        return self.order[best[np.searchsorted(self._items[best], np.arange(len(self.totals)))]]


def recall_of(heads: Heads | JoinedHeads, pairs: Pairs, device: torch.device) -> float:
    """Compute recall@10, the mean of image to text and text to image; see `ranks_of`."""
    return float((ranks_of(heads, pairs, device) <= TOP).float().mean())


def mrr_of(heads: Heads | JoinedHeads, pairs: Pairs, device: torch.device) -> float:
    """Compute the mean reciprocal rank, both ways.

    It still tells heads apart where ten of a few items are nearly all of them.
    """
    return float((1 / ranks_of(heads, pairs, device)).mean())


def ranks_of(heads: Heads | JoinedHeads, pairs: Pairs, device: torch.device) -> torch.Tensor:
    """Rank the nearest right answer to each picture among texts, then to each text among pictures.

    Ranks are float32 `[2 I]`, from 1.

    An item stands for itself with the mean of its mapped pictures and its heaviest text (the first of equals). Any item
    of the same group counts as found; what is as near as the right one counts as nearer, so that heads that map all to
    one point find nothing. Of more than 8,192 items, a regular sample is ranked.
    """
    items = np.arange(0, len(pairs), -(-len(pairs) // _TESTED))
    pairs = pairs.take(items)
    rows = pairs.image_rows().order
    owners = torch.from_numpy(pairs.image_items[rows].astype(np.int64)).to(device)
    with torch.no_grad():
        image = torch.zeros(len(pairs), heads.dim, device=device)
        for start in range(0, len(rows), _TESTED):
            part = slice(start, start + _TESTED)
            image.index_add_(
                0, owners[part], normalize(heads.image(to_tensor(pairs.images, rows[part], device)), dim=1)
            )
        image = normalize(image, dim=1)
        text = normalize(heads.text(to_tensor(pairs.texts, pairs.text_rows().heaviest(), device)), dim=1)
        groups = torch.from_numpy(np.asarray(pairs.groups, np.int64)).to(device)
        return torch.cat([_ranks(image, text, groups), _ranks(text, image, groups)])


def _ranks(queries: torch.Tensor, gallery: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    found = []
    for start in range(0, len(queries), 1024):
        cosines = queries[start : start + 1024] @ gallery.T
        right = groups[start : start + 1024, None] == groups[None]
        best = cosines.masked_fill(~right, -2.0).amax(1, keepdim=True)
        found.append(((cosines >= best) & ~right).sum(1) + 1)
    return torch.cat(found).float()


def to_tensor(every: Floats, rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Copy rows of an array to a device, float32."""
    return torch.from_numpy(every[rows]).to(device, torch.float32)


@dataclass(frozen=True)
class Standardisation:
    """Mean and deviation of each number of some vectors, float32 `[D]`.

    Deviations are times the root of D, so that a standardised vector has a length of about one.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, vectors: Floats, rows: Places) -> Standardisation:
        """Compute them over the chosen rows of `[N, D]`."""
        total = torch.zeros(vectors.shape[1], dtype=torch.float64)
        square = torch.zeros_like(total)
        for start in range(0, len(rows), _BLOCK):
            block = torch.from_numpy(vectors[rows[start : start + _BLOCK]]).double()
            total += block.sum(0)
            square += block.square().sum(0)
        mean = total / len(rows)
        spread = (square / len(rows) - mean.square()).clamp(min=0).sqrt()
        least = _LEAST * float(spread.mean()) or 1.0
        return cls(mean.float(), (spread.clamp(min=least) * vectors.shape[1] ** 0.5).float())

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        """Standardise vectors [B, D]."""
        return (vectors - self.mean.to(vectors.device)) / self.deviation.to(vectors.device)


def to_standardised_inputs(heads: Heads, image: Standardisation, text: Standardisation) -> Heads:
    """Copy heads so that they give for a standardised vector what `heads` give for the vector."""
    made = copy.deepcopy(heads)
    for head, standard in ((made.image, image), (made.text, text)):
        _shift(head, standard.mean)
        _stretch(head, standard.deviation)
    return made


def to_plain_inputs(heads: Heads, image: Standardisation, text: Standardisation) -> Heads:
    """Copy heads so that they give for a vector what `heads` give for the standardised one."""
    made = copy.deepcopy(heads)
    for head, standard in ((made.image, image), (made.text, text)):
        _stretch(head, 1 / standard.deviation)
        _shift(head, -standard.mean)
    return made


@torch.no_grad()
def _stretch(head: Head, by: torch.Tensor) -> None:
    for layer in (head.direct, head.inner):
        if layer is not None:
            layer.weight.mul_(by.to(layer.weight.device))


@torch.no_grad()
def _shift(head: Head, by: torch.Tensor) -> None:
    """Take a fixed part of the vector into the biases."""
    if head.direct is not None:
        head.bias.add_(head.direct.weight @ by.to(head.bias.device))
    if head.inner is not None:
        head.inner.bias.add_(head.inner.weight @ by.to(head.inner.bias.device))

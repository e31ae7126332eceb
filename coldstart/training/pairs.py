"""Pairs to learn from: vectors of pictures and texts, and which item each belongs to. Knows no tables, no models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.errors import ColdstartError

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Pairs:
    """I items, each with one or more pictures and one or more texts; rows may stand in any order.

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
        return Rows(self.image_items, self.image_weights)

    def text_rows(self) -> Rows:
        return Rows(self.text_items, self.text_weights)

    def take(self, items: Places) -> Pairs:
        """The same pairs with these items alone, numbered in this order; the vectors are shared, not copied."""
        numbers = np.full(len(self) + 1, -1, np.int64)  # the last stands for "of no item" before and after
        numbers[items] = np.arange(len(items))
        return replace(
            self,
            image_items=numbers[self.image_items],
            text_items=numbers[self.text_items],
            groups=self.groups[items],
        )

    def digest(self) -> str:
        """SHA-256 over all that is in it, as hexadecimal digits."""
        sha = sha256()
        for name, array in vars(self).items():
            if array is not None:
                sha.update(f"{name} {array.dtype} {array.shape} ".encode())
                sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


class Rows:
    """The rows of each item, to draw from by weight.

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
        """`totals` of `count` items, 0 for those without rows."""
        return np.pad(self.totals, (0, max(0, count - len(self.totals))))

    def draw(self, items: Places, random: np.random.Generator) -> NDArray[np.int64]:
        """One row of each item `[B]`, by its weight."""
        at = self._from[items] + random.random(len(items)) * self.totals[items]
        found = np.searchsorted(self._until, at, side="right")
        first = np.searchsorted(self._items, items)
        last = np.searchsorted(self._items, items, side="right") - 1
        return self.order[np.clip(found, first, last)]  # sums round: a draw at the very edge stays with its item

    def heaviest(self) -> NDArray[np.int64]:
        """The row of each item with the largest weight, the first of equals: int `[I]`."""
        best = np.lexsort((np.arange(len(self.order)), -self._weights, self._items))
        return self.order[best[np.searchsorted(self._items[best], np.arange(len(self.totals)))]]

"""Training data of alignment from a workspace: vectors of pictures and texts item by item, and groups of items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.embed.spaces import TextCache
from coldstart.metrics.splits import group_items, near_pairs
from coldstart.store import Store

Meter = Callable[[str, int | None], Any]


@dataclass(frozen=True)
class Features:
    """Vectors of the encoders under the heads.

    Attributes:
        item_ids: of the I items that have a picture and a text.
        keys: of each, from its picture and its texts.
        split: `train`, `valid`, `test` or `seen` of each, as the last fit had it; empty where it came since.
        groups: int64 [I]: items of one group cannot be distinguished.
        copies: int64 [I]: items of one number show the same picture; they are of one group, too.
        images: float16 [N, Di] of length one: pictures, or frames of videos; image_items: the place of each one's item.
        texts: float16 [M, Dt] of length one; text_items: the place of each one's item; text_views: its key in `texts`.
    """

    item_ids: Sequence[str]
    keys: Sequence[str]
    split: Sequence[str]
    groups: NDArray[np.int64]
    copies: NDArray[np.int64]
    images: NDArray[np.float16]
    image_items: NDArray[np.int64]
    texts: NDArray[np.float16]
    text_items: NDArray[np.int64]
    text_views: Sequence[str]

    @classmethod
    def gather(
        cls,
        store: Store,
        keys: Mapping[str, str],
        split: Mapping[str, str],
        *,
        pictures: str,
        texts: Mapping[str, Mapping[str, str]],
        cache: TextCache,
        group_keys: Sequence[Sequence[str]],
        copy_keys: Sequence[Sequence[str]],
        near_duplicates: float | None,
        meter: Meter,
    ) -> Features:
        """Read vectors of pictures, and read or compute those of texts.

        Args:
            keys: of the items to take; they come in the order of their ids.
            split: of those items that the last fit had.
            pictures: table of an image space.
            texts: item -> view -> text.
            group_keys, copy_keys: of each item in that order, as `PairTexts` gives them.
            near_duplicates: cosine of pictures from which on two items are of one group; None compares none.
            meter: makes a progress meter of a name and a total.
        """
        items = sorted(keys)
        images, image_items, pooled = _pictures(store, pictures, items)
        places = [(place, view) for place, item in enumerate(items) for view in texts[item]]
        own = [texts[items[place]][view] for place, view in places]
        near = _near_pairs(pooled, near_duplicates, meter)
        return cls(
            item_ids=items,
            keys=[keys[item] for item in items],
            split=[split.get(item, "") for item in items],
            groups=group_items(group_keys, near),
            copies=group_items(copy_keys, near),
            images=images,
            image_items=image_items,
            texts=_words(own, cache, meter),
            text_items=np.array([place for place, _ in places], np.int64),
            text_views=[view for _, view in places],
        )

    def take(self, places: Sequence[int]) -> Features:
        """Select items, in this order."""
        numbers = np.full(len(self.item_ids), -1, np.int64)
        numbers[list(places)] = np.arange(len(places))
        images, texts = (np.flatnonzero(numbers[own] >= 0) for own in (self.image_items, self.text_items))
        return replace(
            self,
            item_ids=[self.item_ids[place] for place in places],
            keys=[self.keys[place] for place in places],
            split=[self.split[place] for place in places],
            groups=self.groups[list(places)],
            copies=self.copies[list(places)],
            images=self.images[images],
            image_items=numbers[self.image_items[images]],
            texts=self.texts[texts],
            text_items=numbers[self.text_items[texts]],
            text_views=[self.text_views[row] for row in texts.tolist()],
        )

    def by_other(
        self, store: Store, *, pictures: str, texts: Mapping[str, Mapping[str, str]], cache: TextCache, meter: Meter
    ) -> Features:
        """Read the same items and texts by another encoder.

        `pictures`, `texts`, `cache` and `meter` are as for `gather`.
        """
        images, image_items, _ = _pictures(store, pictures, self.item_ids)
        rows = zip(self.text_items, self.text_views, strict=True)
        own = [texts[self.item_ids[place]][view] for place, view in rows]
        return replace(self, images=images, image_items=image_items, texts=_words(own, cache, meter))


def _words(own: Sequence[str], cache: TextCache, meter: Meter) -> NDArray[np.float16]:
    """Look up or encode texts; the cache keeps these alone."""
    every = list(dict.fromkeys(own))
    with meter("texts", None) as counts:
        encoded = cache.vectors(every, counts)
    cache.keep(every)
    rows = {text: row for row, text in enumerate(every)}
    return encoded[[rows[text] for text in own]]


def _pictures(
    store: Store, space: str, items: Sequence[str]
) -> tuple[NDArray[np.float16], NDArray[np.int64], NDArray[np.float16]]:
    """Read vectors of pictures and frames, the place of each one's item, and one vector an item."""
    place = {item: number for number, item in enumerate(items)}
    table = store.read(space, ["item_id", "vector", "frame_vectors"])
    dim = table.schema.field("vector").type.list_size
    owners = np.array([place.get(item, -1) for item in table["item_id"].to_pylist()], np.int64)
    known = owners >= 0
    vectors = _matrix(table["vector"], dim)
    pooled = np.empty((len(items), dim), np.float16)
    pooled[owners[known]] = vectors[known]
    frames = table["frame_vectors"].combine_chunks()
    counts = frames.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    still = known & (counts == 0)
    frame_owners = np.repeat(owners, counts)
    shown = frame_owners >= 0
    images = np.concatenate([vectors[still], _matrix(frames.flatten(), dim)[shown]])
    return images, np.concatenate([owners[still], frame_owners[shown]]), pooled


def _matrix(vectors: pa.Array | pa.ChunkedArray, dim: int) -> NDArray[np.float16]:
    """Convert a column of N lists to rows [N, dim] of length one."""
    flat = vectors.combine_chunks() if isinstance(vectors, pa.ChunkedArray) else vectors
    rows = flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    made = np.empty(rows.shape, np.float16)
    for start in range(0, len(rows), 8192):  # no second float32 copy of everything
        part = rows[start : start + 8192].astype(np.float32)
        made[start : start + 8192] = unit(part)
    return made


def _near_pairs(pooled: NDArray[np.float16], threshold: float | None, meter: Meter) -> NDArray[np.int64]:
    """Find pairs of items with nearly equal pictures; none without a threshold."""
    if threshold is None:
        return np.empty((0, 2), np.int64)
    with meter("near-duplicates", len(pooled)) as counts:
        seen = 0

        def advance(done: int, _: int) -> None:
            nonlocal seen
            counts.advance(done - seen, 0, 0.0)
            seen = done

        return near_pairs(pooled, threshold, progress=advance)

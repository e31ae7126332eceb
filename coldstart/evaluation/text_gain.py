"""Whether descriptions help items to be found: one set of queries, asked of indexes that hold different texts of items.

Two questions. Text to item: a text that the writer did not see asks for its item; every item of the same text is right.
Item to item: each item's own vector asks for others of its likeness (same stated attributes); itself is left out.
Vectors come from a function that is handed over. An item without a text is in no index: it is found last.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart import metrics
from coldstart.evaluation.shares import difference, share

KS = (1, 10)
Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]
"""Texts -> unit vectors [N, D]."""


@dataclass(frozen=True)
class Gallery:
    """Items to be found among, and what asks for them.

    Attributes:
        texts: contender -> text of each item, empty where it has none; all of one length and order.
        queries: text that asks for an item; None where none does (a distractor, or an item that hides no text).
        likeness: items of equal likeness are right for each other; None where it is not known.
        groups: items whose answers are drawn together by the bootstrap.
        asking: whether an item asks at all; distractors only answer.
    """

    texts: Mapping[str, Sequence[str]]
    queries: Sequence[str | None]
    likeness: Sequence[Hashable | None]
    groups: Sequence[Hashable]
    asking: Sequence[bool]


def gain(
    gallery: Gallery, pairs: Sequence[tuple[str, str]], encode: Encode, encode_queries: Encode, *, seed: int = 0
) -> dict[str, Any]:
    """Recall of both questions for every contender, and the differences of some pairs of them.

    Args:
        pairs: contenders `(before, after)` to compare on the same queries.

    Returns:
        `text_to_item` and `item_to_item` -> None where nothing can be asked, else `queries`, `gallery` (items to choose
        from), `contenders` (name -> `recall_at_1`, `recall_at_10`, each a measure with `chance`, `median_rank` and
        `indexed`, how many items have a text) and `differences` (a list of `before`, `after`, `recall_at_1`,
        `recall_at_10`).
    """
    vectors = _encoded(gallery.texts, encode)
    return {
        "text_to_item": _judged(
            gallery, pairs, *_by_text(gallery, vectors, encode_queries), len(gallery.queries), seed
        ),
        "item_to_item": _judged(gallery, pairs, *_by_item(gallery, vectors), len(gallery.queries) - 1, seed),
    }


_Index = tuple[Vectors, NDArray[np.intp]]
"""Unit vectors of the items that have a text, and their places."""


def _encoded(contenders: Mapping[str, Sequence[str]], encode: Encode) -> dict[str, _Index]:
    """The index of each contender; a text that several have is encoded once."""
    once = list(dict.fromkeys(text for texts in contenders.values() for text in texts if text.strip()))
    if not once:
        return {name: (np.zeros((0, 1), np.float32), np.zeros(0, np.intp)) for name in contenders}
    vectors, number = encode(once), {text: row for row, text in enumerate(once)}
    return {
        name: (
            vectors[[number[text] for text in texts if text.strip()]],
            np.flatnonzero([bool(text.strip()) for text in texts]),
        )
        for name, texts in contenders.items()
    }


_Ranks = dict[str, NDArray[np.int64]]
_Found = tuple[NDArray[np.intp], list[NDArray[np.intp]], _Ranks, Mapping[str, int]]
"""Places of the items that ask, the right places of each, contender -> rank of each, contender -> items indexed."""


def _by_text(gallery: Gallery, vectors: Mapping[str, _Index], encode_queries: Encode) -> _Found:
    folded = [None if text is None else " ".join(text.casefold().split()) for text in gallery.queries]
    asking = np.flatnonzero([bool(text) and asks for text, asks in zip(folded, gallery.asking, strict=True)])
    if not len(asking):
        return asking, [], {}, {}
    answers = [text or place for place, text in enumerate(folded)]
    right = metrics.right_places([answers[place] for place in asking], answers)
    asked = encode_queries([gallery.queries[place] or "" for place in asking.tolist()])
    found = {name: _ranks(asked, own, places, right, len(folded)) for name, (own, places) in vectors.items()}
    return asking, right, found, {name: len(places) for name, (_, places) in vectors.items()}


def _by_item(gallery: Gallery, vectors: Mapping[str, _Index]) -> _Found:
    count = len(gallery.likeness)
    kinds = [place if kind is None else ("like", kind) for place, kind in enumerate(gallery.likeness)]
    every = metrics.right_places(kinds, kinds)
    others = [own[own != place] for place, own in enumerate(every)]
    asking = np.flatnonzero([len(own) > 0 and asks for own, asks in zip(others, gallery.asking, strict=True)])
    if not len(asking):
        return asking, [], {}, {}
    right = [others[place] for place in asking]
    found: _Ranks = {}
    for name, (own, places) in vectors.items():
        ranks = np.full(len(asking), count - 1, np.int64)
        row = dict(zip(places.tolist(), range(len(places)), strict=True))
        has = [place for place, item in enumerate(asking.tolist()) if item in row]
        if has:
            asked = own[[row[int(asking[place])] for place in has]]
            some = _ranks(asked, own, places, [right[place] for place in has], count)
            ranks[has] = np.clip(some - 1, 1, count - 1)  # itself always stands ahead, and is no right answer
        found[name] = ranks
    return asking, right, found, {name: len(places) for name, (_, places) in vectors.items()}


def _ranks(
    asked: Vectors, own: Vectors, places: NDArray[np.intp], right: Sequence[NDArray[np.intp]], last: int
) -> NDArray[np.int64]:
    """Rank of each query's best right item among those that are indexed, `last` where none of them is."""
    row = np.full(last, -1, np.intp)
    row[places] = np.arange(len(places))
    inside = [found[found >= 0] for found in (row[own_right] for own_right in right)]
    has = [place for place, found in enumerate(inside) if len(found)]
    ranks = np.full(len(right), last, np.int64)
    if has:
        ranks[has] = metrics.ranks(asked[has], own, [inside[place] for place in has])
    return ranks


def _judged(
    gallery: Gallery,
    pairs: Sequence[tuple[str, str]],
    asking: NDArray[np.intp],
    right: Sequence[NDArray[np.intp]],
    found: _Ranks,
    indexed: Mapping[str, int],
    size: int,
    seed: int,
) -> dict[str, Any] | None:
    if not len(asking):
        return None
    groups = [gallery.groups[place] for place in asking]
    counts = [len(own) for own in right]

    def hits(name: str, k: int) -> NDArray[np.float64]:
        return (found[name] <= k).astype(np.float64)

    def recall(name: str, k: int) -> dict[str, Any]:
        measured = share(hits(name, k), groups=groups, seed=seed)
        assert measured is not None
        return {**asdict(measured), "chance": metrics.chance_recall_at_k(counts, size, k)}

    return {
        "queries": len(asking),
        "gallery": size,
        "contenders": {
            name: {
                **{f"recall_at_{k}": recall(name, k) for k in KS},
                "median_rank": metrics.median_rank(ranks),
                "indexed": indexed[name],
            }
            for name, ranks in found.items()
        },
        "differences": [
            {
                "before": before,
                "after": after,
                **{f"recall_at_{k}": _difference(hits(before, k), hits(after, k), groups, seed) for k in KS},
            }
            for before, after in pairs
        ],
    }


def _difference(
    before: NDArray[np.float64], after: NDArray[np.float64], groups: Sequence[Hashable], seed: int
) -> dict[str, Any]:
    found = difference((before, None), (after, None), groups=groups, seed=seed)
    assert found is not None
    return asdict(found)

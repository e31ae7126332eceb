"""New items that are near copies of training items: who finds those has shown nothing. They go out of the test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour.content import Content
from coldstart.evaluation.recommend.splits import Split, without
from coldstart.training.groups import group, near

REASON = "near_duplicates"
COMMON = 10
"""A vector that more items have to the bit is a placeholder, and says nothing of any of them."""


def near_pairs(content: Content, threshold: float = 0.98) -> NDArray[np.int64]:
    """Pairs of items with a cosine of at least `threshold` in one of the spaces, int64 [P, 2]; lower place first."""
    found = [np.empty((0, 2), np.int64)]
    for name in content.blocks:
        places = telling(content, name)
        if len(places) > 1:
            block = content.blocks[name][places].astype(np.float32)
            unit = block / np.linalg.norm(block, axis=1, keepdims=True)
            found.append(places[near(unit, threshold)])
    return np.unique(np.concatenate(found), axis=0)


def telling(content: Content, space: str) -> NDArray[np.intp]:
    """Places of the items whose vector there is their own: neither missing nor a placeholder that many share."""
    places = np.flatnonzero(content.present(space))
    rows = np.ascontiguousarray(content.blocks[space][places])
    if not len(rows):
        return places
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return places[counts[inverse.ravel()] <= COMMON]


def groups_of(content: Content, threshold: float = 0.98) -> NDArray[np.int64]:
    """Group of each item, int64 [N]: what hangs together by near copies falls on one side of a split by item."""
    return group([()] * len(content), near_pairs(content, threshold))


def without_near(split: Split, content: Content, threshold: float = 0.98) -> Split:
    """The split without cold items that are near copies of warm ones; content is over the split's items.

    Raises:
        ColdstartError: no cold item is left.
    """
    pairs = near_pairs(content, threshold)
    cold = split.cold("valid") | split.cold("test")
    first, second = pairs.T
    chosen = np.zeros(len(content), bool)
    chosen[first[cold[first] & split.warm[second]]] = True
    chosen[second[cold[second] & split.warm[first]]] = True
    return without(split, chosen, REASON)

"""Give items whole IDs: places the codes of items so that no two share an ID, or counts those that do.

Items that have an ID keep it. New ones take what is free, so that the codes of old items are the same before and after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from coldstart.semantic_ids.codebooks import Codebooks
from coldstart.semantic_ids.kmeans import Codes, Vectors

Rule = Literal["reassign", "suffix", "keep"]
RULES: tuple[Rule, ...] = ("reassign", "suffix", "keep")
_LARGEST_MATCHING = 1 << 22
"""Pairs of items and free codes up to which the assignment of least cost is computed."""


def place_items(codebooks: Codebooks, projected: Vectors, nearest: Codes, rule: Rule, taken: Codes) -> Codes:
    """Choose the IDs of new items.

    `reassign` gives the items of a bucket (of one ID but for the last code) the last codes that cost least together
    (`linear_sum_assignment`); those that find none there go down the tree, at each level to the nearest code below
    which an ID is free. `suffix` adds a last code that counts the items of an ID, `keep` lets them share it.

    Args:
        projected: vectors of the new items, [N, E]; nearest: their codes by `Codebooks.encode`, [N, L].
        taken: IDs of the items that have one, int32 [M, L], with `suffix` [M, L + 1].

    Returns:
        int32 [N, L], with `suffix` [N, L + 1], in order; -1 throughout for an item for which no ID is free.
    """
    if rule == "keep":
        return nearest.copy()
    if rule == "suffix":
        return _counted(nearest, taken)
    found = np.full_like(nearest, -1)
    tree = _Tree(codebooks.sizes, taken)
    spilled: list[int] = []
    for bucket, rows in _buckets(nearest[:, :-1]):
        is_free = tree.is_free(bucket)
        wanted = nearest[rows, -1]
        if len(set(wanted.tolist())) == len(rows) and is_free[wanted].all():
            chosen = wanted  # nobody can do better than with the nearest
        else:
            chosen = _matched(codebooks, projected[rows], nearest[rows], np.flatnonzero(is_free))
        for row, code in zip(rows.tolist(), chosen.tolist(), strict=True):
            if code < 0:
                spilled.append(row)
                continue
            found[row] = (*bucket, code)
            tree.take((*bucket, code))
    for row in sorted(spilled):
        own = _descend(codebooks, projected[row : row + 1], tree)
        if own is not None:
            found[row] = own
            tree.take(own)
    return found


def _counted(nearest: Codes, taken: Codes) -> Codes:
    used: dict[tuple[int, ...], set[int]] = {}
    for row in taken.tolist():
        used.setdefault(tuple(row[:-1]), set()).add(row[-1])
    found = np.empty((len(nearest), nearest.shape[1] + 1), np.int32)
    found[:, :-1] = nearest
    least: dict[tuple[int, ...], int] = {}
    for place, row in enumerate(nearest.tolist()):
        key = tuple(row)
        own, number = used.setdefault(key, set()), least.get(key, 0)
        while number in own:
            number += 1
        own.add(number)
        found[place, -1] = least[key] = number
    return found


def _buckets(prefixes: Codes) -> Iterable[tuple[tuple[int, ...], NDArray[np.intp]]]:
    """Group rows by prefix, in the order of the prefixes, rows rising."""
    if not len(prefixes):
        return
    order = np.lexsort(prefixes.T[::-1]) if prefixes.shape[1] else np.arange(len(prefixes))
    ordered = prefixes[order]
    changes = np.flatnonzero((ordered[1:] != ordered[:-1]).any(1)) + 1
    for rows in np.split(order, changes):
        yield tuple(prefixes[rows[0]].tolist()), rows


def _matched(codebooks: Codebooks, projected: Vectors, nearest: Codes, free: NDArray[np.intp]) -> NDArray[np.int64]:
    """Assign items of a bucket to free last codes at least cost: int64 [N], -1 for those that find none."""
    from scipy.optimize import linear_sum_assignment

    found = np.full(len(nearest), -1, np.int64)
    if not len(free):
        return found
    costs = codebooks.costs(projected, nearest, len(codebooks.sizes) - 1)[:, free]
    if costs.size <= _LARGEST_MATCHING:
        rows, columns = linear_sum_assignment(costs)
        found[rows] = free[columns]
        return found
    open_codes = np.ones(len(free), bool)
    for row in np.argsort(costs.min(1), kind="stable")[: len(free)]:
        column = int(np.where(open_codes, costs[row], np.inf).argmin())
        found[row], open_codes[column] = free[column], False
    return found


class _Tree:
    """Count the IDs taken below each prefix: those held before, as sorted rows, and those taken since."""

    def __init__(self, sizes: Sequence[int], taken: Codes) -> None:
        self._sizes = sizes
        self._room = [math.prod(map(float, sizes[level:])) for level in range(1, len(sizes) + 1)]
        self._held = taken[np.lexsort(taken.T[::-1])] if len(taken) else taken
        self._since: dict[tuple[int, ...], dict[int, int]] = {}

    def take(self, codes: Sequence[int]) -> None:
        """Count an ID."""
        own = tuple(codes)
        for level in range(len(own)):
            below = self._since.setdefault(own[:level], {})
            below[own[level]] = below.get(own[level], 0) + 1

    def is_free(self, prefix: tuple[int, ...]) -> NDArray[np.bool_]:
        """Tell for each code after a prefix whether an ID below it is free, bool [K]."""
        level, low, high = len(prefix), 0, len(self._held)
        for place, code in enumerate(prefix):
            column = self._held[low:high, place]
            low, high = (low + int(np.searchsorted(column, code, side)) for side in _SIDES)
        counts = np.bincount(self._held[low:high, level], minlength=self._sizes[level])
        for code, count in self._since.get(prefix, {}).items():
            counts[code] += count
        return np.asarray(counts < self._room[level])


_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def _descend(codebooks: Codebooks, projected: Vectors, tree: _Tree) -> tuple[int, ...] | None:
    own: tuple[int, ...] = ()
    for level in range(len(codebooks.sizes)):
        free = np.flatnonzero(tree.is_free(own))
        if not len(free):
            return None  # at the root alone: below a code that is free another one is
        costs = codebooks.costs(projected, np.array([own], np.int32).reshape(1, -1), level)[0, free]
        own = (*own, int(free[costs.argmin()]))
    return own

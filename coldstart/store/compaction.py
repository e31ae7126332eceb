"""Merge the newest parts of a table, or of an index, where it is their turn.

A part is merged with newer ones only where they hold as much as it does, so that each row is written anew about as
often as the table doubles, not once a run; and no more than `PARTS` wait before they are looked at. A table of N rows
that grows by n at a time so has at most `PARTS` + log2(N / n) parts. Each part that a search reads adds to its time, so
that those of the catalog are merged sooner (`SEARCHED`), and its rows written anew more often: over 200 runs at most
five parts stand side by side instead of twelve, and a new row is written seven times instead of three.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")  # what an index says of itself is then small

PARTS = 8
"""Parts of a kind that may stand side by side."""


@dataclass(frozen=True)
class MergeRule:
    """Rule by which parts are merged.

    Attributes:
        parts: so many are merged at least.
        factor: a part is merged with newer ones that hold one row or more for so many of its own.
    """

    parts: int
    factor: int


WRITTEN, SEARCHED = MergeRule(PARTS, 1), MergeRule(3, 4)
"""Rules of tables that runs read and write, and of one that is searched."""


def to_merge(sizes: Sequence[int], rule: MergeRule = WRITTEN) -> int:
    """Return the number of newest parts, at the end of `sizes`, to merge now; 0 for none.

    Args:
        sizes: rows of each part, the oldest first.
    """
    together = taken = 0
    for size in reversed(sizes):
        if taken and size > rule.factor * together:
            break
        together += size
        taken += 1
    return taken if taken >= rule.parts else 0


def compact(dataset: Any, rule: MergeRule = WRITTEN) -> None:
    """Merge the newest fragments of a Lance dataset where it is their turn, and write those anew that are a tenth
    deleted. Old versions stay readable."""
    fragments = dataset.get_fragments()
    sizes = [fragment.count_rows() for fragment in fragments]
    gone = [fragment.num_deletions for fragment in fragments]
    merged = set(range(len(sizes) - to_merge(sizes, rule), len(sizes)))
    holed = {place for place in range(len(sizes)) if gone[place] > 0.1 * (sizes[place] + gone[place])}
    if left := merged | holed:
        others = [f.fragment_id for place, f in enumerate(fragments) if place not in left]
        dataset.optimize.compact_files(excluded_fragment_ids=others)


def fold_indexes(dataset: Any, rule: MergeRule = WRITTEN) -> None:
    """Fold new rows into the indexes of a Lance dataset: as small indexes of their own beside the first,
    which are merged by the same rule as fragments.

    The index that was trained stays as it is: a measurement of its recall trains it anew.
    """
    by_merges: dict[int, list[str]] = {}
    for name in sorted(index.name for index in dataset.describe_indices()):
        stats = dataset.stats.index_stats(name)
        sizes = [*(stats.get("num_indexed_rows_per_delta") or []), stats["num_unindexed_rows"]]
        if sizes[-1]:
            by_merges.setdefault(max(0, min(to_merge(sizes[1:], rule) - 1, len(sizes) - 2)), []).append(name)
    for merges, names in by_merges.items():
        dataset.optimize.optimize_indices(index_names=names, num_indices_to_merge=merges)

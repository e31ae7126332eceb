"""Hold out items to evaluate descriptions by: one rule for every fit of descriptions, so that their parts agree.

Items that share a title, a medium or nearly a picture form a group, and where sellers are kept apart so do those of a
seller. Groups are drawn by digests of the seed and their ids (`coldstart.metrics.splits.split`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.vectors import unit
from coldstart.embed.item_texts import PairTexts
from coldstart.embed.spaces import vectors_of
from coldstart.metrics.splits import group_items, near_pairs
from coldstart.store import Store
from coldstart.store.freshness import PipelineState

Share = Annotated[float, Field(ge=0, lt=1)]


class HeldOut(Section):
    """Settings of the items that a fit holds out."""

    group_by: tuple[str, ...] = ("title",)
    """Fields whose equal values put items on one side of the split."""
    sellers: Literal["auto", "apart", "together"] = "auto"
    """`apart` puts all items of a seller (`creator`) on one side of the split; `auto` does so where no seller has more
    than a tenth of them."""
    near_duplicates: float | None = Field(default=0.98, gt=0, le=1)
    """Cosine of pictures from which two items fall on one side of the split; null compares none."""
    test_share: Share = 0.1
    """Share held out for `coldstart evaluate describe`."""

    def by_seller(self, creators: Sequence[str | None]) -> tuple[bool, str]:
        """Decide whether each seller's items fall on one side of the split; return that and a line about it."""
        if self.sellers != "auto":
            return self.sellers == "apart", f"sellers {self.sellers} in the split, as set"
        named = Counter(creator for creator in creators if creator)
        if not named:
            return False, "no sellers to keep apart in the split"
        name, most = named.most_common(1)[0]
        if most > 0.1 * len(creators):
            return False, f"sellers are not kept apart in the split: {name!r} alone has {most} of {len(creators)} items"
        return True, "each seller's items fall on one side of the split"


def held_out_groups(
    settings: HeldOut,
    store: Store,
    pipeline: Pipeline,
    stage: str,
    items: Sequence[str],
    creators: Sequence[str | None],
    space: str | None,
) -> tuple[NDArray[np.int64], str]:
    """Group the items of a fit by its settings, int64 `[I]`; return the groups and a line about sellers.

    Args:
        creators: seller of each item.
        space: see `split_groups`.
    """
    apart, why = settings.by_seller(creators)
    group_by = (*settings.group_by, *(["creator"] if apart else []))
    threshold = settings.near_duplicates
    return split_groups(store, pipeline, stage, items, group_by=group_by, space=space, threshold=threshold), why


def split_groups(
    store: Store,
    pipeline: Pipeline,
    stage: str,
    items: Sequence[str],
    *,
    group_by: Sequence[str],
    space: str | None,
    threshold: float | None,
) -> NDArray[np.int64]:
    """Group items for a split, int64 `[I]`: those that share a field of `group_by` or a medium, and near copies.

    Args:
        space: an embed stage of pictures, whose vectors of cosine `threshold` or more join items.
    """
    words = PairTexts(stage, {"title": 1.0}, group_by, pipeline)
    keys = words.group_keys(store, items)
    if space is None or threshold is None:
        return group_items(keys)
    vectors = vectors_of(store, PipelineState(store, pipeline).stage(space), items)
    seen = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 0)
    return group_items(keys, seen[near_pairs(unit(vectors[seen]), threshold)] if len(seen) else ())

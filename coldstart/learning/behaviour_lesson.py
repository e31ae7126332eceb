"""What one fit of behaviour learns from, as far as it is there, and what is missing where it is too little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.behaviour.content import Content
from coldstart.interactions import Interactions
from coldstart.learning.behaviour_settings import Settings


@dataclass(frozen=True)
class Lesson:
    """What a fit learns from.

    Attributes:
        keys: of the items of `content`.
        interactions: of the training window, over those items.
        in_window: how many there are with any item.
    """

    content: Content
    keys: Mapping[str, str]
    interactions: Interactions
    in_window: int

    def missing(self, settings: Settings, uri: str) -> str | None:
        """What is missing, and what to do, in words for a person; None where there is enough."""
        bring = f"bring more with `coldstart ingest --workspace {uri} --interactions FILE`"
        if not self.in_window:
            before = "" if settings.until is None else f" before {settings.until:%Y-%m-%d}"
            return f"the workspace has no interactions{before}: {bring}"
        liked = self.interactions.positive(settings.min_weight).matrix()
        warm = int((np.bincount(liked.indices, minlength=liked.shape[1]) >= settings.warm_min).sum())
        users = int((np.diff(liked.indptr) > 0).sum())
        if warm >= settings.min_items and users >= settings.min_users:
            return None
        return (
            f"{users} users liked something and {warm} items were liked by {settings.warm_min} or more (warm_min), and "
            f"a fit needs {settings.min_users} (min_users) and {settings.min_items} (min_items); of {self.in_window} "
            f"interactions {len(self.interactions)} are with items whose content is known: {bring}"
        )


def content_groups(content: Content, near_duplicates: float | None) -> NDArray[np.int64]:
    """The group of each item, int64 [N]: those of nearly the same content in the same spaces are one.

    Args:
        near_duplicates: mean cosine over the spaces from which on two are; None: each is a group of its own.
    """
    from coldstart.training.groups import group, near

    alone: list[list[str]] = [[] for _ in content.item_ids]
    if near_duplicates is None or not len(content):
        return group(alone)
    present = np.stack([content.present(space) for space in content.blocks], axis=1)
    share = 1 / np.sqrt(np.maximum(present.sum(1, keepdims=True), 1))
    joined = np.concatenate([content.blocks[space] * share for space in content.blocks], axis=1)
    return group(alone, near(joined.astype(np.float16), near_duplicates))

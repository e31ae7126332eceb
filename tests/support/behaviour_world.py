"""A small made-up world in which content tells taste: what fits of behaviour are tested on. No real data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions, interactions
from coldstart.recommend.model.fusion import Content

CATEGORIES = ("drama", "comedy", "sport", "music")
DAY_S = 86_400


@dataclass(frozen=True)
class World:
    """`truth` float32 [users, items]: the taste that rows were drawn by."""

    interactions: Interactions
    content: Content
    truth: NDArray[np.float32]


def world(
    users: int = 120, items: int = 160, per_user: int = 20, dim: int = 8, noise: float = 0.3, seed: int = 0
) -> World:
    """Items have hidden factors; two spaces show them through random maps with noise, the category shows one of them.

    Every tenth item lacks its picture. Items arrive over 100 days, and a row is never before its item's arrival.
    """
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(items, dim)).astype(np.float32)
    taste = rng.normal(size=(users, dim)).astype(np.float32)
    truth = taste @ hidden.T + rng.gumbel(size=items).astype(np.float32)

    def seen(width: int) -> NDArray[np.float32]:
        vectors = hidden @ rng.normal(size=(dim, width)) + noise * dim**0.5 * rng.normal(size=(items, width))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    picture, text = seen(24), seen(32)
    picture[::10] = 0
    born = np.sort(rng.integers(0, 100 * DAY_S, items))
    kinds = hidden[:, : len(CATEGORIES)].argmax(axis=1)
    item_ids = tuple(f"item-{place:04d}" for place in range(items))
    records = tuple(
        {
            "item_id": name,
            "kind": "video",
            "title": f"{CATEGORIES[kind]} {name}",
            "category": CATEGORIES[kind],
            "tags": [],
        }
        for name, kind in zip(item_ids, kinds, strict=True)
    )
    rows: list[tuple[str, str, int, float]] = []
    for user in range(users):
        liked = np.argsort(-(truth[user] + rng.gumbel(size=items)))[:per_user]
        for item in liked:
            time = int(rng.integers(born[item], 120 * DAY_S))
            rows.append((f"user-{user:04d}", item_ids[item], time, 1.0))
    names, things, times, weights = zip(*rows, strict=True)
    found = interactions(names, things, np.array(times), np.array(weights, np.float32)).over(item_ids)
    return World(found, Content(item_ids, {"picture": picture, "text": text}, records), truth)
